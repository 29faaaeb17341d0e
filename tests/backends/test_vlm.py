"""Chat backend: answers do not depend on their batch, and equal what the model itself computes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
)

from imgdiff.backends import decoding
from imgdiff.backends.chat_templates import encode_prompt
from imgdiff.backends.checkpoints import find
from imgdiff.backends.configs import ChatTemplate, VlmConfig
from imgdiff.backends.vlm import VlmChat
from imgdiff.core.errors import BackendError, ConfigError, DataError
from imgdiff.core.files import read_json, write_json
from imgdiff.mini.build.llama_tokenizer import build_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
PX = 32
GRID = [[32, 32], [32, 64]]
QUESTIONS = ("What is it?", "Is there a cat?", "What is at the top left? 12", "What is it?", "")


def _parts() -> tuple[CLIPVisionConfig, LlamaConfig]:
    tokenizer = build_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        image_size=PX, patch_size=8, projection_dim=8,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )  # fmt: skip
    return vision, text


def _tiny(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    vision, text = _parts()
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    sizes = {"size": {"shortest_edge": PX}, "crop_size": {"height": PX, "width": PX}}
    if kind == "llama":
        LlamaForCausalLM(text).save_pretrained(folder)
    elif kind == "llava":
        config = LlavaConfig(
            vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_index=image_id
        )
        LlavaForConditionalGeneration(config).save_pretrained(folder)
        LlavaImageProcessorPil(**sizes).save_pretrained(folder)
    else:
        next_config = LlavaNextConfig(
            vision_config=vision.to_dict(), text_config=text.to_dict(),
            image_token_index=image_id, image_grid_pinpoints=GRID,
        )  # fmt: skip
        LlavaNextForConditionalGeneration(next_config).save_pretrained(folder)
        LlavaNextImageProcessorPil(image_grid_pinpoints=GRID, **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints of the three families."""
    root = tmp_path_factory.mktemp("tiny")
    return {kind: _tiny(root / kind, kind) for kind in ("llama", "llava", "llava_next")}


def _config(folder: Path, **changes: object) -> VlmConfig:
    given = {"max_new_tokens": 6, "batch_size": 4, "image_batch_size": 2, **changes}
    return VlmConfig(model=str(folder), **given)  # type: ignore[arg-type]


def _picture(seed: int, size: tuple[int, int] = (PX, PX)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _mixed() -> tuple[list[Image.Image | None], list[str]]:
    """Images of several sizes, shared and not, text-only questions in between."""
    wide = _picture(1, (69, 32))
    images: list[Image.Image | None] = [_picture(0), wide, None, _picture(0), wide]
    images += [_picture(k, (PX, PX if k % 2 else 40)) for k in range(5)]
    return images, [QUESTIONS[k % len(QUESTIONS)] for k in range(len(images))]


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_answers_do_not_depend_on_the_batch(tiny: dict[str, Path], kind: str) -> None:
    images, questions = _mixed()
    order = np.random.default_rng(3).permutation(len(images)).tolist()
    with _config(tiny[kind]).build() as chat:
        together = chat.chat(images, questions)
        alone = [chat.chat([i], [q])[0] for i, q in zip(images, questions, strict=True)]
        shuffled = chat.chat([images[k] for k in order], [questions[k] for k in order])
    assert together == alone
    assert shuffled == [together[k] for k in order]
    assert len(set(together)) > 3  # the test would be empty if all answers were alike


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_images_prepared_ahead_get_the_same_answers(
    tiny: dict[str, Path], kind: str, request: pytest.FixtureRequest
) -> None:
    images, questions = _mixed()
    with _config(tiny[kind], image_batch_size=1).build() as chat:
        in_turn = chat.chat(images, questions)
        request.getfixturevalue("beside_a_gpu")
        assert chat.chat(images, questions) == in_turn


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_scores_are_bit_equal_in_any_company(
    tiny: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    draw = decoding.next_tokens

    def recorded(logits: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(logits.clone())
        return draw(logits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "next_tokens", recorded)
    images = [_picture(k) for k in (0, 1, 2, 0)]
    questions = ["Is there a cat?", "Is there a dog?", "Is there a cat?", "Is there a dog?"]
    with _config(tiny[kind], max_new_tokens=1).build() as chat:
        chat.chat(images, questions)
        for image, question in zip(images, questions, strict=True):
            chat.chat([image], [question])
    together = seen[0]  # questions about one image stand side by side: 0, 3, 1, 2
    alone = torch.stack([seen[1 + k][0] for k in (0, 3, 1, 2)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_greedy_answer_is_that_of_the_whole_model(tiny: dict[str, Path], kind: str) -> None:
    picture = _picture(5, (69, 32))
    loader = {
        "llava": LlavaForConditionalGeneration, "llava_next": LlavaNextForConditionalGeneration
    }[kind]  # fmt: skip
    model = loader.from_pretrained(tiny[kind], dtype=torch.float32).eval()
    chat = VlmChat(_config(tiny[kind]))
    answer = chat.chat([picture], ["What is it?"])[0]
    inputs = dict(chat.family.processor([picture], return_tensors="pt"))
    count = chat.family.features([picture]).shape[1]
    tokenizer = chat.family.tokenizer
    ids = encode_prompt(tokenizer, "<image>\nWhat is it?", [count])
    out = model.generate(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=6, do_sample=False, **inputs,
    )  # fmt: skip
    assert answer == tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


def test_llava_pads_to_square_and_next_takes_tiles(tiny: dict[str, Path]) -> None:
    wide = _picture(1, (69, 32))
    family = VlmChat(_config(tiny["llava"])).family
    assert family.features([wide]).shape[1] == 16
    mean = [0.48145466, 0.4578275, 0.40821073]
    pixels = family.processor([wide], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, PX, PX)
    padded = pixels[0, :, 0, 0]  # the padding is CLIP's mean, so about zero after normalising
    assert padded.abs().max() < 0.02
    assert mean[0] > 0
    family = VlmChat(_config(tiny["llava_next"])).family
    assert family.features([_picture(0)]).shape[1] == 16 + 4 * 5
    assert family.features([wide]).shape[1] == 16 + 4 * 9


def test_text_model_answers_and_cannot_see(tiny: dict[str, Path]) -> None:
    with _config(tiny["llama"]).build() as chat:
        assert len(chat.chat([None, None], ["Hello", "Replace one object."])) == 2
        with pytest.raises(BackendError, match="text model"):
            chat.chat([_picture(0)], ["What is it?"])


def test_sampling_depends_on_the_seed_alone(tiny: dict[str, Path]) -> None:
    config = _config(tiny["llama"], temperature=1.0, top_p=0.9)
    with config.build() as chat:
        asked = ["Hello"] * 6
        first = chat.chat([None] * 6, asked, seeds=[1, 2, 3, 4, 5, 6])
        again = chat.chat([None] * 6, asked, seeds=[6, 5, 4, 3, 2, 1])
        assert again == first[::-1]
        assert len(set(first)) > 1
        with pytest.raises(ConfigError, match=r"chat\.model: temperature=1\.0 needs a seed"):
            chat.chat([None], ["Hello"])


def test_a_limit_of_its_own_ends_an_answer_earlier(tiny: dict[str, Path]) -> None:
    with _config(tiny["llava"], max_new_tokens=6).build() as chat:
        whole, short = (
            chat.chat([_picture(0)], ["What is it?"], max_new_tokens=limit)[0] for limit in (6, 2)
        )
        assert chat.chat([_picture(0)], ["What is it?"]) == [whole]
        assert whole.startswith(short)
        assert len(short) < len(whole)


def test_a_damaged_checkpoint_is_a_backend_error(tiny: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny["llava"], folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BackendError, match=r"chat\.model=.*cut: cannot be loaded"):
        _config(folder).build().__enter__()
    weights.unlink()
    with pytest.raises(BackendError, match=r"chat\.model=.*cut: cannot be loaded"):
        _config(folder).build().__enter__()


def test_nothing_asked_nothing_answered(tiny: dict[str, Path]) -> None:
    with _config(tiny["llava"]).build() as chat:
        assert chat.chat([], []) == []


def test_identity_names_what_changes_an_answer(tiny: dict[str, Path]) -> None:
    base = _config(tiny["llava"]).build().identity
    assert base == _config(tiny["llava"], batch_size=9, image_batch_size=1).build().identity
    assert base == _config(tiny["llava"], batch_size=None).build().identity
    others = [
        _config(tiny["llava"], max_new_tokens=7),
        _config(tiny["llava"], template=ChatTemplate.llava_v1),
        _config(tiny["llava"], temperature=0.2),
        _config(tiny["llava_next"]),
    ]
    assert len({base, *(config.build().identity for config in others)}) == 5


def test_weights_live_inside_with_only(tiny: dict[str, Path]) -> None:
    chat = _config(tiny["llava"]).build()
    with pytest.raises(BackendError, match="inside `with`"):
        chat.chat([None], ["Hello"])
    with chat:
        chat.chat([None], ["Hello"])
    with pytest.raises(BackendError, match="inside `with`"):
        chat.chat([None], ["Hello"])


def test_image_marker_without_an_image_is_refused(tiny: dict[str, Path]) -> None:
    with _config(tiny["llava"]).build() as chat:
        with pytest.raises(DataError, match="shows 1 image"):
            chat.chat([None], ["<image>\nWhat is it?"])
        marked, plain = chat.chat([_picture(0)] * 2, ["<image>\nWhat is it?", "What is it?"])
        assert marked == plain


def test_wrong_checkpoints_say_what_to_do(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"(?s)mini:absent.*mini\.build absent"):
        VlmConfig(model="mini:absent").build().__enter__()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    stored = read_json(tiny["llama"] / "config.json")
    write_json(foreign / "config.json", {**stored, "model_type": "bert"})
    with pytest.raises(BackendError, match=r"lacks tokenizer_config\.json"):
        _config(foreign).build().__enter__()
    write_json(foreign / "tokenizer_config.json", {})
    with pytest.raises(BackendError, match=r"model_type='bert'.*LLaVA-NeXT"):
        _config(foreign).build().__enter__()
    seen = {"model_type": "llava", "text_config": {}, "vision_config": {}}
    write_json(foreign / "config.json", stored | seen)
    with pytest.raises(BackendError, match=r"lacks preprocessor_config\.json or processor_config"):
        _config(foreign).build().__enter__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": " "}, r"chat\.model"),
        ({"batch_size": 0}, r"chat\.batch_size=0"),
        ({"image_batch_size": 0}, r"chat\.image_batch_size=0"),
        ({"max_new_tokens": 0}, r"chat\.max_new_tokens=0.*at least 1"),
        ({"temperature": -1.0}, r"chat\.temperature=-1"),
        ({"temperature": float("nan")}, r"chat\.temperature=nan"),
        ({"top_p": 0.0}, r"chat\.top_p=0"),
    ],
)
def test_config_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VlmConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.skipif(find("mini:describer") is None, reason="the mini describer is not built")
def test_mini_describer_names_objects() -> None:
    """See imgdiff/mini/checkpoints/describer/README.md for the full figures."""
    from imgdiff.mini.build.describer_exam import region_questions

    asked = region_questions(24, "tests")
    with VlmConfig(max_new_tokens=24).build() as chat:
        answers = chat.chat([q.image for q in asked], [q.question for q in asked])
    both = zip(asked, answers, strict=True)
    right = sum(q.item is not None and q.item.category in a for q, a in both)
    assert right >= 0.85 * sum(q.item is not None for q in asked)


def test_template_names_match_the_config() -> None:
    from imgdiff.backends.chat_templates import TEMPLATES

    assert {template.value for template in ChatTemplate} == set(TEMPLATES)
