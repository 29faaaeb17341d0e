"""The stages in order: the chain reads like the paper's Figure 2.

A stage asks the store for its scores (what is absent is computed) and decides.
"""

from __future__ import annotations

from collections.abc import Callable

from imgdiff.synth.candidates import compare_images
from imgdiff.synth.differences import (
    compare_contents,
    describe_contents,
    match_contents,
    say_differences,
)
from imgdiff.synth.pairs import edit_captions, generate_pairs
from imgdiff.synth.regions import compare_crops, match_objects, propose_regions
from imgdiff.synth.removal_candidates import (
    compare_removals,
    outline_removals,
    propose_removals,
    select_removals,
)
from imgdiff.synth.removals import (
    describe_removals,
    match_removals,
    paint_over,
    place_removals,
)
from imgdiff.synth.states import ItemState
from imgdiff.synth.tools import Tools

Stage = Callable[[list[ItemState], Tools], None]

PAIR_STAGES: dict[str, Stage] = {
    "edit": edit_captions,
    "generate": generate_pairs,
    "image_similarity": compare_images,
}
# Before the regions: a pair without a region left may still have objects to remove.
REMOVAL_STAGES: dict[str, Stage] = {
    "removal_propose": propose_removals,
    "removal_similarity": compare_removals,
    "removal_select": select_removals,
    "removal_mask": outline_removals,
    "inpaint": paint_over,
    "removal_describe": describe_removals,
    "removal_match": match_removals,
    "removal_place": place_removals,
}
REGION_STAGES: dict[str, Stage] = {
    "segment": propose_regions,
    "crop_similarity": compare_crops,
    "match": match_objects,
    "describe": describe_contents,
    "content_similarity": compare_contents,
    "content_match": match_contents,
    "sentence": say_differences,
}
STAGES = PAIR_STAGES | REMOVAL_STAGES | REGION_STAGES
