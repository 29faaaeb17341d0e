"""Tokenizers of InternVL2 checkpoints, from their files alone and without remote code.

InternVL2-1B ships Qwen2's vocabulary files, InternVL2-8B a sentencepiece model for a class that
exists as remote code only. The latter is read here into a fast tokenizer: byte-pair encoding with
byte fallback, merges in the order of the pieces' scores, added tokens put in by id (as in
OpenGVLab/InternVL, internvl_chat/internvl/model/internlm2/tokenization_internlm2_fast.py).

Not verified: no published tokenizer.model of InternLM2 was at hand. Checked instead: Llama 2's file
(the same algorithm) and small ones against an independent statement of sentencepiece's encoder.
Whether a blank goes before a text follows the file's own `add_dummy_prefix`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.backends.internvl2_text import (
    IMAGE_CLOSES,
    IMAGE_OPENS,
    IMAGE_PART,
    START,
    STOP,
    token_id,
)
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

_BPE = 2  # sentencepiece's TrainerSpec.ModelType
_NORMAL, _UNKNOWN, _USER_DEFINED, _UNUSED = 1, 2, 4, 5  # SentencePiece.Type
_BLANK = "▁"
_CONTROL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
_REMEDY = "Download the whole checkpoint folder again, or name another one."


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One entry of a sentencepiece vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, kw_only=True)
class PieceModel:
    """What a sentencepiece file says about encoding."""

    pieces: tuple[Piece, ...]
    algorithm: int
    charsmap: bytes  # of the Unicode normalisation; empty: none
    blank_first: bool  # a blank before every stretch of text
    joins_blanks: bool  # runs of blanks become one


def open_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of an original or a converted checkpoint folder.

    BackendError where files are missing or damaged, where a token of the images or turns is
    missing, or where an added token has another id than the checkpoint's files say.
    """
    try:
        with quietly():
            tokenizer = _open(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{folder}: its tokenizer cannot be read ({error}). {_REMEDY}") from None
    for token in (START, STOP, IMAGE_OPENS, IMAGE_PART, IMAGE_CLOSES):
        token_id(tokenizer, token)
    for token, wanted in added_tokens(folder).items():
        found = tokenizer.convert_tokens_to_ids(token)
        if found != wanted:
            raise BackendError(
                f"{folder}: {token} has id {found}, its files say {wanted}. {_REMEDY}"
            )
    if tokenizer.pad_token_id not in tokenizer.all_special_ids:
        raise BackendError(f"{folder}: the tokenizer has no padding token of its own. {_REMEDY}")
    return tokenizer


def added_tokens(folder: Path) -> dict[str, int]:
    """Ids of the tokens that were added to the base vocabulary, from the folder's JSON files."""
    found: dict[str, int] = {}
    if (folder / "tokenizer.json").is_file():
        listed = read_json(folder / "tokenizer.json").get("added_tokens", [])
        found |= {str(entry["content"]): int(entry["id"]) for entry in listed}
    if (folder / "added_tokens.json").is_file():
        found |= {str(k): int(v) for k, v in read_json(folder / "added_tokens.json").items()}
    if (folder / "tokenizer_config.json").is_file():
        listed = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
        found |= {str(entry["content"]): int(number) for number, entry in listed.items()}
    return found


def added_id(folder: Path, token: str) -> int:
    """Id of one added token, or BackendError."""
    found = added_tokens(folder).get(token)
    if found is None:
        raise BackendError(f"{folder}: no file of its tokenizer names {token}. {_REMEDY}")
    return found


def _open(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, padding_side="right")
    if (folder / "tokenizer.model").is_file():
        return from_pieces(read_pieces(folder / "tokenizer.model"), added_tokens(folder))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Qwen2Tokenizer.from_pretrained(folder, padding_side="right")
    raise BackendError(
        f"{folder} lacks tokenizer.json, tokenizer.model, or vocab.json with merges.txt. {_REMEDY}"
    )


def from_pieces(model: PieceModel, added: dict[str, int]) -> Any:
    """A fast tokenizer of InternLM2's kind; `added` tokens (by id) replace or follow the pieces.

    Texts encode as in sentencepiece. Decoding drops one leading blank iff encoding puts one there.
    BackendError for another algorithm, for added ids with gaps and for joined blanks.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    _check(model)
    words = _with_added([piece.text for piece in model.pieces], added)
    ids = {word: number for number, word in enumerate(words)}
    bpe = models.BPE(
        vocab=ids,
        merges=_merges(model, frozenset(words)),
        unk_token=_CONTROL["unk_token"],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = _normalizer(model)
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.blank_first:
        steps.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)
    symbols = [piece.text for piece in model.pieces if piece.kind == _USER_DEFINED]
    # Those that an added token replaced are no longer words.
    tokenizer.add_tokens(
        [AddedToken(text) for text in symbols if ids.get(text) and text not in added]
    )
    special = sorted({*added, *_CONTROL.values()}, key=lambda text: ids[text])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    opening = _CONTROL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{opening} $A", special_tokens=[(opening, ids[opening])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, padding_side="right", clean_up_tokenization_spaces=False,
        **_CONTROL,
    )  # fmt: skip


def _check(model: PieceModel) -> None:
    if model.algorithm != _BPE:
        raise BackendError(
            f"tokenizer.model: algorithm {model.algorithm}, InternLM2's is byte-pair encoding "
            f"({_BPE}). {_REMEDY}"
        )
    if model.joins_blanks:
        raise BackendError(
            "tokenizer.model joins runs of blanks (remove_extra_whitespaces); InternLM2's does "
            f"not, and this reader could not say which characters a token stands for. {_REMEDY}"
        )


def _with_added(words: list[str], added: dict[str, int]) -> list[str]:
    """The vocabulary in the order of ids, added tokens in their places."""
    for token, number in sorted(added.items(), key=lambda item: item[1]):
        if number > len(words):
            raise BackendError(
                f"added token {token} has id {number}, but ids end at {len(words) - 1}. {_REMEDY}"
            )
        words[number : number + 1] = [token]
    return words


def _normalizer(model: PieceModel) -> Any:
    from tokenizers import normalizers

    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.blank_first:
        steps.append(normalizers.Prepend(_BLANK))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", _BLANK)])


def _merges(model: PieceModel, words: frozenset[str]) -> list[tuple[str, str]]:
    """Pairs whose union is a piece, best score first. Bytes and control pieces never merge."""
    rank = {
        piece.text: number
        for number, piece in enumerate(model.pieces)
        if piece.kind in (_NORMAL, _USER_DEFINED, _UNUSED) and piece.text in words
    }
    found = [
        (-model.pieces[number].score, rank[text[:cut]], rank[text[cut:]], text, cut)
        for text, number in rank.items()
        for cut in range(1, len(text))
        if text[:cut] in rank and text[cut:] in rank
    ]
    return [(text[:cut], text[cut:]) for *_, text, cut in sorted(found)]


def read_pieces(path: Path) -> PieceModel:
    """Read a sentencepiece model file (protocol buffers, sentencepiece_model.proto)."""
    try:
        return _model(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise BackendError(f"{path}: not a sentencepiece model ({error}). {_REMEDY}") from None


def _model(blob: bytes) -> PieceModel:
    pieces, trainer, norm = [], b"", b""
    for field, value in _fields(blob):
        if field == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
        elif field == 2 and isinstance(value, bytes):  # noqa: PLR2004 - the proto's number
            trainer = value
        elif field == 3 and isinstance(value, bytes):  # noqa: PLR2004
            norm = value
    if not pieces or pieces[0].kind != _UNKNOWN:
        raise ValueError("no pieces that begin with the unknown one")
    trained, normalised = dict(_fields(trainer)), dict(_fields(norm))
    charsmap = normalised.get(2, b"")
    return PieceModel(
        pieces=tuple(pieces),
        algorithm=int(trained.get(3, 1)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        blank_first=bool(normalised.get(3, 1)),
        joins_blanks=bool(normalised.get(4, 1)),
    )


def _piece(blob: bytes) -> Piece:
    fields = dict(_fields(blob))
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a piece without text or score")
    return Piece(
        text=text.decode("utf-8"), score=struct.unpack("<f", score)[0], kind=int(fields.get(3, 1))
    )


def _fields(blob: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a message: integers, or bytes of the other wire types."""
    place = 0
    while place < len(blob):
        key, place = _varint(blob, place)
        wire = key & 7
        if wire == 0:
            value, place = _varint(blob, place)
            yield key >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire} at byte {place}")
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            size, place = _varint(blob, place)
        if place + size > len(blob):
            raise ValueError("it ends early")
        yield key >> 3, blob[place : place + size]
        place += size


def _varint(blob: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = blob[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:  # noqa: PLR2004 - the top bit says that more follows
            return value, place
