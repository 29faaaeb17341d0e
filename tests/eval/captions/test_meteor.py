import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from caption_sets import NLG_EVAL, drawn

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions.meteor import Meteor, question, score_sums, summable
from imgdiff.eval.captions.scorers import package_folder


def score(meteor, hypothesis, *references):
    return meteor.score([hypothesis], [list(references)])


@pytest.mark.parametrize(
    ("hypothesis", "references", "expected"),
    [
        ("this is a good test", ("this is a test", "this is also a test"), 0.444344),
        (
            "Le test est en fran\u00e7ais.",
            ("Test en fran\u00e7ais.", "Le test en fran\u00e7ais."),
            0.483724,
        ),
    ],
)
def test_examples_that_nlg_eval_publishes(hypothesis, references, expected, meteor):
    found = score(meteor, hypothesis, *references)
    assert found.corpus == pytest.approx(expected, abs=5e-7)
    assert found.items.tolist() == [found.corpus]


@pytest.mark.parametrize(
    ("hypothesis", "references", "expected"),
    [
        ("the man in the red shirt", ("the man in the red shirt",), 1.0),
        ("", ("a dog",), 0.0),
        ("a dog", ("",), 0.0),
        ("", ("",), 0.0),
        ("a dog", ("a dog", ""), 1.0),
        ("x", ("a",), 0.0),
        ("a dog ||| a dog", ("a dog a dog",), 1.0),  # the separator inside a text is removed
        ("a dog", ("a ||| dog",), 1.0),
        ("a\rdog\u2028", ("a\x0bdog",), 1.0),
        ("SCORE ||| EVAL", ("score eval",), 1.0),
    ],
)
def test_odd_captions(hypothesis, references, expected, meteor):
    assert score(meteor, hypothesis, *references).corpus == expected


def test_a_caption_of_5000_words(meteor):
    found = score(meteor, "the man is gone " * 1250, "the man is gone")
    assert found.counts[0, :2].tolist() == [5000, 4]
    assert 0 < found.corpus < 0.05


def test_the_corpus_score_in_numpy_is_that_of_the_jar(meteor):
    sets = [NLG_EVAL, *(drawn(np.random.default_rng(seed), 40) for seed in range(6))]
    for captions in sets:
        found = meteor.score(captions.hypotheses, captions.references)
        counts = summable(found.counts)
        assert score_sums(counts.sum(axis=0)[None]) == pytest.approx([found.corpus], abs=1e-12)
        assert score_sums(counts) == pytest.approx(found.items, abs=1e-12)


def test_a_perfect_caption_adds_no_chunk(meteor):
    """Why sums of the printed counts miss the corpus score that METEOR prints."""
    found = meteor.score(
        ["the man in the red shirt", "the dogs have left here"],
        [["the man in the red shirt"], ["the dog is gone"]],
    )
    assert found.counts[:, 20].tolist() == [1, 1]
    assert summable(found.counts)[:, 20].tolist() == [0, 1]
    assert found.corpus == pytest.approx(0.43723153428696093, abs=1e-15)
    naive = score_sums(found.counts.sum(axis=0)[None])
    assert naive == pytest.approx([0.39463170878698445], abs=1e-12)


def test_the_question_of_an_item():
    assert question("a  b", ["c", ""]) == "SCORE ||| c |||  ||| a  b"
    assert question("a ||| b", ["c\nd"]) == "SCORE ||| c d ||| a b"


def test_no_captions_are_refused(meteor):
    with pytest.raises(ValueError, match="no captions"):
        meteor.score([], [])


def test_a_decimal_comma_and_a_kill_in_the_middle(java, meteor, monkeypatch):
    """One start for both: a German machine scores the same; then Java dies while it scores."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE -Xms2G")
    monkeypatch.setenv("_JAVA_OPTIONS", "-Duser.language=de -Xmx3G")
    captions = drawn(np.random.default_rng(0), 20)
    places = [path for path in package_folder().rglob("*") if "__pycache__" not in path.parts]
    before = {path: path.stat().st_mtime_ns for path in places}
    with Meteor(java) as german:
        found = german.score(captions.hypotheses, captions.references)
        expected = meteor.score(captions.hypotheses, captions.references)
        assert found.corpus == expected.corpus
        assert found.counts.tolist() == expected.counts.tolist()
        assert command_line(german.pid).count("-Xmx1G") == 1
        killer = threading.Timer(0.3, os.kill, (german.pid, signal.SIGKILL))
        killer.start()
        start = time.monotonic()
        with pytest.raises(BackendError, match=r"METEOR does not answer.*Nothing was scored"):
            german.score(["the man is gone"] * 200_000, [["the woman is gone"]] * 200_000)
        killer.join()
        with pytest.raises(BackendError, match="METEOR does not answer"):
            german.score(["a"], [["a"]])
    assert time.monotonic() - start < 30
    assert {path: path.stat().st_mtime_ns for path in places} == before


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")
    except OSError:
        pytest.skip("no /proc on this machine")


def test_java_killed_while_it_starts(java):
    with Meteor(java) as starting:
        os.kill(starting.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="METEOR does not answer"):
            starting.score(["a"], [["a"]])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Error: Could not find or load main class' >&2; exit 1", r"Could not find or load"),
        ("while read line; do echo 'I am no METEOR'; done", r"answered 'I am no METEOR' where 23"),
        ("while read line; do echo '1,0 2,0'; done", r"answered '1,0 2,0' where 23 numbers"),
        ("exec sleep 60", r"no answer within 0.5 s"),
        ("cat > /dev/null", r"no answer within 0.5 s"),
    ],
)
def test_a_java_that_is_no_java(script, message, tmp_path):
    path = tmp_path / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with Meteor(path, timeout_s=0.5) as meteor, pytest.raises(BackendError, match=message):
        meteor.score(["a"], [["a"]])
