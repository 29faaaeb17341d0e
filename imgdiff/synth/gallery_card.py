"""One pair of the gallery: both images with their boxes, captions, contents, scores, sentence."""

from __future__ import annotations

import base64
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside
from imgdiff.core.geometry import Box
from imgdiff.core.images import DIVIDER_PX, RED, open_rgb, side_by_side
from imgdiff.synth.audit import names
from imgdiff.synth.page_parts import escaped

MAX_WIDTH_PX = 512  # of one image on the page
MAX_HEIGHT_PX = 768
SMALL_PX = 384  # smaller images are enlarged by a whole number, so that boxes stay fine lines
ORANGE = (255, 140, 0)
LINE_PX, DASH_PX, GAP_PX = 3, 9, 6
JPEG_QUALITY = 85
_TAG_ROOM = 8.0  # per cent of the height that a label above its box needs
_CENTRE = 60.0  # per cent; boxes that begin further right get a label that grows to the left
_WORD = re.compile(r"[^\s.,;:!?]+|[.,;:!?]+")


def card(entry: Mapping[str, Any], store: Path) -> str:
    """The HTML of one gallery entry. Fields that are None are left out."""
    pair, regions = entry["pair"], entry["regions"]
    numbered = len(regions) > 1
    parts = [
        _captions(pair),
        chips_of(_pair_chips(pair)),
        detail_text(pair["detail"]),
        *(
            _region(region, number if numbered else None)
            for number, region in enumerate(regions, start=1)
        ),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<article class="card">{_figure(pair, regions, store)}\n'
        f'<div class="body">{body}</div></article>'
    )


def _figure(pair: Mapping[str, Any], regions: Sequence[Mapping[str, Any]], store: Path) -> str:
    """Both images beside each other, boxes drawn, labels laid over them."""
    images = []
    for name in (pair["image_0"], pair["image_1"]):
        if name is None:
            return '<figure><p class="absent">no image</p></figure>'
        try:
            images.append(open_rgb(inside(store, name)))
        except DataError:
            return f'<figure><p class="absent">{escaped(name)}: not a readable image</p></figure>'
    source = images[0].size
    size = shown_size(*source)
    marked = [draw_boxes(image, regions, size) for image in images]
    labels = [
        (_label(region, number if len(regions) > 1 else None), region)
        for number, region in enumerate(regions, start=1)
    ]
    return figure(marked, source, labels, _alt(pair))


def figure(
    marked: Sequence[Image.Image],
    source: tuple[int, int],
    labels: Sequence[tuple[str, Mapping[str, Any]]],
    alt: str,
) -> str:
    """Two pictures of `shown_size` beside each other; (text, region in source pixels) on both."""
    strip = side_by_side(marked)
    width, height = marked[0].size
    tags = "".join(
        _tag(text, region, source, offset, strip)
        for text, region in labels
        for offset in (0, width + DIVIDER_PX)
    )
    style = (
        f"--side:{width}/{height};--zoom:{100 * strip.width / width:.3f}%;"
        f"--shift:{-100 * (width + DIVIDER_PX) / strip.width:.3f}%"
    )
    return (
        f'<figure style="{style}"><div class="strip"><img src="{data_url(strip)}" '
        f'width="{strip.width}" height="{strip.height}" alt="{alt}">'
        f'{tags}</div><button type="button" aria-pressed="false">Blink</button></figure>'
    )


def _alt(pair: Mapping[str, Any]) -> str:
    sides = (("Left", pair["caption_0"]), ("Right", pair["caption_1"]))
    return escaped(" ".join(f"{side}: {text}" for side, text in sides if text is not None))


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Size on the page of an image of this size: at most 512x768, small ones enlarged."""
    factor: float = max(1, SMALL_PX // width)
    factor = min(factor, MAX_WIDTH_PX / width, MAX_HEIGHT_PX / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def draw_boxes(
    image: Image.Image, regions: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Image.Image:
    """The image at `size` with every region's box around its pixels.

    A kept region has a solid red box, a fallen one a dashed orange one; kept ones lie on top.
    """
    across, down = size[0] / image.width, size[1] / image.height
    canvas = image.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(canvas)
    for region in sorted(regions, key=lambda row: bool(row["kept"])):
        box = Box(
            left=region["left"] * across,
            top=region["top"] * down,
            right=region["right"] * across,
            bottom=region["bottom"] * down,
        )
        # One pixel less on the far sides: Pillow's corners are inclusive, ours are not.
        edge = box.grown(LINE_PX).clipped_to(size[0], size[1])
        right, bottom = max(edge.left, edge.right - 1), max(edge.top, edge.bottom - 1)
        corners = (edge.left, edge.top, right, bottom)
        if region["kept"]:
            draw.rectangle(corners, outline=RED, width=LINE_PX)
        else:
            _dashed(draw, corners)
    return canvas


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float]) -> None:
    """A dashed rectangle over a thin dark one, which keeps it visible on a bright ground."""
    left, top, right, bottom = corners
    inner = LINE_PX - 1
    draw.rectangle(corners, outline=(60, 60, 60), width=1)
    for start in range(int(left), int(right) + 1, DASH_PX + GAP_PX):
        end = min(start + DASH_PX, right)
        draw.rectangle((start, top, end, min(top + inner, bottom)), fill=ORANGE)
        draw.rectangle((start, max(bottom - inner, top), end, bottom), fill=ORANGE)
    for start in range(int(top), int(bottom) + 1, DASH_PX + GAP_PX):
        end = min(start + DASH_PX, bottom)
        draw.rectangle((left, start, min(left + inner, right), end), fill=ORANGE)
        draw.rectangle((max(right - inner, left), start, right, end), fill=ORANGE)


def data_url(image: Image.Image) -> str:
    """The image as a JPEG inside a URL; no chroma subsampling, so that red lines stay red."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _label(region: Mapping[str, Any], number: int | None) -> str:
    """What stands at the box: its number where there are several, and where it fell."""
    stage = "" if region["kept"] or not region["stage"] else region["stage"].replace("_", " ")
    return " · ".join(part for part in (str(number or ""), stage) if part)


def _tag(
    text: str,
    region: Mapping[str, Any],
    source: tuple[int, int],
    offset: int,
    strip: Image.Image,
) -> str:
    """A label at the upper edge of the box, in per cent of the strip so that it scales with it."""
    if not text:
        return ""
    factor = strip.height / source[1]
    edge = Box(
        left=region["left"] * factor,
        top=region["top"] * factor,
        right=region["right"] * factor,
        bottom=region["bottom"] * factor,
    )
    edge = edge.grown(LINE_PX).clipped_to(source[0] * factor, strip.height)
    top = 100 * edge.top / strip.height
    place = f"left:{100 * (offset + edge.left) / strip.width:.2f}%"
    if 100 * region["left"] / source[0] > _CENTRE:
        place = f"right:{100 - 100 * (offset + edge.right) / strip.width:.2f}%"
    kinds = ("tag", "" if region["kept"] else "fell", "above" if top > _TAG_ROOM else "")
    return (
        f'<b class="{" ".join(kind for kind in kinds if kind)}" '
        f'style="{place};top:{top:.2f}%">{escaped(text)}</b>'
    )


def _captions(pair: Mapping[str, Any]) -> str:
    """Both captions below their images, the words that only one of them has highlighted."""
    left, right = pair["caption_0"], pair["caption_1"]
    if left is None and right is None:
        return ""
    marked = highlighted(left or "", right or "")
    if left is None or right is None:
        marked = (escaped(left or ""), escaped(right or ""))
    return '<div class="two">' + "".join(f'<p dir="auto">{text}</p>' for text in marked) + "</div>"


def highlighted(left: str, right: str) -> tuple[str, str]:
    """Both texts as HTML, with `<mark>` around runs of words that the other one lacks."""
    words = [list(_WORD.finditer(text)) for text in (left, right)]
    plain = [[str(word.group()) for word in held] for held in words]
    matcher = difflib.SequenceMatcher(a=plain[0], b=plain[1], autojunk=False)
    opcodes = matcher.get_opcodes()
    changed = [code for code in opcodes if code[0] != "equal"]
    return (
        _marked(left, words[0], [(first, end) for _, first, end, _, _ in changed]),
        _marked(right, words[1], [(first, end) for _, _, _, first, end in changed]),
    )


def _marked(text: str, words: Sequence[re.Match[str]], runs: Sequence[tuple[int, int]]) -> str:
    """The text as HTML with the given runs of words (first, end) marked."""
    parts, done = [], 0
    for first, end in runs:
        if first < end:
            start, stop = words[first].start(), words[end - 1].end()
            parts += [escaped(text[done:start]), f"<mark>{escaped(text[start:stop])}</mark>"]
            done = stop
    return "".join([*parts, escaped(text[done:])])


def chips_of(chips: Sequence[tuple[str, str]]) -> str:
    """Small labelled values; values that are empty are left out."""
    inner = "".join(
        f'<span class="chip"><i>{escaped(name)}</i> <bdi>{escaped(value)}</bdi></span>'
        for name, value in chips
        if value
    )
    return f'<div class="chips">{inner}</div>' if inner else ""


def _pair_chips(pair: Mapping[str, Any]) -> list[tuple[str, str]]:
    nouns = [", ".join(pair[key] or ()) for key in ("nouns_0", "nouns_1")]
    return [
        ("image similarity", score_text(pair["image_similarity"])),
        ("nouns", " → ".join(text or "none" for text in nouns) if any(nouns) else ""),
        ("generator", pair["truth"] or ""),
        ("id", pair["id"] or ""),
    ]


def score_text(*values: float | None) -> str:
    """Three decimals; both sides where there are two; empty where nothing was computed."""
    if all(value is None for value in values):
        return ""
    return " | ".join("-" if value is None else f"{value:.3f}" for value in values)


def detail_text(text: str | None) -> str:
    """The free detail of a rejection; nothing for none."""
    return f'<p class="detail" dir="auto">{escaped(text)}</p>' if text else ""


def _region(region: Mapping[str, Any], number: int | None) -> str:
    """Everything known of one region; `number` where its pair shows several."""
    kept = bool(region["kept"])
    stage, reason = (str(region[key] or "").replace("_", " ") for key in ("stage", "reason"))
    verdict = "" if kept else ": ".join(part for part in (stage, reason) if part)
    title = " · ".join(part for part in (str(number or ""), verdict) if part)
    chips = [
        ("crop similarity", score_text(region["crop_similarity"])),
        ("match", score_text(region["match_0"], region["match_1"])),
        ("content similarity", score_text(region["content_similarity"])),
        ("content match", score_text(region["content_match_0"], region["content_match_1"])),
    ]
    sentence = region["sentence"]
    parts = (
        f'<h3 dir="auto">{escaped(title)}</h3>' if title else "",
        _contents(region),
        f'<blockquote dir="auto">{escaped(sentence)}</blockquote>' if sentence else "",
        chips_of(chips),
        detail_text(region["detail"]),
    )
    inner = "\n".join(part for part in parts if part)
    return f'<section class="region{"" if kept else " fell"}">{inner}</section>'


def _contents(region: Mapping[str, Any]) -> str:
    """What each side is said to hold and truly holds: green where the one names the other."""
    sides = [_content(region[f"content_{k}"], region[f"true_name_{k}"]) for k in (0, 1)]
    if not any(sides):
        return ""
    return '<div class="two">' + "".join(side or "<span></span>" for side in sides) + "</div>"


def _content(content: str | None, truth: str | None) -> str:
    """One side. `truth` is None where the generator knows nothing, empty where nothing is there."""
    if content is None and truth is None:
        return ""
    said = "" if content is None else escaped(content)
    if truth is None:
        return f'<div class="content" dir="auto">{said}</div>'
    really = escaped(truth) if truth else "no object"
    kind, sign = "", ""
    if content is not None:
        right = names(content, truth)
        kind, sign = (" right", "✓ ") if right else (" wrong", "✗ ")
    return (
        f'<div class="content{kind}" dir="auto">{said}'
        f'<span class="truth">{sign}truly <bdi>{really}</bdi></span></div>'
    )
