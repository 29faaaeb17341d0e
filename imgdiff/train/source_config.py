"""Settings of the training data: which files, how often, and what happens to defective rows.

Light: imports no deep learning.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from imgdiff.core.errors import ConfigError
from imgdiff.launch import explain

META_MAX_BYTES = 1 << 24  # InternVL's list of data sets is a page of text, never a data set
_META_KNOWN = {"root", "annotation", "repeat_time", "data_augment", "max_dynamic_patch", "length"}


class OnDefect(str, enum.Enum):
    """What a row that breaks a rule does: end the run with its place, or be left out and counted.

    It is never replaced by another row.
    """

    fail = "fail"
    skip = "skip"


class ImageCheck(str, enum.Enum):
    """How closely image files are looked at before training, each file once.

    `exists`: the file is there (no sizes are known: not for families whose token count depends on
    them). `header`: it opens, its size is known and its end is not cut off. `decode`: every pixel
    is read.
    """

    exists = "exists"
    header = "header"
    decode = "decode"


class Pairs(str, enum.Enum):
    """What becomes of a row with two images: one image with the 20-px bar (the paper's form), or
    two images of one sample.
    """

    concatenate = "concatenate"
    separate = "separate"


@dataclass(kw_only=True, slots=True)
class SourceConfig:
    """One data set in LLaVA's row format (JSON list, JSONL or Parquet), or InternVL's meta JSON."""

    path: str
    images: str | None = None  # folder that image paths are relative to; null: the file's own
    # Passes per epoch, as InternVL's repeat_time: 0.5 is the first half of the rows, 2.5 all rows
    # twice and the first half once more. Taken as a decimal number, so 0.29 of 100 rows is 29.
    # With weights it says what the source's own epoch is; its share is then the weight's.
    repeat: float = 1.0
    cap: int | None = None  # only the first so many good rows are used (before `repeat`)
    weight: float | None = None  # share of the run, relative to the others; null: by number of rows

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("path='': must name a file of instruction data")
        place = f"source {self.path}"
        if not (math.isfinite(self.repeat) and self.repeat > 0):
            raise ConfigError(
                f"{place}: repeat={self.repeat}: must be above 0; it counts passes per epoch. "
                "Remove the source to leave it out."
            )
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"{place}: cap={self.cap}: must be at least 1, or null for all rows")
        if self.weight is not None and not (math.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(
                f"{place}: weight={self.weight}: must be above 0, or null to mix by number of "
                "rows. Remove the source to leave it out."
            )


def typed_source(name: str, value: Any) -> SourceConfig:
    """An entry of `data.sources`: a mapping of SourceConfig's keys, or the path alone.

    ConfigError names the key in full where it is unknown, of a wrong type or missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(value, SourceConfig):
        return value
    entry = {"path": value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"data.sources.{name}={value}: must be the path of a file, or its keys: "
            f"data.sources.{name}.path=FILE"
        )
    typed = {"data": {"sources": {name: OmegaConf.structured(SourceConfig)}}}
    try:
        whole = OmegaConf.merge(typed, {"data": {"sources": {name: dict(entry)}}})
        built = OmegaConf.to_object(whole.data.sources[name])
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(built, SourceConfig)
    return built


@dataclass(kw_only=True, slots=True)
class RowRules:
    """Policies of reading; all of them change which samples exist."""

    defects: OnDefect = OnDefect.fail
    images: ImageCheck = ImageCheck.header
    pairs: Pairs = Pairs.concatenate


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of rows with all that is set about it; `notices` say what is not done."""

    name: str
    path: Path
    root: Path
    config: SourceConfig
    declared_rows: int | None = None
    notices: tuple[str, ...] = ()


def passes(rows: int, repeat: float) -> tuple[int, int]:
    """Whole passes over the rows per epoch, and how many first rows come once more."""
    return divmod(int(Fraction(str(repeat)) * rows), rows)


def expand_sources(sources: Mapping[str, SourceConfig]) -> list[DataFile]:
    """The files of all sources in order; an InternVL meta JSON becomes one per entry (NAME/ENTRY).

    A missing file or folder, an unsupported option of a meta, or weights that only some sources
    have raise ConfigError.
    """
    if not sources:
        raise ConfigError("sources={}: nothing to train on; name at least one file")
    weighted = [name for name, source in sources.items() if source.weight is not None]
    if 0 < len(weighted) < len(sources):
        without = next(name for name in sources if name not in weighted)
        raise ConfigError(
            f"sources.{weighted[0]}.weight is set and sources.{without}.weight is not; give every "
            "source a weight, or none (then each row counts equally)"
        )
    files: list[DataFile] = []
    for name, source in sources.items():
        path = Path(source.path).expanduser()
        if not path.is_file():
            raise ConfigError(f"sources.{name}.path={source.path}: no such file. Check the path.")
        meta = read_meta(path)
        if meta is None:
            files.append(_data_file(name, path, source, source.images))
        else:
            files += _meta_files(name, path, source, meta)
    return files


def _data_file(name: str, path: Path, source: SourceConfig, images: str | None) -> DataFile:
    root = path.parent if images is None else Path(images).expanduser()
    if not root.is_dir():
        raise ConfigError(f"sources.{name}.images={images}: no such folder. Check the path.")
    return DataFile(name=name, path=path, root=root.resolve(), config=source)


def read_meta(path: Path) -> dict[str, Any] | None:
    """The entries of an InternVL meta JSON, or None where the file is something else."""
    if path.suffix.lower() != ".json" or path.stat().st_size > META_MAX_BYTES:
        return None
    with path.open("rb") as handle:
        if not handle.read(1 << 10).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return None
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None  # the reader of rows names the place
    if not isinstance(value, dict) or not value:
        return None
    entries = all(isinstance(item, dict) and "annotation" in item for item in value.values())
    return value if entries else None


def _meta_files(
    name: str, path: Path, source: SourceConfig, meta: Mapping[str, Any]
) -> list[DataFile]:
    if source.weight is not None and len(meta) > 1:
        raise ConfigError(
            f"sources.{name}.weight={source.weight}: {path} lists {len(meta)} data sets, which mix "
            "by number of rows and repeat_time. Set weight=null, or name the files one by one."
        )
    return [_meta_file(f"{name}/{key}", path, source, entry) for key, entry in meta.items()]


def _meta_file(name: str, path: Path, source: SourceConfig, entry: Mapping[str, Any]) -> DataFile:
    place = f"{path}: {name}"
    unknown = sorted(set(entry) - _META_KNOWN)
    if unknown:
        raise ConfigError(f"{place}: option {unknown[0]!r} is not supported; remove it")
    if "max_dynamic_patch" in entry:
        raise ConfigError(
            f"{place}: max_dynamic_patch={entry['max_dynamic_patch']} of one data set is not "
            "supported: one number of tiles holds for the run. Remove it, and set the model's."
        )
    annotation = path.parent / str(entry["annotation"])
    repeat = entry.get("repeat_time", 1)
    if isinstance(repeat, bool) or not isinstance(repeat, (int, float)):
        raise ConfigError(f"{place}: repeat_time={repeat!r}: must be a number above 0")
    config = dataclasses.replace(
        source, path=str(annotation), repeat=float(repeat) * source.repeat, images=None
    )
    if not annotation.is_file():
        raise ConfigError(
            f"{place}: annotation={entry['annotation']}: no such file in {path.parent}. Paths of a "
            "meta are relative to its folder, or absolute."
        )
    base = path.parent if source.images is None else Path(source.images).expanduser()
    file = _data_file(name, annotation, config, str(base / str(entry.get("root", ""))))
    augmented = f"{name}: data_augment=true: random JPEG recompression is not done"
    return dataclasses.replace(
        file,
        declared_rows=entry.get("length"),
        notices=(augmented,) if entry.get("data_augment") else (),
    )
