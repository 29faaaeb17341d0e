"""The stages in order: the chain reads like the paper's Figure 2.

A stage asks the store for its scores (what is absent is computed) and decides.
"""

from __future__ import annotations

from collections.abc import Callable

from imgdiff.synth.differences import (
    compare_contents,
    describe_contents,
    match_contents,
    say_differences,
)
from imgdiff.synth.pairs import compare_images, edit_captions, generate_pairs
from imgdiff.synth.regions import compare_crops, match_objects, propose_regions
from imgdiff.synth.states import ItemState
from imgdiff.synth.tools import Tools

Stage = Callable[[list[ItemState], Tools], None]

STAGES: dict[str, Stage] = {
    "edit": edit_captions,
    "generate": generate_pairs,
    "image_similarity": compare_images,
    "segment": propose_regions,
    "crop_similarity": compare_crops,
    "match": match_objects,
    "describe": describe_contents,
    "content_similarity": compare_contents,
    "content_match": match_contents,
    "sentence": say_differences,
}
