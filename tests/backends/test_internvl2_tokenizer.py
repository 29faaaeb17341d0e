"""Tokenizers from a checkpoint's files: sentencepiece's encoder, added tokens, damaged files."""

# ruff: noqa: RUF001 - full-width marks are what is tested
from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import internvl2_reference as reference
import pytest
from internvl2_toy import KINDS, internvl2_toy, piece_file

from imgdiff.backends.internvl2_tokenizer import (
    PieceModel,
    added_id,
    added_tokens,
    from_pieces,
    open_tokenizer,
    read_pieces,
)
from imgdiff.core.errors import BackendError

BYTES = [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
CONTROL = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
ADDED = {"<unk>": 0, "<s>": 1, "</s>": 2}
NASTY = [
    "", " ", "  ", "    ", "         x", "a", " a", "a ", "\n", "\n\n", "\t", "▁", "▁▁", "a▁b",
    "你好，世界", "🐱", "👩‍👩‍👧", "e\u0301", "\x00", "<0x0A>", "<unk", "[UNUSED_TOKEN_150]",
    "!" * 50,
    "What is different between the two images?", "isn't", "3.14", "<|im_en", "end|>",
]  # fmt: skip


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return internvl2_toy(tmp_path, "internlm2")


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes))


def test_pieces_encode_as_in_sentencepiece(toy: Path) -> None:
    model = read_pieces(toy / "tokenizer.model")
    tokenizer = open_tokenizer(toy)
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind == 1}
    symbols = [p.text for p in model.pieces if p.kind == 4 and not p.text.startswith("[UNUSED")]
    assert symbols == ["▁▁▁▁", "\n"]
    rng = random.Random(0)
    words = " ".join(NASTY).split(" ")
    texts = NASTY + [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(500)]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = reference.pieces_by_score(text, scores, symbols)
        assert tokenizer.convert_ids_to_tokens(ids) == expected, text
        assert tokenizer.decode(ids) == text.replace("▁", " ")


def test_added_tokens_sit_where_the_files_say(toy: Path) -> None:
    tokenizer = open_tokenizer(toy)
    last = len(tokenizer)
    assert added_id(toy, "<IMG_CONTEXT>") == last - 7
    assert added_id(toy, "</box>") == last - 1
    turn = tokenizer("<|im_start|>user\nhi<|im_end|>", add_special_tokens=False)["input_ids"]
    assert (turn[0], turn[-1]) == (added_id(toy, "<|im_start|>"), added_id(toy, "<|im_end|>"))
    assert turn.count(tokenizer.convert_tokens_to_ids("\n")) == 1
    assert tokenizer("hi")["input_ids"][0] == tokenizer.bos_token_id  # as the remote class does
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    # a name that an added token replaced is text again
    assert len(tokenizer("[UNUSED_TOKEN_145]", add_special_tokens=False)["input_ids"]) > 5


@pytest.mark.parametrize(("blank_first", "text"), [(True, "▁ab"), (False, "ab")])
def test_a_blank_goes_first_where_the_file_says(
    tmp_path: Path, blank_first: bool, text: str
) -> None:
    pieces = [*CONTROL, *BYTES, ("▁ab", -1.0, 1), ("ab", -2.0, 1), ("▁a", -3.0, 1)]
    pieces += [("a", -4.0, 1), ("b", -5.0, 1), ("▁", -6.0, 1)]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(piece_file(pieces, blank_first=blank_first))
    tokenizer = from_pieces(read_pieces(path), ADDED)
    ids = tokenizer("ab", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [text]
    assert tokenizer.decode(ids) == "ab"


def test_qwen2_files(tmp_path: Path) -> None:
    folder = internvl2_toy(tmp_path, "qwen2")
    tokenizer = open_tokenizer(folder)
    assert tokenizer("!", add_special_tokens=False)["input_ids"] == [0]
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.bos_token_id is None
    text = "What's e\u0301 <img> 你好\n\n 🐱!"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text.replace("e\u0301", "é")  # NFC, as in the original


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_opens_equal(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = open_tokenizer(internvl2_toy(tmp_path, kind))
    tokenizer.save_pretrained(tmp_path / "saved")
    again = open_tokenizer(tmp_path / "saved")
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert (again.pad_token_id, again.eos_token) == (tokenizer.pad_token_id, tokenizer.eos_token)
    general = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert general.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_incomplete_folders_say_what_is_missing(toy: Path) -> None:
    (toy / "tokenizer.model").unlink()
    with pytest.raises(BackendError, match=r"lacks tokenizer\.json, tokenizer\.model.*Download"):
        open_tokenizer(toy)
    (toy / "tokenizer_config.json").unlink()
    assert added_tokens(toy) == {}
    with pytest.raises(BackendError, match="no file of its tokenizer names <IMG_CONTEXT>"):
        added_id(toy, "<IMG_CONTEXT>")


def test_missing_image_tokens_are_refused(toy: Path) -> None:
    listed = json.loads((toy / "tokenizer_config.json").read_text("utf-8"))["added_tokens_decoder"]
    kept = {n: entry for n, entry in listed.items() if "img" not in entry["content"].lower()}
    _edit(toy / "tokenizer_config.json", added_tokens_decoder=kept)
    with pytest.raises(BackendError, match=r"ids end at|no <img> token"):
        open_tokenizer(toy)


def test_other_ids_than_the_files_say_are_refused(tmp_path: Path) -> None:
    folder = internvl2_toy(tmp_path, "qwen2")
    (folder / "added_tokens.json").write_text(json.dumps({"<extra>": 9999}))
    with pytest.raises(BackendError, match=r"<extra> has id \d+, its files say 9999.*Download"):
        open_tokenizer(folder)


@pytest.mark.parametrize(
    "blob",
    [
        b"", b"\x00", b"not a model", b"\x0a\xff", b"\x0a\x05ab", bytes(range(256)), b"\x80" * 40,
        b'{"version": 1}', piece_file([("a", 0.0, 1)]), b"\x0a\x03\x0a\x01\xff",
    ],
)  # fmt: skip
def test_damaged_piece_files(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(blob)
    with pytest.raises(BackendError, match="not a sentencepiece model"):
        read_pieces(tmp_path / "tokenizer.model")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"algorithm": 1}, "algorithm 1"), ({"joins_blanks": True}, "joins runs of blanks")],
)
def test_other_piece_models_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(piece_file([*CONTROL, *BYTES], **options))
    with pytest.raises(BackendError, match=message):
        from_pieces(read_pieces(path), ADDED)


def test_added_ids_with_a_gap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(piece_file([*CONTROL, *BYTES]))
    model = read_pieces(path)
    assert isinstance(model, PieceModel)
    with pytest.raises(BackendError, match="<img> has id 300, but ids end at 258"):
        from_pieces(model, ADDED | {"<img>": 300})
