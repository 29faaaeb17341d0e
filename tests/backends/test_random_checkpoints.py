"""Random weights: the published shapes and sizes, the same in every run, and never real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from small_published import use_small

from imgdiff.backends import loading
from imgdiff.backends.checkpoints import (
    PUBLISHED_CARD,
    Needed,
    content_identity,
    draws_weights,
    find,
    is_random,
    is_whole,
    locate,
    mini_root,
    published_names,
    published_root,
    refuse_random,
    require,
)
from imgdiff.backends.configs import (
    BlipConfig,
    ClipConfig,
    DescriberConfig,
    EditingModelConfig,
    FastSamConfig,
)
from imgdiff.backends.fastsam import _untrained
from imgdiff.backends.inpainters import SdxlInpaintConfig
from imgdiff.backends.random_checkpoints import (
    card,
    check_random,
    open_model,
    parameters,
    pipeline_parts,
    tokenizer_folder,
    use_random_weights,
)
from imgdiff.backends.sdxl_p2p_config import SdxlP2pConfig
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.files import read_json
from imgdiff.core.records import CaptionPair

CLIP, CLIP_LARGE = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
FASTSAM, FASTSAM_SMALL = "FastSAM-x.pt", "FastSAM-s.pt"
BLIP_LARGE, BLIP_BASE = "Salesforce/blip-itm-large-coco", "Salesforce/blip-itm-base-coco"
VICUNA, LLAVA_NEXT = "lmsys/vicuna-13b-v1.5", "llava-hf/llava-v1.6-vicuna-13b-hf"
SDXL, TURBO = "stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/sdxl-turbo"
# Published counts, or what agrees with the sizes of the published files: 1.8 GB of float32 is BLIP
# large, 26.7 GB of float16 is LLaVA-NeXT. FastSAM: 72.2 M and 11.8 M in ultralytics' docs.
COUNTS = {
    CLIP: ("CLIPModel", 151_277_313),
    CLIP_LARGE: ("CLIPModel", 427_616_513),
    BLIP_LARGE: ("BlipForImageTextRetrieval", 446_128_642),
    BLIP_BASE: ("BlipForImageTextRetrieval", 223_744_258),
    VICUNA: ("LlamaForCausalLM", 13_015_864_320),
    LLAVA_NEXT: ("LlavaNextForConditionalGeneration", 13_351_499_776),
}
SDXL_COUNTS = {
    "unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480,
    "text_encoder_2": 694_659_840,
}  # fmt: skip
FASTSAM_COUNTS = {FASTSAM: 72_234_149, FASTSAM_SMALL: 11_790_483}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models without memory: shapes only."""
    monkeypatch.setattr(loading, "device", lambda: torch.device("meta"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_small(monkeypatch, tmp_path)


def random(name: str) -> Path:
    return locate("test", f"random:{name}")


def noted(name: str) -> int:
    return parameters(Needed(key="test", model=f"random:{name}", size=""))


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def photo(width: int = 90, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def test_every_checkpoint_of_the_paper_has_a_configuration() -> None:
    assert set(published_names()) == {*COUNTS, *FASTSAM_COUNTS, SDXL, TURBO}


@pytest.mark.parametrize("name", [*COUNTS, *FASTSAM_COUNTS, SDXL, TURBO])
def test_every_configuration_names_its_source(name: str) -> None:
    said = card(random(name))
    assert name in said.source
    assert said.parameters_source
    if name not in FASTSAM_COUNTS:
        assert (tokenizer_folder(random(name)) / "tokenizer_config.json").is_file()


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    kind, published = COUNTS[name]
    model = open_model(getattr(transformers, kind), random(name), torch.float16)
    assert count(model) == noted(name) == published
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("name", [SDXL, TURBO])
def test_parameters_of_sdxl_are_as_many_as_published(name: str) -> None:
    parts = pipeline_parts(random(name), torch.float16)
    models = {part: model for part, model in parts.items() if "tokenizer" not in part}
    assert {part: count(model) for part, model in models.items()} == SDXL_COUNTS
    assert noted(name) == sum(SDXL_COUNTS.values())
    for model in models.values():
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    pixels = parts["unet"].config.sample_size * 8
    assert pixels == {SDXL: 1024, TURBO: 512}[name]


def test_turbo_differs_from_sdxl_in_size_and_scheduler_alone() -> None:
    files = {file.relative_to(random(SDXL)) for file in random(SDXL).rglob("*.json")}
    differing = {
        file.as_posix()
        for file in files
        if read_json(random(SDXL) / file) != read_json(random(TURBO) / file)
    }
    settings = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json"}
    assert differing == {PUBLISHED_CARD, *settings}
    scheduler = read_json(random(TURBO) / "scheduler" / "scheduler_config.json")
    assert scheduler["_class_name"] == "EulerAncestralDiscreteScheduler"
    assert scheduler["timestep_spacing"] == "trailing"


def test_fastsam_is_a_yolov8x_with_wider_boxes() -> None:
    """FastSAM (arXiv 2306.12156 section 4) has a `reg_max` of 26; the count is the file's."""
    config = FastSamConfig(
        model=f"random:{FASTSAM}", image_size=512, confidence=0.0, max_detections=5, batch_size=1
    )
    state, image = torch.get_rng_state(), photo(512, 384)
    with config.build() as segmenter:
        (boxes,) = segmenter.segment([image])
        assert segmenter.masks([image], [boxes[:1]])[0][0].shape == (384, 512)
        fused = count(segmenter._model()._network)  # type: ignore[attr-defined]
    assert torch.equal(torch.get_rng_state(), state)
    assert len(boxes) == 5
    assert len({box.as_tuple() for box in boxes}) > 1
    assert fused == 72_203_813  # batch norms are folded into convolutions
    assert config.identity().startswith("fastsam:FastSAM-x.pt@random-")


@pytest.mark.parametrize("name", FASTSAM_COUNTS)
def test_parameters_of_fastsam_are_as_many_as_published(name: str) -> None:
    assert count(_untrained(random(name))) == noted(name) == FASTSAM_COUNTS[name]


def test_clip_at_its_true_size() -> None:
    config = ClipConfig(model=f"random:{CLIP}", batch_size=2)
    rows = []
    for _ in range(2):
        with config.build() as embedder:
            images = embedder.embed_images([photo(), photo(120, 50)])
            rows.append(np.concatenate([images, embedder.embed_texts(["a cat", "a red dog"])]))
        torch.rand(3)  # another state of the generators
    assert np.array_equal(*rows)
    assert rows[0].shape == (4, 512)
    np.testing.assert_allclose(np.linalg.norm(rows[0], axis=1), 1.0, atol=1e-5)
    assert len({row.tobytes() for row in rows[0]}) == 4  # texts are told apart too
    assert config.identity().startswith("clip:random-")
    sizes = read_json(random(CLIP) / "preprocessor_config.json")
    assert sizes["crop_size"] == {"height": 224, "width": 224}


def test_blip_at_its_true_size() -> None:
    config = BlipConfig(model=f"random:{BLIP_LARGE}", batch_size=1)
    with config.build() as matcher:
        (scores,) = matcher.match([photo()], [["a cat", "a red dog"]])
        assert matcher._model()._pixels([photo()]).shape == (1, 3, 384, 384)  # type: ignore[attr-defined]
    assert np.isfinite(scores).all()
    assert (np.abs(scores) < 1).all()
    assert scores[0] != scores[1]
    assert config.identity().startswith("blip-itc:random-")


def test_llava_next_cuts_tiles_of_336_px() -> None:
    processor = transformers.LlavaNextImageProcessorPil.from_pretrained(random(LLAVA_NEXT))
    pixels = processor([photo(1024, 1024)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 5, 3, 336, 336)  # the whole and 2 x 2 tiles


@pytest.mark.usefixtures("small")
def test_a_random_model_says_words_up_to_its_limit() -> None:
    words = set(read_json(mini_root() / "describer" / "tokenizer.json")["model"]["vocab"])
    config = DescriberConfig(model=f"random:{LLAVA_NEXT}", batch_size=2, image_batch_size=1)
    answers = []
    for _ in range(2):
        with config.build() as chat:
            answers.append(chat.chat([photo(), None], ["What is it?", "Say."], max_new_tokens=9))
    assert answers[0] == answers[1]
    for answer in answers[0]:
        assert len(answer.split()) == 9
        assert {f"\u2581{word}" for word in answer.split()} <= words
    assert "random-" in config.identity()


@pytest.mark.usefixtures("small")
def test_a_random_editor_draws_by_the_seed() -> None:
    config = EditingModelConfig(
        model=f"random:{VICUNA}", batch_size=2, temperature=0.8, top_p=0.6, max_new_tokens=8
    )
    with config.build() as chat:
        one, other = chat.chat([None, None], ["Edit this."] * 2, [1, 2])
        assert chat.chat([None], ["Edit this."], [2]) == [other]
    assert one != other
    assert len(one.split()) == len(other.split()) == 8


@pytest.mark.usefixtures("small")
def test_random_sdxl_draws_pairs_and_paints_over() -> None:
    drawing = SdxlP2pConfig(model=f"random:{SDXL}", steps=2, width=64, height=64, batch_pairs=1)
    pair = CaptionPair(id="p", left="a cat on a mat", right="a dog on a mat", seed=3)
    with drawing.build() as generator:
        (drawn,) = generator.generate([pair])
        (again,) = generator.generate([pair])
    assert drawn.left.size == (64, 64)
    assert drawn.left.tobytes() == again.left.tobytes() != drawn.right.tobytes()
    assert drawing.identity().startswith("sdxl-p2p:random-")
    painting = SdxlInpaintConfig(model=f"random:{TURBO}", size_px=64)
    mask = np.zeros((64, 90), dtype=bool)
    mask[10:30, 10:30] = True
    with painting.build() as inpainter:
        (painted,) = inpainter.inpaint([photo()], [mask], [1], [None])
    assert painted.size == (90, 64)
    assert painting.identity().startswith("sdxl-inpaint:random-")


def test_a_real_checkpoint_is_read_as_before() -> None:
    folder = mini_root() / "clip"
    model = open_model(transformers.CLIPModel, folder, torch.float32)
    read = transformers.CLIPModel.from_pretrained(folder, dtype=torch.float32)
    for one, other in zip(model.parameters(), read.parameters(), strict=True):
        assert torch.equal(one, other)
    assert pipeline_parts(folder, torch.float32) == {}
    assert tokenizer_folder(folder) == folder
    assert not is_random(folder)
    assert find(CLIP) is None  # the published name itself is still not here
    assert not content_identity(folder).startswith("random")


def test_a_random_checkpoint_is_whole_and_a_folder_of_them_is_not() -> None:
    assert is_whole(random(CLIP))
    assert not is_whole(find("random:openai"))
    assert find("random:nobody/nothing") is None
    with pytest.raises(BackendError, match=r"x=random:nobody/nothing .*\n.*random:FastSAM-x\.pt,"):
        require([Needed(key="x", model="random:nobody/nothing", size="")])


def test_names_become_random_where_the_shape_is_known() -> None:
    parts = [ClipConfig(model=CLIP), ClipConfig(model="mini:clip"), ClipConfig(model="some/clip")]
    use_random_weights(parts)
    use_random_weights(parts)
    assert [part.model for part in parts] == [f"random:{CLIP}", "mini:clip", "some/clip"]


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (
            [CLIP, "some/clip"],
            BackendError,
            r"x=random:some/clip: .* no published config.*openai/c",
        ),
        ([CLIP, ""], BackendError, r"x=random:: the package has no published configuration"),
        ([], ConfigError, r"checkpoints=random: .* loads no published checkpoint.*preset=paper"),
    ],
)
def test_a_run_that_is_no_dry_run_is_refused(
    models: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_random([Needed(key="x", model=f"random:{model}", size="") for model in models])


def test_a_dry_run_loads_no_real_checkpoint_but_the_mini_ones(tmp_path: Path) -> None:
    trained = Needed(key="x", model=str(tmp_path), size="")
    mini, drawn = (Needed(key="x", model=name, size="") for name in ("mini:clip", f"random:{CLIP}"))
    check_random([drawn, mini])
    with pytest.raises(BackendError, match=r"its shape is not known.*checkpoints=local"):
        check_random([drawn, trained])
    with pytest.raises(ConfigError, match=r"nothing to draw weights for"):
        check_random([mini])


NASTY = [
    "random:", "random: ", "random:.", "random:..", "random:/", "random:openai", "random:openai/",
    "random:/tmp", "random:../../mini/checkpoints/clip", f"random:./{CLIP}", f"random:{CLIP}/",
    f"random:{CLIP}/config.json", f"random:{CLIP.upper()}", f"random: {CLIP}",
    f"random:mini:{CLIP}", f"random:random:{CLIP}", f"RANDOM:{CLIP}", f"random:{CLIP}\n",
    "random:\u202e", "random:*",
]  # fmt: skip


@pytest.mark.parametrize("model", NASTY)
def test_nasty_names_are_no_checkpoints(model: str) -> None:
    assert find(model) is None
    assert not draws_weights(model)
    with pytest.raises(BackendError, match="not on this machine"):
        require([Needed(key="embedder.model", model=model, size="")])


def test_a_path_to_a_configuration_is_as_random_as_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(random(CLIP))
    monkeypatch.chdir(published_root() / "openai")
    paths = [str(random(CLIP)), str(tmp_path / "link"), "clip-vit-base-patch32"]
    for model in (f"random:{CLIP}", *paths):
        assert draws_weights(model)
        with pytest.raises(ConfigError, match=rf"model\.path={model}: random weights are for dry"):
            refuse_random("model.path", model)
    refuse_random("model.path", "mini:llava")
    refuse_random("model.path", "nobody/nothing")
