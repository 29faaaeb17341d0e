"""A run with random weights: every stage works on noise, which is called noise everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawn_photos import five_photos
from small_published import use_small

from imgdiff.backends.runtime import Memory, free_memory
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.launch import compose_typed
from imgdiff.synth import dry_run
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.dry_run import prepare
from imgdiff.synth.pipeline import run
from imgdiff.synth.report import NOISE
from imgdiff.synth.stages import STAGES

DRY = ("preset=paper", "checkpoints=random")
# Sizes of images and batches that suit the small models.
SMALL = (
    "generator.width=64", "generator.height=64", "generator.steps=2", "generator.guidance=0",
    "inpainter.size_px=64", "segmenter.image_size=64", "segmenter.max_detections=6",
    "segmenter.batch_size=2", "embedder.batch_size=4", "matcher.batch_size=4",
    "describer.batch_size=4", "editor.model.batch_size=2", "removal.dilate_px=4",
    "removal.feather_px=0", "describe.region_tokens=8", "describe.sentence_tokens=8",
)  # fmt: skip


def composed(*overrides: str) -> SynthConfig:
    register()
    return compose_typed("synth", SynthConfig, [*overrides])


def with_memory(monkeypatch: pytest.MonkeyPatch, device: str, gib: float | None) -> None:
    free = None if gib is None else int(gib * 2**30)
    monkeypatch.setattr(dry_run, "free_memory", lambda: Memory(device=device, free=free))


def drawn(tmp_path: Path, name: str, *settings: str) -> Path:
    """A dry run of every stage with small models."""
    captions = tmp_path / "captions.json"
    captions.write_text(
        json.dumps([{"caption": "A cat sits on a mat."}, {"caption": "A red bus."}])
    )
    where = [f"output_dir={tmp_path / name}", f"store_dir={tmp_path / name}-store"]
    source = ["source=json", f"source.path={captions}", "editor=llm", "edit=both"]
    run(composed(*DRY, *SMALL, *source, *where, *settings))
    return tmp_path / name


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_stage_runs_and_all_of_it_is_called_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_small(monkeypatch, tmp_path)
    out = drawn(tmp_path, "one")
    said = capsys.readouterr().out
    assert said.count(NOISE) == 2
    profile = json.loads((out / "profile.json").read_text())
    costs = {row["stage"]: row for row in profile}
    assert costs.keys() >= STAGES.keys()
    for stage in ("edit", "generate", "image_similarity", "inpaint"):
        assert costs[stage]["items"] == 2
        assert 0 < costs[stage]["loading_seconds"] < costs[stage]["seconds"]
        assert costs[stage]["peak_mb"] > 0
    held = json.loads((out / "run.json").read_text())
    for file in ("run.json", "funnel.json", "audit.json"):
        assert json.loads((out / file).read_text())["noise"] == NOISE
    named = held["settings"]["checkpoints"]
    assert len(named) == 7
    assert all(content.startswith("random-") for content in named.values())
    assert set(held["models_loaded"]) == {  # `masker` segments for both kinds of data
        "editor", "generator", "embedder", "masker", "matcher", "describer", "inpainter",
    }  # fmt: skip
    assert json.loads((out / "funnel.json").read_text())["samples"] > 2
    card = (out / "dataset" / "README.md").read_text()
    assert card.count(NOISE) == 1
    assert "- noise\n" in card
    assert "instruction-tuning" not in card
    assert "the language model `random:lmsys/vicuna-13b-v1.5`" in card
    assert NOISE in (out / "gallery.html").read_text()
    rows = json.loads((out / "dataset" / "img_diff.json").read_text())
    assert {row["task"] for row in rows} == {"replace", "remove"}
    assert tree(out / "dataset") == tree(drawn(tmp_path, "two") / "dataset")


def test_a_real_run_says_nothing_of_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    five_photos(tmp_path / "photos")
    where = [f"output_dir={tmp_path / 'out'}", f"store_dir={tmp_path / 'store'}", "workers=1"]
    photos = ["source=coco", f"source.root={tmp_path / 'photos'}", "generator=composite"]
    run(composed(*photos, *where))
    assert "noise" not in capsys.readouterr().out.lower()
    for file in ("run.json", "funnel.json", "audit.json", "dataset/README.md", "gallery.html"):
        assert "noise" not in (tmp_path / "out" / file).read_text().lower()


def test_names_of_the_preset_become_random() -> None:
    config = composed(*DRY, "source.root=photos")
    assert [item.model for item in config.needed()] == [
        "random:lmsys/vicuna-13b-v1.5",
        "random:stabilityai/stable-diffusion-xl-base-1.0",
        "random:openai/clip-vit-base-patch32",
        "random:FastSAM-x.pt",
        "random:Salesforce/blip-itm-large-coco",
        "random:llava-hf/llava-v1.6-vicuna-13b-hf",
    ]
    assert config.processes == 1
    local = composed("preset=paper", "source.root=photos")
    assert local.needed()[0].model == "lmsys/vicuna-13b-v1.5"
    assert local.random_checkpoints() == []
    assert local.editor.checked
    assert local.editor.model.max_new_tokens == 128


def test_a_profile_brings_its_own_matcher() -> None:
    config = composed(*DRY, "profile=dj_recipe", "source.root=photos")
    assert config.matcher.model == "random:Salesforce/blip-itm-base-coco"
    assert config.rules.match.describe() == "any"


def test_the_cpu_experiment_leaves_the_large_models_out() -> None:
    config = composed("experiment=synth/dry_run_cpu", "source.root=photos")
    assert [item.model for item in config.needed()] == [
        "random:openai/clip-vit-base-patch32",
        "random:FastSAM-x.pt",
        "random:Salesforce/blip-itm-large-coco",
        "mini:describer",
    ]
    assert config.segmenter.image_size == 1024


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("checkpoints=random",), ConfigError, r"no published checkpoint.*preset=paper"),
        (
            ("preset=mini", "checkpoints=random"),
            ConfigError,
            r"checkpoints=random: .* nothing to draw weights for\. Add preset=paper",
        ),
        (
            (*DRY, "source.root=x", "embedder.model=some/clip"),
            BackendError,
            r"embedder\.model=some/clip: the package has no published configuration",
        ),
        (
            (*DRY, "source.root=x", "downstream.train='max_steps=1'"),
            ConfigError,
            r"downstream\.train='max_steps=1' with random weights \(editor\.model\.model\)",
        ),
        (("checkpoints=none",), ConfigError, r"Options of checkpoints: local, random"),
    ],
)
def test_wrong_settings_are_refused(
    overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        composed(*overrides)


def test_one_random_model_among_mini_ones() -> None:
    """preset=mini works with it too, with or without the group."""
    one = "embedder.model=openai/clip-vit-large-patch14"
    config = composed("checkpoints=random", "rules.regions_from=segmenter", one)
    models = [item.model for item in config.needed()]
    assert models.count("random:openai/clip-vit-large-patch14") == 1
    assert {model.split(":")[0] for model in models} == {"random", "mini"}
    named = composed("rules.regions_from=segmenter", one.replace("=", "=random:"))
    assert [item.key for item in named.random_checkpoints()] == ["embedder.model"]


def test_a_random_editor_whose_answers_are_checked_is_counted_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_small(monkeypatch, tmp_path)
    out = drawn(tmp_path, "checked", "editor.checked=true")
    funnel = json.loads((out / "funnel.json").read_text())
    (edit,) = [step for step in funnel["items"] if step["stage"] == "edit"]
    assert edit["in"] == 2
    assert edit["out"] == 0
    assert sum(edit["rejected"].values()) == 2
    assert all(reason.strip() for reason in edit["rejected"])
    assert funnel["samples"] == 0
    assert NOISE in capsys.readouterr().out
    assert NOISE in (out / "dataset" / "README.md").read_text()


def test_a_random_model_under_the_rules_of_the_paper(tmp_path: Path, monkeypatch: Any) -> None:
    """Thresholds reject what noise scores, with a reason for each; nothing fails."""
    use_small(monkeypatch, tmp_path)
    rules = ["rules.match.above=0.9", "rules.image_similarity.at_least=0.999999"]
    out = drawn(tmp_path, "strict", *rules)
    funnel = json.loads((out / "funnel.json").read_text())
    for step in funnel["items"]:
        assert step["in"] - step["out"] == sum(step["rejected"].values())
    assert funnel["pairs_with_samples"] < 2


def test_what_memory_cannot_hold_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_memory(monkeypatch, "CPU", 20.0)
    config = composed(*DRY, "source.root=photos", "edit=both")
    with pytest.raises(BackendError) as caught:
        prepare(config)
    text = str(caught.value)
    assert "20.0 GiB of the CPU's memory are free" in text
    assert "editor.model.model=random:lmsys/vicuna-13b-v1.5: 60.6 GiB" in text
    assert "Without it: describer.model=mini:describer" in text
    assert "generator.model" not in text  # 16.2 GiB
    assert "matcher.model=random:Salesforce/blip-itm-large-coco: 446.1 M" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("device", "gib", "workers", "refused"),
    [
        ("CPU", 20.0, 1, {"editor", "describer"}),
        ("CPU", 20.0, 2, {"editor", "generator", "describer"}),
        ("CPU", 64.0, 1, set()),
        ("CPU", None, 9, set()),
        ("GPU", 80.0, 1, set()),  # float16
        ("GPU", 24.0, 1, {"editor", "describer"}),
        ("GPU", 6.0, 1, {"editor", "generator", "describer"}),
    ],
)
def test_memory_is_counted_for_device_and_processes(
    device: str, gib: float | None, workers: int, refused: set[str], monkeypatch: Any
) -> None:
    with_memory(monkeypatch, device, gib)
    config = composed(*DRY, "source.root=photos", f"workers={workers}")
    text = ""
    try:
        prepare(config)
    except BackendError as error:
        text = str(error)
    roles = ("editor", "generator", "embedder", "segmenter", "matcher", "describer")
    assert {role for role in roles if f"  {role}.model" in text} == refused
    assert ("processes each hold one" in text) is (workers > 1 and bool(refused))


def test_memory_of_this_machine_is_known() -> None:
    memory = free_memory()
    assert memory.device in {"CPU", "GPU"}
    assert memory.free is not None
    assert memory.free > 2**20


def test_the_peak_of_memory_begins_anew() -> None:
    """In a process of its own: what other tests hold comes and goes."""
    code = (
        "from imgdiff.backends.runtime import peak_memory, reset_peak_memory as reset\n"
        "reset(); first = peak_memory()['CPU']\n"
        "held = bytearray(b'x' * 2**27); second = peak_memory()['CPU']\n"
        "del held; reset(); print(first, second, peak_memory()['CPU'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, third = map(int, done.stdout.split())
    assert second >= first + 2**26
    if Path("/proc/self/clear_refs").exists():
        assert third < second - 2**26
