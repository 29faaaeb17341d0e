"""Asking: batches, several processes, unreadable images, and a store that survives a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oracle import Oracle, OracleConfig
from PIL import Image

from imgdiff.backends.world_data import benchmark_folder
from imgdiff.core.errors import DataError, StoreError
from imgdiff.eval.annotations import check_images
from imgdiff.eval.asking import AnswerStore, Asker, Question
from imgdiff.eval.config import AskedConfig
from imgdiff.eval.mmvp import IMAGES_FOLDER


def _images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (24 + 8 * (number % 2), 24), (number, 200 - number, 90)).save(path)
    return paths


def _questions(paths: list[Path], *, limit: int = 5) -> list[Question]:
    """Of several lengths, about one image or two."""
    return [
        Question(
            images=(path, paths[0]) if number % 3 == 0 else (path,),
            prompt="What is it?" + " Say more." * (number % 2),
            max_new_tokens=limit,
        )
        for number, path in enumerate(paths)
    ]


def _answers(folder: Path, batch_size: int, processes: int = 1) -> list[str]:
    config = AskedConfig(model="mini:llava", batch_size=batch_size)
    store = AnswerStore(folder / f"store-{batch_size}-{processes}", config.identity())
    paths = sorted((benchmark_folder(folder, 9, 0) / IMAGES_FOLDER).iterdir())
    return Asker(config=config, store=store, processes=processes).answers(_questions(paths))


def test_neither_batches_nor_processes_change_an_answer(tmp_path: Path) -> None:
    alone = _answers(tmp_path, 1)
    assert len(set(alone)) > 5
    assert _answers(tmp_path, 16) == alone
    assert _answers(tmp_path, 4, processes=2) == alone


def test_questions_with_one_limit_share_a_batch(tmp_path: Path) -> None:
    chat = Oracle(lambda image, question: f"{image.size} {question}")
    config = OracleConfig(oracle=chat, batch_size=4)
    asker = Asker(config=config, store=AnswerStore(tmp_path, "x"))
    paths = _images(tmp_path / "images", 6)
    questions = _questions(paths, limit=5) + _questions(paths, limit=9)
    answers = asker.answers(questions)
    assert (chat.entered, len(chat.asked), chat.limits) == (1, 12, {5, 9})
    assert answers[3] == "(76, 24) What is it? Say more."  # 32 + 20 + 24 pixels
    doubled = asker.answers([questions[0], questions[0]])
    assert (doubled, len(chat.asked)) == ([answers[0]] * 2, 12)


def test_other_pixels_words_or_limits_are_other_questions(tmp_path: Path) -> None:
    chat = Oracle(lambda image, question: "x")
    asker = Asker(config=OracleConfig(oracle=chat), store=AnswerStore(tmp_path, "x"))
    path = _images(tmp_path / "images", 1)[0]
    first = Question(images=(path,), prompt="p", max_new_tokens=3)
    asker.answers([first, Question(images=(path,), prompt="q", max_new_tokens=3)])
    asker.answers([Question(images=(path,), prompt="p", max_new_tokens=4)])
    assert len(chat.asked) == 3
    Image.new("RGB", (24, 24), (9, 9, 9)).save(path)
    asker.answers([first])
    assert len(chat.asked) == 4


def test_a_half_written_line_neither_counts_nor_swallows_the_next_one(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "x")
    store.add({"k1": "one\u2028line", "k2": "two"})
    with store.path.open("a", encoding="utf-8") as handle:
        handle.write('{"key": "k3", "answ')
    again = AnswerStore(tmp_path, "x")
    assert again.answers == {"k1": "one\u2028line", "k2": "two"}
    again.add({"k3": "three"})
    assert AnswerStore(tmp_path, "x").answers == {"k1": "one\u2028line", "k2": "two", "k3": "three"}
    assert AnswerStore(tmp_path, "another model").answers == {}
    with store.path.open("ab") as handle:
        handle.write(b"\xff\xfe garbage\n3\n" + json.dumps({"key": 1}).encode() + b"\n")
    assert len(AnswerStore(tmp_path, "x").answers) == 3


def test_a_full_disk_is_a_store_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    store = AnswerStore(tmp_path, "x")
    store.path.symlink_to("/dev/full")
    with pytest.raises(StoreError, match="could not be written"):
        store.add({"k": "A" * 99_999})


def test_images_are_looked_at_before_the_model_is_loaded(tmp_path: Path) -> None:
    chat = Oracle(lambda image, question: "x")
    asker = Asker(config=OracleConfig(oracle=chat), store=AnswerStore(tmp_path, "x"))
    paths = _images(tmp_path / "images", 3)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        asker.answers(_questions(paths))
    paths[1].unlink()
    with pytest.raises(DataError, match=r"1 of 3 images are missing, the first is .*1\.png. Copy"):
        check_images(paths, "Copy them.")
    assert chat.entered == 0
