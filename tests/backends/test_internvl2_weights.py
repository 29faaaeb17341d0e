"""InternVL2 weights: names, the way back, untied heads, damaged folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import internvl2_reference as reference
import pytest
import torch
from internvl2_toy import KINDS, internvl2_toy, save_tensors

from imgdiff.backends import internvl2_weights as weights
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_tokenizer import open_tokenizer
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError, DataError

HEADS = {"internlm2": "language_model.output.weight", "qwen2": "language_model.lm_head.weight"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def original(tmp_path: Path, kind: str) -> Path:
    return internvl2_toy(tmp_path, kind)


@pytest.fixture
def converted(original: Path, tmp_path: Path) -> Path:
    weights.convert(original, tmp_path / "converted")
    return tmp_path / "converted"


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_known_places(original: Path, kind: str) -> None:
    """Rows of the fused tensors, checked by hand: GQA groups of InternLM2, thirds of InternViT."""
    raw, model = reference.read_tensors(original), weights.load(original)
    state = model.state_dict()
    fused = raw["vision_model.encoder.layers.1.attn.qkv.weight"]
    at = "model.vision_tower.encoder.layer.1."
    assert torch.equal(state[f"{at}attention.k_proj.weight"], fused[32:64])
    assert torch.equal(state[f"{at}lambda_2"], raw["vision_model.encoder.layers.1.ls2"])
    assert torch.equal(state["model.multi_modal_projector.linear_2.bias"], raw["mlp1.3.bias"])
    assert torch.equal(state["lm_head.weight"], raw[HEADS[kind]])
    if kind == "internlm2":  # per key-value head: three queries, a key, a value, 16 rows each
        fused = raw["language_model.model.layers.0.attention.wqkv.weight"]
        at = "model.language_model.layers.0.self_attn."
        assert torch.equal(state[f"{at}q_proj.weight"][48:64], fused[80:96])
        assert torch.equal(state[f"{at}k_proj.weight"], torch.cat([fused[48:64], fused[128:144]]))
        assert torch.equal(state[f"{at}v_proj.weight"][16:], fused[144:160])


def test_way_there_and_back_is_bit_equal(original: Path, converted: Path, tmp_path: Path) -> None:
    raw = reference.read_tensors(original)
    for number, model in enumerate([weights.load(original), weights.load(converted)]):
        target = tmp_path / f"back-{number}"
        weights.to_original(model, target, companions=original)
        assert _same(reference.read_tensors(target), raw)
        configs = [json.loads((f / "config.json").read_text("utf-8")) for f in (target, original)]
        assert configs[0] == configs[1]
        names = {f.name for f in original.iterdir() if "safetensors" not in f.name}
        assert names <= {f.name for f in target.iterdir()}
        assert _same(weights.load(target).state_dict(), model.state_dict())
        assert InternVl2Reader(target, 6).identity == InternVl2Reader(original, 6).identity


def test_half_precision_is_kept(original: Path, tmp_path: Path) -> None:
    raw = {k: v.bfloat16() for k, v in reference.read_tensors(original).items()}
    save_tensors(original, raw)
    (original / "model.safetensors.index.json").unlink(missing_ok=True)
    _edit(original, lambda c: c.update(torch_dtype="bfloat16"))
    model = weights.load(original)
    assert model.dtype == torch.bfloat16
    weights.to_original(model, tmp_path / "back")
    assert _same(reference.read_tensors(tmp_path / "back"), raw)
    assert weights.load(original, torch.float32).dtype == torch.float32


def test_shards_are_cut_by_size(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", 100_000)
    weights.to_original(weights.load(original), tmp_path / "back", companions=original)
    files = sorted(f.name for f in (tmp_path / "back").glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert _same(reference.read_tensors(tmp_path / "back"), reference.read_tensors(original))
    index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(
        v.nbytes for v in reference.read_tensors(original).values()
    )


def test_a_converted_model_remembers(converted: Path, kind: str, tmp_path: Path) -> None:
    """The key stays with the model through every save_pretrained."""
    model = weights.load(converted)
    with quietly():
        model.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
    template = {"internlm2": "internlm2-chat", "qwen2": "Hermes-2"}[kind]
    assert config["imgdiff"]["template"] == template
    assert config["imgdiff"]["original"]["architectures"] == ["InternVLChatModel"]
    assert config["tie_word_embeddings"] is False
    tokenizer = open_tokenizer(converted)
    assert config["image_token_id"] == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == stop


def test_missing_and_unexpected_keys_are_named(original: Path, kind: str) -> None:
    raw = reference.read_tensors(original)
    raw["vision_model.extra"] = raw.pop("mlp1.0.bias")
    raw.pop(HEADS[kind])
    save_tensors(original, raw)
    (original / "model.safetensors.index.json").unlink(missing_ok=True)
    with pytest.raises(BackendError) as caught:
        weights.load(original)
    for part in ("2 missing", HEADS[kind], "mlp1.0.bias", "1 unexpected (vision_model.extra)"):
        assert part in str(caught.value)


def test_a_converted_folder_with_missing_keys_is_refused(converted: Path) -> None:
    raw = reference.read_tensors(converted)
    raw["model.odd"] = raw.pop("multi_modal_projector.linear_1.bias")
    save_tensors(converted, raw)
    with pytest.raises(BackendError, match=r"1 missing \(.*linear_1\.bias\), 1 unexpected \(.*odd"):
        weights.load(converted)


def test_wrong_shapes_are_named(original: Path) -> None:
    _edit(original, lambda c: c["llm_config"].update(intermediate_size=64))
    with pytest.raises(BackendError, match=r"shape \(128, \d+\), config\.json asks for \(64, "):
        weights.load(original)


@pytest.mark.parametrize("says", [True, None])
def test_a_head_is_never_tied_silently(converted: Path, says: bool | None) -> None:
    """transformers does, at the next tie_weights: no key missing, none left over, other logits."""
    from transformers import InternVLForConditionalGeneration

    change = (
        (lambda c: c.pop("tie_word_embeddings"))
        if says is None
        else (lambda c: c.update(tie_word_embeddings=True))
    )
    _edit(converted, change)
    with quietly():
        model, info = InternVLForConditionalGeneration.from_pretrained(
            converted, output_loading_info=True
        )
    head = reference.read_tensors(converted)["language_model.lm_head.weight"]
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with quietly():
        model.resize_token_embeddings(len(head))
        model.tie_weights()
    assert not torch.equal(model.lm_head.weight, head)  # the trap
    with pytest.raises(BackendError, match=r'lm_head\.weight.*"tie_word_embeddings": false'):
        weights.load(converted)
    with pytest.raises(BackendError, match="it would be lost"):
        weights.refuse_silent_tie(converted)


def test_an_untied_head_stays_its_own(original: Path, converted: Path) -> None:
    """Even where the language model's config says tied, as Qwen2-0.5B's own does."""
    _edit(original, lambda c: c["llm_config"].update(tie_word_embeddings=True))
    for folder in (original, converted):
        weights.refuse_silent_tie(folder)
        model = weights.load(folder)
        assert model.config.tie_word_embeddings is False
        assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_a_tied_checkpoint_is_tied(original: Path, kind: str, tmp_path: Path) -> None:
    raw = reference.read_tensors(original)
    raw.pop(HEADS[kind])
    save_tensors(original, raw)
    (original / "model.safetensors.index.json").unlink(missing_ok=True)
    _edit(original, lambda c: c["llm_config"].update(tie_word_embeddings=True))
    model = weights.load(original)
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    weights.convert(original, tmp_path / "converted")
    weights.refuse_silent_tie(tmp_path / "converted")
    weights.to_original(weights.load(tmp_path / "converted"), tmp_path / "back", original)
    assert _same(reference.read_tensors(tmp_path / "back"), raw)


UNFIT = [
    (lambda c: c.update(ps_version="v1"), "ps_version='v1'"),
    (lambda c: c.update(select_layer=-2), "select_layer=-2"),
    (lambda c: c.update(use_llm_lora=16), "use_llm_lora=16.*merge_lora"),
    (lambda c: c.update(force_image_size=448), "force_image_size=448.*resize_pos_embed"),
    (lambda c: c["llm_config"].update(architectures=["Phi3ForCausalLM"]), "Phi3ForCausalLM"),
    (lambda c: c["llm_config"].update(architectures=None), "architectures"),
    (lambda c: c["llm_config"].pop("rope_theta"), "lacks 'rope_theta'"),
    (lambda c: c["vision_config"].pop("qkv_bias"), "lacks 'qkv_bias'"),
    (lambda c: c["llm_config"].update(rope_scaling={"type": "yarn"}), "rope_scaling"),
    (lambda c: c.update(model_type="internlm2"), "model_type='internlm2'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), UNFIT)
def test_other_configs_are_refused(
    original: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        weights.load(_edit(original, change))


def test_sliding_window_is_refused(tmp_path: Path) -> None:
    folder = internvl2_toy(tmp_path, "qwen2")
    with pytest.raises(BackendError, match="use_sliding_window"):
        weights.load(_edit(folder, lambda c: c["llm_config"].update(use_sliding_window=True)))


def test_damaged_folders(tmp_path: Path) -> None:
    folder = internvl2_toy(tmp_path, "internlm2")
    second = folder / "model-00002-of-00002.safetensors"
    body = second.read_bytes()
    second.unlink()
    with pytest.raises(BackendError, match=re.escape(f"lacks {second.name}")):
        weights.load(folder)
    second.write_bytes(body[:1000])
    with pytest.raises(BackendError, match="weights file is damaged"):
        weights.load(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(BackendError, match=r"no \.safetensors file"):
        weights.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match="malformed JSON"):
        weights.load(folder)


def test_what_does_not_fit_the_original_format(original: Path, tmp_path: Path) -> None:
    model = weights.load(original)
    memory = model.config.imgdiff
    model.config.imgdiff = None
    with pytest.raises(BackendError, match="does not remember its original config"):
        weights.to_original(model, tmp_path / "back")
    model.config.imgdiff = memory
    with quietly():
        model.resize_token_embeddings(700, mean_resizing=False)
    with pytest.raises(BackendError, match=r"700 embeddings.*Undo the resizing"):
        weights.to_original(model, tmp_path / "back")
