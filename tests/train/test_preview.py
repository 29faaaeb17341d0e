"""The preview shows what the model gets: ids, labels, pixels and places of the real batches."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from internvl2_toy import internvl2_toy
from PIL import Image
from rich.console import Console

from imgdiff.backends.chat_templates import IGNORED, VICUNA_V1
from imgdiff.backends.readers import LlavaReader, Reader
from imgdiff.core.errors import ConfigError
from imgdiff.launch import compose_typed
from imgdiff.train.config import ModelConfig, TrainConfig
from imgdiff.train.data import Planned, plan_run
from imgdiff.train.models import find_base, open_reader
from imgdiff.train.plan import Batching
from imgdiff.train.preview.card import card
from imgdiff.train.preview.config import PreviewConfig, register
from imgdiff.train.preview.page import page
from imgdiff.train.preview.pieces import Role, pieces_of
from imgdiff.train.preview.run import run
from imgdiff.train.preview.shown import Shown, first_samples
from imgdiff.train.preview.terminal import show, with_marks
from imgdiff.train.preview.views import pictures_of

NASTY = '<script>alert("x")</script> & \u2028 \x00 \x1b[31m [bold]red[/] é 日本'


def opened(config: TrainConfig) -> tuple[Reader, Planned]:
    reader = open_reader(config.model, find_base(config.model, Path(config.cache_dir)))
    return reader, plan_run(config, reader)


@pytest.mark.parametrize("batching", [Batching.plain, Batching.pack])
def test_every_sample_is_shown_once_with_all_its_tokens(
    settings: Callable[..., Any], batching: Batching
) -> None:
    config = settings(batching=batching, micro_batch_size=4, batch_size=8)
    reader, planned = opened(config)
    samples = first_samples(config, planned, reader, 100)
    assert [sample.number for sample in samples] == list(range(1, 25))
    assert {sample.micro_batch for sample in samples} == set(range(6))
    assert [sample.step for sample in samples] == [1] * 8 + [2] * 8 + [3] * 8
    expected = [planned.table.sample(row).id for row in planned.plan.rows.tolist()]
    for first in range(0, 24, 4):  # packing lays out a micro-batch in its own order
        part = [sample.id for sample in samples[first : first + 4]]
        assert sorted(part) == sorted(expected[first : first + 4])
    for sample in samples:
        assert sum(piece.tokens for piece in sample.pieces) == sample.tokens
        assert sample.count(Role.image) == 16
        assert sample.source == ("base" if sample.id.startswith("base") else "synth")


def test_the_supervised_pieces_are_the_answer(settings: Callable[..., Any]) -> None:
    config = settings()
    reader, planned = opened(config)
    for sample in first_samples(config, planned, reader, 8):
        row = next(
            row for row in range(len(planned.table)) if planned.table.sample(row).id == sample.id
        )
        answer = planned.table.sample(row).turns[0].answer
        said = "".join(p.text for p in sample.pieces if p.role is Role.supervised)
        assert said == f" {answer}</s>"
        text = "".join(piece.text for piece in sample.pieces)
        assert "USER: " in text
        assert "What color is it?" in text
        assert text.endswith(f"ASSISTANT: {answer}</s>")


def test_packed_rows_say_how_many_share_them(settings: Callable[..., Any]) -> None:
    config = settings(batching=Batching.pack)
    reader, planned = opened(config)
    samples = first_samples(config, planned, reader, 4)
    assert {sample.samples_in_row for sample in samples} == {4}
    assert "row 0 of 4 samples" in samples[0].position


def test_a_cut_and_padding_are_said(settings: Callable[..., Any], checkpoint: Path) -> None:
    config = settings()
    reader, planned = opened(config)
    tokens = [sample.tokens for sample in first_samples(config, planned, reader, 4)]
    for sample in first_samples(config, planned, reader, 4):
        assert sample.filled == max(tokens) - sample.tokens
    model = ModelConfig(path=str(checkpoint), max_tokens=max(tokens) - 1)
    config = settings(model=model)
    reader, planned = opened(config)
    cut = [sample for sample in first_samples(config, planned, reader, 4) if sample.at_limit]
    assert cut
    assert all("cut at max_tokens" in sample.figures for sample in cut)


@pytest.mark.parametrize("text", ["é日本 x", "a  b\n\n c", "</s> ASSISTANT: \t", "🙂🙂", NASTY])
def test_pieces_give_the_text_back(checkpoint: Path, text: str) -> None:
    reader = LlavaReader(checkpoint, VICUNA_V1)
    ids = reader.tokenizer(text, add_special_tokens=False)["input_ids"]
    labels = [IGNORED if k % 2 else token for k, token in enumerate(ids)]
    pieces = pieces_of(ids, [IGNORED] * len(ids), reader.tokenizer, reader.image_id)
    anchor = reader.tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = reader.tokenizer.decode([*anchor, *ids], clean_up_tokenization_spaces=False)
    assert "a" + "".join(piece.text for piece in pieces) == whole
    mixed = pieces_of(ids, labels, reader.tokenizer, reader.image_id)
    assert sum(piece.tokens for piece in mixed) == len(ids)


def picture(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_views_come_back_to_the_last_bit(checkpoint: Path, tmp_path: Path) -> None:
    square = picture((64, 64))
    reader = LlavaReader(checkpoint, VICUNA_V1)
    (back,) = pictures_of(reader.views([square]), reader.grids([square.size]), reader)
    assert np.array_equal(np.asarray(back), np.asarray(square))
    internvl = open_reader(
        *(lambda m: (m, find_base(m, tmp_path)))(
            ModelConfig(path=str(internvl2_toy(tmp_path, "qwen2")), max_tiles=6)
        )
    )
    wide = picture((112, 56))
    grids = internvl.grids([wide.size])
    assert grids == ((2, 1),)
    (laid,) = pictures_of(internvl.views([wide]), grids, internvl)
    assert laid.size == (56 + 6 + 56 + 24 + 56, 56)
    pixels = np.asarray(laid)
    assert np.array_equal(pixels[:, :56], np.asarray(wide)[:, :56])
    assert np.array_equal(pixels[:, 62:118], np.asarray(wide)[:, 56:])
    views = internvl.views([wide, wide])
    assert len(pictures_of(views, internvl.grids([wide.size] * 2), internvl)) == 2


def test_an_internvl2_is_shown_with_its_tiles(settings: Callable[..., Any], tmp_path: Path) -> None:
    model = ModelConfig(path=str(internvl2_toy(tmp_path, "qwen2")), max_tiles=6)
    config = settings(model=model)
    reader, planned = opened(config)
    for sample in first_samples(config, planned, reader, 4):
        views = sample.count(Role.image) // 4
        assert (len(sample.pictures), views > 1) == (1, sample.pictures[0].width > 56)
        said = "".join(p.text for p in sample.pieces if p.role is Role.supervised)
        assert said.endswith("<|im_end|>")


def test_a_run_writes_pictures_and_a_page_and_needs_no_weight(
    settings: Callable[..., Any],
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (checkpoint / "model.safetensors").unlink()
    values = {name: getattr(settings(), name) for name in TrainConfig.__slots__}
    config = PreviewConfig(**values | {"output_dir": str(tmp_path / "out"), "samples": 3})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sample-099.png").touch()  # of an earlier preview
    written = run(config)
    names = sorted(file.name for file in written.parent.iterdir())
    assert names == ["preview.html", "sample-001.png", "sample-002.png", "sample-003.png"]
    with Image.open(written.parent / "sample-001.png") as shown:
        assert shown.width > 1000
    first = written.read_bytes()
    assert run(config).read_bytes() == first
    out = capsys.readouterr().out
    assert "ASSISTANT:[[ " in out
    assert "supervised, 16 image" in out


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]


def nasty(checkpoint: Path) -> Shown:
    reader = LlavaReader(checkpoint, VICUNA_V1)
    ids = reader.tokenizer(NASTY, add_special_tokens=False)["input_ids"]
    return Shown(
        number=1, id=NASTY, source=NASTY, place=NASTY, step=1, micro_batch=0, row=0,
        samples_in_row=1, filled=0, tokens=len(ids), at_limit=False,
        pieces=pieces_of(ids, ids, reader.tokenizer, reader.image_id),
        files=(NASTY,), pictures=(picture((500, 30)),),
    )  # fmt: skip


def test_texts_of_the_data_stay_texts(checkpoint: Path) -> None:
    sample = nasty(checkpoint)
    html = page([sample], {NASTY: NASTY}, [NASTY])
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.tags
    assert tags.tags.count("article") == 1
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    assert "&lt;script&gt;" in html
    assert "\x00" not in html
    assert not re.search(r"https?://", html)
    assert card(sample).height > 60


def test_the_terminal_shows_colours_or_marks(checkpoint: Path) -> None:
    sample = nasty(checkpoint)
    for colours in (None, "truecolor"):
        held = io.StringIO()
        console = Console(
            file=held, force_terminal=colours is not None, color_system=colours, width=80,
            highlight=False,
        )  # fmt: skip
        show(sample, 1, console)
        assert ("\x1b[" in held.getvalue()) == (colours is not None)
        assert "\x1b[31m" not in held.getvalue()
        assert "[bold]red" in held.getvalue().split("\n")[0]
    assert with_marks(sample).startswith("[[")
    assert with_marks(sample).endswith("]]")


def test_the_settings_are_those_of_a_run_and_two_more() -> None:
    from imgdiff.train import config as train_config

    register()
    try:
        assert compose_typed("preview", PreviewConfig) == PreviewConfig()
        changed = ["model=llava15_7b", "tuning=lora", "samples=3"]
        config = compose_typed("preview", PreviewConfig, changed)
        assert (config.samples, config.batch_size, config.output_dir) == (3, 128, "outputs/preview")
        with pytest.raises(ConfigError, match=r"unknown key sample\. Did you mean samples"):
            compose_typed("preview", PreviewConfig, ["sample=3"])
    finally:
        train_config.register()
    with pytest.raises(ConfigError, match=r"samples=0"):
        PreviewConfig(samples=0)
    with pytest.raises(ConfigError, match=r"batch_size=0"):
        PreviewConfig(batch_size=0)
