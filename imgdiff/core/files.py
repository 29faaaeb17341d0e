"""Writing to disk so that a reader never sees half a file, and reading JSON with a good error."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgdiff.core.errors import DataError, StoreError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on a clean exit it is moved into place, else removed.

    A crash leaves either the old file or the new one. A full disk raises StoreError with the path.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".tmp"
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files that a killed process left below `folder` (see `atomic_path`)."""
    for path in sorted(folder.rglob(".*.tmp")):
        path.unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> StoreError:
    """What to raise where `path` could not be written."""
    return StoreError(
        f"{path}: could not be written ({error.strerror or error}). Free space or choose "
        "another folder, then run the same command again: finished work is kept."
    )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, keys in the given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, *, refuse_doubled_keys: bool = False) -> Any:
    """Parse a JSON file; DataError names the file, line and column, or that it is missing.

    Of a key that an object holds twice the last one counts, as everywhere, or DataError names it.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(pairs)
        if len(whole) < len(pairs):
            keys = [key for key, _ in pairs]
            doubled = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{path}: the key {doubled!r} occurs twice in one object. Remove one.")
        return whole

    try:
        hook = unique if refuse_doubled_keys else None
        # Windows programs begin a file with a byte order mark, which "utf-8-sig" takes off.
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=hook)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Re-save it.") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). Give a file that can."
        ) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply to be read. Flatten it.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: malformed JSON ({error.msg}). Fix the file."
        ) from None
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{path}: a value cannot be read ({error}). Fix the file.") from None


def inside(root: Path, name: str) -> Path:
    """`root/name`, refusing a name that leaves `root` (absolute, `..`, or through a link)."""
    if "\0" in name:
        raise DataError(f"path {name!r} holds a zero byte; no file has such a name")
    base = root.resolve()
    target = (base / name).resolve()
    if target != base and base not in target.parents:
        raise DataError(f"path {name!r} leaves the data root {root}; use paths relative to it")
    return target
