"""The reader: both kinds of folder, sizes, padding, identity, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import internvl2_reference as reference
import pytest
import torch
from internvl2_goldens import picture
from internvl2_toy import KINDS, TOKENS_PER_VIEW, VIEW_PX, internvl2_toy

from imgdiff.backends.chat_templates import Exchange
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_weights import convert
from imgdiff.backends.readers import Reader
from imgdiff.core.errors import BackendError, ConfigError

TEMPLATES = {"internlm2": "internlm2-chat", "qwen2": "Hermes-2"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def original(tmp_path: Path, kind: str) -> Path:
    return internvl2_toy(tmp_path, kind)


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_it_says_of_the_model(original: Path, kind: str) -> None:
    reader = InternVl2Reader(original, 6)
    assert isinstance(reader, Reader)
    assert reader.template.name == TEMPLATES[kind]
    assert reader.view_px == VIEW_PX
    head = "output" if kind == "internlm2" else "lm_head"
    weights = reference.read_tensors(original)[f"language_model.{head}.weight"]
    assert reader.vocabulary == len(weights) == len(reader.tokenizer)


def test_padding_is_never_a_word(original: Path) -> None:
    reader = InternVl2Reader(original, 6)
    assert reader.pad_id != 0
    assert reader.pad_id in reader.tokenizer.all_special_ids
    words = reader.encode([Exchange("! !! What!", "!" * 9)]).input_ids
    assert reader.pad_id not in words


def test_counts_fit_views_and_ids(original: Path) -> None:
    reader = InternVl2Reader(original, 6)
    part = reader.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    for sizes in ([], [(2068, 1024)], [(56, 56)], [(300, 200), (90, 200)], [(99, 9)] * 7):
        counts = reader.image_tokens(sizes)
        views = reader.views([picture(size) for size in sizes])
        assert views.shape == (sum(counts) // TOKENS_PER_VIEW, 3, VIEW_PX, VIEW_PX)
        coded = reader.encode([Exchange("<image>\n" * len(sizes) + "What?", "No.")], counts)
        assert coded.input_ids.count(part) == sum(counts)
        assert coded.supervised == len(reader.encode([Exchange("", "No.")]).labels) - len(
            reader.encode([Exchange("")]).labels
        )


def test_views_are_those_of_the_reference(original: Path) -> None:
    images = [picture((300, 200)), picture((90, 200))]
    views = InternVl2Reader(original, 7).views(images)
    expected = [view for image in images for view in reference.tiles(image, 3, VIEW_PX)]
    assert torch.equal(views, reference.pixels(expected, VIEW_PX))
    assert InternVl2Reader(original, 7).views([]).shape == (0, 3, VIEW_PX, VIEW_PX)


def test_a_pair_takes_three_views_when_training() -> None:
    """256 tokens per view of 448 px: 768 for an Img-Diff pair with six tiles, 2,304 with twelve."""
    from imgdiff.backends.internvl2_config import tokens_per_view
    from imgdiff.backends.internvl2_images import count_views

    raw = {"vision_config": {"image_size": [448, 448], "patch_size": 14}, "downsample_ratio": 0.5}
    assert tokens_per_view(raw) == 256
    assert [256 * count_views(2068, 1024, limit, 448) for limit in (6, 12)] == [768, 2304]


def test_converted_folder_reads_the_same(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path / "converted")
    ours, theirs = InternVl2Reader(original, 6), InternVl2Reader(tmp_path / "converted", 6)
    assert ours.identity == theirs.identity
    assert (ours.pad_id, ours.vocabulary, ours.view_px) == (
        theirs.pad_id, theirs.vocabulary, theirs.view_px,
    )  # fmt: skip
    turns = [Exchange("What? 你好 🐱", "A cat!")]
    assert ours.encode(turns, [4]) == theirs.encode(turns, [4])


def test_identity_follows_what_it_reads(tmp_path: Path) -> None:
    folders = [internvl2_toy(tmp_path, kind) for kind in KINDS]
    changed = _edit(
        internvl2_toy(tmp_path / "b", KINDS[0]), lambda c: c.update(template="Hermes-2")
    )
    names = {InternVl2Reader(folder, tiles).identity for folder in folders for tiles in (6, 12)}
    assert len(names | {InternVl2Reader(changed, 6).identity}) == 5


def _converted(config: dict[str, Any]) -> None:
    config.update(model_type="internvl", text_config=config["llm_config"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="llava"), "model_type='llava'.*internvl_chat"),
        (lambda c: c.pop("model_type"), "model_type=None"),
        (lambda c: c.update(template="internvl2_5"), "template='internvl2_5'"),
        (lambda c: c.pop("template"), "template=None"),
        (lambda c: c.pop("vision_config"), r"not whole \(KeyError\('vision_config'\)\)"),
        (lambda c: c["llm_config"].pop("vocab_size"), "not whole.*vocab_size"),
        (_converted, "does not say which template.*convert.*Hermes-2"),
        (lambda c: (_converted(c), c.update(imgdiff={"template": "x"})), "template='x'"),
    ],
)
def test_unfit_configs_are_refused(
    original: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        InternVl2Reader(_edit(original, change), 6)


def test_no_tile_and_no_folder_are_refused(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_tiles=-1"):
        InternVl2Reader(original, -1)
    with pytest.raises(BackendError, match=r"lacks config\.json"):
        InternVl2Reader(tmp_path / "nowhere", 6)
