import numpy as np
import pytest
from caption_sets import NLG_EVAL, NLG_EVAL_SCORES, drawn

from imgdiff.core.errors import DataError, StoreError
from imgdiff.eval.captions.statistics import (
    METRICS,
    corpus_scores,
    item_scores,
    load_statistics,
    measure,
    reference_set,
    save_statistics,
)
from imgdiff.eval.captions.texts import CaptionSet


def test_the_example_of_nlg_eval(meteor):
    scores = corpus_scores(measure(NLG_EVAL, tokenizer="none", meteor=meteor))
    assert tuple(scores) == METRICS
    assert scores == pytest.approx(NLG_EVAL_SCORES, abs=5e-7)


def test_the_french_example_of_nlg_eval(meteor):
    captions = CaptionSet(
        ids=("fr",),
        hypotheses=("Le test est en fran\u00e7ais.",),
        references=(("Test en fran\u00e7ais.", "Le test en fran\u00e7ais."),),
    )
    scores = corpus_scores(measure(captions, tokenizer="none", meteor=meteor))
    assert scores["meteor"] == pytest.approx(0.483724, abs=5e-7)
    assert scores["rouge_l"] == pytest.approx(0.907063, abs=5e-7)
    assert scores["cider_d"] == 0  # the IDF of one item is zero


def test_one_item_of_nlg_eval():
    captions = CaptionSet(
        ids=("1",),
        hypotheses=("this is a good test",),
        references=(("this is a test", "this is also a test"),),
    )
    statistics = measure(captions, tokenizer="none")
    scores = corpus_scores(statistics)
    assert [scores[f"bleu_{order}"] for order in (1, 2, 3)] == pytest.approx(
        [0.8, 0.632456, 0.510873], abs=5e-7
    )
    assert scores["bleu_4"] == pytest.approx(0.0000904, abs=5e-8)
    assert scores["meteor"] is None
    assert "meteor" not in item_scores(statistics)


def test_published_counts_of_coco_give_the_published_bleu():
    """The notebook of tylin/coco-caption prints the counts of 1,000 captions and their BLEU."""
    statistics = measure(NLG_EVAL, tokenizer="none")
    counts = [9893, 9855, 9893, 8893, 7893, 6893, 5732, 2510, 1043, 423]
    statistics.bleu[:] = [counts, [0] * 10]
    scores = corpus_scores(statistics)
    assert [scores[f"bleu_{order}"] for order in (1, 2, 3, 4)] == pytest.approx(
        [0.579399575, 0.404391297, 0.278536386, 0.190829044], abs=1e-9
    )


def test_scores_of_items(meteor):
    statistics = measure(NLG_EVAL, tokenizer="none", meteor=meteor)
    scores = item_scores(statistics)
    assert list(scores) == ["bleu_4", "meteor", "rouge_l", "cider_d"]
    assert scores["cider_d"].mean() == pytest.approx(1.242192, abs=5e-7)
    assert scores["rouge_l"].mean() == pytest.approx(0.522104, abs=5e-7)
    alone = [
        CaptionSet(ids=(i,), hypotheses=(h,), references=(r,))
        for i, h, r in zip(NLG_EVAL.ids, NLG_EVAL.hypotheses, NLG_EVAL.references, strict=True)
    ]
    by_item = [corpus_scores(measure(one, tokenizer="none", meteor=meteor)) for one in alone]
    for metric in ("bleu_4", "meteor", "rouge_l"):
        assert scores[metric].tolist() == [one[metric] for one in by_item]


@pytest.mark.parametrize("with_meteor", [True, False])
def test_statistics_come_back_from_a_file(with_meteor, meteor, tmp_path):
    captions = drawn(np.random.default_rng(1), 25, prefix="caf\u00e9/\U0001f600\0 ")
    before = measure(captions, tokenizer="none", meteor=meteor if with_meteor else None)
    path = tmp_path / "new" / "statistics.npz"
    save_statistics(path, before)
    after = load_statistics(path)
    assert after.ids == captions.ids
    assert (after.tokenizer, after.reference_set) == (before.tokenizer, before.reference_set)
    assert corpus_scores(after) == corpus_scores(before)
    assert (corpus_scores(after)["meteor"] is None) is not with_meteor
    for metric, scores in item_scores(before).items():
        assert item_scores(after)[metric].tolist() == scores.tolist()
    assert [entry.name for entry in path.parent.iterdir()] == ["statistics.npz"]


def test_a_missing_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "statistics.npz"
    with pytest.raises(DataError, match=r"statistics\.npz: no such file"):
        load_statistics(path)
    save_statistics(path, measure(NLG_EVAL, tokenizer="none"))
    whole = path.read_bytes()
    damaged = [
        b"",
        b"not a zip",
        whole[: len(whole) // 2],
        whole[:60] + b"xxxx" + whole[64:],
        whole.replace(b"bleu.npy", b"blue.npy"),
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"statistics\.npz: not a file of caption statistics"):
            load_statistics(path)
    np.savez(path, header=np.frombuffer(b'{"format": 99}', dtype=np.uint8))
    with pytest.raises(DataError, match="format 99, this version reads 1"):
        load_statistics(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="could not be written"):
        save_statistics(tmp_path / "file" / "s.npz", measure(NLG_EVAL, tokenizer="none"))


def test_the_reference_set_depends_on_texts_not_on_order():
    same = CaptionSet(
        ids=NLG_EVAL.ids[::-1],
        hypotheses=("other", "words"),
        references=NLG_EVAL.references[::-1],
    )
    swapped = CaptionSet(
        ids=NLG_EVAL.ids, hypotheses=NLG_EVAL.hypotheses, references=NLG_EVAL.references[::-1]
    )
    assert reference_set(same) == reference_set(NLG_EVAL)
    assert reference_set(swapped) != reference_set(NLG_EVAL)
