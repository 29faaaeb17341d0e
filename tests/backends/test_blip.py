from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil
from transformers import BlipConfig as BlipArchitecture

from imgdiff.backends.configs import BlipConfig, MatchScore
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.mini.build.tokenizers import bert_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP of random weights with its tokenizer and image processor, as on the hub."""
    path: Path = tmp_path_factory.mktemp("blip")
    tokenizer = bert_tokenizer()
    shared = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.2,
    }
    text = {
        **shared,
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 128,
    }
    torch.manual_seed(0)
    model = BlipForImageTextRetrieval(
        BlipArchitecture(
            image_text_hidden_size=16,
            text_config=text,
            vision_config={**shared, "image_size": 32, "patch_size": 8},
        )
    )
    model.half().save_pretrained(path)
    tokenizer.save_pretrained(path)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


IMAGES = [noise(20 + 7 * k, 60 - 5 * k, k) for k in range(7)]
LONG = "a small red apple on a striped background and a cat and a dog and a bus"
TEXTS = [
    ["apple", "A small red apple."],
    [],
    ["", "apple", LONG],
    ["Zürich 🚲", "a\ud800b"],
    ["x y " * 300],
    ["cat"] * 5,
    ["A cat."],
]
BOTH = pytest.mark.parametrize("score", list(MatchScore))


@BOTH
def test_batches_prepared_ahead_give_the_same_bytes(
    folder: Path, score: MatchScore, request: pytest.FixtureRequest
) -> None:
    with BlipConfig(model=str(folder), score=score, batch_size=2).build() as matcher:
        in_turn = matcher.match(IMAGES, TEXTS)
        request.getfixturevalue("beside_a_gpu")
        ahead = matcher.match(IMAGES, TEXTS)
    assert [row.tobytes() for row in ahead] == [row.tobytes() for row in in_turn]


@BOTH
def test_scores_are_those_of_transformers(folder: Path, score: MatchScore) -> None:
    """Against the model's own forward, one image and one unpadded text at a time."""
    model = BlipForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    with BlipConfig(model=str(folder), score=score, batch_size=4).build() as matcher:
        found = matcher.match(IMAGES[:3], TEXTS[:3])
    for image, texts, scores in zip(IMAGES, TEXTS[:3], found, strict=False):
        assert scores.shape == (len(texts),)
        for text, value in zip(texts, scores, strict=True):
            tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            with torch.no_grad():
                out = model(
                    **tokens,
                    pixel_values=processor(images=image, return_tensors="pt")["pixel_values"],
                    use_itm_head=score is MatchScore.itm,
                ).itm_score
            wanted = out.softmax(dim=-1)[0, 1] if score is MatchScore.itm else out[0, 0]
            assert value == pytest.approx(wanted.item(), abs=1e-5)


@BOTH
def test_a_result_does_not_depend_on_its_batch(folder: Path, score: MatchScore) -> None:
    order = np.random.default_rng(1).permutation(len(IMAGES))
    with BlipConfig(model=str(folder), score=score, batch_size=4).build() as matcher:
        together = matcher.match(IMAGES, TEXTS)
        permuted = matcher.match([IMAGES[k] for k in order], [TEXTS[k] for k in order])
        alone = [
            np.array([matcher.match([image], [[text]])[0][0] for text in texts], dtype=np.float32)
            for image, texts in zip(IMAGES, TEXTS, strict=True)
        ]
    for place, k in enumerate(order):
        assert np.array_equal(permuted[place], together[k])
    for one, many in zip(alone, together, strict=True):
        assert np.array_equal(one, many)
    assert len(set(together[5].tolist())) == 1  # one text, one score
    limits = (-1.0, 1.0) if score is MatchScore.itc else (0.0, 1.0)
    assert all(((s >= limits[0]) & (s <= limits[1])).all() for s in together)


def test_nothing_gives_nothing(folder: Path) -> None:
    with BlipConfig(model=str(folder)).build() as matcher:
        assert matcher.match([], []) == []


def test_lists_of_different_length_are_refused(folder: Path) -> None:
    with (
        BlipConfig(model=str(folder)).build() as matcher,
        pytest.raises(BackendError, match="1 images but texts for 2"),
    ):
        matcher.match(IMAGES[:1], [["a"], ["b"]])


def test_identity_names_the_score(folder: Path) -> None:
    names = {BlipConfig(model=str(folder), score=s).build().identity for s in MatchScore}
    assert {name.split(":")[0] for name in names} == {"blip-itc", "blip-itm"}


def test_weights_are_held_inside_with_only(folder: Path) -> None:
    matcher = BlipConfig(model=str(folder)).build()
    with pytest.raises(BackendError, match="enter it first"):
        matcher.match(IMAGES[:1], [["a"]])


def test_an_absent_checkpoint_says_what_to_do() -> None:
    config = BlipConfig(model="Salesforce/blip-nowhere")
    assert config.needed().size == "1.9 GB"
    with pytest.raises(BackendError, match=r"matcher\.model=Salesforce/blip-nowhere"):
        config.build().__enter__()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"matcher\.batch_size=-1: must be at least 1"):
        BlipConfig(batch_size=-1)
