import time
from dataclasses import replace

import numpy as np
import pytest
from caption_sets import drawn

from imgdiff.core.errors import DataError
from imgdiff.eval.captions import bootstrap
from imgdiff.eval.captions.bootstrap import compare, intervals
from imgdiff.eval.captions.meteor import MeteorStatistics
from imgdiff.eval.captions.statistics import METRICS, corpus_scores, measure
from imgdiff.eval.captions.texts import CaptionSet


def take(captions, order):
    """The items at `order`; an item that occurs twice gets two ids."""
    return CaptionSet(
        ids=tuple(f"{place}:{captions.ids[index]}" for place, index in enumerate(order)),
        hypotheses=tuple(captions.hypotheses[index] for index in order),
        references=tuple(captions.references[index] for index in order),
    )


@pytest.fixture(scope="module")
def captions():
    return drawn(np.random.default_rng(3), 120)


@pytest.fixture(scope="module")
def statistics(captions, meteor):
    return measure(captions, tokenizer="none", meteor=meteor)


@pytest.fixture(scope="module")
def better(captions, meteor):
    """A run on the same items in another order, with a third of the captions replaced by truth."""
    hypotheses = tuple(
        texts[0] if index % 3 == 0 else hypothesis
        for index, (hypothesis, texts) in enumerate(
            zip(captions.hypotheses, captions.references, strict=True)
        )
    )
    run = CaptionSet(
        ids=captions.ids[::-1], hypotheses=hypotheses[::-1], references=captions.references[::-1]
    )
    return measure(run, tokenizer="none", meteor=meteor)


def test_resamples_are_scored_as_sets_of_their_own(captions, statistics, meteor):
    """The sums of a resample give the scores that its captions get when measured anew.

    CIDEr-D is the exception: its IDF stays that of the full set.
    """
    order = sorted(range(len(captions)), key=captions.ids.__getitem__)
    columns = bootstrap._columns(statistics, with_meteor=True)
    sums = next(bootstrap._sums_of_resamples(columns, 3, 7))
    draws = np.random.default_rng(7).integers(0, len(captions), size=(3, len(captions)))
    for index, drawn_rows in enumerate(draws):
        chosen = [order[row] for row in drawn_rows]
        anew = corpus_scores(measure(take(captions, chosen), tokenizer="none", meteor=meteor))
        ours = bootstrap._scores(sums[index : index + 1], len(captions))
        for metric in METRICS[:-1]:
            assert ours[metric] == pytest.approx([anew[metric]], abs=1e-12)
        assert ours["cider_d"] == pytest.approx([statistics.cider_d[chosen].mean()], abs=1e-12)


def test_intervals_hold_the_scores_and_have_the_width_of_theory(statistics):
    found = intervals(statistics)
    scores = corpus_scores(statistics)
    assert list(found) == list(METRICS)
    for metric, interval in found.items():
        assert interval.low < scores[metric] < interval.high
    for metric, items in (("rouge_l", statistics.rouge_l), ("cider_d", statistics.cider_d)):
        half = 1.96 * items.std() / np.sqrt(len(items))
        assert found[metric].low == pytest.approx(items.mean() - half, abs=0.15 * half)
        assert found[metric].high == pytest.approx(items.mean() + half, abs=0.15 * half)


def test_seed_order_and_chunks(statistics, better, monkeypatch):
    assert intervals(statistics) == intervals(statistics)
    assert intervals(statistics, seed=1) != intervals(statistics)
    whole = compare(statistics, better, resamples=50)
    backwards = replace(
        statistics,
        ids=statistics.ids[::-1],
        bleu=statistics.bleu[::-1],
        rouge_l=statistics.rouge_l[::-1],
        cider_d=statistics.cider_d[::-1],
        meteor=MeteorStatistics(
            counts=statistics.meteor.counts[::-1],
            items=statistics.meteor.items[::-1],
            corpus=statistics.meteor.corpus,
        ),
    )
    assert intervals(backwards) == intervals(statistics)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 7 * len(statistics))
    chunked = compare(statistics, better, resamples=50)
    for metric, difference in whole.differences.items():
        other = chunked.differences[metric]
        assert other.interval.low == pytest.approx(difference.interval.low, abs=1e-12)
        assert other.interval.high == pytest.approx(difference.interval.high, abs=1e-12)
        assert other.p == difference.p


def test_a_better_run_is_told_from_noise(statistics, better):
    found = compare(statistics, better, resamples=500)
    assert list(found.differences) == list(METRICS)
    assert found.unavailable == {}
    for metric, difference in found.differences.items():
        assert difference.first == corpus_scores(statistics)[metric]
        assert difference.second == corpus_scores(better)[metric]
        assert difference.value == difference.second - difference.first > 0
        assert difference.interval.low < difference.value < difference.interval.high
        assert not difference.within_noise
        assert difference.p == pytest.approx(2 / 501)


def test_the_same_run_is_within_noise(statistics):
    for difference in compare(statistics, statistics, resamples=100).differences.values():
        assert (difference.value, difference.p, difference.within_noise) == (0, 1, True)
        assert (difference.interval.low, difference.interval.high) == (0, 0)


def test_p_is_symmetric(statistics, better):
    forth = compare(statistics, better, resamples=200).differences["bleu_4"]
    back = compare(better, statistics, resamples=200).differences["bleu_4"]
    assert back.p == forth.p
    assert back.interval.low == pytest.approx(-forth.interval.high, abs=1e-12)


def test_pairing_is_worth_it(statistics, better):
    paired = compare(statistics, better).differences["cider_d"].interval
    one, two = intervals(statistics)["cider_d"], intervals(better)["cider_d"]
    apart = np.hypot(one.high - one.low, two.high - two.low)
    assert paired.high - paired.low < apart


def test_without_meteor_the_others_are_compared(statistics, better):
    found = compare(replace(statistics, meteor=None), better, resamples=10)
    assert list(found.differences) == [metric for metric in METRICS if metric != "meteor"]
    assert found.unavailable["meteor"].startswith("METEOR unavailable: the first run was scored")
    assert "meteor" not in intervals(replace(better, meteor=None), resamples=10)
    neither = compare(replace(statistics, meteor=None), replace(better, meteor=None), resamples=10)
    assert "the first and the second run" in neither.unavailable["meteor"]


def test_runs_that_cannot_be_compared_are_refused(captions, statistics):
    fewer = measure(take(captions, range(100)), tokenizer="none")
    with pytest.raises(DataError, match=r"different items: 120 only in the first, 100 only"):
        compare(statistics, fewer)
    with pytest.raises(DataError, match=r"tokenised differently \(none, python\)"):
        compare(statistics, replace(statistics, tokenizer="python"))
    with pytest.raises(DataError, match="different references"):
        compare(statistics, replace(statistics, reference_set="other"))
    with pytest.raises(ValueError, match="resamples=0"):
        intervals(statistics, resamples=0)


def test_one_item(meteor):
    captions = CaptionSet(ids=("a",), hypotheses=("the dog",), references=(("the dog ran",),))
    statistics = measure(captions, tokenizer="none", meteor=meteor)
    for metric, interval in intervals(statistics, resamples=20).items():
        assert interval.low == interval.high
        assert interval.low == pytest.approx(corpus_scores(statistics)[metric], abs=1e-12)


def test_a_benchmark_of_1270_items_takes_a_moment(statistics):
    repeated = np.arange(1270) % len(statistics)
    large = replace(
        statistics,
        ids=tuple(map(str, range(1270))),
        bleu=statistics.bleu[repeated],
        rouge_l=statistics.rouge_l[repeated],
        cider_d=statistics.cider_d[repeated],
        meteor=replace(
            statistics.meteor,
            counts=statistics.meteor.counts[repeated],
            items=statistics.meteor.items[repeated],
        ),
    )
    start = time.perf_counter()
    assert len(intervals(large)) == len(METRICS)
    assert time.perf_counter() - start < 30  # usually 0.1 s
