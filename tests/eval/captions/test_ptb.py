import pytest

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions.ptb import tokenize
from imgdiff.eval.captions.scorers import package_folder

# What pycocoevalcap 1.2 gives for each text.
TOKENS = [
    ("The man isn't there anymore.", "the man is n't there anymore"),
    ("the dog's tail (left)", "the dog 's tail -lrb- left -rrb-"),
    ('She says "stop", then -- goes; on: why?', "she says stop then goes on why"),
    ("Add text: 'A B'!", "add text a b"),
    ("can't cannot gonna", "ca n't can not gon na"),
    ("caf\u00e9 \U0001f600 \u4e2d\u6587", "caf\u00e9 \u4e2d\u6587"),
    ("1 1/2 cups, 1,000 $5", "1\u00a01/2 cups 1,000 $ 5"),
    ("a ||| b", "a | | | b"),
    ("", ""),
    ("  \t ", ""),
    ("...", ""),
]


def test_known_tokens(java):
    texts, tokens = zip(*TOKENS, strict=True)
    assert tokenize(texts, java=java) == [list(tokens)]


def test_line_breaks_do_not_shift_captions(java):
    """pycocoevalcap gives `a`, `b`, `second` here and loses the last caption."""
    breaks = ["\r", "\r\n", "\x0b", "\x0c", "\u2028", "\u2029", "\x85", "\0", "\x1e", "\ud83d"]
    texts = [text for sign in breaks for text in (f"a{sign}b", "second")]
    assert tokenize([*texts, "third"], java=java) == [["a b", "second"] * len(breaks) + ["third"]]


@pytest.mark.parametrize(
    "texts",
    [
        ["", "a"],
        ["a", ""],
        ["", "", ""],
        [""],
        ["a", " ", ""],
        ["\n", "\r"],
        ["\U0001f600"],
        ["word " * 5000],
    ],
)
def test_as_many_lines_as_texts(texts, java):
    (tokens,) = tokenize(texts, java=java)
    assert tokens == [" ".join(text.encode("ascii", "ignore").decode().split()) for text in texts]


def test_groups_do_not_see_each_other(java):
    """At the end of an abbreviation the tokenizer looks at the next line of the same file."""
    together = tokenize(["He left the U.S.", "The end"], java=java)
    apart = tokenize(["He left the U.S."], [], ["The end"], java=java)
    assert together == [["he left the u.s.", "the end"]]
    assert apart == [["he left the u.s."], [], ["the end"]]


def test_a_machine_with_other_habits(java, monkeypatch):
    """No UTF-8, another language, options of the user's own; `Picked up ...` goes to stderr."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=tr -Dfile.encoding=ISO-8859-1 -Xms2G")
    monkeypatch.setenv("_JAVA_OPTIONS", "-Xmx3M -Duser.language=tr")
    # A Turkish lower case of I would have no dot.
    assert tokenize(["IT IS \u00c9TEINT"], java=java) == [["it is \u00e9teint"]]


def test_a_java_that_fails_is_an_error(tmp_path):
    path = tmp_path / "java"
    path.write_text("#!/bin/sh\necho 'Error: no such class' >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(BackendError, match=r"PTB tokenizer failed: exit status 1.*no such class"):
        tokenize(["a"], java=path)
    path.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(BackendError, match=r"wrote no readable tokens.*Nothing was scored"):
        tokenize(["a"], java=path)
    path.write_text("#!/bin/sh\necho 'a\nb' > 0.tok\n")
    with pytest.raises(BackendError, match=r"3 lines for 2 captions.*shifted"):
        tokenize(["a", "b"], java=path)
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(BackendError, match=r"no answer within 0.3 s"):
        tokenize(["a"], java=path, timeout_s=0.3)
    with pytest.raises(BackendError, match=r"cannot be started"):
        tokenize(["a"], java=tmp_path / "none")


def test_nothing_is_written_into_the_package(java):
    """Also no file that is removed again: that would change the time of its folder."""
    places = [path for path in package_folder().rglob("*") if "__pycache__" not in path.parts]
    before = {path: path.stat().st_mtime_ns for path in places}
    tokenize(["a", "b"], ["c"], java=java)
    after = [path for path in package_folder().rglob("*") if "__pycache__" not in path.parts]
    assert {path: path.stat().st_mtime_ns for path in after} == before
