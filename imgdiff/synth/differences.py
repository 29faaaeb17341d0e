"""Stages 7 to 10: region contents, the two caption filters, and the difference sentence."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from imgdiff.core.geometry import Box, normalised_text
from imgdiff.core.identity import fingerprint, seed_for
from imgdiff.core.images import side_by_side, with_red_box
from imgdiff.core.records import ImagePair, Side
from imgdiff.synth.chunks import CHUNK, opened_ahead
from imgdiff.synth.config import DescribeBy, SentenceBy
from imgdiff.synth.scores import SCORE_DIGITS, Asked, matches, missed_end
from imgdiff.synth.selection import Rules, passes
from imgdiff.synth.states import ItemState, RegionState, open_regions
from imgdiff.synth.tools import Tools
from imgdiff.synth.wording import template_sentence, truthful_content

Fall = tuple[str, str]  # the stage at which a region falls, and the reason


def describe_contents(states: list[ItemState], tools: Tools) -> None:
    """What a box holds in each image (paper §3.4.1), by the describer or from the truth."""
    config, limit = tools.config.describe, tools.config.describe.region_tokens
    waiting = list(open_regions(states))
    if config.by is DescribeBy.truth:
        for state, region in waiting:
            region.contents = _true_contents(state, region)
        return

    def shown(item: tuple[ImagePair, Side, str]) -> Image.Image:
        return tools.open_side(item[:2])

    def compute(items: Sequence[tuple[ImagePair, Side, str]]) -> list[str]:
        answers: list[str] = []
        describer = tools.backends.describer
        for part, images in opened_ahead(items, shown, 2 * CHUNK):
            prompts = [prompt for _, _, prompt in part]
            answers += describer.chat(images, prompts, max_new_tokens=limit)
        return answers

    keyed = []
    for state, region in waiting:
        assert state.images is not None
        prompt = region_prompt(state.images, region.region.box, config.region_prompt)
        keys = describe_keys(state.images, prompt)
        keyed += [(key, (state.images, side, prompt)) for side, key in zip(Side, keys, strict=True)]
    answers = tools.values("describe", "describer", keyed, compute, limit)
    for index, (_, region) in enumerate(waiting):
        region.contents = (answers[2 * index], answers[2 * index + 1])
        _reject(region, wordless(region.contents))


def region_prompt(images: ImagePair, box: Box, template: str) -> str:
    """What the describer is asked about a box."""
    return template.format(box=normalised_text(box, images.width, images.height))


def describe_keys(images: ImagePair, prompt: str) -> tuple[str, str]:
    """Cells of the descriptions of the left and of the right image."""
    return fingerprint(images.left_id, prompt), fingerprint(images.right_id, prompt)


def _true_contents(state: ItemState, region: RegionState) -> tuple[str, str]:
    assert state.images is not None and state.images.truth is not None  # noqa: PT018
    changes = state.images.truth.changes
    best = max(
        changes,
        key=lambda c: max(
            (b.iou(region.region.box) for b in (c.left_box, c.right_box) if b), default=0
        ),
    )
    return truthful_content(best.left_name), truthful_content(best.right_name)


def compare_contents(states: list[ItemState], tools: Tools) -> None:
    """Caption similarity filter: two contents that read alike are no difference (paper §3.4.2)."""
    if tools.config.describe.by is DescribeBy.truth:
        return

    def compute(items: Sequence[tuple[str, str]]) -> list[float]:
        rows = tools.backends.embedder.embed_texts([text for pair in items for text in pair])
        return [round(float(v), SCORE_DIGITS) for v in (rows[0::2] * rows[1::2]).sum(axis=1)]

    waiting = [(r, r.contents) for _, r in open_regions(states) if r.contents is not None]
    keyed = [(fingerprint(*contents), contents) for _, contents in waiting]
    scores = tools.values("content_similarity", "embedder", keyed, compute)
    for (region, _), score in zip(waiting, scores, strict=True):
        region.content_similarity = score
        _reject(region, alike(score, tools.config.rules))


def match_contents(states: list[ItemState], tools: Tools) -> None:
    """Caption matching filter: each content must fit its own crop (paper §3.4.2, CITM)."""
    rules = tools.config.rules
    if tools.config.describe.by is DescribeBy.truth:
        return
    waiting = [(s, r, r.contents) for s, r in open_regions(states) if r.contents is not None]
    keyed: list[tuple[str, Asked]] = []
    for state, region, (left, right) in waiting:
        assert state.images is not None
        box = region.region.box
        keyed.append((state.boxed(box, left, right), (state.images, box, (left,), (right,))))
    margin = rules.content_margin_px
    values = tools.values("content_match", "matcher", keyed, matches(tools, margin), margin)
    for (_, region, (left, right)), (lefts, rights) in zip(waiting, values, strict=True):
        region.content_match = (lefts[left], rights[right])
        _reject(region, unfit(region.content_match, rules))


def wordless(contents: tuple[str, str]) -> Fall | None:
    """Why a region falls for its two descriptions, or None."""
    return None if all(contents) else ("describe", "empty description")


def alike(score: float, rules: Rules) -> Fall | None:
    """Why a region falls for the similarity of its descriptions, or None."""
    interval = rules.content_similarity
    if interval.accepts(score):
        return None
    return "content_similarity", missed_end(interval, score, "descriptions")


def unfit(fits: tuple[float, float], rules: Rules) -> Fall | None:
    """Why a region falls for how its descriptions fit their crops, or None."""
    if passes(rules.content_match, rules.content_match_combine, *fits):
        return None
    return "content_match", "description does not fit the crop"


def _reject(region: RegionState, fall: Fall | None) -> None:
    if fall is not None:
        region.reject(*fall)


def say_differences(states: list[ItemState], tools: Tools) -> None:
    """The difference sentence (paper §3.4.3): from the describer, or a truthful template."""
    config, margin = tools.config.describe, tools.config.rules.content_margin_px
    waiting = [(s, r, r.contents) for s, r in open_regions(states) if r.contents is not None]
    if config.sentence_by is SentenceBy.template:
        for _, region, (left, right) in waiting:
            seed = seed_for(tools.config.seed, region.region.id, "sentence")
            region.sentence = template_sentence(left, right, seed)
        return

    def marked(item: tuple[ImagePair, Box, str]) -> Image.Image:
        pair, box, _ = item
        return marked_pair(tools, pair, box, margin)

    def compute(items: Sequence[tuple[ImagePair, Box, str]]) -> list[str]:
        answers: list[str] = []
        describer, limit = tools.backends.describer, config.sentence_tokens
        for part, images in opened_ahead(items, marked):
            prompts = [prompt for _, _, prompt in part]
            answers += describer.chat(images, prompts, max_new_tokens=limit)
        return answers

    keyed = []
    for state, region, (left, right) in waiting:
        assert state.images is not None
        prompt = config.sentence_prompt.format(left=left, right=right)
        box = region.region.box
        keyed.append((state.boxed(box, prompt), (state.images, box, prompt)))
    limits = (margin, config.sentence_tokens)
    answers = tools.values("sentence", "describer", keyed, compute, *limits)
    for (_, region, _), answer in zip(waiting, answers, strict=True):
        region.sentence = answer
        if not answer:
            region.reject("sentence", "empty sentence")


def marked_pair(tools: Tools, images: ImagePair, box: Box, margin: float) -> Image.Image:
    """Both images with the red box, side by side with the black bar: what the model is shown."""
    return side_by_side([with_red_box(image, box, margin) for image in tools.open_pair(images)])
