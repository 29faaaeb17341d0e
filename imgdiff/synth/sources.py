"""Where captions come from: the procedural world, a COCO folder, or a caption file.

`captions` streams `Caption`s and counted `Rejected` records. COCO and plain JSON files are parsed
whole (as COCO's are everywhere); JSON lines and Parquet are read row by row.
"""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from imgdiff.backends.world import Split, Vocabulary
from imgdiff.core.errors import ConfigError
from imgdiff.core.records import Caption, Rejected
from imgdiff.synth.caption_files import Record, check_file, read_records

STAGE = "source"
UNKNOWN = "nothing of the vocabulary"
IMAGE_PLACEHOLDER = "<image>"  # of LLaVA conversations


class Unit(str, enum.Enum):
    """What a pair generator draws from: captions, or annotated objects of photos."""

    captions = "captions"
    objects = "objects"


@dataclass(kw_only=True, slots=True)
class Source:
    """What all sources share. `limit` counts accepted captions; None takes all there are.

    Captions of other sources than the world are restated in the words of `vocabulary`.
    """

    limit: Optional[int] = None  # noqa: UP045  OmegaConf reads this spelling on every Python
    max_words: int = 60  # SDXL's text encoders end after 77 tokens, about 60 words
    vocabulary: Vocabulary = Vocabulary.any

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(
                f"source.limit={self.limit}: must be at least 1; use null to take all captions"
            )
        if self.max_words < 1:
            raise ConfigError(
                f"source.max_words={self.max_words}: must be at least 1; 60 fits SDXL's 77 tokens"
            )

    def unset(self) -> str | None:
        """What the user must set before a run, or None. Asked with the checkpoints, not before."""
        return None

    def content(self) -> str:
        """What the files of captions or annotations hold, as a hash (images are not read)."""
        return _content(self.files())

    def files(self) -> list[Path]:
        """The files that `content` reads."""
        return []


@dataclass(kw_only=True, slots=True)
class WorldSource(Source):
    """Captions of the procedural world; `limit` of them are drawn (the world has no end)."""

    split: Split = Split.train

    def __post_init__(self) -> None:
        Source.__post_init__(self)
        if self.limit is None:
            raise ConfigError(
                "source.limit=null: the procedural world never ends; "
                "say how many captions to draw, e.g. source.limit=100"
            )


@dataclass(kw_only=True, slots=True)
class CocoSource(Source):
    """A folder in COCO layout; `split` (e.g. "val") keeps the splits whose name starts with it."""

    root: str = ""
    split: Optional[str] = None  # noqa: UP045

    def unset(self) -> str | None:
        """What to set before a run, or None."""
        return _unset("source.root", self.root, "a folder in COCO layout")

    def files(self) -> list[Path]:
        """Captions and instances of the splits."""
        return sorted((Path(self.root) / "annotations").glob(f"*_{self.split or ''}*.json"))


@dataclass(kw_only=True, slots=True)
class JsonSource(Source):
    """A caption file; the format is found by looking (see `caption_files.read_records`).

    `column` names the field or Parquet column with the text; null tries caption, text, input.
    """

    path: str = ""
    column: Optional[str] = None  # noqa: UP045

    def __post_init__(self) -> None:
        Source.__post_init__(self)
        if self.column is not None and not self.column.strip():
            raise ConfigError("source.column='': is empty; name a column, or null to find it")

    def unset(self) -> str | None:
        """What to set before a run, or None."""
        return _unset("source.path", self.path, "a .json, .jsonl or .parquet file of captions")

    def files(self) -> list[Path]:
        """The caption file."""
        path = Path(self.path).expanduser()
        return [path] if path.is_file() else []


def _content(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def _unset(key: str, value: str, what: str) -> str | None:
    return None if value.strip() else f"{key}={value!r}: is not set; set it to {what}"


def captions(config: Source, seed: int, unit: Unit = Unit.captions) -> Iterator[Caption | Rejected]:
    """Captions (or photo objects) of a source in its own order, each row once, ids made by us.

    A missing path, a source that has no such `unit` and an unknown column raise ConfigError or
    DataError here, before the first record; a malformed file raises DataError where it is met.
    Captions are cleaned and judged by `Hygiene`; the reading ends after `limit` accepted ones.
    `seed` matters to the procedural world alone.
    """
    if unset := config.unset():
        raise ConfigError(unset)
    if unit is Unit.objects:
        return _limited(_photo_objects(config), config.limit)
    hygiene = Hygiene(config.max_words)
    judged = (hygiene.judge(item) for item in _raw(config, seed))
    if config.vocabulary is not Vocabulary.any and not isinstance(config, WorldSource):
        judged = (_restated(item, config.vocabulary) for item in judged)
    return _limited(judged, config.limit)


def _restated(item: Caption | Rejected, vocabulary: Vocabulary) -> Caption | Rejected:
    from imgdiff.backends.world_words import restated

    if isinstance(item, Rejected):
        return item
    text = restated(item.text, vocabulary)
    if text is None:
        return Rejected(id=item.id, stage=STAGE, reason=UNKNOWN, detail=item.text[:200])
    return Caption(id=item.id, text=text)


def _photo_objects(config: Source) -> Iterator[Caption | Rejected]:
    if not isinstance(config, CocoSource):
        raise ConfigError(
            f"source={type(config).__name__}: has no annotated photo objects, which this pair "
            "generator needs; use source=coco, or a generator that draws from captions"
        )
    from imgdiff.backends.coco import photo_objects, splits_of

    splits_of(config.root, "instances", config.split)  # raises now, not at the first record
    return photo_objects(config.root, config.split)


def _raw(config: Source, seed: int) -> Iterator[Record | Rejected]:
    """Texts as the source holds them; everything that can fail early has failed on return."""
    if isinstance(config, WorldSource):
        from imgdiff.backends.world import world_captions

        drawn = world_captions(config.split.value, config.limit or 0, seed, config.vocabulary)
        return map(_as_record, drawn)
    if isinstance(config, CocoSource):
        from imgdiff.backends.coco import read_captions, splits_of

        splits_of(config.root, "captions", config.split)
        return map(_as_record, read_captions(config.root, config.split))
    if isinstance(config, JsonSource):
        path = Path(config.path).expanduser()
        check_file(path, config.column)
        return read_records(path, config.column)
    raise ConfigError(f"source={type(config).__name__}: no such source; use world, coco or json")


def _as_record(item: Caption | Rejected) -> Record | Rejected:
    return item if isinstance(item, Rejected) else Record(id=item.id, text=item.text)


def _limited(
    items: Iterator[Caption | Rejected], limit: int | None
) -> Iterator[Caption | Rejected]:
    accepted = 0
    for item in items:
        yield item
        accepted += isinstance(item, Caption)
        if accepted == limit:
            return


class Hygiene:
    """Cleans captions and says why one falls. Remembers 16 bytes per caption seen, not its text."""

    def __init__(self, max_words: int) -> None:
        self.max_words = max_words
        self._seen: set[bytes] = set()

    def judge(self, record: Record | Rejected) -> Caption | Rejected:
        """The caption with every run of white space (line breaks too) as one blank, or why not.

        Reasons: empty caption, control characters, image placeholder (in instruction data and in
        prompts it would stand for a picture), too many words, duplicate caption (the same letters
        in any case; the first one stays). Emoji and any script are kept.
        """
        if isinstance(record, Rejected):
            return record
        text = " ".join(record.text.replace("\ufeff", " ").split())
        reason = self._fault(text)
        if reason:
            return Rejected(id=record.id, stage=STAGE, reason=reason, detail=ascii(text[:200]))
        return Caption(id=record.id, text=text)

    def _fault(self, text: str) -> str:
        if not text:
            return "empty caption"
        # Cc: NUL, escape sequences; Cs: half of a UTF-16 pair, which no UTF-8 file can hold.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            return "control characters"
        if IMAGE_PLACEHOLDER in text:
            return "image placeholder"
        if len(text.split()) > self.max_words:
            return "too many words"
        key = hashlib.blake2b(text.casefold().encode(), digest_size=16).digest()
        if key in self._seen:
            return "duplicate caption"
        self._seen.add(key)
        return ""
