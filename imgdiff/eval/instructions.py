"""`python -m imgdiff.eval.instructions`: a captioning benchmark's split as LLaVA training data.

The paper fine-tunes two epochs on the train split of Spot-the-Diff or Image-Edit-Request before it
measures. The question is the one that the evaluation asks, and both images stand in the row: the
trainer lays them side by side with the 20-px bar, as the evaluation does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say
from imgdiff.core.files import write_json
from imgdiff.core.errors import ConfigError
from imgdiff.eval.asking import Question, check_images
from imgdiff.eval.config import CaptionConfig, EvalConfig
from imgdiff.eval.data import caption_data
from imgdiff.eval.records import CaptionItem
