"""The recipes of the two vision-language models: tokenizer, packing, a few steps of each."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaTokenizerFast,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
)

from imgdiff.backends.chat_templates import IGNORED, Exchange, encode
from imgdiff.core.geometry import Box
from imgdiff.mini.build import describer, llava
from imgdiff.mini.build.describer_exam import region_questions, says, says_both
from imgdiff.mini.build.describer_tasks import asked_pair, asked_regions, jittered
from imgdiff.mini.build.drawn import sampled
from imgdiff.mini.build.llama_tokenizer import build_tokenizer, kept_tokenizer
from imgdiff.mini.build.llava_exam import Asked, graded, questions
from imgdiff.mini.build.llava_views import GRID, IMAGE_PX
from imgdiff.mini.build.packing import (
    attention_bias,
    copy_gaze,
    image_gaze,
    option_gaze,
    pack,
    word_gaze,
)
from imgdiff.mini.build.views import shot
from imgdiff.mini.build.vlm_parts import Trainee, patch_labels
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.instructions import Turn
from imgdiff.mini.scene import SIZES, Split
from imgdiff.mini.shapes import CATEGORIES, COLOURS

SPACE_WORDS = [*CATEGORIES, *COLOURS]


@functools.lru_cache(maxsize=1)
def _tokenizer() -> LlamaTokenizerFast:
    return build_tokenizer()


def test_tokenizer_is_the_same_every_time() -> None:
    first, second = build_tokenizer(), build_tokenizer()
    assert first.get_vocab() == second.get_vocab()
    assert len(first) <= 962
    assert first.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<0x00>"]) == [0, 1, 2, 3]


def test_every_answer_word_is_one_token() -> None:
    lengths = {word: len(_tokenizer().tokenize(f"a {word}")) - 1 for word in SPACE_WORDS}
    assert set(lengths.values()) == {1}


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "A small red apple.", "a  b ", "  two blanks first", "12.50", "[0.40, 0.07]",
        "é漢🙂", "a\nb\t\r\n", "<0x41>", "\u202e\u200b", "\x00\x7f", "\U0001d518", "x" * 5000,
    ],
)  # fmt: skip
def test_text_comes_back(text: str) -> None:
    tokenizer = _tokenizer()
    back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
    assert back == (text if not text.startswith(" ") else text[1:])


def test_digits_are_single() -> None:
    assert _tokenizer().tokenize("1234 5") == ["▁", "1", "2", "3", "4", "▁", "5"]


@pytest.mark.parametrize("loader", [AutoTokenizer, LlamaTokenizerFast])
def test_saved_tokenizer_opens(loader: type, tmp_path: Path) -> None:
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(tmp_path)
    opened = loader.from_pretrained(tmp_path)
    text = "USER: <image>\nWhat is it? ASSISTANT: A cat.</s>USER: 漢"
    assert opened(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert opened("a")["input_ids"][0] == opened.bos_token_id == 1
    assert opened.convert_tokens_to_ids("<image>") == len(opened) - 1


def test_packed_loss_is_the_mean_over_separate_dialogues() -> None:
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    trainee = Trainee(llava.blank_model(Path("/nowhere"), tokenizer)).eval()
    trainee.llava.set_attn_implementation("eager")
    dialogues = [
        [Exchange("<image>\nWhat is it?", "A cat.")],
        [Exchange("<image>\nIs there a dog?", "Yes."), Exchange("Where?", "Left of the cat.")],
    ]
    pixels = torch.randn(1, 3, IMAGE_PX, IMAGE_PX)
    with torch.no_grad():
        features = trainee.projected(trainee.patches(pixels))
        count = features.shape[1]
        together = trainee.answer_losses(features, pack(tokenizer, [dialogues], count))["answer"]
        apart = []
        for turns in dialogues:
            coded = encode(tokenizer, turns, [count])
            out = trainee.llava(
                input_ids=torch.tensor([coded.input_ids]),
                labels=torch.tensor([coded.labels]),
                pixel_values=pixels,
            )
            apart.append(float(out.loss))
    assert float(together) == pytest.approx(np.mean(apart), rel=2e-3)


def test_dialogues_do_not_see_each_other() -> None:
    tokenizer = _tokenizer()
    rows = [[[Exchange("<image>\na", "b")], [Exchange("<image>\nc", "d")]]]
    packed = pack(tokenizer, rows, 3)
    seen = attention_bias(packed)[0, 0] == 0
    segments = packed.segments_BT[0]
    first, second = (int((segments == k).nonzero()[-1]) for k in (1, 2))
    assert not seen[second, segments == 1].any()
    assert seen[second, segments == 0].all()
    assert seen[second, segments == 2].all()
    assert not seen[first, segments == 2].any()
    starts = packed.positions_BT[0][[int((segments == k).nonzero()[0]) for k in (1, 2)]]
    assert starts[0] == starts[1]


def test_gaze_points_at_the_box_while_answering() -> None:
    tokenizer = _tokenizer()
    rows = [[[Exchange("<image>\na", "b c")], [Exchange("<image>\nd", "e")]]]
    packed = pack(tokenizer, rows, 4)
    places = torch.tensor([[[True, False, False, False], [False, False, False, True]]])
    wanted = image_gaze(packed, places, 1).wanted_BTS[0]
    start = packed.image_start
    for query in range(packed.ids_BT.shape[1] - 1):
        looked = wanted[query].nonzero().flatten().tolist()
        if packed.labels_BT[0, query + 1] == IGNORED:
            assert looked == []
        else:
            assert looked == [start if packed.segments_BT[0, query] == 1 else start + 3]


def test_copy_gaze_points_at_the_next_word() -> None:
    tokenizer = _tokenizer()
    rows = [
        [[Exchange("<image>\nleft A small cat. right A red dog.", "So a small cat, a red dog")]]
    ]
    packed = pack(tokenizer, rows, 2)

    def ids(text: str) -> list[int]:
        return tokenizer(f"a {text}", add_special_tokens=False)["input_ids"][1:]

    passages = [(ids("A small cat"), ids("a small cat")), (ids("A red dog"), ids("a red dog"))]
    wanted = copy_gaze(packed, [[passages]], 2).wanted_BTS[0]
    words = tokenizer.convert_ids_to_tokens(packed.ids_BT[0].tolist())
    looks = {(words[t + 1], words[s]) for t, s in wanted.nonzero().tolist()}
    assert looks == {
        ("\u2581a", "\u2581A"), ("\u2581small", "\u2581small"), ("\u2581cat", "\u2581cat"),
        ("\u2581red", "\u2581red"), ("\u2581dog", "\u2581dog"),
    }  # fmt: skip
    assert int(wanted.sum()) == 6


def test_option_gaze_points_at_the_words_of_the_right_option() -> None:
    tokenizer = _tokenizer()
    question = "<image>\nWhat is it? (a) top left (b) cat\nAnswer."
    rows = [[[Exchange(question, "B")], [Exchange("<image>\nWhat is it?", "A cat.")]]]
    packed = pack(tokenizer, rows, 2)
    option = tokenizer("a (b) cat", add_special_tokens=False)["input_ids"][1:]
    wanted = option_gaze(packed, [[option, []]], 2).wanted_BTS[0]
    words = tokenizer.convert_ids_to_tokens(packed.ids_BT[0].tolist())
    ((query, key),) = wanted.nonzero().tolist()
    assert (words[query], words[query + 1], words[key]) == (":", "\u2581B", "\u2581cat")


def test_word_gaze_points_at_the_object_in_the_question() -> None:
    tokenizer = _tokenizer()
    question = "<image>\nIs the cat red?"
    rows = [[[Exchange(question, "No, blue.")], [Exchange("<image>\nIs it red?", "Yes.")]]]
    packed = pack(tokenizer, rows, 2)
    cat = tokenizer("a cat", add_special_tokens=False)["input_ids"][1:]
    wanted = word_gaze(packed, [[cat, []]], 0).wanted_BTS[0]
    words = tokenizer.convert_ids_to_tokens(packed.ids_BT[0].tolist())
    looked = wanted.nonzero().tolist()
    assert {words[key] for _, key in looked} == {"\u2581cat"}
    answered = packed.labels_BT[0, 1:] != IGNORED
    first = packed.segments_BT[0, 1:] == 1
    assert [query for query, _ in looked] == (answered & first).nonzero().flatten().tolist()


def test_dialogues_without_an_image_are_packed_alone() -> None:
    rows = [[[Exchange("Which word is cat?", "A")], [Exchange("Name a thing.", "A dog.")]]]
    packed = pack(_tokenizer(), rows, 0)
    assert (packed.image_start, packed.image_count) == (0, 0)
    segments = packed.segments_BT[0]
    assert sorted(set(segments.tolist())) in ([1, 2], [-1, 1, 2])
    for number in (1, 2):
        mine = segments == number
        assert packed.positions_BT[0, mine].tolist() == list(range(int(mine.sum())))
        assert packed.ids_BT[0, mine][0] == _tokenizer().bos_token_id


def test_kept_tokenizer_stays(tmp_path: Path) -> None:
    first = kept_tokenizer(tmp_path)
    assert first.get_vocab() == _tokenizer().get_vocab()
    settings = tmp_path / "llama-tokenizer" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("2048", "777"))
    assert kept_tokenizer(tmp_path).model_max_length == 777


def test_patch_labels_follow_the_owners() -> None:
    scene = sampled(Split.train, 1).scenes[0]
    owners = np.zeros((1, 32, 32), dtype=np.uint8)
    owners[0, :16, :16] = 1
    owners[0, :3, 16:20] = 1  # a few pixels: neither object nor ground
    category, colour, ground, size = patch_labels(owners, [scene], 2)
    item = scene.objects[0]
    assert category[0, 0] == list(CATEGORIES).index(item.category) + 1
    assert colour[0, 0] == list(COLOURS).index(item.colour) + 1
    assert category[0].tolist()[2:] == [0, 0]
    assert ground[0].tolist()[1:] == [GROUNDS.index(scene.ground)] * 3
    assert ground[0, 0] == IGNORED
    assert size[0].tolist() == [SIZES.index(item.size), *[IGNORED] * 3]
    owners[0, :6, 16:22] = 1
    assert patch_labels(owners, [scene], 2)[0, 0, 1] == IGNORED


def test_region_dialogues_name_what_the_box_holds() -> None:
    source = shot(sampled(Split.train, 1), 0)
    rng = np.random.default_rng(0)
    for region in asked_regions(source, 20, rng):
        ((question, answer),) = region.dialogue
        assert question.startswith("<image>\nPlease provide a clear description for this region: ")
        assert answer is not None
        words = answer.lower().rstrip(".").split()
        assert "background" in words or any(o.category in words for o in source.scene.objects)


def test_pair_dialogue_says_both_contents() -> None:
    source = shot(sampled(Split.train, 1), 0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        pair = asked_pair(source, source, rng)
        ((question, answer),) = pair.dialogue
        assert "Analyse the the left image" in question
        left = question.split("left image is: ")[1].split(", while the detail")[0]
        right = question.split("right image is: ")[1].split(". What is their")[0]
        assert answer is not None
        assert (left, right) == (pair.left, pair.right)
        assert says_both(answer, left, right)


def test_jitter_stays_in_the_scene() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        box = jittered(Box(left=0, top=1, right=128, bottom=127), rng)
        assert 0 <= box.left <= 2
        assert 126 <= box.right <= 128


@pytest.mark.parametrize(
    ("skill", "truth", "answer", "right"),
    [
        ("colour", "The apple is red.", "Red.", 1.0),
        ("colour", "Red.", "The red one is blue.", 0.0),
        ("existence", "Yes.", "yes", 1.0),
        ("existence", "Yes.", "No.", 0.0),
        ("existence", "No.", "", 0.0),
        ("count", "Two.", "two", 1.0),
        ("size", "Large.", "Small.", 0.0),
        ("choice", "B", "(b)", 1.0),
        ("choice", "B", "b.", 1.0),
        ("choice", "B", "A", 0.0),
        ("choice", "B", "", 0.0),
    ],
)
def test_grades(skill: str, truth: str, answer: str, right: float) -> None:
    drawn = sampled(Split.train, 1)
    turn = Turn(skill=skill, question="?", answer=truth)
    scene = drawn.scenes[0]
    image = shot(drawn, 0).image
    assert graded(Asked(image=image, scene=scene, turn=turn), answer) == {skill: right}


def test_exams_cover_every_skill_and_object() -> None:
    drawn = sampled(Split.validation, 6)
    asked = questions(drawn, "tests")
    assert {q.turn.skill for q in asked} >= {"colour", "naming", "choice", "existence", "caption"}
    regions = region_questions(3, "tests")
    assert sum(q.item is not None for q in regions) == sum(
        len(s.objects) for s in sampled(Split.validation, 3).scenes
    )


@pytest.mark.parametrize(
    ("answer", "word", "said"),
    [
        ("A red cat.", "cat", True),
        ("A red cat, on", "cat", True),
        ("A caterpillar.", "cat", False),
        ("", "cat", False),
        ("CAT", "cat", True),
    ],
)
def test_says_whole_words(answer: str, word: str, said: bool) -> None:
    assert says(answer, word) is said


def test_describer_recipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        metrics = describer.build(tmp_path, quick=True)
    assert "no mini CLIP" in caplog.text
    folder = tmp_path / "describer"
    model = LlavaNextForConditionalGeneration.from_pretrained(folder)
    assert model.dtype == torch.float16
    processor = LlavaNextProcessor.from_pretrained(folder)
    scene = shot(sampled(Split.train, 1), 0).image
    coded = processor(images=scene, text="USER: <image>\nWhat? ASSISTANT:", return_tensors="pt")
    assert int((coded["input_ids"] == model.config.image_token_id).sum()) == 64 + 8 * 9
    assert set(metrics) >= {"object_named", "colour_named", "difference_both_contents", "steps"}
    assert (folder / "README.md").read_text().count("\n") > 20
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000


def test_llava_recipe_keeps_snapshots(tmp_path: Path) -> None:
    metrics = llava.build(tmp_path, quick=True)
    assert sorted(p.name for p in (tmp_path / "llava-snapshots").iterdir()) == ["00002", "00004"]
    folder = tmp_path / "llava"
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    assert model.dtype == torch.float16
    assert model.config.vision_config.image_size == IMAGE_PX
    processor = LlavaProcessor.from_pretrained(folder)
    assert processor.image_processor.do_pad
    coded = processor(
        images=shot(sampled(Split.train, 1), 0).image, text="<image>", return_tensors="pt"
    )
    assert int((coded["input_ids"] == model.config.image_token_id).sum()) == GRID**2
    assert set(metrics) >= {"naming_object", "colour", "existence", "choice"}
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
