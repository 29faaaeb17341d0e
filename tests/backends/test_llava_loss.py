"""The loss of our formulation is the loss of the authors', on a tiny random LLaVA.

Ours: LlavaForConditionalGeneration of transformers, `<image>` ids repeated, cross entropy over the
words of the original vocabulary. Theirs (llava/model/llava_arch.py and transformers' Llama): the
text's embeddings cut at index -200, projected CLIP features put between, padded on the right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from backends.reference_llava import IMAGE_INDEX, NO_LOSS, Sample, Turn, preprocess
from backends.reference_pixels import pixels
from PIL import Image
from small_vicuna import (
    SIDE_PX,
    clip_vision,
    llama,
    projector,
    small_tokenizer,
    write_clip,
    write_projector,
    write_vicuna,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

from imgdiff.backends.chat_templates import VICUNA_V1, Exchange
from imgdiff.backends.llava_weights import assemble
from imgdiff.backends.readers import LlavaReader

CONVERSATIONS: list[tuple[list[Turn], bool]] = [
    ([("<image>\nWhat is the difference?", "The left dog is red, the right one blue.")], True),
    ([("Say hello.", "Hello!"), ("And now?", "Goodbye, and a longer farewell.")], False),
    ([("Where is it?\n<image>", "On the left."), ("Sure?", "Yes."), ("Why?", "I see it.")], True),
]
SIZES = [(209, 100), (50, 90)]


class Ours(NamedTuple):
    """Model and reader of one folder."""

    model: Any
    reader: LlavaReader


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    parts = tmp_path_factory.mktemp("parts")
    llava = assemble(
        write_vicuna(parts / "vicuna"),
        write_clip(parts / "clip", whole=True),
        write_projector(parts / "mm_projector.bin"),
    )
    folder: Path = parts / "llava"
    llava.write(folder)
    return Ours(llava.model, LlavaReader(folder, VICUNA_V1))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def batch(reader: LlavaReader) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, labels and attention mask, padded on the right."""
    rows = []
    for turns, with_image in CONVERSATIONS:
        counts = reader.image_tokens(SIZES[:1]) if with_image else ()
        rows.append(reader.encode([Exchange(*turn) for turn in turns], counts))
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), reader.pad_id)
    labels = torch.full((len(rows), longest), NO_LOSS)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[number, : len(row.labels)] = torch.tensor(row.labels)
        mask[number, : len(row.input_ids)] = 1
    return ids, labels, mask


def token_mean(logits: Tensor, labels: Tensor, words: int) -> Tensor:
    """Cross entropy of the next token over the first `words` logits, mean over those with loss."""
    return cross_entropy(
        logits[:, :-1, :words].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=NO_LOSS
    )


def our_loss(ours: Ours, *, masked: bool) -> tuple[Tensor, Tensor]:
    ids, labels, mask = batch(ours.reader)
    logits = ours.model(
        input_ids=ids,
        pixel_values=ours.reader.views(pictures()),
        attention_mask=mask if masked else None,
        use_cache=False,
    ).logits
    return token_mean(logits, labels, ours.reader.vocabulary), logits


class Theirs:
    """The original model in plain pieces, with a vocabulary of its own size."""

    def __init__(self) -> None:
        self.language, self.tower, self.projector = llama(), clip_vision(), projector()
        self.tokenizer = small_tokenizer()

    def samples(self) -> list[Sample]:
        return [preprocess(self.tokenizer, t, has_image=image) for t, image in CONVERSATIONS]

    def features(self) -> list[Tensor]:
        views = torch.stack([torch.from_numpy(pixels(image, SIDE_PX)) for image in pictures()])
        with torch.no_grad():
            seen = self.tower(views, output_hidden_states=True).hidden_states[-2][:, 1:]
        return list(self.projector(seen))

    def spliced(self, sample: Sample, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings and labels of one sample; takes its features off the front of the list."""
        parts, labels = [], []
        for token, label in zip(sample.ids, sample.labels, strict=True):
            if token == IMAGE_INDEX:
                parts.append(features.pop(0))
                labels += [NO_LOSS] * len(parts[-1])
            else:
                parts.append(self.language.get_input_embeddings()(torch.tensor([token])))
                labels.append(label)
        return torch.cat(parts), torch.tensor(labels)

    def loss(self) -> tuple[Tensor, list[Tensor]]:
        """Token-mean loss of the batch, and every sample's logits."""
        features = self.features()
        rows = [self.spliced(sample, features) for sample in self.samples()]
        longest = max(len(labels) for _, labels in rows)
        width = self.language.config.hidden_size
        inputs = torch.zeros(len(rows), longest, width)
        labels = torch.full((len(rows), longest), NO_LOSS)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, (embedded, wanted) in enumerate(rows):
            inputs[number, : len(wanted)] = embedded
            labels[number, : len(wanted)] = wanted
            mask[number, : len(wanted)] = 1
        logits = self.language(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits
        real = [row[: len(wanted)] for row, (_, wanted) in zip(logits, rows, strict=True)]
        return token_mean(logits, labels, self.language.config.vocab_size), real


@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_loss_and_logits_are_equal(ours: Ours, masked: bool) -> None:
    theirs, their_logits = Theirs().loss()
    mine, logits = our_loss(ours, masked=masked)
    assert abs(float(mine) - float(theirs)) < 1e-5
    for row, expected in zip(logits, their_logits, strict=True):
        found = row[: len(expected), : expected.shape[1]]
        assert float((found - expected).abs().max()) < 1e-5


def test_gradients_are_equal(ours: Ours) -> None:
    original = Theirs()
    original.loss()[0].backward()
    ours.model.zero_grad()
    our_loss(ours, masked=True)[0].backward()
    model = ours.model.model
    words = ours.reader.vocabulary
    pairs = [
        (ours.model.lm_head.weight.grad[:words], original.language.lm_head.weight.grad),
        (
            model.language_model.layers[0].mlp.up_proj.weight.grad,
            original.language.model.layers[0].mlp.up_proj.weight.grad,
        ),
        (model.multi_modal_projector.linear_1.weight.grad, original.projector[0].weight.grad),
        (model.multi_modal_projector.linear_2.bias.grad, original.projector[2].bias.grad),
        (
            model.language_model.embed_tokens.weight.grad[:words],
            original.language.model.embed_tokens.weight.grad,
        ),
    ]
    for mine, expected in pairs:
        assert float(expected.abs().max()) > 1e-4
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)
    assert float(ours.model.lm_head.weight.grad[words:].abs().max()) == 0.0
    assert float(model.language_model.embed_tokens.weight.grad[words:].abs().max()) == 0.0


@torch.no_grad()
def test_the_added_rows_would_change_the_loss(ours: Ours) -> None:
    """Why the loss looks at the original vocabulary alone."""
    ids, labels, mask = batch(ours.reader)
    whole = ours.model(
        input_ids=ids, pixel_values=ours.reader.views(pictures()), attention_mask=mask,
        labels=labels, use_cache=False,
    ).loss  # fmt: skip
    mine, _ = our_loss(ours, masked=True)
    assert float(whole) - float(mine) > 1e-3


def test_batch_has_a_text_without_image_and_unequal_rows(ours: Ours) -> None:
    ids, labels, mask = batch(ours.reader)
    images = (ids == ours.model.config.image_token_id).sum(dim=1).tolist()
    assert images == [16, 0, 16]
    assert len(set(mask.sum(dim=1).tolist())) == 3
    assert int((labels != NO_LOSS).sum()) > 30
