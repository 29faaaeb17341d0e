from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig as ClipArchitecture
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from imgdiff.backends.configs import ClipConfig, Dtype
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.mini.build.tokenizers import clip_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights with its tokenizer and image processor, as on the hub."""
    path: Path = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer()
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {
        **shared,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**shared, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(ClipArchitecture(projection_dim=16, text_config=text, vision_config=vision))
    model.half().save_pretrained(path)
    tokenizer.save_pretrained(path)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(path)
    return path


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


IMAGES = [noise(20 + 7 * k, 60 - 5 * k, k) for k in range(9)]
TEXTS = ["apple", "", "A small red apple.", "x" * 900, "Zürich 🚲 東京", "a\ud800b", "A cat."]


def test_rows_are_unit_vectors(folder: Path) -> None:
    with ClipConfig(model=str(folder), batch_size=4).build() as embedder:
        for rows, count in (
            (embedder.embed_images(IMAGES), len(IMAGES)),
            (embedder.embed_texts(TEXTS), len(TEXTS)),
        ):
            assert rows.shape == (count, 16)
            assert rows.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_nothing_gives_no_rows(folder: Path) -> None:
    with ClipConfig(model=str(folder)).build() as embedder:
        assert embedder.embed_images([]).shape == (0, 16)
        assert embedder.embed_texts([]).shape == (0, 16)


def test_batches_prepared_ahead_give_the_same_bytes(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    with ClipConfig(model=str(folder), batch_size=4).build() as embedder:
        in_turn = embedder.embed_images(IMAGES)
        request.getfixturevalue("beside_a_gpu")
        assert embedder.embed_images(IMAGES).tobytes() == in_turn.tobytes()


def test_on_a_cpu_an_open_batch_size_is_the_usual_one(folder: Path) -> None:
    with ClipConfig(model=str(folder), batch_size=None).build() as embedder:
        found = embedder.embed_images(IMAGES), embedder.embed_texts(TEXTS)
    with ClipConfig(model=str(folder)).build() as embedder:
        usual = embedder.embed_images(IMAGES), embedder.embed_texts(TEXTS)
    assert [rows.tobytes() for rows in found] == [rows.tobytes() for rows in usual]


def test_vectors_are_those_of_transformers(folder: Path) -> None:
    """Against CLIPModel's own forward, one unpadded text and one image at a time."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    with ClipConfig(model=str(folder), batch_size=3).build() as embedder:
        images, texts = embedder.embed_images(IMAGES), embedder.embed_texts(TEXTS[:3])
    for k, text in enumerate(TEXTS[:3]):
        with torch.no_grad():
            out = model(
                **tokenizer(text, return_tensors="pt"),
                pixel_values=processor(images=IMAGES[k], return_tensors="pt")["pixel_values"],
            )
        np.testing.assert_allclose(texts[k], out.text_embeds[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(images[k], out.image_embeds[0].numpy(), atol=1e-5)


def test_a_result_does_not_depend_on_its_batch(folder: Path) -> None:
    order = np.random.default_rng(1).permutation(len(IMAGES))
    with ClipConfig(model=str(folder), batch_size=4).build() as embedder:
        together = embedder.embed_images(IMAGES)
        permuted = embedder.embed_images([IMAGES[k] for k in order])
        alone = np.concatenate([embedder.embed_images([image]) for image in IMAGES])
        texts = embedder.embed_texts(TEXTS)
        texts_alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])
    assert np.array_equal(together[order], permuted)
    assert np.array_equal(together, alone)
    assert np.array_equal(texts, texts_alone)


@pytest.mark.parametrize(
    "image",
    [noise(1, 1), noise(3, 200), noise(200, 3), noise(50, 1), noise(30, 40).convert("L"),
     noise(30, 40).convert("RGBA"), noise(30, 40).convert("P"), Image.new("I;16", (9, 9))],
    ids=["1x1", "3x200", "200x3", "50x1", "grey", "alpha", "palette", "16 bit"],
)  # fmt: skip
def test_odd_images_are_embedded(folder: Path, image: Image.Image) -> None:
    with ClipConfig(model=str(folder), batch_size=1).build() as embedder:
        assert np.isfinite(embedder.embed_images([image])).all()


def test_weights_are_held_inside_with_only(folder: Path) -> None:
    embedder = ClipConfig(model=str(folder)).build()
    with pytest.raises(BackendError, match="enter it first"):
        embedder.embed_texts(["apple"])
    with embedder:
        assert len(embedder.embed_texts(["apple"])) == 1
    with pytest.raises(BackendError, match="enter it first"):
        embedder.embed_images([IMAGES[0]])


def test_identity_follows_the_contents(folder: Path, tmp_path: Path) -> None:
    config = ClipConfig(model=str(folder), batch_size=2)
    assert config.build().identity == ClipConfig(model=str(folder)).build().identity
    left_open = ClipConfig(model=str(folder), batch_size=None)
    assert config.build().identity == left_open.build().identity
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    model.logit_scale.data += 1
    model.half().save_pretrained(tmp_path)
    assert ClipConfig(model=str(tmp_path)).build().identity != config.build().identity
    if not torch.cuda.is_available():  # a CPU computes in float32 whatever is asked
        assert (
            ClipConfig(model=str(folder), dtype=Dtype.float16)
            .build()
            .identity.endswith(":float32:v1")
        )


def test_loading_is_silent_and_leaves_the_settings(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with ClipConfig(model=str(folder)).build():
        pass
    after = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    assert after == before
    assert capfd.readouterr() == ("", "")


def test_an_absent_checkpoint_says_what_to_do() -> None:
    config = ClipConfig(model="openai/clip-vit-nowhere")
    assert config.needed().size == "0.6 GB"
    with pytest.raises(BackendError, match=r"embedder\.model=openai/clip-vit-nowhere"):
        config.build().__enter__()


def test_half_a_checkpoint_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BackendError, match=r"lacks preprocessor_config\.json"):
        ClipConfig(model=str(tmp_path)).build().__enter__()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, r"embedder\.batch_size=0: must be at least 1"),
        ({"model": " "}, r"embedder\.model=' ': names no checkpoint"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipConfig(**wrong)  # type: ignore[arg-type]
