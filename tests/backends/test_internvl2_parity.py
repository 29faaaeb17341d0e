"""Logits and loss of the native class equal the original formulation, restated; and goldens."""

from __future__ import annotations

import json
from pathlib import Path

import internvl2_goldens as goldens
import internvl2_reference as reference
import pytest
import torch
from internvl2_toy import KINDS, internvl2_toy, random_tensors, save_tensors

from imgdiff.backends.chat_templates import Encoded, Exchange
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_weights import convert, load

STORED = Path(__file__).parent.parent / "goldens"
TOLERANCE = 1e-5
SAMPLES = {"text alone": (), "pair": ((2068, 1024),), "two images": ((300, 200), (90, 200))}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy with weights of its own, so that no agreement hangs on one seed."""
    made = internvl2_toy(tmp_path_factory.mktemp("toy"), str(request.param))
    config = json.loads((made / "config.json").read_text("utf-8"))
    (made / "model.safetensors.index.json").unlink(missing_ok=True)
    save_tensors(made, random_tensors(config, seed=7))
    return made


def _sample(reader: InternVl2Reader, name: str) -> tuple[Encoded, torch.Tensor | None]:
    sizes = SAMPLES[name]
    turns = [
        Exchange("<image>\n" * len(sizes) + "What is different? 左边!", "A red cat!"),
        Exchange("Sure?", "Yes, 🐱."),
    ]
    coded = reader.encode(turns, reader.image_tokens(sizes))
    return coded, reader.views([goldens.picture(size) for size in sizes]) if sizes else None


@pytest.mark.parametrize("name", SAMPLES)
def test_logits_and_loss_are_the_originals(folder: Path, tmp_path: Path, name: str) -> None:
    reader = InternVl2Reader(folder, 6)
    coded, views = _sample(reader, name)
    ids, labels = torch.tensor(coded.input_ids), torch.tensor(coded.labels)
    convert(folder, tmp_path / "converted")
    image_id = reader.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    original = reference.Original(folder, image_id)
    logits, loss = original.logits(ids, views), original.loss(ids, labels, views)
    for model in (load(folder), load(tmp_path / "converted")):
        with torch.no_grad():
            out = model(input_ids=ids[None], labels=labels[None], pixel_values=views)
        assert logits.abs().max() > 1
        assert (out.logits[0] - logits).abs().max() < TOLERANCE
        assert (out.loss - loss).abs() < TOLERANCE


@pytest.mark.parametrize(
    "scaling", [None, {"type": "dynamic", "factor": 2.0}, {"type": "linear", "factor": 3.0}]
)
def test_rotary_scaling_past_the_longest_position(
    tmp_path: Path, scaling: dict[str, str | float] | None
) -> None:
    made = internvl2_toy(tmp_path, "internlm2")
    config = json.loads((made / "config.json").read_text("utf-8"))
    config["llm_config"] |= {"max_position_embeddings": 16, "rope_scaling": scaling}
    (made / "config.json").write_text(json.dumps(config))
    coded, _ = _sample(InternVl2Reader(made, 6), "text alone")
    ids = torch.tensor(coded.input_ids)
    assert len(ids) > 32
    with torch.no_grad():
        logits = load(made)(input_ids=ids[None]).logits[0]
    assert (logits - reference.Original(made, 0).logits(ids, None)).abs().max() < TOLERANCE


def test_neighbours_and_padding_change_nothing(folder: Path) -> None:
    """A padded batch of samples with and without images, next to the restatement of each."""
    reader, model = InternVl2Reader(folder, 6), load(folder)
    image_id = reader.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    original = reference.Original(folder, image_id)
    samples = [_sample(reader, name) for name in SAMPLES]
    longest = max(len(coded.input_ids) for coded, _ in samples)
    ids = torch.full((len(samples), longest), reader.pad_id)
    mask = torch.zeros_like(ids)
    for row, (coded, _) in enumerate(samples):
        ids[row, : len(coded.input_ids)] = torch.tensor(coded.input_ids)
        mask[row, : len(coded.input_ids)] = 1
    views = torch.cat([views for _, views in samples if views is not None])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, pixel_values=views).logits
    for row, (coded, own) in enumerate(samples):
        expected = original.logits(torch.tensor(coded.input_ids), own)
        assert (logits[row, : len(expected)] - expected).abs().max() < TOLERANCE


def test_the_restatement_is_not_blind(folder: Path) -> None:
    """Swapped parts, another picture or a tied head move the logits far beyond the tolerance."""
    reader, model = InternVl2Reader(folder, 6), load(folder)
    coded, views = _sample(reader, "pair")
    assert views is not None
    ids = torch.tensor(coded.input_ids)[None]
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=views).logits
        mirrored = model(input_ids=ids, pixel_values=views.mT).logits
        assert (mirrored - logits).abs().max() > 100 * TOLERANCE
        attention = model.model.language_model.layers[0].self_attn
        attention.k_proj.weight.copy_(attention.k_proj.weight.flip(0))
        swapped = model(input_ids=ids, pixel_values=views).logits
        assert (swapped - logits).abs().max() > 100 * TOLERANCE
        model.lm_head.weight.copy_(model.get_input_embeddings().weight)
        assert (model(input_ids=ids, pixel_values=views).logits - swapped).abs().max() > 1


def test_prompts_are_those_on_record() -> None:
    """Written by scripts/goldens.py; a difference is a change of what models are trained on."""
    stored = json.loads((STORED / "internvl2-prompts.json").read_text("utf-8"))
    made = goldens.prompts()
    for template, cases in made.items():
        for name, case in cases.items():
            assert case == stored[template][name], (template, name)
    assert {name: set(cases) for name, cases in made.items()} == {
        name: set(cases) for name, cases in stored.items()
    }


def test_losses_are_those_on_record() -> None:
    stored = json.loads((STORED / "internvl2-losses.json").read_text("utf-8"))
    made = goldens.losses()
    assert made.keys() == stored.keys()
    for kind in stored:
        assert made[kind] == pytest.approx(stored[kind], abs=TOLERANCE)
