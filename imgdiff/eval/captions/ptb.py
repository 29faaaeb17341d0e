"""Tokens as pycocoevalcap's PTBTokenizer gives them: Stanford's tokenizer, then no punctuation."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions.java import JAVA_REMEDY, JVM_OPTIONS, java_environment, last_words
from imgdiff.eval.captions.scorers import package_folder
from imgdiff.eval.captions.texts import one_line

TOKENIZER = "ptb"  # its name in results
# pycocoevalcap's list. Brackets stay: the names are upper case and the tokens are lower case.
PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())
JAR = "stanford-corenlp-3.4.1.jar"
_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
_TIMEOUT_S = 600.0


def tokenize(*groups: Sequence[str], java: Path, timeout_s: float = _TIMEOUT_S) -> list[list[str]]:
    """Each text as lower-case tokens joined by blanks, without punctuation. One Java process.

    Each group is a file of its own. That matters: at the end of an abbreviation the tokenizer looks
    at the next line ("U.S." before "The" gives one more full stop), so a group must hold the texts
    that pycocoevalcap would tokenise together, in its order, for the tokens to be equal.
    Line breaks inside a text become blanks first (`one_line`). BackendError where Java fails or
    the number of lines is not that of the texts.
    """
    with tempfile.TemporaryDirectory(prefix="imgdiff-ptb-") as name:
        folder = Path(name)
        for index, texts in enumerate(groups):
            lines = "\n".join(map(one_line, texts))
            (folder / f"{index}.txt").write_bytes(lines.encode("utf-8"))
        pairs = "".join(f"{index}.txt {index}.tok\n" for index in range(len(groups)))
        (folder / "pairs").write_text(pairs, encoding="utf-8")
        said = _run(java, folder, timeout_s)
        return [
            _read(folder / f"{index}.tok", len(texts), said) for index, texts in enumerate(groups)
        ]


def _run(java: Path, folder: Path, timeout_s: float) -> str:
    """Tokenise the files that `folder/pairs` names; gives what Java wrote to its stderr."""
    jar = package_folder() / "tokenizer" / JAR
    options = ["-encoding", "utf-8", "-preserveLines", "-lowerCase", "-ioFileList", "pairs"]
    try:
        done = subprocess.run(
            [str(java), *JVM_OPTIONS, "-cp", str(jar), _CLASS, *options],
            cwd=folder,
            env=java_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise _failure(f"{java} cannot be started ({error.strerror or error})") from error
    except subprocess.TimeoutExpired as error:
        raise _failure(f"no answer within {timeout_s:g} s") from error
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode:
        raise _failure(f"exit status {done.returncode}; it said: {last_words(said)}")
    return said


def _read(path: Path, count: int, said: str) -> list[str]:
    """The token lines of one group, checked to be as many as its texts."""
    if count == 0:
        return []
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _failure(f"it wrote no readable tokens ({error}); it said: {last_words(said)}") from (
            error
        )
    if len(lines) != count:
        raise _failure(
            f"it gave {len(lines)} lines for {count} captions, so captions would be shifted"
        )
    return [without_punctuation(line) for line in lines]


def without_punctuation(line: str) -> str:
    """A line of tokens without those of `PUNCTUATION`, as pycocoevalcap filters it."""
    return " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)


def _failure(detail: str) -> BackendError:
    return BackendError(
        f"the PTB tokenizer failed: {detail}. Nothing was scored. Run the same command again; if "
        f"it stays so: {JAVA_REMEDY}"
    )
