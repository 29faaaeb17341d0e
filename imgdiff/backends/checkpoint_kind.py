"""What kind of model a checkpoint folder holds: told by its config.json, never by its name."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path

from imgdiff.backends.internvl2_config import CONVERTED, ORIGINAL
from imgdiff.backends.llava_layout import Layout, layout_of, model_config
from imgdiff.core.errors import BackendError


class Kind(Enum):
    """A family of models and whose code wrote the files."""

    llama = "a text model (llama)"
    llava = "a LLaVA-1.5 of transformers"
    llava_original = "a LLaVA-1.5 of the LLaVA repository"
    llava_next = "a LLaVA-NeXT of transformers"
    internvl = "an InternVL2 of transformers"
    internvl_original = "an InternVL2 as released"

    @property
    def is_internvl(self) -> bool:
        """Whether it is an InternVL2, in either form."""
        return self in (Kind.internvl, Kind.internvl_original)


_BY_MODEL_TYPE = {
    "llama": Kind.llama,
    "llava_next": Kind.llava_next,
    CONVERTED: Kind.internvl,
    ORIGINAL: Kind.internvl_original,
}


def kind_of(key: str, model: str, folder: Path, usable: Collection[Kind]) -> Kind:
    """The kind of a folder, one of `usable`. `key` and `model` are the setting that led here.

    BackendError for any other, with what to do where it can be converted; and without config.json.
    """
    config = model_config(folder)
    found = _BY_MODEL_TYPE.get(str(config.get("model_type"))) or _llava(folder)
    if found is Kind.llava_original and found not in usable:
        raise BackendError(
            f"{key}={model}: is in the format of the LLaVA repository. Convert it first: `python "
            f"-m imgdiff.train.export checkpoint={model} vision_tower=FOLDER output_dir=FOLDER`."
        )
    if found is None or found not in usable:
        says = f"model_type={config.get('model_type')!r}, architectures="
        raise BackendError(
            f"{key}={model}: config.json says {says}{config.get('architectures')}; needed is "
            f"{' or '.join(kind.value for kind in usable)}. Choose such a checkpoint."
        )
    return found


def _llava(folder: Path) -> Kind | None:
    try:
        original = layout_of(folder) is Layout.original
    except BackendError:
        return None
    return Kind.llava_original if original else Kind.llava
