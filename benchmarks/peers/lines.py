"""Questions to a process and its answers, one line of JSON each. Standard library only.

Both ends are here: `Worker` in the process that asks, `answers` in the one that is asked. What the
asked process and its libraries print goes to its log, so that no line of theirs is an answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

SHOWN = 3000  # characters at the end of a log


class Worker:
    """A process that answers; its first line is what it says of itself when it is ready."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it; `environment` is added to this process's own."""
        self._log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, text=True,
                env={**os.environ, **environment},
            )  # fmt: skip

    def ask(self, question: Mapping[str, Any]) -> None:
        """Put a question without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next line; ends the program with the log's last lines where none comes."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            end = self._log.read_text("utf-8", errors="replace")[-SHOWN:]
            raise SystemExit(f"{self._process.args} ended with {code}\n{end}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Let it end: it has no more questions."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def own_stdout() -> TextIO:
    """Where answers go; whatever is printed from now on goes to the log. Call it first."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def answers(
    to: TextIO, ready: Mapping[str, Any], answer: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    """Say `ready`, then answer every line until there are no more."""
    print(json.dumps(ready), file=to, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=to, flush=True)
