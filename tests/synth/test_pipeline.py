"""The pipeline end to end: files, formats, bytes that do not depend on how the run went."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from drawn_photos import five_photos
from PIL import Image

from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.errors import BackendError, ConfigError, DataError
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pipeline import run

FAMILY = ("clip", "blip", "fastsam", "describer")
shipped = pytest.mark.skipif(
    not all((mini_root() / name).exists() for name in FAMILY), reason="mini family not built yet"
)


def synth(tmp_path, *overrides, out="out"):
    """Run in this process; the output folder."""
    register()
    folder = tmp_path / out
    settings = [f"output_dir={folder}", f"store_dir={tmp_path / 'store'}", "workers=1", *overrides]
    run(compose_typed("synth", SynthConfig, settings))
    return folder


def composite(tmp_path, *overrides, out="out"):
    root = tmp_path / "photos"
    if not root.exists():
        five_photos(root)
    where = ["source=coco", f"source.root={root}", "generator=composite"]
    return synth(tmp_path, *where, "source.limit=5", *overrides, out=out)


def tree(folder):
    """Every file of the data set with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted((folder / "dataset").rglob("*"))
        if path.is_file()
    }


def test_composite_writes_the_documented_files(tmp_path):
    out = composite(tmp_path, "export.separate_images=true")
    rows = json.loads((out / "dataset" / "img_diff.json").read_text())
    assert len(rows) == 5
    for row in rows:
        assert list(row) == [
            "id", "image", "conversations", "bbox", "captions1", "captions2", "path",
        ]  # fmt: skip
        human, gpt = row["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].count("<image>") == 1
        assert human["value"].startswith("<image>\nAnalyse the left image and the right image")
        assert row["captions1"].rstrip(".").split()[-1] in gpt["value"]
        left, top, right, bottom = json.loads(row["bbox"])
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        for suffix in ("_0", "_1"):
            assert (out / "dataset" / f"{row['path']}{suffix}.jpg").exists()
    audit = json.loads((out / "audit.json").read_text())
    assert audit["n_pairs"] == 5
    assert audit["box_precision"] == audit["difference_accuracy"] == 1.0
    funnel = json.loads((out / "funnel.json").read_text())
    assert funnel["samples"] == 5
    assert (out / "gallery.html").read_text().startswith("<!")
    page = (out / "stats.html").read_text()
    assert f"<b>{funnel['samples']}</b><span>samples</span>" in page
    assert "No two" not in page
    assert json.loads((out / "run.json").read_text())["models_loaded"] == []
    assert not (out / "work").exists()


def test_the_pair_image_has_the_divider_and_the_red_boxes(tmp_path):
    out = composite(tmp_path, "export.image_format=png")
    row = json.loads((out / "dataset" / "img_diff.json").read_text())[0]
    pixels = np.asarray(Image.open(out / "dataset" / row["image"]))
    assert pixels.shape == (180, 240 + 20 + 240, 3)
    assert not pixels[:, 240:260].any()
    left, top, _, _ = json.loads(row["bbox"])
    x, y = round(left * 240), round(top * 180) + 20
    for offset in (0, 260):
        # the frame is 3 px wide, 5 px outside the box, whose text form is rounded to 1 %
        row_of_edge = pixels[y, x + offset - 7 : x + offset]
        assert 3 <= (row_of_edge == (255, 0, 0)).all(axis=1).sum() <= 4


def test_the_parquet_opens_with_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    out = composite(tmp_path)
    data = datasets.load_dataset(
        "parquet",
        data_files=str(out / "dataset" / "img_diff.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    rows = json.loads((out / "dataset" / "img_diff.json").read_text())
    assert data["id"][:] == [row["id"] for row in rows]
    assert data[0]["image"].size == (500, 180)
    assert data[0]["conversations"] == rows[0]["conversations"]


def test_candidates_keep_scores_seeds_and_reasons(tmp_path):
    import pyarrow.parquet as pq

    out = composite(tmp_path, "generator.min_object_px=62")
    pairs = pq.read_table(out / "pairs.parquet").to_pylist()
    fallen = [row for row in pairs if not row["kept"]]
    assert len(pairs) == 5
    assert fallen
    assert {row["reason"] for row in fallen} == {"object too small"}
    assert all(row["seed"] > 0 for row in pairs)


def test_running_twice_does_nothing_and_another_config_is_refused(tmp_path):
    out = composite(tmp_path)
    before = tree(out)
    composite(tmp_path)
    assert tree(out) == before
    with pytest.raises(ConfigError, match=r"holds another run; it differs in seed.*overwrite=true"):
        composite(tmp_path, "seed=7")
    composite(tmp_path, "seed=7", "overwrite=true")
    assert tree(out) != before


def test_the_folder_of_another_command_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text('{"identity": "x", "finished": true}')
    with pytest.raises(ConfigError, match=r"holds another run; it differs in its command"):
        composite(tmp_path)


def test_an_edited_source_file_is_another_run(tmp_path):
    source = tmp_path / "captions.json"
    settings = ("stop_after=edit", "source=json", f"source.path={source}", "editor=lexicon")
    source.write_text('[{"caption": "a cat on a mat"}]')
    synth(tmp_path, *settings)
    source.write_text('[{"caption": "a dog on a mat"}]')
    with pytest.raises(ConfigError, match=r"another run; it differs in made_of\.source"):
        synth(tmp_path, *settings)


def test_runs_that_edit_otherwise_share_a_store(tmp_path):
    settings = ("source.limit=6", "source.split=test", "stop_after=generate")

    def right_images():
        return {path: path.read_bytes() for path in (tmp_path / "store").rglob("*_1.png")}

    synth(tmp_path, *settings, "editor.same_group_share=1.0", out="one")
    first = right_images()
    synth(tmp_path, *settings, "editor.same_group_share=0.0", out="two")
    both = right_images()
    assert len(both) > len(first)
    assert all(both[path] == content for path, content in first.items())


def test_what_a_kill_left_in_the_data_set_is_removed(tmp_path):
    whole = composite(tmp_path, out="whole")
    killed = tmp_path / "killed"
    folder = killed / "dataset" / "images"
    folder.mkdir(parents=True)
    (folder / ".a.jpg.x1y2z3.tmp").write_bytes(b"half")
    composite(tmp_path, out="killed")
    assert tree(killed) == tree(whole)


@pytest.mark.parametrize(
    ("profile", "prompt", "matcher", "tokens"),
    [
        ("paper", "paper", "Salesforce/blip-itm-large-coco", (64, 128)),
        ("released_code", "released_code", "Salesforce/blip-itm-large-coco", (64, 128)),
        ("dj_recipe", "dj_recipe", "Salesforce/blip-itm-base-coco", (1024, 1024)),
    ],
)
def test_profiles_carry_the_published_values(profile, prompt, matcher, tokens):
    register()
    settings = ["preset=paper", f"profile={profile}", "editor=llm", "source.root=x"]
    config = compose_typed("synth", SynthConfig, settings)
    assert (config.editor.profile.value, config.matcher.model) == (prompt, matcher)
    assert (config.describe.region_tokens, config.describe.sentence_tokens) == tokens
    assert (config.describer.dtype.value, config.describer.image_batch_size) == ("float16", 1)
    sizes = [part.batch_size for part in (config.embedder, config.matcher, config.describer)]
    assert sizes == [None, None, 8]


def test_two_workers_write_the_same_bytes(tmp_path):
    stores = [f"store_dir={tmp_path / name}" for name in ("s1", "s2")]
    one = composite(tmp_path, "shard_size=2", stores[0], out="one")
    two = composite(tmp_path, "shard_size=2", stores[1], "workers=2", out="two")
    assert tree(one) == tree(two)


def test_absent_weights_are_listed_before_any_work(tmp_path):
    five_photos(tmp_path / "photos")
    with pytest.raises(BackendError) as caught:
        synth(tmp_path, "preset=paper", f"source.root={tmp_path / 'photos'}")
    text = str(caught.value)
    for part in ("6 checkpoint(s)", "openai/clip-vit-base-patch32", "FastSAM-x.pt", "1.9 GB",
                 "generator.model=stabilityai/stable-diffusion-xl-base-1.0", "editor.model.model=",
                 "describer.model=", "preset=mini"):  # fmt: skip
        assert part in text
    assert not (tmp_path / "out").exists()


def test_an_unset_path_is_reported_with_the_absent_weights(tmp_path):
    with pytest.raises(BackendError, match=r"6 checkpoint(.|\n)*Also source\.root=''"):
        synth(tmp_path, "preset=paper")


def test_a_run_that_never_read_its_source_does_not_claim_the_folder(tmp_path):
    broken, whole = tmp_path / "broken.json", tmp_path / "whole.json"
    broken.write_text('[{"caption": "a cat on a mat"},')
    whole.write_text('[{"caption": "a cat on a mat"}]')
    only_edit = ("stop_after=edit", "source=json", "preset=mini")
    with pytest.raises(DataError, match="broken"):
        synth(tmp_path, *only_edit, f"source.path={broken}")
    synth(tmp_path, *only_edit, f"source.path={whole}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.match.below=0.1", r"rules\.match .*accepts no score"),
        ("rules.max_iou=2", r"rules\.max_iou=2"),
        ("workers=0", "workers=0"),
        ("memory_limit=0", r"memory_limit=0\.0: must lie in \(0, 1\].*0\.25"),
        ("memory_limit=20", r"memory_limit=20\.0: must lie in"),
        ("matcher.batch_size=0", r"matcher\.batch_size=0: must be at least 1, or null"),
        ("shard_size=0", "shard_size=0"),
        ("describe.region_prompt=hello", r"describe\.region_prompt=.*\{box\}"),
        ("describe.region_prompt='{box} {json}'", r"describe\.region_prompt=.*no other field"),
        ("describe.region_prompt='{box} {'", r"describe\.region_prompt=.*write \{\{ for"),
        ("describe.sentence_tokens=0", r"describe\.sentence_tokens=0"),
        ("describe.by=truth", "regions_from=truth"),
        ("describer.temperature=0.5", r"describer\.temperature=0\.5: .*greedy"),
        ("describer.max_new_tokens=0", r"describer\.max_new_tokens=0"),
        ("rules.content_margin_px=-1", r"rules\.content_margin_px=-1"),
        ("rules.match.above=nan", r"rules\.match .*not a number"),
        ("generator.noise=nan", r"generator\.noise=nan"),
        ("generator=composite", "composite|root"),
        ("sorce.limit=3", "sorce"),
        ("source.limit=many", r"source\.limit=many"),
    ],
)
def test_wrong_settings_are_named(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        synth(tmp_path, override)
    assert not (tmp_path / "out").exists()


# What a run without models has no use for, and what takes seconds to import.
HEAVY = ("cv2", "diffusers", "pandas", "torch", "torchvision", "transformers", "ultralytics")
RUN = f"""
import json, sys
from imgdiff.launch import compose_typed
from imgdiff.synth import regions
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pipeline import run
regions.changed_nouns = None  # nouns are looked up, too
register()
run(compose_typed("synth", SynthConfig, sys.argv[2:]))
open(sys.argv[1], "w").write(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""


@shipped
def test_a_changed_threshold_decides_anew_without_models(tmp_path):
    world = ["source.limit=12", "source.split=test"]
    first = synth(tmp_path, *world, out="first")
    loaded = json.loads((first / "run.json").read_text())["models_loaded"]
    assert {"embedder", "segmenter", "matcher", "describer"} <= set(loaded)
    again, imported = tmp_path / "again", tmp_path / "imported.json"
    settings = [
        *world, "rules.max_regions=1", "rules.content_match.above=0.5", "workers=1",
        f"output_dir={again}", f"store_dir={tmp_path / 'store'}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(imported), *settings],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((again / "run.json").read_text())["models_loaded"] == []
    assert json.loads(imported.read_text()) == []
    counts = [json.loads((o / "funnel.json").read_text())["samples"] for o in (first, again)]
    assert counts[1] <= counts[0]


def _command(tmp_path, out, store):
    return [
        sys.executable, "-m", "imgdiff.synth", "source.limit=24", "source.split=test",
        "shard_size=6", "workers=2",
        f"output_dir={tmp_path / out}", f"store_dir={tmp_path / store}",
    ]  # fmt: skip


@shipped
@pytest.mark.timeout(600)
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    whole = subprocess.run(_command(tmp_path, "whole", "s1"), capture_output=True, check=False)
    assert whole.returncode == 0, whole.stderr.decode()
    moments = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen(
            _command(tmp_path, "killed", "s2"), stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(1.0, 8.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = subprocess.run(_command(tmp_path, "killed", "s2"), capture_output=True, check=False)
    assert last.returncode == 0, last.stderr.decode()
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    for name in ("audit.json", "funnel.json", "gallery.html", "stats.html", "pairs.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_conf_is_found_from_an_empty_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.synth", "source.limit=none"],
        cwd=tmp_path, capture_output=True, check=False, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 2
    assert "source.limit=none" in done.stderr
    assert list(tmp_path.iterdir()) == []
