"""Labels, padding and pixels of a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imgdiff.train.sources import Sample, open_sources
from PIL import Image

from imgdiff.backends.chat_templates import Exchange
from imgdiff.core.errors import BackendError, DataError
from imgdiff.train.data import Collator, PlannedSamples, Reader
from imgdiff.train.fit import open_reader


@pytest.fixture
def reader(settings: Callable[..., Any], checkpoint: Path) -> Reader:
    return open_reader(settings(), checkpoint)


def test_only_answers_and_their_stops_carry_loss(reader: Reader) -> None:
    turns = (Exchange("<image>\nWhat color?", "It is red."), Exchange("Sure?", "Yes."))
    encoded = reader.encode(Sample(id="x", image=Path("x.png"), turns=turns))
    kept = [label for label in encoded.labels if label != -100]
    assert reader.tokenizer.decode(kept) == "It is red.</s> Yes.</s>"
    assert all(
        label in (-100, id_) for label, id_ in zip(encoded.labels, encoded.input_ids, strict=True)
    )
    image = reader.tokenizer.convert_tokens_to_ids("<image>")
    assert encoded.input_ids.count(image) == reader.image_tokens == 16


def test_a_sample_that_is_too_long_or_teaches_nothing_is_refused(reader: Reader) -> None:
    import dataclasses

    long = Sample(id="long", image=None, turns=(Exchange("a " * 500, "b"),))
    with pytest.raises(DataError, match=r"sample long: \d+ tokens, model\.max_tokens=100"):
        dataclasses.replace(reader, max_tokens=100).encode(long)
    with pytest.raises(DataError, match="sample mute: no supervised token"):
        reader.encode(Sample(id="mute", image=None, turns=(Exchange("Hi", ""),)))


def test_a_wide_image_is_padded_to_a_square(reader: Reader) -> None:
    pixels = reader.pixels(Image.new("RGB", (84, 32), (255, 0, 0)))
    assert pixels.shape == (3, 64, 64)
    grey = pixels[:, 0, 0]  # CLIP's mean colour, so about 0 after normalisation
    assert float(grey.abs().max()) < 0.02
    red = pixels[:, 32, 32]
    assert float(red[0]) > 1.5 > 0 > float(red[1])


def test_batches_pad_on_the_right_and_text_only_samples_have_no_pixels(reader: Reader) -> None:
    def item(length: int, *, image: bool) -> dict[str, torch.Tensor]:
        numbers = torch.arange(1, length + 1)
        pixels = {"pixel_values": torch.zeros(3, 64, 64)} if image else {}
        return {"input_ids": numbers, "labels": numbers, **pixels}

    batch = Collator(pad_id=9)([item(2, image=True), item(4, image=False)])
    assert batch["input_ids"].tolist() == [[1, 2, 9, 9], [1, 2, 3, 4]]
    assert batch["labels"].tolist() == [[1, 2, -100, -100], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["pixel_values"].shape == (1, 3, 64, 64)
    assert "pixel_values" not in Collator(pad_id=9)([item(2, image=False)])


def test_places_show_what_the_plan_says(
    reader: Reader, settings: Callable[..., Any], tmp_path: Path
) -> None:
    sources = open_sources(settings().data, tmp_path)
    samples = PlannedSamples(sources, [(1, 2), (0, 0), (1, 2)], reader)
    assert len(samples) == 3
    text = reader.tokenizer.decode([i for i in samples[1]["labels"] if i != -100])
    assert text == "It is red.</s>"
    first, last = samples[0]["pixel_values"], samples[2]["pixel_values"]
    assert np.array_equal(first, last)
    assert first.shape == (3, 64, 64)


def test_a_folder_without_a_checkpoint_is_named(
    settings: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendError, match=r"model\.path="):
        open_reader(settings(), tmp_path / "empty")
