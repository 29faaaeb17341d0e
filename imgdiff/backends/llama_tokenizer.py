"""The tokenizer of LLaVA-1.5: Llama's, after `<image>` and `<pad>` were added to it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from imgdiff.backends.chat_templates import image_token_id
from imgdiff.core.files import read_json

_ANY_LENGTH = 1 << 30  # cutting is the caller's; the tokenizer would only warn


def open_llama_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint folder, cutting texts as the authors' code does.

    A folder's tokenizer.json may hold a normaliser of older versions, under which the text after a
    `</s>` begins with a blank piece; transformers' own LlamaTokenizer builds the current one.
    """
    from transformers import AutoTokenizer, LlamaTokenizer

    settings = folder / "tokenizer_config.json"
    named = str(read_json(settings).get("tokenizer_class")) if settings.is_file() else ""
    opener = LlamaTokenizer if named.startswith("Llama") else AutoTokenizer
    return opener.from_pretrained(folder)


def original_vocabulary(tokenizer: Any) -> int:
    """How many ids the language model had before `<image>` and `<pad>` were added at its end.

    A padding id elsewhere is a word of the original model (`<unk>` or `</s>`).
    """
    image = image_token_id(tokenizer)
    pad = tokenizer.pad_token_id
    return min(image, pad) if pad is not None and abs(image - pad) == 1 else image


def without_added_tokens(tokenizer: Any, words: int) -> Any:
    """A copy that knows the first `words` ids alone: a literal `<pad>` is text to it.

    The original code never added these tokens, and an id beyond the head cannot be learned.
    """
    from tokenizers import Tokenizer

    table = json.loads(tokenizer.backend_tokenizer.to_str())
    table["added_tokens"] = [token for token in table["added_tokens"] if token["id"] < words]
    model = table["model"].get("vocab")
    if isinstance(model, dict):  # they may stand in the vocabulary itself as well
        table["model"]["vocab"] = {word: id_ for word, id_ in model.items() if id_ < words}
    stripped = copy.deepcopy(tokenizer)
    stripped._tokenizer = Tokenizer.from_str(json.dumps(table))
    stripped.model_max_length = _ANY_LENGTH
    return stripped
