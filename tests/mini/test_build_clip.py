"""The recipe of the mini CLIP and BLIP: tokenizers, texts, views, losses, and a whole quick run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertTokenizer, CLIPTokenizer

from imgdiff.core.files import read_json
from imgdiff.core.geometry import Box
from imgdiff.mini.build import blip, blip_data, clip, clip_data
from imgdiff.mini.build.__main__ import main, parser, run
from imgdiff.mini.build.drawn import DrawnScenes, sampled
from imgdiff.mini.build.evaluate import auroc
from imgdiff.mini.build.phrases import caption_and_edit, edited, falsified, spoken, true_of
from imgdiff.mini.build.tokenizers import bert_tokenizer, clip_tokenizer, words
from imgdiff.mini.build.views import (
    ground_box,
    neighbour_box,
    object_box,
    recoloured,
    shot,
    squashed,
    whole,
)
from imgdiff.mini.language import NounPhrase, describe, parse_caption
from imgdiff.mini.scene import Split
from imgdiff.mini.shapes import CATEGORIES

NASTY = ["", " ", "x" * 500, "Zürich 🚲 東京 \x00\t\n", "don't, 12.5%!", "<|endoftext|> [CLS]"]


@pytest.fixture(scope="module")
def drawn() -> DrawnScenes:
    return sampled(Split.train, 24)


@pytest.mark.parametrize(
    ("build", "kind"), [(clip_tokenizer, CLIPTokenizer), (bert_tokenizer, BertTokenizer)]
)
def test_tokenizers_survive_a_round_trip(build, kind, tmp_path: Path, drawn: DrawnScenes) -> None:
    made = build()
    made.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.model_max_length == made.model_max_length
    rng = np.random.default_rng(0)
    for text in [*NASTY, *(describe(scene, rng) for scene in drawn.scenes)]:
        ids = made(text, truncation=True)["input_ids"]
        assert ids == loaded(text, truncation=True)["input_ids"]
        assert all(0 <= index < len(made) for index in ids)
        assert len(ids) <= made.model_max_length


@pytest.mark.parametrize("build", [clip_tokenizer, bert_tokenizer])
def test_a_known_word_is_one_token(build) -> None:
    tokenizer = build()
    for word in words():
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
    text = "a small red apple to the left of an umbrella."
    decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert decoded.replace(" .", ".") == text


def test_the_last_token_of_clip_ends_a_text() -> None:
    """CLIP's text model reads the state at the first end token, which is also the padding."""
    tokenizer = clip_tokenizer()
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1
    ids = tokenizer("apple", padding="max_length")["input_ids"]
    assert len(ids) == 77
    assert ids[2:] == [tokenizer.eos_token_id] * 75


def test_edits_are_false_and_worded_alike(drawn: DrawnScenes) -> None:
    rng = np.random.default_rng(0)
    for scene in drawn.scenes:
        caption, edit = caption_and_edit(scene, rng)
        assert len(parse_caption(caption).objects) == len(parse_caption(edit).objects)
        assert edited(scene, rng) != scene


def test_falsified_phrases_are_false(drawn: DrawnScenes) -> None:
    rng = np.random.default_rng(0)
    for scene in drawn.scenes:
        for item in scene.objects:
            said = spoken(item, rng)
            assert true_of(said, item, scene.ground)
            assert not true_of(falsified(said, rng), item, scene.ground)
            assert not true_of(scene.ground, item, scene.ground)
    assert true_of("plain", None, "plain")


def test_boxes_hold_what_they_promise(drawn: DrawnScenes) -> None:
    rng = np.random.default_rng(0)
    for index in range(len(drawn)):
        source = shot(drawn, index)
        for k in range(len(source.scene.objects)):
            assert source.shares(source.box(k))[k] == 1.0
            assert source.shares(object_box(source, k, rng))[k] > 0.8
            beside = neighbour_box(source, k, rng)
            assert beside.clipped_to(128, 128) == beside
        empty = ground_box(source, rng)
        if empty is not None:
            assert max(source.shares(empty)) < 0.1


def test_labels_follow_the_pixels(drawn: DrawnScenes) -> None:
    source = shot(drawn, 0)
    labels = clip_data.labels_of([whole(source)])
    seen = set(labels.category_BP[0].tolist()) - {0, clip_data.IGNORED}
    assert seen == {clip_data.CATEGORY_IDS[item.category] for item in source.scene.objects}
    assert set(labels.ground_BP[0].tolist()) - {clip_data.IGNORED} == {
        clip_data.GROUNDS.index(source.scene.ground)
    }
    box = source.box(0)
    close = clip_data.labels_of([squashed(source, box)]).category_BP[0]
    own = clip_data.CATEGORY_IDS[source.scene.objects[0].category]
    assert (close == own).mean() > 0.4


def test_truth_of_views(drawn: DrawnScenes) -> None:
    source = next(shot(drawn, k) for k in range(len(drawn)) if len(drawn.scenes[k].objects) == 2)
    first, second = source.scene.objects
    box = source.box(0)
    half = dataclasses.replace(box, right=box.left + 0.4 * box.width)
    corner = Box(left=box.left, top=box.top, right=box.left + 3, bottom=box.top + 3)
    views = [whole(source), squashed(source, box), squashed(source, half), squashed(source, corner)]
    said = [
        NounPhrase(category=first.category),
        NounPhrase(category=second.category),
        NounPhrase(category=first.category, colour="no such colour"),
    ]
    truth = blip_data.truth_of(views, said)
    assert truth[0].tolist() == [1, 1, 0]
    assert truth[1].tolist() == [1, 0, 0]
    assert truth[2, 0] in (blip_data.UNSURE, blip_data.TRUE)
    assert truth[3, 0] == blip_data.FALSE


def test_batches_depend_on_seed_and_step_alone(drawn: DrawnScenes) -> None:
    for module in (clip_data, blip_data):
        one, same, other = (module.draw_batch(drawn, k, module.Plan()) for k in (5, 5, 6))
        assert np.array_equal(one.pixels_BSS3, same.pixels_BSS3)
        assert not np.array_equal(one.pixels_BSS3, other.pixels_BSS3)
    assert one.texts == same.texts


def test_a_recoloured_view_says_nothing_of_colours(drawn: DrawnScenes) -> None:
    source = shot(drawn, 0)
    view = recoloured(squashed(source, source.box(0)), np.random.default_rng(0))
    labels = clip_data.labels_of([view])
    assert set(labels.colour_BP[0].tolist()) == {clip_data.IGNORED}
    item = source.scene.objects[0]
    assert clip_data.CATEGORY_IDS[item.category] in labels.category_BP[0]
    said = [
        NounPhrase(category=item.category),
        NounPhrase(category=item.category, colour=item.colour),
        NounPhrase(category="cat" if item.category != "cat" else "dog", colour=item.colour),
    ]
    assert blip_data.truth_of([view], said)[0].tolist() == [1, -1, 0]


def test_names_of_a_crop_are_those_it_shows(drawn: DrawnScenes) -> None:
    source = shot(drawn, 1)
    names = clip_data.names_of([whole(source), squashed(source, source.box(0))])
    shown = [{list(CATEGORIES)[k] for k in np.flatnonzero(row == 1)} for row in names]
    assert shown[0] == {item.category for item in source.scene.objects}
    assert shown[1] == {source.scene.objects[0].category}


def test_naming_leaves_unsure_categories_out() -> None:
    logits = torch.tensor([[5.0, 0.0, 9.0]])
    assert clip.naming_loss(logits, np.array([[1, 0, -1]], dtype=np.int8)) < 0.01
    assert clip.naming_loss(logits, np.array([[1, 0, 0]], dtype=np.int8)) > 3.9


def test_contrast_leaves_other_true_pairs_out() -> None:
    logits = torch.tensor([[5.0, 5.0, 0.0], [0.0, 5.0, 0.0]])
    own = np.eye(2, 3, dtype=np.bool_)
    also = own.copy()
    also[0, 1] = True
    assert clip.contrast(logits, also) < 0.02 < clip.contrast(logits, own)


def test_each_view_counts_alike_in_the_patch_loss() -> None:
    """One view with two object patches of four, one without any, one without labels."""
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = np.array([[1, 2, 0, 0], [0, 0, 0, clip_data.IGNORED], [clip_data.IGNORED] * 4])
    entropy = torch.nn.functional.cross_entropy
    filled = entropy(logits[0, :2], torch.tensor([1, 2]))
    empty = [
        entropy(logits[0, 2:], torch.zeros(2).long()),
        entropy(logits[1, :3], torch.zeros(3).long()),
    ]
    wanted = filled + 0.3 * sum(empty) / 2
    assert clip.patch_loss(logits, labels, 0.3).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_presence_is_decided_at_the_published_threshold() -> None:
    truth = np.array([[1, 0, -1]], dtype=np.int8)
    right = blip.presence_loss(torch.tensor([[4.0, -4.0, 9.0]]), truth)
    wrong = blip.presence_loss(torch.tensor([[-4.0, 4.0, 9.0]]), truth)
    assert right < 0.05 < 4 < wrong


def test_hard_pairs_prefer_the_confusing_text() -> None:
    cosines = np.array([[0.9, 0.8, -0.5, -0.5]], dtype=np.float32)
    truth = np.array([[1, 0, 0, 0]], dtype=np.int8)
    picked = [blip.hard_pairs(cosines, truth, np.random.default_rng(k)) for k in range(20)]
    assert all(labels.tolist() == [1, 0] for _, _, labels in picked)
    assert all(columns[0] == 0 for _, columns, _ in picked)
    assert sum(columns[1] == 1 for _, columns, _ in picked) == 20


@pytest.mark.parametrize(
    ("positive", "negative", "wanted"),
    [([2, 3], [0, 1], 1.0), ([0], [1], 0.0), ([1, 1], [1], 0.5), ([0, 2], [1], 0.5)],
)
def test_auroc(positive: list[float], negative: list[float], wanted: float) -> None:
    assert auroc(positive, negative) == wanted


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work: Path = tmp_path_factory.mktemp("quick")
    run(["clip", "blip"], work, quick=True)
    return work


def test_the_quick_recipe_writes_whole_checkpoints(quick: Path) -> None:
    for name in ("clip", "blip"):
        files = {file.name for file in (quick / name).iterdir()}
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files
        assert {"tokenizer.json", "README.md", "metrics.json"} <= files
        assert read_json(quick / f"{name}.done.json")["steps"] == 6
        card = (quick / name / "README.md").read_text()
        assert "apache-2.0" in card
        assert (quick / name / "model.safetensors").stat().st_size < 7_000_000


@pytest.mark.parametrize("module", [clip, blip], ids=["clip", "blip"])
def test_an_interrupted_run_ends_with_the_same_weights(
    module: ModuleType, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the fifth of six steps (the third was saved last), then run again."""
    recipe = module.recipe_of(quick=True)
    if module is blip:
        shutil.copytree(quick / "clip", tmp_path / "clip")
    draw = module.draw_batch

    def interrupted(scenes: DrawnScenes, step: int, *rest: object) -> object:
        if step == 4:
            raise KeyboardInterrupt
        return draw(scenes, step, *rest)

    monkeypatch.setattr(module, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.fit(tmp_path, recipe)
    monkeypatch.undo()
    module.fit(tmp_path, recipe)
    whole_run, resumed = (
        load_file(work / module.NAME / "model.safetensors") for work in (quick, tmp_path)
    )
    assert whole_run.keys() == resumed.keys()
    assert all(torch.equal(whole_run[name], resumed[name]) for name in whole_run)


def test_finished_steps_are_skipped(quick: Path) -> None:
    before = (quick / "clip" / "model.safetensors").stat().st_mtime_ns
    main(["clip", "blip", "--quick", "--work", str(quick)])
    assert (quick / "clip" / "model.safetensors").stat().st_mtime_ns == before


def test_an_unknown_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["clop"])
    assert "unknown step clop; choose from clip, blip" in capsys.readouterr().err
    assert parser().parse_args([]).steps == []
