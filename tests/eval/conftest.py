"""What several tests of the evaluation share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import Oracle, OracleConfig

from imgdiff.eval.captions import scoring
from imgdiff.eval.config import EvalConfig, ModelConfig
from imgdiff.eval.run import run


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run an evaluation into tmp_path/out, asked in batches of 4."""

    def call(chat: Oracle | None, benchmark: Any, *, name: str = "v1", **settings: Any) -> Any:
        config = OracleConfig(name=name, oracle=chat, batch_size=4)
        monkeypatch.setattr(ModelConfig, "asked", lambda self: config)
        settings = {"output_dir": str(tmp_path / "out"), **settings}
        return run(EvalConfig(cache_dir=str(tmp_path / "cache"), benchmark=benchmark, **settings))

    return call


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without Java: a start of METEOR takes seconds, and few tests need it."""
    monkeypatch.setattr(scoring, "find_java", lambda: None)


@pytest.fixture
def lines(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """The lines of predictions.jsonl."""

    def read() -> list[dict[str, Any]]:
        text = (tmp_path / "out" / "predictions.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    return read
