"""What the mini LLaVA sees and is asked: red boxes, larger canvases, collages."""

from __future__ import annotations

import numpy as np
import pytest

from imgdiff.backends.chat_templates import IGNORED, Exchange
from imgdiff.mini.build.drawn import sampled
from imgdiff.mini.build.llama_tokenizer import build_tokenizer
from imgdiff.mini.build.llava import processor_of
from imgdiff.mini.build.llava_dialogues import asked_about
from imgdiff.mini.build.llava_views import GRID, IMAGE_PX, collage, look, merged_labels
from imgdiff.mini.build.views import shot
from imgdiff.mini.build.vlm_parts import CATEGORY_IDS
from imgdiff.mini.scene import Scene, Split, place


@pytest.mark.parametrize(
    ("question", "cells"),
    [
        ("What color is the cat?", [0]),
        ("What is at the bottom right?", [3]),
        ("Is the dog to the left of the cat?", [3, 0]),
        ("Where is the cat? (a) bottom right (b) top left", [0]),
        ("Is there a catfish in the picture?", []),
        ("What does the picture show?", []),
    ],
)
def test_asked_about(question: str, cells: list[int]) -> None:
    rng = np.random.default_rng(0)
    objects = (place(rng, "cat", "red", "small", 0), place(rng, "dog", "blue", "large", 3))
    scene = Scene(objects=objects, ground="plain", ground_seed=0)
    turns = [Exchange(f"<image>\n{question}", "x")]
    found = [named.index for named in asked_about(turns, scene)]
    assert [objects[index].cell for index in found] == cells
    assert asked_about([Exchange(question, "x"), Exchange(question, "y")], scene) == []


def test_look_and_its_maps_stay_aligned() -> None:
    source = shot(sampled(Split.train, 1), 0)
    processor = processor_of(build_tokenizer()).image_processor
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(8):
        seen = look(source, (0,), rng)
        sizes.add(seen.image.size)
        pixels = processor([seen.image], return_tensors="pt")["pixel_values"]
        assert pixels.shape == (1, 3, IMAGE_PX, IMAGE_PX)
        assert seen.owners.shape == seen.in_box.shape == (IMAGE_PX, IMAGE_PX)
        assert (seen.in_box[seen.owners == 1] == 1).mean() > 0.95
        assert 0 < seen.in_box.mean() < 0.5
        reddest = (pixels[0, 0] - pixels[0, 1]).numpy() > 1.0
        rows, columns = np.nonzero(seen.in_box)
        top, left = max(0, rows.min() - 8), max(0, columns.min() - 8)
        frame = reddest[top : rows.max() + 9, left : columns.max() + 9]
        assert frame.sum() > 0.02 * frame.size
    assert len(sizes) > 1
    assert not look(source, (), rng).in_box.any()


def test_collage_shows_both_scenes_and_tells_whose_patch_is_whose() -> None:
    drawn = sampled(Split.train, 2)
    sources = [shot(drawn, number) for number in (0, 1)]
    seen = collage(sources, [(0,), ()], np.random.default_rng(0))
    assert [part.image.size for part in seen] == [(276, 128)] * 2
    half = IMAGE_PX // 2
    assert not seen[0].owners[:, half:].any()
    assert not seen[1].owners[:, :half].any()
    assert seen[0].in_box.any()
    assert not seen[1].in_box.any()
    categories = merged_labels(seen)[0].reshape(GRID, GRID)
    for part, columns in (
        (0, slice(0, GRID // 2)),
        (1, slice(GRID // 2, None)),
    ):
        shown = {CATEGORY_IDS[item.category] for item in sources[part].scene.objects}
        assert set(categories[:, columns].unique().tolist()) - {0, IGNORED} <= shown
        assert shown & set(categories[:, columns].unique().tolist())


@pytest.mark.parametrize(
    ("question", "boxed", "named"),
    [
        ("What is in the red bounding box?", (1,), [(1, "red bounding box")]),
        ("What is in the left red bounding box?", (0, 1), [(0, "left")]),
        ("What is in the right red bounding box? (a) left (b) cat", (0, 1), [(1, "right")]),
        (
            "What do the left and the right red bounding box show?",
            (0, 1),
            [(0, "left"), (1, "right")],
        ),
    ],
)
def test_asked_about_red_boxes(
    question: str, boxed: tuple[int, ...], named: list[tuple[int, str]]
) -> None:
    rng = np.random.default_rng(0)
    objects = (place(rng, "cat", "red", "small", 0), place(rng, "dog", "blue", "large", 3))
    scene = Scene(objects=objects, ground="plain", ground_seed=0)
    found = asked_about([Exchange(f"<image>\n{question}", "x")], scene, boxed)
    assert [(one.index, one.words) for one in found] == named
