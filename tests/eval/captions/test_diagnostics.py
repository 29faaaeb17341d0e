import pytest

from imgdiff.eval.captions.diagnostics import (
    FrequentCaption,
    constant_baseline,
    diagnose,
    most_frequent,
)
from imgdiff.eval.captions.statistics import corpus_scores, measure
from imgdiff.eval.captions.texts import CaptionSet

CAPTIONS = CaptionSet(
    ids=("1", "2", "3", "4", "5"),
    hypotheses=("the car left", "a dog", "the car left", "", " "),
    references=(
        ("a man walks", "the car left the lot"),
        ("a man walks",),
        ("the car left the lot", ""),
        ("nothing", ""),
        ("", ""),
    ),
)


def test_known_diagnostics():
    statistics = measure(CAPTIONS, tokenizer="none")
    found = diagnose(CAPTIONS, statistics)
    assert found.distinct == 4
    assert found.most_frequent == (
        FrequentCaption(text="the car left", count=2),
        FrequentCaption(text="", count=1),
        FrequentCaption(text=" ", count=1),
        FrequentCaption(text="a dog", count=1),
    )
    assert found.empty == 2
    assert found.mean_length == (3 + 2 + 3) / 5
    assert found.mean_reference_length == (3 + 3 + 5 + 0 + 0) / 5
    assert found.length_ratio == pytest.approx(8 / 11)


def test_the_constant_caption_is_the_most_frequent_reference():
    """Empty references are more frequent, and two others are equally so: the first by alphabet."""
    found = constant_baseline(CAPTIONS, tokenizer="none")
    assert found.caption == "a man walks"
    constant = CaptionSet(
        ids=CAPTIONS.ids, hypotheses=("a man walks",) * 5, references=CAPTIONS.references
    )
    assert found.scores == corpus_scores(measure(constant, tokenizer="none"))
    assert found.scores["meteor"] is None


def test_the_constant_caption_has_a_meteor(meteor):
    found = constant_baseline(CAPTIONS, tokenizer="none", meteor=meteor)
    assert 0 < found.scores["meteor"] < 1


def test_ties_are_broken_by_alphabet():
    assert most_frequent(["b", "a", "c", "c", "b", "a"], 2) == (
        FrequentCaption(text="a", count=2),
        FrequentCaption(text="b", count=2),
    )
    assert most_frequent([], 3) == ()


def test_a_length_ratio_without_reference_tokens():
    captions = CaptionSet(ids=("1", "2"), hypotheses=("", ""), references=(("", "a"), ("",)))
    assert measure(captions, tokenizer="none").length_ratio is None
