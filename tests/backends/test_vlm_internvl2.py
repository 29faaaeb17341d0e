"""InternVL2 as a chat: the authors' text and tiles, answers that do not depend on their batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from internvl2_toy import internvl2_toy
from PIL import Image
from tiny_llava import tiny_llava

from imgdiff.backends.chat_templates import VICUNA_V1, Exchange, encode_prompt
from imgdiff.backends.configs import ChatTemplate, VlmConfig
from imgdiff.backends.internvl2_images import INFERENCE_TILES
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_weights import convert, load
from imgdiff.backends.protocols import Chat
from imgdiff.backends.readers import LlavaReader
from imgdiff.backends.vlm import VlmChat
from imgdiff.backends.vlm_families import Llava, family_of
from imgdiff.core.errors import BackendError, DataError

QUESTIONS = ("What is it?", "Is there a cat?", "Image-1: <image>\nWhat is different?", "")
SIZES = ((56, 56), (132, 56), (60, 120), (300, 100))


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def config_of(folder: Path, **changes: object) -> VlmConfig:
    given = {"max_new_tokens": 6, "batch_size": 4, "image_batch_size": 2, **changes}
    return VlmConfig(model=str(folder), **given)  # type: ignore[arg-type]


def asking(folder: Path, **changes: object) -> Chat:
    return config_of(folder, **changes).build()


@pytest.fixture(scope="module", params=["internlm2", "qwen2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return internvl2_toy(tmp_path_factory.mktemp("toy"), request.param)


@torch.no_grad()
def greedy(folder: Path, image: Image.Image | None, turns: list[Exchange], count: int) -> str:
    """The answer of the whole model, one token after the other, without a cache."""
    reader = InternVl2Reader(folder, INFERENCE_TILES)
    model = load(folder, torch.float32)
    shown = [] if image is None else [image]
    ids = reader.encode(turns, reader.image_tokens([each.size for each in shown])).input_ids
    inputs = {"pixel_values": reader.views(shown)} if shown else {}
    stop = reader.tokenizer.convert_tokens_to_ids("<|im_end|>")
    found: list[int] = []
    while len(found) < count:
        logits = model(input_ids=torch.tensor([ids + found]), **inputs).logits
        token = int(logits[0, -1].argmax())
        if token == stop:
            break
        found.append(token)
    return str(reader.tokenizer.decode(found, skip_special_tokens=True)).strip()


def test_answers_are_those_of_the_whole_model(folder: Path) -> None:
    with asking(folder) as chat:
        for number, size in enumerate(SIZES):
            image = picture(number, size)
            expected = greedy(folder, image, [Exchange("What is it?")], 6)
            assert chat.chat([image], ["What is it?"]) == [expected]
        assert chat.chat([None], ["Hello"]) == [greedy(folder, None, [Exchange("Hello")], 6)]


def test_answers_do_not_depend_on_the_batch(folder: Path) -> None:
    images: list[Image.Image | None] = [picture(k % 5, SIZES[k % 4]) for k in range(8)]
    images += [None, images[0]]
    questions = [QUESTIONS[k % 3] for k in range(8)] + ["Hello", QUESTIONS[1]]
    order = np.random.default_rng(3).permutation(len(images)).tolist()
    with asking(folder) as chat:
        together = chat.chat(images, questions)
        alone = [chat.chat([i], [q])[0] for i, q in zip(images, questions, strict=True)]
        shuffled = chat.chat([images[k] for k in order], [questions[k] for k in order])
    assert together == alone
    assert shuffled == [together[k] for k in order]
    assert len(set(together)) > 3


def test_a_converted_folder_answers_alike(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "converted")
    images = [picture(number, size) for number, size in enumerate(SIZES)]
    questions = ["What is different?"] * len(images)
    with asking(folder) as original, asking(tmp_path / "converted") as converted:
        assert original.chat(images, questions) == converted.chat(images, questions)


def test_a_conversation_goes_on(folder: Path) -> None:
    image = picture(1, SIZES[1])
    turns = [Exchange("What is it?", "A cup."), Exchange("Which colour?")]
    chat = VlmChat(config_of(folder))
    assert chat.reply(image, turns) == greedy(folder, image, turns, 6)
    assert chat.reply(image, [Exchange("What is it?")]) == chat.chat([image], ["What is it?"])[0]


def test_the_template_setting_is_that_of_other_models(folder: Path) -> None:
    image = picture(1, SIZES[1])
    with asking(folder) as one, asking(folder, template=ChatTemplate.llava_v1) as other:
        assert one.chat([image], ["What is it?"]) == other.chat([image], ["What is it?"])


def test_wrong_numbers_of_images_are_refused(folder: Path) -> None:
    with asking(folder) as chat:
        with pytest.raises(DataError, match="shows 1 image"):
            chat.chat([None], ["<image>\nWhat is it?"])
        with pytest.raises(DataError, match="shows 2 image"):
            chat.chat([picture(0, SIZES[0])], ["<image>\n<image>\nWhat is it?"])


def test_other_internvls_and_original_llavas_are_named(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "newer")
    config = json.loads((tmp_path / "newer" / "config.json").read_text())
    del config["imgdiff"]
    (tmp_path / "newer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackendError, match="does not say which template"):
        asking(tmp_path / "newer").__enter__()
    original = tmp_path / "original"
    original.mkdir()
    fields = {"model_type": "llava_llama", "mm_vision_tower": "x"}
    (original / "config.json").write_text(json.dumps(fields))
    (original / "tokenizer_config.json").write_text("{}")
    with pytest.raises(BackendError, match=r"imgdiff\.train\.export checkpoint=.*vision_tower="):
        asking(original).__enter__()


# What LLaVA's prompts were before they came from the family: stored answers stay valid.
@pytest.mark.parametrize("question", ["What is it?", "<image>\nIs there a cat?", "", " a </s> b "])
def test_llava_prompts_and_identities_are_as_they_were(tmp_path: Path, question: str) -> None:
    folder = tiny_llava(tmp_path)
    family = family_of("chat.model", str(folder), folder)(folder, torch.float32)
    shown = question if "<image>" in question else f"<image>\n{question}"
    expected = encode_prompt(family.tokenizer, shown, [16], VICUNA_V1)
    assert family.prompt([Exchange(question)], [16], VICUNA_V1) == expected
    reader = LlavaReader(folder, VICUNA_V1)
    assert (
        family.prompt([Exchange(shown)], [16], VICUNA_V1)
        == reader.encode([Exchange(shown)], [16]).input_ids
    )
    text = encode_prompt(family.tokenizer, "Hello", [], VICUNA_V1)
    assert family.prompt([Exchange("Hello")], [], VICUNA_V1) == text
    identity = asking(folder).identity
    assert identity.startswith("vlm:")
    assert identity.endswith(":float32:vicuna_v1:greedy:6:v1")


def test_a_literal_pad_is_text_as_in_training(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path)
    family = family_of("chat.model", str(folder), folder)(folder, torch.float32)
    assert isinstance(family, Llava)
    ids = family.prompt([Exchange("What is <pad>?")], [], VICUNA_V1)
    assert family.tokenizer.pad_token_id not in ids
    shutil.rmtree(folder)
