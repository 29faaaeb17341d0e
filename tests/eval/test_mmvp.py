"""Reading MMVP's layout: good folders, and damaged ones with a message that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from imgdiff.backends.world_data import benchmark_folder
from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import is_procedural
from imgdiff.eval.mmvp import CORRECTIONS, PromptStyle, load_mmvp, prompt_of
from imgdiff.eval.records import ChoiceItems

HEADER = "Index,Question,Options,Correct Answer\n"
FIRST = "1,Is it up?,(a) Up (b) Down,(a)\n"
SECOND = "2,Is it up?,(a) Up (b) Down,(b)\n"


def _folder(tmp_path: Path, text: str, images: int = 2) -> Path:
    (tmp_path / "MMVP Images").mkdir(exist_ok=True)
    for index in range(1, images + 1):
        Image.new("RGB", (8, 8)).save(tmp_path / "MMVP Images" / f"{index}.jpg")
    (tmp_path / "Questions.csv").write_text(text, encoding="utf-8")
    return tmp_path


def _load(folder: Path, *, is_procedural: bool = False) -> ChoiceItems:
    return load_mmvp(folder / "Questions.csv", folder / "MMVP Images", is_procedural=is_procedural)


def test_a_real_folder(tmp_path: Path) -> None:
    content = _load(_folder(tmp_path, HEADER + SECOND + FIRST))
    assert not content.is_published
    one, two = content.items
    assert (one.id, one.pair, one.correct, two.pair, two.correct) == ("1", "1", "a", "1", "b")
    assert (one.kind, one.corrected) == ("", "a")
    assert one.options == {"a": "Up", "b": "Down"}
    assert one.image == tmp_path / "MMVP Images" / "1.jpg"
    assert prompt_of(one, PromptStyle.free) == "Is it up? (a) Up (b) Down"
    assert prompt_of(one, PromptStyle.letter) == (
        "Is it up? (a) Up (b) Down\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_the_procedural_folder_says_so_and_names_kinds(tmp_path: Path) -> None:
    folder = benchmark_folder(tmp_path, 4, 0)
    assert is_procedural(folder)
    items = _load(folder, is_procedural=True).items
    assert [item.kind for item in items[::2]] == ["category", "colour", "category", "place"]
    assert [item.id for item in items] == [str(index) for index in range(1, 9)]


ELDERLY = "Is the elderly person standing or sitting in the picture"


def _three_hundred() -> str:
    rows = [
        f"{2 * pair + side + 1},{ELDERLY if pair == 139 else pair}?,(a) X (b) Y,({'ab'[side]})\n"
        for pair in range(150)
        for side in range(2)
    ]
    return HEADER + "".join(rows)


def test_the_corrected_key_swaps_two_pairs_of_the_published_set_only(tmp_path: Path) -> None:
    folder = _folder(tmp_path, _three_hundred())
    content = _load(folder)
    assert content.is_published
    changed = {
        int(item.id): item.corrected for item in content.items if item.corrected != item.correct
    }
    assert changed == CORRECTIONS == {99: "b", 100: "a", 279: "b", 280: "a"}
    own = _load(_folder(tmp_path, _three_hundred().replace("elderly", "young")))
    assert not own.is_published
    drawn = _load(folder, is_procedural=True)
    assert all(item.corrected == item.correct for item in drawn.items)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + FIRST + SECOND,
        HEADER + FIRST + SECOND + "\n\n",
        (HEADER + FIRST + SECOND).replace("\n", "\r\n"),
        HEADER + '1,"Is it, up?",(a) Up (b) Down,(a)\n2," Is  it, UP? ",(A)Up(B)Down,B\n',
        "Extra," + HEADER + "x," + FIRST + "y," + SECOND,
    ],
)
def test_harmless_variations_are_read(tmp_path: Path, text: str) -> None:
    questions = _load(_folder(tmp_path, text)).items
    assert [(q.options["a"], q.options["b"], q.correct) for q in questions] == [
        ("Up", "Down", "a"),
        ("Up", "Down", "b"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'Index'"),
        (HEADER, "no question in it"),
        ("Index;Question;Options;Correct Answer\n", "no column 'Index'"),
        (HEADER + FIRST, "Index 2 is missing"),
        (HEADER + FIRST + FIRST, "Index 2 is missing"),
        (HEADER + FIRST + SECOND + SECOND + "4,q,(a) x (b) y,(a)\n", "Index 3 is missing"),
        (HEADER + FIRST.replace("1", "0", 1) + SECOND, "csv:2: Index is '0'"),
        (HEADER + FIRST + SECOND.replace("2", "two", 1), "csv:3: Index is 'two'"),
        (HEADER + FIRST + "2\n", "csv:3: Question is ''"),
        (HEADER + FIRST.replace("(b)", "(c)") + SECOND, "csv:2: Options is"),
        (HEADER + FIRST.replace("(a)\n", "(c)\n") + SECOND, r"csv:2: Correct Answer is '\(c\)'"),
        (HEADER + FIRST + SECOND.replace("(b)\n", "(a)\n"), "have the same answer"),
        (HEADER + FIRST + SECOND.replace("up", "low"), "ask different questions"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _load(_folder(tmp_path, text))
    assert "Questions.csv" in str(caught.value)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file.*set it to null"):
        _load(tmp_path / "gone")
    (tmp_path / "folder" / "Questions.csv").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"Questions\.csv: cannot be read \(Is a directory\)\. Point"
    ):
        _load(tmp_path / "folder")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match=r"loop/Questions\.csv: cannot be read \(Too many levels"):
        _load(tmp_path / "loop")
    (tmp_path / "Questions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a UTF-8 CSV"):
        _load(tmp_path)
    _folder(tmp_path, HEADER + FIRST + SECOND)
    (tmp_path / "pairs.jsonl").write_text('{"pair": 1}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl.*Delete the file"):
        _load(tmp_path)
