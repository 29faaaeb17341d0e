"""Held-out figures of a describer, asked through the backend exactly as the pipeline asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imgdiff.backends.configs import VlmConfig
from imgdiff.core.identity import seed_for
from imgdiff.core.images import side_by_side, with_red_box
from imgdiff.mini.build.describer_tasks import content, jittered, region_question
from imgdiff.mini.build.drawn import sampled
from imgdiff.mini.build.prompts import STAGE_TWO_PROMPT
from imgdiff.mini.build.views import Shot, ground_box, shot
from imgdiff.mini.language import difference_sentence, empty_description, region_description
from imgdiff.mini.scene import Scene, SceneObject, Split

NEW_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class RegionQuestion:
    """A box of a scene, its question, and what it holds (None: ground)."""

    image: Image.Image
    question: str
    item: SceneObject | None
    scene: Scene


def region_questions(
    count: int, purpose: str, split: Split = Split.validation
) -> list[RegionQuestion]:
    """One question per object of `count` scenes, and one about empty ground where there is some."""
    drawn = sampled(split, count)
    asked = []
    for index in range(count):
        source = shot(drawn, index)
        rng = np.random.default_rng(seed_for(0, str(index), purpose))
        boxes = [
            (jittered(source.box(k), rng), item) for k, item in enumerate(source.scene.objects)
        ]
        ground = ground_box(source, rng)
        asked += [
            RegionQuestion(
                image=source.image, question=region_question(box), item=item, scene=source.scene
            )
            for box, item in [*boxes, *([(ground, None)] if ground else [])]
        ]
    return asked


def evaluate(model: str, count: int, split: Split = Split.validation) -> dict[str, float]:
    """Shares of right answers on `count` scenes (at least 2) of `split`, stage one and two."""
    asked = region_questions(count, "exam", split)
    config = VlmConfig(model=model, max_new_tokens=NEW_TOKENS, batch_size=min(64, count))
    with config.build() as chat:
        answers = chat.chat([q.image for q in asked], [q.question for q in asked])
        pairs = [pair_question(shot(sampled(split, 2, seed=k), 0), k) for k in range(count)]
        sentences = chat.chat([p[0] for p in pairs], [p[1] for p in pairs])
    objects = [
        (q.item, answer) for q, answer in zip(asked, answers, strict=True) if q.item is not None
    ]
    grounds = [
        answer == empty_description(q.scene.ground)
        for q, answer in zip(asked, answers, strict=True)
        if q.item is None
    ]
    return {
        "object_named": _share([says(a, i.category) for i, a in objects]),
        "colour_named": _share([says(a, i.colour) for i, a in objects]),
        "size_named": _share([says(a, i.size) for i, a in objects]),
        "sentence_right": _share([a == region_description(i) for i, a in objects]),
        "empty_ground_right": _share(grounds),
        "difference_both_contents": _share(
            [says_both(s, p[2], p[3]) for s, p in zip(sentences, pairs, strict=True)]
        ),
        "difference_sentence_right": _share(
            [s == difference_sentence(p[2], p[3]) for s, p in zip(sentences, pairs, strict=True)]
        ),
    }


def pair_question(source: Shot, number: int) -> tuple[Image.Image, str, str, str]:
    """A stage-two image and prompt about a scene beside itself, and the two contents."""
    rng = np.random.default_rng(seed_for(0, str(number), "exam-pair"))
    box = source.box(int(rng.integers(len(source.scene.objects))))
    image = side_by_side([with_red_box(source.image, box)] * 2)
    left, right = content(source, rng), content(source, rng)
    return image, STAGE_TWO_PROMPT.format(left=left, right=right), left, right


def says(answer: str, word: str) -> bool:
    """Whether an answer holds a word."""
    return word in answer.lower().replace(".", " ").replace(",", " ").split()


def says_both(sentence: str, left: str, right: str) -> bool:
    """Whether a sentence holds both contents, the left one first."""
    first, second = (text.rstrip(".").lower() for text in (left, right))
    place = sentence.lower().find(first)
    return place >= 0 and sentence.lower().find(second, place + len(first)) >= 0


def _share(right: Sequence[bool]) -> float:
    return round(float(np.mean(right)), 4) if len(right) else 0.0
