"""Finding a benchmark: a folder, single files, the hub, or the procedural set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.backends.hub import PREFIX, dataset_folder
from imgdiff.backends.world_data import (
    benchmark_folder,
    image_edit_request_folder,
    spot_the_diff_folder,
)
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval import image_edit_request as ier
from imgdiff.eval import mmvp
from imgdiff.eval import spot_the_diff as std
from imgdiff.eval.annotations import is_procedural, read_kinds, read_records
from imgdiff.eval.config import (
    CaptionConfig,
    EditConfig,
    EditSplit,
    MmvpConfig,
    SpotConfig,
    SpotSplit,
)
from imgdiff.eval.records import CaptionItems, ChoiceItems

KINDS_FILE = "kinds.jsonl"
NO_IMAGES = Path("no-image-folder")  # where only annotations are at hand


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceData:
    """A benchmark in MMVP's format and where it lies."""

    place: Path
    procedural: bool
    content: ChoiceItems


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionData:
    """A captioning benchmark, where it lies, and which ids its other splits hold.

    `split` is the name of the file (`val.json`), or `benchmark.split` where that names none.
    """

    place: Path
    procedural: bool
    split: str
    content: CaptionItems
    other_splits: Mapping[str, frozenset[str]]
    images_remedy: str  # what to do where image files are missing


def choice_data(benchmark: MmvpConfig, cache: Path) -> ChoiceData:
    """MMVP from `benchmark.root` (a folder, or hf:NAME) or from single files.

    Where neither is given it is the procedural set, drawn into `cache`.
    """
    if benchmark.is_drawn:
        root = benchmark_folder(cache, benchmark.pairs, benchmark.seed)
    elif benchmark.root is None:
        root = Path(str(benchmark.annotations)).expanduser().parent
    elif benchmark.root.startswith(PREFIX):
        patterns = [mmvp.QUESTIONS_FILE, f"{mmvp.IMAGES_FOLDER}/*"]
        root = dataset_folder(benchmark.root[len(PREFIX) :], patterns, mmvp.REMEDY)
    else:
        root = Path(benchmark.root).expanduser()
    questions, images = root / mmvp.QUESTIONS_FILE, root / mmvp.IMAGES_FOLDER
    if benchmark.annotations is not None:
        questions = Path(benchmark.annotations).expanduser()
    if benchmark.images is not None:
        images = Path(benchmark.images).expanduser()
    drawn = is_procedural(questions.parent)
    return ChoiceData(
        place=questions,
        procedural=drawn,
        content=mmvp.load_mmvp(questions, images, is_procedural=drawn),
    )


def caption_data(benchmark: CaptionConfig, cache: Path, *, needs_images: bool) -> CaptionData:
    """Spot-the-Diff or Image-Edit-Request, as `benchmark` says where.

    Without need of images a folder that lacks them will do: captions are there already.
    """
    assert isinstance(benchmark, (SpotConfig, EditConfig))
    published, split = _PUBLISHED[benchmark.NAME], benchmark.split.value
    annotations, images = _places(benchmark, published, split, cache, needs_images=needs_images)
    folders = (annotations.parent, annotations.parent.parent)
    drawn = any(map(is_procedural, folders))
    kinds: dict[str, str] = {}
    if drawn:
        for folder in folders:
            kinds |= read_kinds(folder / KINDS_FILE, "id")
    return CaptionData(
        place=annotations,
        procedural=drawn,
        split=annotations.stem if annotations.stem in published.splits else split,
        content=published.load(benchmark, annotations, images, kinds),
        other_splits=_other_splits(published, annotations),
        images_remedy=published.images_remedy,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Published:
    """What the files of a captioning benchmark look like."""

    remedy: str
    images_remedy: str
    id_key: str  # of a record
    splits: tuple[str, ...]
    draw: Callable[[Path, int, int, str], Path]  # the procedural set: (cache, pairs, seed, split)
    annotations: Callable[[Path, str], Path]  # in a folder: (root, split)
    images: Callable[[Path, str], Path]
    load: Callable[[Any, Path, Path, Mapping[str, str]], CaptionItems]


def _load_spot(
    benchmark: SpotConfig, annotations: Path, images: Path, kinds: Mapping[str, str]
) -> CaptionItems:
    return std.load_spot_the_diff(annotations, images, benchmark.protocol, kinds)


def _load_edit(
    benchmark: EditConfig, annotations: Path, images: Path, kinds: Mapping[str, str]
) -> CaptionItems:
    return ier.load_image_edit_request(annotations, images, kinds)


_PUBLISHED = {
    SpotConfig.NAME: _Published(
        remedy=std.REMEDY,
        images_remedy=std.IMAGES_REMEDY,
        id_key=std.ID_KEY,
        splits=tuple(split.value for split in SpotSplit),
        draw=spot_the_diff_folder,
        annotations=std.spot_annotations,
        images=std.spot_images,
        load=_load_spot,
    ),
    EditConfig.NAME: _Published(
        remedy=ier.REMEDY,
        images_remedy=ier.IMAGES_REMEDY,
        id_key=ier.ID_KEY,
        splits=tuple(split.value for split in EditSplit),
        draw=image_edit_request_folder,
        annotations=ier.edit_annotations,
        images=ier.edit_images,
        load=_load_edit,
    ),
}


def _places(
    benchmark: CaptionConfig,
    published: _Published,
    split: str,
    cache: Path,
    *,
    needs_images: bool,
) -> tuple[Path, Path]:
    """The annotation file and the folder of images."""
    folder: Path | None = None
    if benchmark.is_drawn:
        folder = published.draw(cache, benchmark.pairs, benchmark.seed, split)
    elif benchmark.root is not None:
        folder = _root(benchmark.root, published)
    if benchmark.annotations is not None:
        annotations = Path(benchmark.annotations).expanduser()
    else:
        assert folder is not None
        annotations = published.annotations(folder, split)
    if benchmark.images is not None:
        return annotations, Path(benchmark.images).expanduser()
    if folder is None and needs_images:
        raise ConfigError(
            f"benchmark.annotations={benchmark.annotations}: the images are needed too. Set "
            "benchmark.images to their folder (or predictions to a file of captions)."
        )
    try:
        return annotations, published.images(folder or annotations.parent, split)
    except DataError:
        if needs_images:
            raise
        return annotations, annotations.parent / NO_IMAGES


def _root(root: str, published: _Published) -> Path:
    if root.startswith(PREFIX):
        raise ConfigError(
            f"benchmark.root={root}: the images of this benchmark are on no hub; give a folder. "
            + published.remedy
        )
    return Path(root).expanduser()


def _other_splits(published: _Published, annotations: Path) -> dict[str, frozenset[str]]:
    """Ids of the other splits whose files lie beside this one; unreadable ones are not asked."""
    found = {}
    for split in published.splits:
        path = annotations.parent / f"{split}.json"
        if path == annotations or not path.is_file():
            continue
        try:
            records = read_records(path, "")
            found[split] = frozenset(str(record.get(published.id_key)) for _, record in records)
        except DataError:
            continue
    return found
