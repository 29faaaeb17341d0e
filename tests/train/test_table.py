"""The table: what it holds, when it is found again, what it refuses or counts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from plan_parts import ASK, PLAIN, SAY, picture, table_of, talk, write_json

from imgdiff.core.errors import ConfigError, DataError, StoreError
from imgdiff.train import table_build
from imgdiff.train.source_config import (
    ImageCheck,
    OnDefect,
    Pairs,
    RowRules,
    SourceConfig,
    expand_sources,
    passes,
)
from imgdiff.train.table import MANIFEST, SAMPLES_FILE, Table, open_table

SKIP = RowRules(defects=OnDefect.skip)


def test_samples_of_every_kind(tmp_path: Path) -> None:
    picture(tmp_path, "a b/ü.png", (30, 20))
    picture(tmp_path, "b.jpg", (50, 10))
    rows = [
        {"id": 7, "image": "a b/ü.png", "conversations": [ASK, SAY]},
        {"conversations": [*PLAIN, *PLAIN]},
        {"id": 7, "image": ["a b/ü.png", "b.jpg"], "conversations": [ASK, SAY]},
    ]
    table = table_of(tmp_path, rows)
    one, text, pair = (table.sample(row) for row in range(3))
    assert (one.id, one.source, one.turns) == ("7", 0, (("<image>\nWhat?", "That."),))
    assert [(p.paths, p.size) for p in one.pictures] == [((tmp_path / "a b/ü.png",), (30, 20))]
    assert (text.id, len(text.turns), text.pictures) == ("1", 2, ())
    assert pair.id == "7"  # an id may come twice
    assert pair.pictures[0].size == pair.pictures[0].open().size == (30 + 20 + 50, 20)
    assert table.column("pictures").tolist() == [1, 0, 1]
    assert table.column("words").tolist() == [3, 4, 3]
    sizes, which = table.picture_sizes()
    assert [sizes[kind] for kind in which] == [((30, 20),), (), ((100, 20),)]
    assert table.place(2) == f"{tmp_path / 'data.json'}: sample 2 (id '7')"


def test_two_images_of_one_sample(tmp_path: Path) -> None:
    row = {"image": [picture(tmp_path, "a.png"), picture(tmp_path, "b.png", (8, 9))]}
    turns = [{"from": "human", "value": "<image>\n<image>\nDiffer?"}, SAY]
    table = table_of(tmp_path, [row | {"conversations": turns}], RowRules(pairs=Pairs.separate))
    assert [p.size for p in table.sample(0).pictures] == [(4, 4), (8, 9)]
    assert table.column("pictures").tolist() == [2]
    joined = table_of(tmp_path, [row | {"conversations": turns}])
    assert joined.identity != table.identity


def test_a_bad_row_ends_the_run_with_its_place(tmp_path: Path) -> None:
    rows = [{"conversations": PLAIN}, {"id": "x", "conversations": [*PLAIN, SAY]}]
    with pytest.raises(DataError, match=r"data\.json:\d+: sample 1 \(id 'x'\): .*defects=skip"):
        table_of(tmp_path, rows)
    assert not list((tmp_path / "cache").rglob("*.json"))
    rows = [{"conversations": [ASK, SAY], "image": "gone.png"}]
    with pytest.raises(DataError, match=r"sample 0 .*'gone\.png' is not in .*Restore it"):
        table_of(tmp_path, rows)


def test_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    rows: list[Any] = [
        None, talk(1), {"conversations": [ASK]}, talk(2, "gone.png"), talk(3), talk(4, "cut.png"),
        talk(5, "../x.png"), talk(6, "gone.png"),
    ]  # fmt: skip
    table = table_of(tmp_path, rows, SKIP)
    assert table.column("row").tolist() == [1, 4]
    assert table.sources[0].skipped == {
        "not an object": 1, "no alternation": 1, "image missing": 2, "image unreadable": 1,
        "image path": 1,
    }  # fmt: skip
    assert "data: 6 rows left out" in table.notices[0]
    assert "sample 0: NoneType" in table.notices[1]
    assert len(table.notices) == 1 + table_build.EXAMPLES


def test_bad_lines_of_jsonl_are_counted_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(talk(1)) + "\n{broken\n" + json.dumps(talk(2)))
    sources = {"a": SourceConfig(path=str(path))}
    with pytest.raises(DataError, match=r"a\.jsonl:2: sample 1: malformed JSON"):
        open_table(sources, RowRules(), tmp_path / "cache")
    table = open_table(sources, SKIP, tmp_path / "cache")
    assert (len(table), table.sources[0].skipped) == (2, {"malformed JSON": 1})


@pytest.mark.parametrize("rows", [[], [None], [{"conversations": [ASK]}]])
def test_a_source_without_samples_is_refused(tmp_path: Path, rows: list[Any]) -> None:
    with pytest.raises(DataError, match="no usable sample"):
        table_of(tmp_path, rows, SKIP)


def test_a_table_is_found_again_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [talk(1), talk(2)]
    first = table_of(tmp_path, rows)
    built: list[int] = []
    build = table_build.build_table
    monkeypatch.setattr(table_build, "build_table", lambda *a: built.append(1) or build(*a))
    again = table_of(tmp_path, rows, repeat=2.0)  # not a matter of the table
    assert (built, again.folder, again.identity) == ([], first.folder, first.identity)
    assert (first.sources[0].repeat, again.sources[0].repeat) == (1.0, 2.0)
    assert table_of(tmp_path, [*rows, talk(3)]).identity != first.identity
    assert table_of(tmp_path, rows, cap=1).identity != first.identity
    assert len(built) == 2


def test_the_identity_does_not_know_where_files_lie(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        picture(tmp_path / name)
        tables.append(table_of(tmp_path / name, [talk(1), talk(2, "a.png")]))
    assert tables[0].identity == tables[1].identity
    assert tables[0].folder.name != tables[1].folder.name
    picture(tmp_path / "three", size=(5, 5))
    assert table_of(tmp_path / "three", [talk(1), talk(2, "a.png")]).identity != tables[0].identity


def test_many_rows_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_build, "CHUNK_ROWS", 3)
    monkeypatch.setattr(table_build, "BATCH_ROWS", 4)
    monkeypatch.setattr("imgdiff.train.table.BATCH_ROWS", 4)
    paths = [write_json(tmp_path / f"{n}.json", [talk(k + 1) for k in range(n)]) for n in (5, 9)]
    sources = {path.stem: SourceConfig(path=str(path)) for path in paths}
    table = open_table(sources, RowRules(), tmp_path / "cache")
    assert [(s.name, s.start, s.rows) for s in table.sources] == [("5", 0, 5), ("9", 5, 9)]
    assert len(table) == 14
    answers = [len(str(table.sample(row).turns[0].answer).split()) for row in range(14)]
    assert answers == [*range(1, 6), *range(1, 10)]
    assert table.column("source").tolist() == [0] * 5 + [1] * 9
    copied = pickle.loads(pickle.dumps(table))
    assert copied.sample(13) == table.sample(13)
    assert len(pickle.dumps(table)) < 1000


def test_cap_stops_reading(tmp_path: Path) -> None:
    rows = [talk(1), None, talk(2), talk(3), None]
    table = table_of(tmp_path, rows, SKIP, cap=2)
    assert (len(table), table.sources[0].skipped) == (2, {"not an object": 1})


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, [talk(1)])
    (table.folder / SAMPLES_FILE).write_bytes(b"ARROW1 and no more")
    with pytest.raises(StoreError, match=r"damaged table .*Delete its folder"):
        Table(table.folder).sample(0)
    (table.folder / MANIFEST).unlink()  # built anew
    assert len(table_of(tmp_path, [talk(1)])) == 1


def test_an_image_that_changed_is_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, [talk(1, picture(tmp_path))])
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: is \(9, 9\) pixels, and was \(4, 4\)"):
        table.sample(0).pictures[0].open()
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: .*passed the check before the run.*decode"):
        table.sample(0).pictures[0].open()


def test_without_looking_no_sizes_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    table = table_of(tmp_path, [talk(1, "a.png")], RowRules(images=ImageCheck.exists))
    assert (table.has_sizes, table.sample(0).pictures[0].size) == (False, (0, 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "path=''"),
        ({"path": "a", "repeat": 0.0}, r"source a: repeat=0.0: must be above 0"),
        ({"path": "a", "repeat": -1.0}, "repeat"),
        ({"path": "a", "repeat": float("nan")}, "repeat"),
        ({"path": "a", "repeat": float("inf")}, "repeat"),
        ({"path": "a", "cap": 0}, "cap=0: must be at least 1"),
        ({"path": "a", "weight": 0.0}, "weight=0.0: must be above 0"),
        ({"path": "a", "weight": float("nan")}, "weight"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**settings)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    gone = SourceConfig(path=str(tmp_path / "gone.json"))
    with pytest.raises(ConfigError, match=r"sources\.a\.path=.*gone\.json: no such file"):
        expand_sources({"a": gone})
    path = write_json(tmp_path / "a.json", [talk(1)])
    with pytest.raises(ConfigError, match=r"sources\.a\.images=.*none: no such folder"):
        expand_sources({"a": SourceConfig(path=str(path), images=str(tmp_path / "none"))})
    with pytest.raises(ConfigError, match=r"sources=\{\}"):
        expand_sources({})
    half = {"a": SourceConfig(path=str(path), weight=1.0), "b": SourceConfig(path=str(path))}
    with pytest.raises(ConfigError, match=r"sources\.a\.weight is set and sources\.b\.weight"):
        expand_sources(half)


def meta(folder: Path, **options: Any) -> SourceConfig:
    (folder / "images").mkdir(exist_ok=True)
    picture(folder / "images")
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(talk(k, "a.png")) for k in (1, 2)))
    entry = {"root": "images", "annotation": "rows.jsonl", "data_augment": False} | options
    (folder / "meta.json").write_text(json.dumps({"one": entry, "two": {**entry, "length": 3}}))
    return SourceConfig(path=str(folder / "meta.json"))


def test_a_meta_of_internvl_is_its_entries(tmp_path: Path) -> None:
    source = meta(tmp_path, repeat_time=2, length=2)
    table = open_table({"mix": source}, RowRules(), tmp_path / "cache")
    assert [(s.name, s.rows, s.repeat) for s in table.sources] == [
        ("mix/one", 2, 2.0), ("mix/two", 2, 2.0)
    ]  # fmt: skip
    assert table.sample(3).pictures[0].paths == (tmp_path / "images" / "a.png",)
    assert table.notices == ("mix/two: 2 rows, its meta says 3",)
    augmented = meta(tmp_path, data_augment=True, length=2)
    table = open_table({"mix": augmented}, RowRules(), tmp_path / "cache")
    assert "mix/one: data_augment=true: random JPEG recompression is not done" in table.notices


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_dynamic_patch": 6}, r"mix/one: max_dynamic_patch=6 .*set the model's"),
        ({"conv_style": "x"}, "option 'conv_style' is not supported"),
        ({"annotation": "no.jsonl"}, r"annotation=no\.jsonl: no such file"),
        ({"root": "nowhere"}, "no such folder"),
        ({"repeat_time": "2"}, "repeat_time='2': must be a number"),
        ({"repeat_time": 0}, "repeat=0.0: must be above 0"),
    ],
)
def test_options_of_a_meta_are_kept_or_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        expand_sources({"mix": meta(tmp_path, **options)})
    weighted = SourceConfig(path=str(tmp_path / "meta.json"), weight=0.5)
    with pytest.raises(ConfigError):
        expand_sources({"mix": weighted})


@pytest.mark.parametrize(
    ("rows", "repeat", "expected"),
    [(10, 1.0, (1, 0)), (10, 0.5, (0, 5)), (3, 2.5, (2, 1)), (10, 2.3, (2, 3)),
     (100, 0.29, (0, 29)), (7, 0.1, (0, 0)), (4, 3.0, (3, 0))],
)  # fmt: skip
def test_passes(rows: int, repeat: float, expected: tuple[int, int]) -> None:
    assert passes(rows, repeat) == expected
