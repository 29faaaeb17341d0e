"""Caption sources: formats, hygiene, and errors that come before any work."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from imgdiff.backends.world import Split, Vocabulary
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.records import Caption, Rejected
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.sources import CocoSource, JsonSource, Source, Unit, WorldSource, captions

GOOD = ["A dog on a sofa.", "Two cats."]


def texts(config: Source, seed: int = 0) -> list[str]:
    return [item.text for item in captions(config, seed) if isinstance(item, Caption)]


def reasons(config: Source, seed: int = 0) -> Counter[str]:
    return Counter(item.reason for item in captions(config, seed) if isinstance(item, Rejected))


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


LLAVA = [
    {
        "id": "1",
        "image": "1.jpg",
        "conversations": [
            {"from": "human", "value": "Describe it.\n<image>"},
            {"from": "gpt", "value": text},
            {"from": "gpt", "value": "later answer"},
        ],
    }
    for text in GOOD
]
FORMATS: dict[str, Any] = {
    "strings": GOOD,
    "coco captions": {"images": [], "annotations": [{"id": 1, "caption": t} for t in GOOD]},
    "coco results": [{"image_id": 7, "caption": t} for t in GOOD],
    "llava": LLAVA,
    "llava with blip": [{**row, "blip_caption": t} for row, t in zip(LLAVA, GOOD, strict=True)],
    "text field": [{"text": t} for t in GOOD],
    "input field": [{"input": t, "output": "other"} for t in GOOD],
}


@pytest.mark.parametrize("name", FORMATS)
def test_json_formats_are_recognised(name: str, tmp_path: Path) -> None:
    assert texts(JsonSource(path=write(tmp_path / "captions.json", FORMATS[name]))) == GOOD


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "coco captions"])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_json_lines_of_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"captions.{suffix}"
    path.write_text("".join(json.dumps(row) + "\n" for row in FORMATS[name]) + "\n")
    assert texts(JsonSource(path=str(path))) == GOOD


@pytest.mark.parametrize("column", ["caption", "text", "my words"])
def test_parquet(column: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    pq.write_table(pa.table({"other": [1, 2], column: GOOD}), path)
    chosen = column if column == "my words" else None
    assert texts(JsonSource(path=str(path), column=chosen)) == GOOD


def test_ids_are_positions_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", ["", *GOOD])
    assert [item.id for item in captions(JsonSource(path=path), 0)] == [
        "mine-00000000",
        "mine-00000001",
        "mine-00000002",
    ]


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        ("", None, "empty caption"),
        (" \n\t ", None, "empty caption"),
        ("\ufeff", None, "empty caption"),
        (" ".join(["dog"] * 200), None, "too many words"),
        ("a dog <image> on a sofa", None, "image placeholder"),
        (" ".join(f"dog{i}" for i in range(60)), " ".join(f"dog{i}" for i in range(60)), None),
        ("a dog\non a\r\n\tmat ", "a dog on a mat", None),
        ("a dog\x00", None, "control characters"),
        ("\x1b[31ma dog", None, "control characters"),
        ("a dog \ud83d", None, "control characters"),
        ("a 🐶 dog 👨‍👩‍👧", "a 🐶 dog 👨‍👩‍👧", None),
        ("כלב על הספה", "כלב על הספה", None),
        ("A DOG on a SOFA.", "A DOG on a SOFA.", None),
        ("...", "...", None),
    ],
)
def test_hygiene(text: str, kept: str | None, reason: str | None, tmp_path: Path) -> None:
    config = JsonSource(path=write(tmp_path / "one.json", [text]))
    assert texts(config) == ([kept] if kept else [])
    assert reasons(config) == Counter([reason] if reason else [])


def test_the_first_of_equal_captions_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", ["A dog", "a  dog ", "A cat", "A DOG"])
    assert texts(JsonSource(path=path)) == ["A dog", "A cat"]
    assert reasons(JsonSource(path=path)) == {"duplicate caption": 2}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "no caption in the record"),
        ({"title": "A dog"}, "no caption in the record"),
        ({}, "no caption in the record"),
        ({"caption": None}, "no caption in the record"),
        ({"conversations": []}, "no caption in the record"),
        ({"conversations": [{"from": "human", "value": "hi"}]}, "no caption in the record"),
        ({"conversations": ["hi"]}, "no caption in the record"),
        ({"caption": 7}, "caption is not text"),
        ({"caption": ["A dog"]}, "caption is not text"),
        (3.5, "caption is not text"),
        (["A dog"], "caption is not text"),
        (True, "caption is not text"),
    ],
)
def test_a_bad_row_is_counted_and_the_rest_read(row: Any, reason: str, tmp_path: Path) -> None:
    config = JsonSource(path=write(tmp_path / "c.json", [GOOD[0], row, GOOD[1]]))
    assert texts(config) == GOOD
    assert reasons(config) == {reason: 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", b"", "file is empty"),
        ("c.json", b"[1, 2", r"c\.json:1:\d+: malformed JSON"),
        ("c.json", b'["a dog",\n "a cat"\n "a cow"]', r"c\.json:3:\d+: malformed JSON"),
        ("c.json", b'{"info": {}}', "not a list of captions"),
        ("c.json", b"7", "not a list of captions"),
        ("c.json", b'["a dog \xff"]', "not UTF-8"),
        ("c.jsonl", b'"a dog"\n{"caption": \n', r"c\.jsonl:2: malformed JSON"),
        ("c.jsonl", b'"a dog"\n\n"a \xff cat"\n', r"c\.jsonl:3: not UTF-8"),
        ("c.jsonl", b'"a dog" "a cat"\n', r"c\.jsonl:1: malformed JSON"),
        ("c.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("c.parquet", b"[]", "not a readable Parquet file"),
    ],
)
def test_malformed_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(captions(JsonSource(path=str(path)), 0))


def test_damaged_parquet_pages(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"caption": [f"dog {i}" for i in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[4:4000] = b"\xff" * 3996
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged Parquet"):
        list(captions(JsonSource(path=str(path)), 0))


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        ({"words": ["a"]}, None, "no column caption or text or input; it has words"),
        ({"caption": ["a"]}, "words", "no column words; it has caption"),
        ({"caption": [1]}, None, "holds int64, not text"),
    ],
)
def test_parquet_columns_are_checked_first(
    table: dict[str, Any], column: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=message):
        captions(JsonSource(path=str(path), column=column), 0)  # before any record is asked for


def test_missing_paths_fail_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source\.path=.*no such file"):
        captions(JsonSource(path=str(tmp_path / "no.json")), 0)
    with pytest.raises(DataError, match="is a folder"):
        captions(JsonSource(path=str(tmp_path)), 0)
    with pytest.raises(DataError, match="captions_"):
        captions(CocoSource(root=str(tmp_path)), 0)
    with pytest.raises(DataError, match="instances_"):
        captions(CocoSource(root=str(tmp_path)), 0, Unit.objects)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: captions(JsonSource(), 0), r"source\.path=''.*set it to"),
        (lambda: JsonSource(path="a", column=" "), r"source\.column"),
        (lambda: captions(CocoSource(), 0), r"source\.root=''"),
        (lambda: WorldSource(), r"source\.limit=null.*source\.limit=100"),
        (lambda: WorldSource(limit=0), r"source\.limit=0.*at least 1"),
        (lambda: WorldSource(limit=1, max_words=0), r"source\.max_words=0"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_objects_need_annotated_photos() -> None:
    with pytest.raises(ConfigError, match="use source=coco"):
        captions(WorldSource(limit=3), 0, Unit.objects)


def test_configs_compose() -> None:
    made = OmegaConf.merge(
        OmegaConf.structured(WorldSource(limit=5)), {"split": "validation", "limit": 7}
    )
    assert OmegaConf.to_object(made) == WorldSource(limit=7, split=Split.validation)


def test_the_world_gives_distinct_captions_per_seed() -> None:
    first = texts(WorldSource(limit=20), seed=1)
    assert len(set(first)) == len(first) == 20
    assert first == texts(WorldSource(limit=20), seed=1)
    assert first != texts(WorldSource(limit=20), seed=2)
    assert first != texts(WorldSource(limit=20, split=Split.test), seed=1)


def test_limit_counts_accepted_captions_and_stops_reading(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('""\n"a dog"\n"a dog"\n"a cat"\nnot json\n')
    assert texts(JsonSource(path=str(path), limit=2)) == ["a dog", "a cat"]


def test_coco_captions_pass_through_hygiene(tmp_path: Path) -> None:
    rows = [{"id": i, "image_id": 1, "caption": t} for i, t in enumerate(["a dog", "A dog", ""])]
    (tmp_path / "annotations").mkdir()
    write(tmp_path / "annotations" / "captions_val2017.json", {"annotations": rows})
    config = CocoSource(root=str(tmp_path), split="val")
    assert texts(config) == ["a dog"]
    assert sum(reasons(config).values()) == 2


def test_captions_of_photos_are_restated_in_a_small_vocabulary(tmp_path: Path) -> None:
    said = ["A black poodle on a couch.", "A man surfing.", "a red car", "A red car"]
    config = JsonSource(
        path=write(tmp_path / "c.json", said), vocabulary=Vocabulary.mini_sdxl, limit=2
    )
    assert texts(config) == ["A dog and a sofa.", "A red car."]
    assert reasons(config) == {"nothing of the vocabulary": 1}
    config.limit = None
    assert reasons(config) == {"nothing of the vocabulary": 1, "duplicate caption": 1}


def test_restated_captions_need_the_editor_of_the_world(tmp_path: Path) -> None:
    register()
    path = write(tmp_path / "c.json", GOOD)
    settings = ["generator=sdxl_p2p", "source=json", f"source.path={path}"]
    with pytest.raises(ConfigError, match=r"source\.vocabulary=mini_sdxl: .*; add editor=world"):
        compose_typed("synth", SynthConfig, settings)
    config = compose_typed("synth", SynthConfig, [*settings, "editor=world"])
    assert config.source.vocabulary is config.editor.vocabulary is Vocabulary.mini_sdxl
    config = compose_typed("synth", SynthConfig, [*settings, "preset=paper", "source=json"])
    assert config.source.vocabulary is Vocabulary.any
    assert compose_typed("synth", SynthConfig, []).editor.vocabulary is Vocabulary.any
