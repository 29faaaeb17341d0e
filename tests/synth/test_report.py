"""The data card: what it says, that the hub can read it, that it names no place of a machine."""

import html
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgdiff.synth.audit import audit_report
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.report import public_settings, write_card

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "stop_after": "export",
    "source": {"limit": 100, "max_words": 60, "split": "train"},
    "editor": {"replacements": 1},
    "generator": {"split": "train", "ignored_share": 0.06, "noise": 2.0},
    "embedder": {"model": "mini:clip"},
    "segmenter": {"model": "mini:fastsam"},
    "matcher": {"model": "mini:blip", "score": "itc"},
    "describer": {"model": "mini:vlm"},
    "rules": {"regions_from": "segmenter"},
    "describe": {"by": "chat", "sentence_by": "template", "region_prompt": "```{box}```"},
    "export": {"parquet_images": True, "question": "What differs?"},
}
AUDIT = audit_report(Counter(pairs=10, regions=8, regions_right=7))


def funnel() -> dict[str, Any]:
    counts = Funnel()
    counts.totals.update(items=1200, regions=5000, samples=878, pairs_with_samples=640)
    counts.fallen["items", "image_similarity", "images too alike"] = 97
    counts.fallen["regions", "difference", "crops too alike"] = 2411
    counts.fallen["regions", "match", "no changed object in the box"] = 1
    return counts.report()


def card(tmp_path: Path, counts: dict[str, Any] | None = None, **changes: Any) -> str:
    path = tmp_path / "dataset" / "README.md"
    write_card(path, SETTINGS | changes, counts or funnel(), AUDIT)
    return path.read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    loaded = yaml.safe_load(matter)
    assert isinstance(loaded, dict)
    return loaded


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    matter = front_matter(card(tmp_path))
    assert matter["license"] == "apache-2.0"
    assert matter["task_categories"] == ["image-to-text", "visual-question-answering"]
    assert "image-difference" in matter["tags"]
    assert matter["size_categories"] == ["n<1K"]
    files = [{"split": "train", "path": "img_diff.parquet"}]
    assert matter["configs"] == [{"config_name": "default", "data_files": files}]


@pytest.mark.parametrize(
    ("samples", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (12_688, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_size_category(tmp_path: Path, samples: int, size: str) -> None:
    matter = front_matter(card(tmp_path, funnel() | {"samples": samples}))
    assert matter["size_categories"] == [size]


def test_card_tells_how_the_data_was_made(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "878 samples from 640 image pairs." in text
    assert "| source | the procedural world of imgdiff, split `train` |" in text
    assert "| segmenter | `mini:fastsam`: candidate regions |" in text
    assert "| difference sentences | a fixed form filled with both contents |" in text
    assert "| regions | difference | 5,000 | 2,589 | 2,411 crops too alike |" in text
    box = (
        "| box precision | 0.8750 | exported regions whose box has IoU >= 0.5 with a truly changed"
    )
    assert box in text
    assert "| changed pair recall | not known | of pairs in which" in text
    assert "10 pairs were looked at." in text
    assert '"value": "<image>\\nWhat differs?"' in text
    assert "````json" in text  # a prompt with a code fence in it does not end the block
    assert "None" not in text


def test_card_names_no_place_of_a_machine(tmp_path: Path) -> None:
    place = "/" + "home/someone"
    text = card(
        tmp_path,
        source={"root": f"{place}/photos/coco-mini/", "limit": None},
        generator={"root": "data/coco-mini", "min_part": 0.9},
        describer={"model": f"{place}/llava-13b"},
        embedder={"model": "openai/clip-vit-base-patch32"},
    )
    assert "someone" not in text
    assert "photos of a folder in COCO layout, `coco-mini`" in text
    assert "| describer | `llava-13b`: contents" in text
    assert "`openai/clip-vit-base-patch32`" in text
    assert "caption edits" not in text  # objects of photos are replaced without captions
    assert front_matter(text)["license"] == "other"
    assert "check their terms" in text


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("root", "a/b/c", "c"),
        ("path", "C:\\data\\captions.json", "captions.json"),
        ("cache_dir", "x/y", "y"),
        ("model", "~/models/m", "m"),
        ("model", "./m", "m"),
        ("model", "s3://bucket/m", "m"),
        ("model", "mini:clip", "mini:clip"),
        ("model", "org/name", "org/name"),
        ("root", ".", "local folder"),
        ("root", "", ""),
        ("question", "Left/right?", "Left/right?"),
        ("limit", None, None),
        ("options", ["/" + "tmp/x", 1], ["x", 1]),
    ],
)
def test_public_settings(key: str, value: object, shown: object) -> None:
    assert public_settings({key: value}) == {key: shown}


def test_card_of_a_run_that_used_no_models_or_stopped_early(tmp_path: Path) -> None:
    truthful = {"by": "truth", "sentence_by": "template"}
    text = card(tmp_path, describe=truthful, rules={"regions_from": "truth"})
    assert "| regions | from the generator's own record of what it changed |" in text
    assert "| embedder |" not in text
    assert "| describer |" not in text
    text = card(tmp_path, Funnel().report(), stop_after="edit")
    assert "stopped after the stage `edit`" in text
    assert "| segmenter |" not in text


def test_card_has_no_stray_markup_and_equal_bytes(tmp_path: Path) -> None:
    counts = funnel()
    counts["regions"][0]["rejected"] = {"a | b\n<img src=x>": 2}
    text = card(tmp_path, counts)
    assert "2 a \\| b &lt;img src=x>" in text
    assert text == card(tmp_path, counts)
    assert html.unescape(text).count("<img") == 1
