import pytest

from imgdiff.core.errors import DataError
from imgdiff.eval.captions.texts import CaptionSet, one_line


@pytest.mark.parametrize(
    "sign",
    [
        "\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x1d",
        "\x1e",
        "\x85",
        "\u2028",
        "\u2029",
        "\0",
        "\ud83d",
    ],
)
def test_every_line_break_becomes_a_blank(sign):
    assert one_line(f"a{sign}b") == "a b"


@pytest.mark.parametrize(
    "text", ["", " ", "  a  b ", "tab\tnbsp\u00a0", "caf\u00e9 \U0001f600", "'\"|||"]
)
def test_other_texts_stay_as_they_are(text):
    assert one_line(text) == text


def test_both_halves_of_a_broken_emoji_are_dropped():
    assert one_line("a \ud83d\ude00 b").encode("utf-8") == b"a    b"


@pytest.mark.parametrize(
    ("ids", "hypotheses", "references", "message"),
    [
        ((), (), (), r"the set is empty"),
        (("a", "b", "a"), ("x",) * 3, (("y",),) * 3, r"item a: its id occurs 2 times"),
        (("a", "b"), ("x",) * 2, (("y",), ()), r"item b: no references"),
        (("a", "b"), ("x",), (("y",), ("z",)), r"2 ids, 1 hypotheses and 2 lists of references"),
    ],
)
def test_a_bad_set_is_refused(ids, hypotheses, references, message):
    with pytest.raises(DataError, match=message):
        CaptionSet(ids=ids, hypotheses=hypotheses, references=references)


def test_empty_texts_are_kept():
    captions = CaptionSet(ids=("a",), hypotheses=("",), references=(("", " "),))
    assert len(captions) == 1
    assert captions.references == (("", " "),)
