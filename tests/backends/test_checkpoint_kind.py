"""What a folder holds is told by its config.json alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgdiff.backends.checkpoint_kind import Kind, kind_of
from imgdiff.core.errors import BackendError
from imgdiff.core.files import write_json

NATIVE = {"model_type": "llava", "text_config": {}, "vision_config": {}}
KINDS: list[tuple[dict[str, Any], Kind]] = [
    ({"model_type": "llama"}, Kind.llama),
    (NATIVE, Kind.llava),
    ({"model_type": "llava", "mm_vision_tower": "x"}, Kind.llava_original),
    ({"model_type": "llava_llama", "mm_vision_tower": "x"}, Kind.llava_original),
    ({"architectures": ["LlavaLlamaForCausalLM"]}, Kind.llava_original),
    ({"model_type": "llava_next"}, Kind.llava_next),
    ({"model_type": "internvl"}, Kind.internvl),
    ({"model_type": "internvl_chat"}, Kind.internvl_original),
]


@pytest.mark.parametrize(("config", "kind"), KINDS)
def test_every_kind_is_told(tmp_path: Path, config: dict[str, Any], kind: Kind) -> None:
    write_json(tmp_path / "config.json", config)
    assert kind_of("model.path", "name", tmp_path, list(Kind)) is kind
    assert kind.is_internvl == ("internvl" in kind.name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "bert"},
            r"model\.path=name: config\.json says model_type='bert'",
        ),
        ({"model_type": "llava"}, r"needed is a LLaVA-1\.5 of transformers or an InternVL2 of"),
        ({}, r"model_type=None, architectures=None; needed is"),
        ({"model_type": "llama"}, r"model_type='llama'.*Choose such a checkpoint"),
        (
            {"model_type": "llava", "mm_vision_tower": "x"},
            r"format of the LLaVA repository\. Convert it first: .*export checkpoint=name",
        ),
    ],
)
def test_any_other_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "config.json", config)
    with pytest.raises(BackendError, match=message):
        kind_of("model.path", "name", tmp_path, [Kind.llava, Kind.internvl])


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"lacks config\.json"):
        kind_of("model.path", "name", tmp_path, list(Kind))
