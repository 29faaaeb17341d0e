import itertools
import time

import numpy as np
import pytest
from caption_sets import NLG_EVAL, drawn

from imgdiff.core.errors import DataError
from imgdiff.eval.captions.scorers import (
    bleu_counts,
    bleu_scores,
    cider_d_items,
    lcs_length,
    package_folder,
    rouge_l_items,
)
from imgdiff.eval.captions.texts import CaptionSet

SETS = [NLG_EVAL, *(drawn(np.random.default_rng(seed), 30) for seed in range(5))]


def for_pycocoevalcap(captions):
    return (
        dict(zip(captions.ids, map(list, captions.references), strict=True)),
        {id_: [text] for id_, text in zip(captions.ids, captions.hypotheses, strict=True)},
    )


@pytest.mark.parametrize("captions", SETS)
def test_bleu_is_that_of_pycocoevalcap(captions):
    from pycocoevalcap.bleu.bleu import Bleu

    theirs, their_items = Bleu(4).compute_score(*for_pycocoevalcap(captions), verbose=0)
    ours, items = bleu_scores(bleu_counts(captions.hypotheses, captions.references))
    assert ours == theirs
    assert items.tolist() == their_items


@pytest.mark.parametrize("captions", SETS)
def test_rouge_l_is_that_of_pycocoevalcap(captions):
    from pycocoevalcap.rouge.rouge import Rouge

    _, theirs = Rouge().compute_score(*for_pycocoevalcap(captions))
    assert rouge_l_items(captions.hypotheses, captions.references).tolist() == theirs.tolist()


@pytest.mark.parametrize("captions", SETS)
def test_cider_d_is_that_of_pycocoevalcap(captions):
    from pycocoevalcap.cider.cider import Cider

    _, theirs = Cider().compute_score(*for_pycocoevalcap(captions))
    assert cider_d_items(captions.hypotheses, captions.references).tolist() == theirs.tolist()


def sacrebleu_scores(captions):
    """BLEU-1..4 of sacrebleu on tokens. An item without a k-th reference has None there."""
    import sacrebleu

    streams = [list(texts) for texts in itertools.zip_longest(*captions.references)]
    return [
        sacrebleu.BLEU(
            tokenize="none", force=True, smooth_method="none", max_ngram_order=order
        ).corpus_score(list(captions.hypotheses), streams)
        for order in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_bleu_is_that_of_sacrebleu(seed):
    """Counts of references differ, and two references may be equally close in length."""
    captions = drawn(np.random.default_rng(100 + seed), 60)
    counts = bleu_counts(captions.hypotheses, captions.references)
    ours, _ = bleu_scores(counts)
    theirs = sacrebleu_scores(captions)
    assert ours == pytest.approx([score.score / 100 for score in theirs], abs=1e-6)
    assert counts.sum(axis=0)[:2].tolist() == [theirs[3].sys_len, theirs[3].ref_len]
    assert counts.sum(axis=0)[2:6].tolist() == theirs[3].totals
    assert counts.sum(axis=0)[6:].tolist() == theirs[3].counts


def test_without_a_right_run_of_four_tokens_pycocoevalcap_gives_nearly_zero():
    captions = CaptionSet(ids=("a",), hypotheses=("a b c d e",), references=(("a b c x y",),))
    ours, _ = bleu_scores(bleu_counts(captions.hypotheses, captions.references))
    theirs = [score.score / 100 for score in sacrebleu_scores(captions)]
    assert ours[:3] == pytest.approx(theirs[:3], abs=1e-6)
    assert theirs[3] == 0
    assert 0 < ours[3] < 1e-3


def test_of_two_equally_close_references_the_shorter_counts():
    counts = bleu_counts(["a b c"], [["a b c d", "a b", "a b c d e"]])
    assert counts.tolist() == [[3, 2, 3, 2, 1, 0, 3, 2, 1, 0]]


def test_counts_of_an_empty_caption():
    counts = bleu_counts([""], [["a b", ""]])
    assert counts.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("hypothesis", "references", "score"),
    [
        ("a b c", ["a b c"], 1.0),
        ("", [""], 1.0),  # as pycocoevalcap
        ("", ["a"], 0.0),
        ("a", [""], 0.0),
        ("x y", ["a b"], 0.0),
        # precision 1 from the first reference, recall 1/2 from both: F with beta 1.2
        ("a b", ["a b c d", "b a x y"], 2.44 * 0.5 / (0.5 + 1.44)),
    ],
)
def test_rouge_l_of_known_texts(hypothesis, references, score):
    assert rouge_l_items([hypothesis], [references]) == pytest.approx([score], abs=1e-12)


def lcs_by_table(left, right):
    rows = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, a in enumerate(left, 1):
        for j, b in enumerate(right, 1):
            rows[i, j] = rows[i - 1, j - 1] + 1 if a == b else max(rows[i - 1, j], rows[i, j - 1])
    return int(rows[-1, -1])


def test_lcs_against_the_classic_table():
    rng = np.random.default_rng(0)
    for _ in range(300):
        left, right = ([*rng.choice(list("abcd"), rng.integers(0, 90))] for _ in range(2))
        assert lcs_length(left, right) == lcs_by_table(left, right)


def test_lcs_of_long_texts_is_quick():
    left = ["the", "dog", "is", "gone"] * 2500
    start = time.perf_counter()
    assert lcs_length(left, left[:-1]) == len(left) - 1
    assert time.perf_counter() - start < 5


def test_cider_d_of_one_item_is_zero():
    assert cider_d_items(["a b c d"], [["a b c d"]]).tolist() == [0.0]


def test_references_without_a_token_are_refused():
    with pytest.raises(DataError, match="no reference holds a single token"):
        cider_d_items(["a", "b"], [["", " "], [""]])


def test_the_package_holds_the_jars():
    assert (package_folder() / "meteor" / "meteor-1.5.jar").is_file()
    assert (package_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar").is_file()
