"""The published configurations with every width and depth made small; names and files stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from imgdiff.backends import checkpoints
from imgdiff.core.files import read_json, write_json

PX = 28  # images of the small towers
TOWER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": PX, "patch_size": 7, "projection_dim": 16,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "projection_dim": 16,
}  # fmt: skip
LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
UNET = {
    "block_out_channels": [16, 32, 32], "attention_head_dim": [2, 4, 4],
    "transformer_layers_per_block": [1, 1, 1], "layers_per_block": 1, "norm_num_groups": 8,
    "cross_attention_dim": 32, "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16, "sample_size": 8,
}  # fmt: skip
VAE = {"block_out_channels": [16] * 4, "layers_per_block": 1, "norm_num_groups": 8}
GRID = [[PX, 2 * PX], [2 * PX, PX]]


def changed(file: Path, **values: Any) -> None:
    """The JSON file with these values; those of a mapping are changed one by one."""
    held = read_json(file)
    for key, value in values.items():
        held[key] = held[key] | value if isinstance(held.get(key), dict) else value
    write_json(file, held)


def small_published(root: Path) -> Path:
    """A copy of the published configurations, small."""
    shutil.copytree(checkpoints.published_root(), root)
    for card in root.rglob(checkpoints.PUBLISHED_CARD):
        changed(card, parameters=100_000)
    square, crop = {"height": PX, "width": PX}, {"crop_size": {"height": PX, "width": PX}}
    for clip in (root / "openai").iterdir():
        changed(clip / "config.json", text_config=TEXT, vision_config=TOWER, projection_dim=16)
        changed(clip / "preprocessor_config.json", size={"shortest_edge": PX}, **crop)
    for blip in (root / "Salesforce").iterdir():
        text = TEXT | {"encoder_hidden_size": 16}
        changed(blip / "config.json", text_config=text, vision_config=TOWER)
        changed(blip / "preprocessor_config.json", size=square)
    changed(root / "FastSAM-x.pt" / "config.json", architecture="yolov8n-seg.yaml")
    changed(root / "lmsys" / "vicuna-13b-v1.5" / "config.json", **LLAMA)
    llava = root / "llava-hf" / "llava-v1.6-vicuna-13b-hf"
    parts = {"text_config": LLAMA, "vision_config": TOWER}
    changed(llava / "config.json", image_grid_pinpoints=GRID, **parts)
    sizes = {"size": {"shortest_edge": PX}, "image_grid_pinpoints": GRID}
    changed(llava / "preprocessor_config.json", **sizes, **crop)
    for sdxl in (root / "stabilityai").iterdir():
        changed(sdxl / "unet" / "config.json", **UNET)
        changed(sdxl / "vae" / "config.json", **VAE)
        for name in ("text_encoder", "text_encoder_2"):
            changed(sdxl / name / "config.json", **TEXT)
    return root


def use_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `random:NAME` mean the small copy for the rest of the test."""
    root = small_published(tmp_path / "published")
    monkeypatch.setattr(checkpoints, "published_root", lambda: root)
