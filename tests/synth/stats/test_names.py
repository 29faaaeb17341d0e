"""Names of objects in captions and descriptions, and lists of names."""

from collections import Counter

import pytest

from imgdiff.core.errors import DataError
from imgdiff.synth.stats.names import (
    NameCounts,
    coverage,
    first_name,
    name_list,
    names_in,
    ranking,
    read_names,
    replaced_names,
    same_name,
)


@pytest.mark.parametrize(
    ("nouns", "caption", "names"),
    [
        (["dog"], "A red dog.", ["dog"]),
        (["stop", "sign"], "A red stop sign.", ["stop sign"]),
        (["dog", "cat"], "A dog beside a cat.", ["dog", "cat"]),
        (["fire", "hydrant", "bus"], "A fire hydrant by a bus!", ["fire hydrant", "bus"]),
        (["dog", "dog"], "A dog and a dog.", ["dog"]),
        (["hot", "dog"], "Two hot dogs.", ["hot dog"]),
        ([], "Nothing.", []),
        (["dog"], "", ["dog"]),
    ],
)
def test_nouns_that_stand_together_are_one_name(nouns, caption, names):
    assert names_in(nouns, caption) == names


def test_names_are_found_where_the_run_did_not_look():
    captions = ("A dog on a mat.", "A cat on a mat.")
    assert replaced_names(captions, (None, None)) == (["dog"], ["cat"])
    assert replaced_names(captions, (["horse"], [])) == (["horse"], [])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red dog.", "dog"), ("Two small dogs on grass", "dog"), ("an orange hat", "hat"),
        ("A man's umbrella", "umbrella"), ("", None), ("Something blurred.", None),
        ("\x00\ud800", None),
    ],
)  # fmt: skip
def test_the_first_object_of_a_description(text, name):
    assert first_name(text) == name


def test_counts_of_names_and_of_what_replaced_what():
    counts = NameCounts(key="k", title="t")
    for sides in (["dog"], ["cat"]), (["dog"], ["cat"]), (["dog", "hat"], ["cat"]), ([], ["bus"]):
        counts.add(*sides)
    assert counts.by_side == (Counter(dog=3, hat=1), Counter(cat=3, bus=1))
    assert counts.pairs == Counter({"dog \u2192 cat": 2})
    assert (counts.looked_at, counts.several, counts.unnamed) == (4, 1, 1)
    held = ranking(counts.both())
    assert (held.total, held.distinct) == (8, 4)
    assert held.top == (("cat", 3), ("dog", 3), ("bus", 1), ("hat", 1))
    assert held.covered == ((10, 8), (30, 8), (100, 8))


def test_coverage_by_a_list_whatever_its_spelling():
    counts = NameCounts(key="k", title="t", sides=("object",))
    for name in ("dog", "dog", "fire hydrant", "unicorn", "shelf"):
        counts.add([name])
    listed = name_list("list", ["Dogs", "Fire_Hydrant", "Cabinet/shelf", "zebra", "", "  "])
    assert len(listed.names) == 5
    held = coverage(listed, counts)
    assert (held.total, held.covered, held.occurring) == (5, 4, 3)
    assert held.missed == (("unicorn", 1),)


@pytest.mark.parametrize(
    ("name", "form"), [("Dogs", "dog"), ("wine_glass", "wine glass"), ("T-shirt", "t shirt")]
)
def test_names_are_compared_in_one_form(name, form):
    assert same_name(name) == form


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no name"),
        (b"\n \n\t\n", "holds no name"),
        (b"...\n", "holds no name"),
        (b"dog\n\xff\xfe\n", "not UTF-8 text at byte 4"),
        (None, "no such file"),
        ("folder", "cannot be read"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "names.txt"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_names(path)


def test_a_list_of_windows_with_a_mark_at_its_start(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffdog\r\ncat\r\n".encode())
    assert read_names(path).names == frozenset({"dog", "cat"})
