"""LLaVA-1.5 put together from its parts, and read from and written to the authors' format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_vicuna import (
    SEEN,
    WIDTH,
    clip_vision,
    llama,
    projector,
    small_tokenizer,
    write_clip,
    write_projector,
    write_vicuna,
)
from tiny_llava import tiny_llava

from imgdiff.backends.chat_templates import VICUNA_V1
from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.llama_tokenizer import open_llama_tokenizer, original_vocabulary
from imgdiff.backends.llava_export import (
    write_llava,
)
from imgdiff.backends.llava_layout import Layout, layout_of
from imgdiff.backends.llava_weights import (
    SENTENCEPIECE,
    Llava,
    assemble,
    read_llava,
)
from imgdiff.backends.readers import LlavaReader
from imgdiff.core.errors import BackendError, StoreError
from imgdiff.core.files import read_json, write_json

LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.\w+_proj)"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_vicuna(folder / "vicuna")
    write_clip(folder / "clip", whole=False)
    write_projector(folder / "mm_projector.bin")
    return folder


@pytest.fixture(scope="module")
def llava(parts: Path) -> Llava:
    return put_together(parts)


def put_together(parts: Path) -> Llava:
    return assemble(parts / "vicuna", parts / "clip", parts / "mm_projector.bin")


def words() -> int:
    return len(small_tokenizer())


def same(left: Any, right: Any) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


def test_every_weight_lies_in_its_place(llava: Llava) -> None:
    state = llava.model.state_dict()
    found = 0
    for name, value in llama().state_dict().items():
        ours = state[name.replace("model.", "model.language_model.", 1)]
        assert torch.equal(ours[: len(value)], value), name
        found += 1
    for name, value in clip_vision().state_dict().items():
        assert torch.equal(state[f"model.vision_tower.{name}"], value), name
        found += 1
    for layer, name in (("0", "linear_1"), ("2", "linear_2")):
        for kind in ("weight", "bias"):
            value = projector().state_dict()[f"{layer}.{kind}"]
            assert torch.equal(state[f"model.multi_modal_projector.{name}.{kind}"], value)
            found += 1
    assert found == len(state)


def test_added_tokens_and_rows(llava: Llava) -> None:
    tokens = llava.tokenizer.convert_tokens_to_ids(["<image>", "<pad>"])
    assert tokens == [words(), words() + 1]
    assert llava.model.config.image_token_id == words()
    assert original_vocabulary(llava.tokenizer) == words()
    for table in (llava.model.get_input_embeddings(), llava.model.get_output_embeddings()):
        assert table.weight.shape[0] % 64 == 0
        added = table.weight[words() :]
        mean = table.weight[: words()].mean(dim=0)
        assert len(added) >= 2
        assert torch.equal(added, mean.expand_as(added))
    assert llava.model.generation_config.eos_token_id == 2
    assert llava.model.generation_config.pad_token_id == words() + 1


def test_an_added_row_never_wins(llava: Llava) -> None:
    hidden = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    assert int(llava.model.lm_head(hidden).argmax(dim=-1).max()) < words()


def test_a_whole_clip_gives_the_same(parts: Path, llava: Llava, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", whole=True)
    other = assemble(parts / "vicuna", tmp_path / "clip", parts / "mm_projector.bin")
    assert same(llava.model, other.model)


def test_a_clip_as_openai_published_it(parts: Path, llava: Llava, tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", whole=False)
    (folder / "model.safetensors").unlink()
    state = {f"vision_model.{name}": value for name, value in clip_vision().state_dict().items()}
    others = ("vision_model.embeddings.position_ids", "text_model.final_layer_norm.weight",
              "logit_scale", "visual_projection.weight", "text_projection.weight")  # fmt: skip
    torch.save(state | {name: torch.ones(3) for name in others}, folder / "pytorch_model.bin")
    other = assemble(parts / "vicuna", folder, parts / "mm_projector.bin")
    assert same(llava.model, other.model)


@pytest.mark.parametrize("prefix", ["", "mm_projector.", "base_model.model.model.mm_projector."])
def test_projector_names(parts: Path, llava: Llava, tmp_path: Path, prefix: str) -> None:
    path = write_projector(tmp_path / "mm_projector.bin", prefix)
    assert same(llava.model, assemble(parts / "vicuna", parts / "clip", path).model)


def test_old_shards_with_buffers(parts: Path, llava: Llava, tmp_path: Path) -> None:
    folder = tmp_path / "vicuna"
    write_vicuna(folder)
    (folder / "model.safetensors").unlink()
    state = llama().state_dict() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    names = list(state)
    halves = [names[:7], names[7:]]
    for file, half in zip(files, halves, strict=True):
        zipped = file == files[0]
        table = {name: state[name].clone() for name in half}
        torch.save(table, folder / file, _use_new_zipfile_serialization=zipped)
    weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": weight_map})
    other = assemble(folder, parts / "clip", parts / "mm_projector.bin")
    assert same(llava.model, other.model)
    (folder / files[1]).unlink()
    with pytest.raises(BackendError, match=f"lacks {files[1]}, which pytorch_model.bin.index"):
        assemble(folder, parts / "clip", parts / "mm_projector.bin")


def test_number_type_is_vicunas(parts: Path, tmp_path: Path) -> None:
    write_vicuna(tmp_path / "vicuna", torch.bfloat16, max_shard_size="100KB")
    assert (tmp_path / "vicuna" / "model.safetensors.index.json").exists()
    model = assemble(tmp_path / "vicuna", parts / "clip", parts / "mm_projector.bin").model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model.lm_head.weight[: words()], llama(torch.bfloat16).lm_head.weight)


def test_the_folder_opens_in_transformers(llava: Llava, tmp_path: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    llava.write(tmp_path / "llava")
    assert layout_of(tmp_path / "llava") is Layout.transformers
    opened = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava")
    assert same(llava.model, opened)
    reader = LlavaReader(tmp_path / "llava", VICUNA_V1)
    assert (reader.vocabulary, reader.pad_id, reader.view_px) == (words(), words() + 1, 64)
    opened_again = open_llama_tokenizer(tmp_path / "llava").backend_tokenizer.to_str()
    assert opened_again == llava.tokenizer.backend_tokenizer.to_str()
    with pytest.raises(StoreError, match="is not empty"):
        llava.write(tmp_path / "llava")


def test_there_and_back(parts: Path, llava: Llava, tmp_path: Path) -> None:
    write_llava(llava.model, llava.tokenizer, tmp_path / "orig")
    back = read_llava(tmp_path / "orig", parts / "clip")
    assert same(llava.model, back.model)
    assert back.tokenizer.backend_tokenizer.to_str() == llava.tokenizer.backend_tokenizer.to_str()
    assert back.images.to_dict() == llava.images.to_dict()
    for part in ("text_config", "vision_config"):
        left, right = getattr(back.model.config, part), getattr(llava.model.config, part)
        assert left.to_dict() == right.to_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_there_and_back_in_half_precision(parts: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    write_vicuna(tmp_path / "vicuna", dtype)
    half = assemble(tmp_path / "vicuna", parts / "clip", parts / "mm_projector.bin")
    write_llava(half.model, half.tokenizer, tmp_path / "orig", include_vision=True)
    assert same(half.model, read_llava(tmp_path / "orig", parts / "clip").model)


def test_a_trained_tower_travels(parts: Path, tmp_path: Path) -> None:
    trained = put_together(parts)
    with torch.no_grad():
        trained.model.model.vision_tower.embeddings.class_embedding.add_(1.0)
    write_llava(trained.model, trained.tokenizer, tmp_path / "orig", include_vision=True)
    names = load_file(tmp_path / "orig" / "model.safetensors")
    assert "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding" in names
    assert read_json(tmp_path / "orig" / "config.json")["unfreeze_mm_vision_tower"] is True
    assert same(trained.model, read_llava(tmp_path / "orig", parts / "clip").model)


def test_the_shipped_model_goes_out_and_comes_back(tmp_path: Path) -> None:
    """Its `<pad>` stands before `<image>`: the words keep their ids, the two change places."""
    from transformers import AutoTokenizer, CLIPVisionModel, LlavaForConditionalGeneration

    base = mini_root() / "llava"
    model = LlavaForConditionalGeneration.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    write_llava(model, tokenizer, tmp_path / "orig")
    tower = CLIPVisionModel(model.config.vision_config)
    tower.load_state_dict(model.model.vision_tower.state_dict())
    tower.save_pretrained(tmp_path / "tower")
    back = read_llava(tmp_path / "orig", tmp_path / "tower")
    assert back.model.config.vision_feature_layer == model.config.vision_feature_layer
    kept = original_vocabulary(tokenizer)
    assert kept == len(tokenizer) - 2
    ids = torch.tensor([tokenizer("USER: a cat ASSISTANT:").input_ids])
    assert back.tokenizer("USER: a cat ASSISTANT:").input_ids == ids[0].tolist()
    views = torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        torch.stack(model.get_image_features(views.to(model.dtype)).pooler_output),
        torch.stack(back.model.get_image_features(views.to(model.dtype)).pooler_output),
    )
    with torch.no_grad():
        left, right = model(ids).logits, back.model(ids).logits
    assert torch.equal(left[..., :kept], right[..., :kept])


def test_written_names_and_fields(llava: Llava, tmp_path: Path) -> None:
    write_llava(llava.model, llava.tokenizer, tmp_path / "orig")
    assert layout_of(tmp_path / "orig") is Layout.original
    state = load_file(tmp_path / "orig" / "model.safetensors")
    theirs = {*llama().state_dict()} | {f"model.mm_projector.{n}" for n in projector().state_dict()}
    assert set(state) == theirs
    assert state["lm_head.weight"].shape == (words(), WIDTH)
    assert state["model.embed_tokens.weight"].shape == (words(), WIDTH)
    config = read_json(tmp_path / "orig" / "config.json")
    expected = {
        "model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad", "mm_hidden_size": SEEN, "use_mm_proj": True,
        "mm_use_im_start_end": False, "mm_use_im_patch_token": False, "vocab_size": words(),
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
        "num_key_value_heads": 2, "torch_dtype": "float32", "tie_word_embeddings": False,
    }  # fmt: skip
    assert expected.items() <= config.items()
    table = read_json(tmp_path / "orig" / "tokenizer.json")
    assert max(token["id"] for token in table["added_tokens"]) < words()


def test_sentencepiece_file_travels(parts: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_vicuna(tmp_path / "vicuna")
    (tmp_path / "vicuna" / SENTENCEPIECE).write_bytes(b"pieces")
    start = assemble(tmp_path / "vicuna", parts / "clip", parts / "mm_projector.bin")
    start.write(tmp_path / "llava")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llava")
    write_llava(start.model, tokenizer, tmp_path / "orig")
    assert (tmp_path / "orig" / SENTENCEPIECE).read_bytes() == b"pieces"


def test_nothing_is_left_of_a_failed_write(llava: Llava, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="could not be written"):
        write_llava(llava.model, llava.tokenizer, tmp_path / "file" / "orig")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def changed(path: Path, **fields: Any) -> None:
    write_json(path, read_json(path) | fields)


def wider_projector(parts: Path) -> None:
    write_projector(
        parts / "mm_projector.bin", **{"model.mm_projector.0.weight": torch.zeros(WIDTH, 48)}
    )


def linear_projector(parts: Path) -> None:
    torch.save({"model.mm_projector.weight": torch.zeros(2, 2)}, parts / "mm_projector.bin")


def smaller_vicuna(parts: Path) -> None:
    changed(parts / "vicuna" / "config.json", intermediate_size=96)


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (wider_projector, r"\(64, 48\) and \(64, 64\) do not lead from .*width 32.*\(64, 32\)"),
    (linear_projector, r"holds model\.multi_modal_projector.*0\.weight, 0\.bias"),
    (lambda p: (p / "mm_projector.bin").unlink(), "no such file; give the mm_projector.bin"),
    (lambda p: (p / "mm_projector.bin").write_bytes(b"no"), "mm_projector.bin: cannot be read"),
    (smaller_vicuna, r"down_proj.weight has size \(64, 128\), config.json says size \(64, 96\)"),
    (lambda p: changed(p / "vicuna" / "config.json", num_hidden_layers=3), r"vicuna, .*missing"),
    (lambda p: changed(p / "vicuna" / "config.json", num_hidden_layers=1), "no such weight"),
    (lambda p: changed(p / "vicuna" / "config.json", vocab_size=32000), "vocab_size=32000; <im"),
    (lambda p: changed(p / "vicuna" / "config.json", model_type="opt"), "model_type='opt'; LLaVA"),
    (lambda p: changed(p / "vicuna" / "config.json", tie_word_embeddings=True), "untied head"),
    (lambda p: changed(p / "clip" / "config.json", model_type="siglip"), "'siglip' is no CLIP"),
    (lambda p: (p / "vicuna" / "config.json").unlink(), "lacks config.json"),
    (lambda p: (p / "vicuna" / "config.json").write_text("[]"), "no model configuration"),
    (lambda p: (p / "vicuna" / "model.safetensors").unlink(), "holds no weights"),
    (lambda p: (p / "clip" / "model.safetensors").write_bytes(b"no"), "clip.*cannot be read"),
    (lambda p: (p / "vicuna" / "tokenizer.json").write_text("{}"), "tokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_parts_that_do_not_fit(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    write_vicuna(tmp_path / "vicuna")
    write_clip(tmp_path / "clip", whole=False)
    write_projector(tmp_path / "mm_projector.bin")
    damage(tmp_path)
    with pytest.raises(BackendError, match=message):
        put_together(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mm_projector_type", "linear"),
        ("mm_vision_select_feature", "cls_patch"),
        ("image_aspect_ratio", "anyres"),
        ("mm_use_im_start_end", True),
        ("mm_use_im_patch_token", True),
        ("mm_hidden_size", 1024),
    ],
)
def test_other_variants_are_refused(
    parts: Path, llava: Llava, tmp_path: Path, field: str, value: object
) -> None:
    write_llava(llava.model, llava.tokenizer, tmp_path / "orig")
    changed(tmp_path / "orig" / "config.json", **{field: value})
    with pytest.raises(BackendError, match=rf"config\.json: {field}={value!r}"):
        read_llava(tmp_path / "orig", parts / "clip")


def test_a_first_llava_is_refused_by_what_its_config_leaves_out(
    parts: Path, llava: Llava, tmp_path: Path
) -> None:
    write_llava(llava.model, llava.tokenizer, tmp_path / "orig")
    path = tmp_path / "orig" / "config.json"
    fields = {k: v for k, v in read_json(path).items() if k != "mm_projector_type"}
    write_json(path, fields)
    with pytest.raises(BackendError, match=r"mm_projector_type='linear'; LLaVA-1\.5 has 'mlp2x"):
        read_llava(tmp_path / "orig", parts / "clip")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "llava"},
        {"model_type": "llava_next", "text_config": {}, "vision_config": {}},
        {"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]},
    ],
)
def test_what_is_no_llava(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match=r"is no LLaVA-1\.5; give a folder"):
        layout_of(tmp_path)


def test_a_folder_of_transformers_needs_no_reading(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="folder of transformers already"):
        read_llava(tiny_llava(tmp_path), parts / "clip")


def test_the_later_model_type_is_read_too(tmp_path: Path) -> None:
    config = {"model_type": "llava_llama", "mm_vision_tower": "x"}
    write_json(tmp_path / "config.json", config)
    assert layout_of(tmp_path) is Layout.original
