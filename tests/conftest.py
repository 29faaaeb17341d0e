"""What all tests share: seeds do not leak from one test into the next, and nothing goes online."""

from __future__ import annotations

import os

# Before any test imports a hub client: a test that needs the network fails here, not elsewhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
