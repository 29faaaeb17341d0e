"""LLaVA-1.5 from the files its authors start from: Vicuna, CLIP and a projector, or their release.

Weights are copied tensor by tensor into one empty model of transformers, so the peak is one model
and one tensor (shards are mapped, not read whole). Names: llava/model/llava_arch.py,
multimodal_encoder/clip_encoder.py and multimodal_projector/builder.py of haotian-liu/LLaVA.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imgdiff.backends.chat_templates import IMAGE_TOKEN
from imgdiff.backends.llava_layout import Layout, check_variant, layout_of, model_config
from imgdiff.backends.loading import quietly
from imgdiff.backends.weight_files import load_bin, new_folder, shapes, tensors
from imgdiff.core.errors import BackendError

PAD_TOKEN = "<pad>"
ADDED_TOKENS = (IMAGE_TOKEN, PAD_TOKEN)  # ids: the old vocabulary size, and one more
ROW_MULTIPLE = 64  # llava-hf pads the embedding to a multiple of it: 32000 + 2 -> 32064
MAX_TOKENS = 2048  # model_max_length of LLaVA-1.5's recipes
SELECT_LAYER = -2  # whose outputs, without the class token, the projector takes
SENTENCEPIECE = "tokenizer.model"
PROJECTOR = {"0": "linear_1", "2": "linear_2"}  # of nn.Sequential -> of transformers
_NOT_WEIGHTS = ("rotary_emb.inv_freq", "position_ids")  # buffers that old releases stored
EMBEDDINGS = ("model.language_model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True, kw_only=True)
class Llava:
    """A LlavaForConditionalGeneration and what its folder holds besides weights."""

    model: Any
    tokenizer: Any
    images: Any  # LlavaImageProcessorPil that pads to a square
    sentencepiece: Path | None  # tokenizer.model, which the original code needs

    def write(self, folder: Path) -> None:
        """Write a new folder for transformers and `LlavaReader`; StoreError where it exists."""
        from transformers import LlavaProcessor

        processor = LlavaProcessor(
            image_processor=self.images,
            tokenizer=self.tokenizer,
            patch_size=self.model.config.vision_config.patch_size,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )
        with new_folder(folder) as unfinished, quietly():
            self.model.save_pretrained(unfinished)
            processor.save_pretrained(unfinished)
            if self.sentencepiece is not None:
                shutil.copyfile(self.sentencepiece, unfinished / SENTENCEPIECE)
            for file in unfinished.iterdir():
                file.chmod(0o644)  # safetensors writes files that only their owner can read


def assemble(vicuna: Path, clip: Path, projector: Path) -> Llava:
    """The start of LLaVA-1.5's second stage: Vicuna, CLIP and the projector of the first stage.

    `vicuna` holds a LlamaForCausalLM, `clip` a CLIPVisionModel or a whole CLIPModel (shards of
    .safetensors or .bin), `projector` is `mm_projector.bin` (scripts/v1_5/finetune.sh). The number
    type is Vicuna's. `<image>` and `<pad>` follow the vocabulary as in llava-hf's checkpoints, and
    every row beyond it holds the mean of the others, so such a row's logit is the mean logit and
    never the largest. BackendError names files and sizes that do not fit, before weights are read.
    """
    text = _text_config(vicuna)
    vision = _vision_config(clip)
    weights = _projector_weights(projector)
    _check_projector(projector, weights, vicuna, text.hidden_size, clip, vision.hidden_size)
    tokenizer = _tokenizer(vicuna, text.vocab_size)
    model = _empty_model(text, vision, _stored_dtype(vicuna), SELECT_LAYER)
    parts = [
        (vicuna, _renamed(tensors(vicuna), _language_name)),
        (clip, _renamed(tensors(clip), _clip_name)),
        (projector, weights.items()),
    ]
    _fill(model, parts, text.vocab_size)
    return _finished(model, tokenizer, vicuna, clip)


def read_llava(folder: Path, vision_tower: Path) -> Llava:
    """A full checkpoint of the original code, e.g. liuhaotian/llava-v1.5-7b.

    CLIP's weights are taken from `folder` where it holds them, else from `vision_tower`, which
    gives its shape in any case. The rows of `<image>` and `<pad>` are made as in `assemble`.
    BackendError for a variant that LLaVA-1.5's class cannot express, or weights that do not fit.
    """
    if layout_of(folder) is not Layout.original:
        raise BackendError(f"{folder} is a folder of transformers already; open it as it is")
    check_variant(folder)
    text = _text_config(folder)
    vision = _vision_config(vision_tower)
    config = model_config(folder)
    width = config.get("mm_hidden_size", vision.hidden_size)
    if width != vision.hidden_size:
        raise BackendError(
            f"{folder / 'config.json'}: mm_hidden_size={width}, but {vision_tower} is a vision "
            f"tower of width {vision.hidden_size}; give the tower that mm_vision_tower names"
        )
    tokenizer = _tokenizer(folder, text.vocab_size)
    layer = config.get("mm_vision_select_layer", SELECT_LAYER)
    model = _empty_model(text, vision, _stored_dtype(folder), layer)
    parts = [(folder, _renamed(tensors(folder), _original_name))]
    if not any(_is_vision(name) for name in shapes(folder)):
        parts.append((vision_tower, _renamed(tensors(vision_tower), _clip_name)))
    _fill(model, parts, text.vocab_size)
    return _finished(model, tokenizer, folder, vision_tower)


def with_added_tokens(tokenizer: Any) -> Any:
    """A Llama tokenizer after `<image>` and `<pad>` were added to it, as its last two ids."""
    from transformers import AddedToken

    image, pad = (AddedToken(token, special=True, normalized=False) for token in ADDED_TOKENS)
    tokenizer.add_tokens([image], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer


def _text_config(folder: Path) -> Any:
    from transformers import LlamaConfig

    raw = model_config(folder)
    if raw.get("model_type") not in ("llama", "llava", "llava_llama") or "hidden_size" not in raw:
        raise BackendError(
            f"{folder / 'config.json'}: model_type={raw.get('model_type')!r}; LLaVA-1.5 is built "
            "on a Llama model such as lmsys/vicuna-7b-v1.5"
        )
    if raw.get("tie_word_embeddings", False):
        raise BackendError(
            f"{folder / 'config.json'}: tie_word_embeddings=true; LLaVA-1.5 trains a head of its "
            "own. Choose a Llama model with an untied head"
        )
    # The original code keeps its own fields (mm_...) among Llama's.
    known = {*LlamaConfig().to_dict(), "rope_theta", "rope_scaling"} - {"architectures"}
    fields = {key: value for key, value in raw.items() if key in known}
    with quietly():
        return LlamaConfig.from_dict({**fields, "model_type": "llama"})


def _vision_config(folder: Path) -> Any:
    from transformers import CLIPVisionConfig

    raw = model_config(folder)
    if raw.get("model_type") not in ("clip", "clip_vision_model"):
        raise BackendError(
            f"{folder / 'config.json'}: model_type={raw.get('model_type')!r} is no CLIP; LLaVA-1.5 "
            "sees with openai/clip-vit-large-patch14-336"
        )
    with quietly():
        return CLIPVisionConfig.from_pretrained(folder)


def _check_projector(
    path: Path, weights: Mapping[str, Tensor], vicuna: Path, hidden: int, clip: Path, seen: int
) -> None:
    """BackendError unless the projector leads from CLIP's width to Vicuna's."""
    first, second = (
        tuple(weights[f"model.multi_modal_projector.{layer}.weight"].shape)
        for layer in PROJECTOR.values()
    )
    if first != (hidden, seen) or second != (hidden, hidden):
        raise BackendError(
            f"{path}: layers of sizes {first} and {second} do not lead from {clip} (width {seen}) "
            f"to {vicuna} (width {hidden}), which takes {(hidden, seen)} and {(hidden, hidden)}; "
            "use the projector that was trained for this pair"
        )


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    """The folder's tokenizer with `<image>` and `<pad>` as the two ids after the vocabulary."""
    from transformers import LlamaTokenizer

    try:
        with quietly():
            tokenizer = LlamaTokenizer.from_pretrained(folder, padding_side="right")
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackendError(
            f"{folder}: its tokenizer cannot be read ({str(error).splitlines()[0]}). A folder with "
            f"only {SENTENCEPIECE} needs `pip install sentencepiece`"
        ) from error
    if len(tokenizer) != vocabulary:
        raise BackendError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, config.json vocab_size="
            f"{vocabulary}; {IMAGE_TOKEN} must become id {vocabulary}. Use the tokenizer that "
            "belongs to the model"
        )
    return with_added_tokens(tokenizer)


def _language_name(name: str) -> str | None:
    """Vicuna's name of a weight -> ours."""
    return name.replace("model.", "model.language_model.", 1)


def _clip_name(name: str) -> str | None:
    """CLIP's name -> ours, or None for the text half and the projections of a whole CLIP."""
    bare = name.removeprefix("vision_model.")
    seen = bare.startswith(("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm."))
    return f"model.vision_tower.{bare}" if seen else None


def _original_name(name: str) -> str | None:
    """The original code's name -> ours."""
    if _is_vision(name):
        return _clip_name(name.removeprefix("model.vision_tower.vision_tower."))
    if ".mm_projector." in name:
        return _projector_name(name)
    return _language_name(name)


def _is_vision(name: str) -> bool:
    return name.startswith("model.vision_tower.")


def _projector_name(name: str) -> str:
    layer, _, kind = name.rpartition("mm_projector.")[2].partition(".")
    return f"model.multi_modal_projector.{PROJECTOR.get(layer, layer)}.{kind}"


def _projector_weights(path: Path) -> dict[str, Tensor]:
    """Both layers under our names; BackendError unless there are exactly two with biases."""
    if not path.is_file():
        raise BackendError(f"{path}: no such file; give the mm_projector.bin of the first stage")
    found = {_projector_name(name): value for name, value in load_bin(path).items()}
    wanted = {
        f"model.multi_modal_projector.{layer}.{kind}"
        for layer in PROJECTOR.values()
        for kind in ("weight", "bias")
    }
    if set(found) != wanted:
        raise BackendError(
            f"{path}: holds {', '.join(sorted(found)) or 'nothing'}; a mlp2x_gelu projector has "
            "0.weight, 0.bias, 2.weight and 2.bias (with or without model.mm_projector. in front)"
        )
    return found


def _stored_dtype(folder: Path) -> torch.dtype:
    """The number type that config.json names; float16, Vicuna's, where it names none."""
    config = model_config(folder)
    dtype = getattr(torch, str(config.get("dtype", config.get("torch_dtype", "float16"))), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float16


def _empty_model(text: Any, vision: Any, dtype: torch.dtype, layer: int) -> Any:
    """A LLaVA-1.5 of these halves whose parameters are allocated and not written."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.initialization import no_init_weights

    words = text.vocab_size
    rows = -(-(words + len(ADDED_TOKENS)) // ROW_MULTIPLE) * ROW_MULTIPLE
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config={**text.to_dict(), "vocab_size": rows, "pad_token_id": words + 1},
        image_token_index=words,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=layer,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    with quietly(), no_init_weights():
        return LlavaForConditionalGeneration._from_config(config, dtype=dtype)


def _renamed(
    found: Iterable[tuple[str, Tensor]], rename: Callable[[str], str | None]
) -> Iterator[tuple[str, Tensor]]:
    """Weights under our names, without the buffers of old releases and what has no place."""
    for name, value in found:
        ours = None if name.endswith(_NOT_WEIGHTS) else rename(name)
        if ours is not None:
            yield ours, value


@torch.no_grad()
def _fill(
    model: Any, parts: Sequence[tuple[Path, Iterable[tuple[str, Tensor]]]], words: int
) -> None:
    """Copy every weight into its place; BackendError unless all fit and none is missing."""
    places = dict(model.named_parameters())
    open_names = set(places)
    for source, weights in parts:
        for name, value in weights:
            place = places.get(name)
            target = place[:words] if name in EMBEDDINGS and place is not None else place
            if target is None or target.shape != value.shape:
                wanted = "no such weight" if target is None else f"size {tuple(target.shape)}"
                raise BackendError(
                    f"{source}: {name} has size {tuple(value.shape)}, config.json says {wanted}. "
                    "Give the config.json that belongs to these weights"
                )
            target.copy_(value)
            open_names.discard(name)
    if open_names:
        sources = ", ".join(str(source) for source, _ in parts)
        raise BackendError(
            f"{sources}: {len(open_names)} weights are missing, e.g. {min(open_names)}. "
            "Download the checkpoints again"
        )
    for name in EMBEDDINGS:
        places[name][words:] = places[name][:words].mean(dim=0, dtype=torch.float32)


def _finished(model: Any, tokenizer: Any, text: Path, clip: Path) -> Llava:
    """With the tokenizer's special ids in the generation settings, and CLIP's pixels."""
    settings = model.generation_config
    settings.bos_token_id = tokenizer.bos_token_id
    settings.eos_token_id = tokenizer.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id
    sentencepiece = text / SENTENCEPIECE
    return Llava(
        model=model.eval(),
        tokenizer=tokenizer,
        images=_image_processor(clip, model.config.vision_config.image_size),
        sentencepiece=sentencepiece if sentencepiece.is_file() else None,
    )


def _image_processor(clip: Path, side_px: int) -> Any:
    """Pads to a square, then as the folder's own preprocessor_config.json, or CLIP's default."""
    from transformers import LlavaImageProcessorPil

    size: dict[str, Any] = {
        "do_pad": True,
        "size": {"shortest_edge": side_px},
        "crop_size": {"height": side_px, "width": side_px},
    }
    if not (clip / "preprocessor_config.json").is_file():
        return LlavaImageProcessorPil(**size)
    with quietly():
        return LlavaImageProcessorPil.from_pretrained(clip, **size)
