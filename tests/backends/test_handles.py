"""Learned backends are known by name without a model library, and opened inside `with` only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imgdiff.backends.checkpoints import content_identity, locate
from imgdiff.backends.configs import (
    BlipConfig,
    ClipConfig,
    DescriberConfig,
    Dtype,
    EditingModelConfig,
    FastSamConfig,
    MatchScore,
)
from imgdiff.backends.handles import ChatHandle
from imgdiff.backends.llm_editor import LlmEditorConfig
from imgdiff.backends.protocols import Chat, Embedder, Matcher, Segmenter
from imgdiff.core.errors import BackendError

REPO = Path(__file__).resolve().parents[2]


class Echo:
    """Answers with the question."""

    def chat(self, images, questions, seeds=None, max_new_tokens=None):
        return [f"{text} {seeds} {max_new_tokens}" for text in questions]


def test_a_handle_opens_its_model_when_entered_and_lets_it_go() -> None:
    opened: list[Echo] = []

    def opening() -> Echo:
        opened.append(Echo())
        return opened[-1]

    handle = ChatHandle(lambda: "echo:v1", opening)
    assert (handle.identity, opened) == ("echo:v1", [])
    with pytest.raises(BackendError, match="ChatHandle holds its weights inside `with` only"):
        handle.chat([None], ["a"])
    for times in (1, 2):
        with handle as chat:
            assert chat.chat([None], ["a"], [3], max_new_tokens=4) == ["a [3] 4"]
        assert len(opened) == times
    with pytest.raises(BackendError, match="enter it first"):
        handle.chat([None], ["a"])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "weights.pt").write_bytes(b"weights")
    return tmp_path


def test_identities_are_those_that_older_runs_stored_their_scores_under(checkpoint: Path) -> None:
    model, file = str(checkpoint), checkpoint / "weights.pt"
    whole, weights = content_identity(locate("x", model)), content_identity(file)
    assert ClipConfig(model=model).build().identity == f"clip:{whole}:float32:v1"
    assert BlipConfig(model=model).build().identity == f"blip-itc:{whole}:float32:v2"
    itm = BlipConfig(model=model, score=MatchScore.itm).build()
    assert itm.identity == f"blip-itm:{whole}:float32:v2"
    assert FastSamConfig(model=model).build().identity == (
        f"fastsam:weights.pt@{weights}:float32:v1:size=128:confidence=0.25:iou=0.5:order=rgb"
        ":snap=0:max=300"
    )
    chat = f"vlm:{whole}:float32:vicuna_v1"
    assert DescriberConfig(model=model).build().identity == f"{chat}:greedy:64:v1"
    warm = EditingModelConfig(model=model, temperature=0.8, top_p=0.6)
    assert warm.build().identity == f"{chat}:t0.8p0.6:128:v1"
    assert LlmEditorConfig(model=warm).build().identity == (
        f"llm-editor:v2(paper,checked=True,max_changed_words=4,max_words=60)+{chat}:t0.8p0.6:128:v1"
    )


def test_handles_have_the_calls_of_their_protocols(checkpoint: Path) -> None:
    model = str(checkpoint)
    assert isinstance(ClipConfig(model=model).build(), Embedder)
    assert isinstance(BlipConfig(model=model).build(), Matcher)
    assert isinstance(FastSamConfig(model=model).build(), Segmenter)
    assert isinstance(DescriberConfig(model=model).build(), Chat)


def test_the_effective_number_type_is_a_name_that_torch_knows() -> None:
    torch = pytest.importorskip("torch")
    for asked in Dtype:
        on_gpu = asked.value if torch.cuda.is_available() else "float32"
        assert asked.effective() == on_gpu
        assert isinstance(getattr(torch, asked.effective()), torch.dtype)


CODE = """
import json, sys
from imgdiff.backends.configs import *
kinds = (ClipConfig, BlipConfig, FastSamConfig, DescriberConfig)
names = [kind(model=sys.argv[1]).build().identity for kind in kinds]
heavy = {"torch", "transformers", "cv2", "ultralytics", "pandas", "pyarrow"}
print(json.dumps(sorted(heavy & {*sys.modules})))
"""


def test_identities_need_no_model_library(checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(checkpoint)],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
