"""Small tokenizers of the published classes, built by rule from the words of the world.

Nothing is sampled: equal word lists give equal files. Each known word is one token; every other
text falls back to bytes (CLIP) or characters (BERT), so that any text can be tokenised.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from transformers import BertTokenizer, CLIPTokenizer

from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import NUMBERS, PLACES, RELATIONS
from imgdiff.mini.scene import SIZES
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CLIP_TOKENS = 77
BERT_TOKENS = 64
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
_GLUE = (
    "a an the and of on in is are there this it to with while whereas instead has shows photo "
    "picture part background image left right box object objects color red"
)


def words() -> list[str]:
    """Every word of the world's language, lower case, sorted."""
    phrases = (*CATEGORIES, *COLOURS, *SIZES, *GROUNDS, *RELATIONS, *PLACES, *NUMBERS, _GLUE)
    return sorted({word for phrase in phrases for word in phrase.split()})


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE with `</w>`: 512 byte tokens, one merge chain per word, the two specials."""
    alphabet = list(_byte_characters().values())
    merges = _learn_merges(words())
    tokens = [*alphabet, *(c + WORD_END for c in alphabet), *("".join(pair) for pair in merges)]
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_TOKENS)


def bert_tokenizer() -> BertTokenizer:
    """WordPiece: specials, printable ASCII, its continuations, whole words."""
    printable = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{c}" for c in printable if c.isalnum()]
    tokens = [*BERT_SPECIALS, *printable, *pieces, *(w for w in words() if len(w) > 1)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return BertTokenizer(
        vocab=vocabulary, do_lower_case=True, model_max_length=BERT_TOKENS, bos_token="[DEC]"
    )


def _byte_characters() -> dict[int, str]:
    """A printable character for each byte, as GPT-2 and CLIP map them."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(kept))
    return table


def _learn_merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first (ties: alphabetical), until each word is one token."""
    spellings = [[*word[:-1], word[-1] + WORD_END] for word in vocabulary]
    merges: list[tuple[str, str]] = []
    while any(len(spelling) > 1 for spelling in spellings):
        counts = Counter(pair for s in spellings for pair in pairwise(s))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spellings = [_merged(spelling, best) for spelling in spellings]
    return merges


def _merged(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in spelling:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
