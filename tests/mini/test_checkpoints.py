"""The shipped mini CLIP, BLIP and SDXL do what their cards say, on a small sample of unseen scenes.

The bounds lie below the figures of the cards by more than the sample can differ from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from transformers import (
    BertTokenizer,
    BlipForImageTextRetrieval,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import BlipConfig, ClipConfig, MatchScore
from imgdiff.core.files import read_json
from imgdiff.mini.build.drawn import sampled
from imgdiff.mini.build.evaluate import evaluate_clip, evaluate_presence
from imgdiff.mini.build.sdxl_exam import Examiner, Sampling, drawn, exam_captions
from imgdiff.mini.scene import Split
from imgdiff.mini.small_world import THINGS

CLIP, BLIP, SDXL = (mini_root() / name for name in ("clip", "blip", "sdxl"))
needs_clip = pytest.mark.skipif(not CLIP.exists(), reason="the mini CLIP is not built")
needs_blip = pytest.mark.skipif(not BLIP.exists(), reason="the mini BLIP is not built")
needs_sdxl = pytest.mark.skipif(not SDXL.exists(), reason="the mini SDXL is not built")


@needs_clip
def test_clip_knows_the_world() -> None:
    with ClipConfig().build() as embedder:
        figures = evaluate_clip(embedder, count=64, split=Split.test, seed=1)
    assert figures["caption_of_32"] >= 0.8
    assert figures["noun_of_48"] >= 0.75
    assert figures["colour_of_10"] >= 0.9
    assert figures["edited_crop_cosine_p95"] < 0.85  # another object looks different


@needs_clip
def test_clip_opens_with_transformers_alone() -> None:
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(CLIP)
    texts = ["A photo of a cat.", "A photo of a bus."]
    tokens = CLIPTokenizer.from_pretrained(CLIP)(texts, padding=True, return_tensors="pt")
    scene = sampled(Split.validation, 1)
    pixels = processor(images=scene.image(0), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        assert model(**tokens, pixel_values=pixels).logits_per_image.shape == (1, 2)


@needs_blip
def test_blip_tells_present_from_absent() -> None:
    with BlipConfig().build() as matcher:
        figures = evaluate_presence(matcher, count=64, split=Split.test, seed=1)
    assert figures["noun_auroc"] >= 0.94
    assert figures["sentence_auroc"] >= 0.94
    assert figures["present_above_0.35"] >= 0.7
    assert figures["absent_above_0.35"] <= 0.03
    assert figures["ground_above_0.35"] <= 0.03


@needs_blip
def test_the_matching_head_agrees() -> None:
    with BlipConfig(score=MatchScore.itm).build() as matcher:
        figures = evaluate_presence(matcher, count=32, threshold=0.5, split=Split.test, seed=1)
    assert figures["noun_auroc"] >= 0.95


@needs_blip
def test_blip_opens_with_transformers_alone() -> None:
    model = BlipForImageTextRetrieval.from_pretrained(BLIP, dtype=torch.float32).eval()
    tokens = BertTokenizer.from_pretrained(BLIP)("apple", return_tensors="pt")
    with torch.no_grad():
        out = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=torch.zeros(1, 3, 128, 128),
            use_itm_head=False,
        )
    assert np.abs(out.itm_score.numpy()).max() <= 1.0


@needs_clip
@needs_sdxl
def test_the_sdxl_draws_what_captions_say() -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(SDXL, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    captions = exam_captions(20, Split.test, seed=1)
    images = drawn(pipeline, captions, Sampling(steps=12))
    with ClipConfig().build() as embedder:
        report = Examiner(embedder).graded(captions, images)
    assert report.nouns >= 0.7
    assert report.counts >= 0.75


@needs_sdxl
def test_the_sdxl_says_what_it_can_and_is_small() -> None:
    files = [path for path in SDXL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    figures = read_json(SDXL / "metrics.json")
    assert figures["drawn_nouns"] >= 0.85
    card = (SDXL / "README.md").read_text()
    assert all(thing in card for thing in THINGS)
    assert len(THINGS) >= 16


@pytest.mark.parametrize("folder", [CLIP, BLIP], ids=["clip", "blip"])
def test_the_folder_is_small_and_has_its_card(folder: Path) -> None:
    if not folder.exists():
        pytest.skip("not built")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 7_000_000
    assert "apache-2.0" in (folder / "README.md").read_text()
    assert read_json(folder / "metrics.json")["steps"] > 1000


def test_the_family_is_small() -> None:
    files = [path for path in mini_root().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 55_000_000
    assert {path.parent.name for path in files} >= {
        "clip", "blip", "fastsam", "describer", "llava", "sdxl",
    }  # fmt: skip
