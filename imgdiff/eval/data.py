"""Finding a benchmark: a folder, single files, the hub, or the procedural set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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

    def subjects_left_out(self) -> set[str]:
        """The subjects of items that are in the file and cannot be scored."""
        ids = (name for entry in self.content.left_out for name in entry.ids)
        parts = ((name, name.rpartition("#")) for name in ids)  # "7#2": image 7, annotator 2
        return {image if number.isdigit() and image else name for name, (image, _, number) in parts}


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
    annotations, images = _places(benchmark, cache, needs_images=needs_images)
    folders = (annotations.parent, annotations.parent.parent)
    drawn = any(map(is_procedural, folders))
    kinds: dict[str, str] = {}
    if drawn:
        for folder in folders:
            kinds |= read_kinds(folder / KINDS_FILE, "id")
    return CaptionData(
        place=annotations,
        procedural=drawn,
        split=annotations.stem if annotations.stem in _splits(benchmark) else _split(benchmark),
        content=_load(benchmark, annotations, images, kinds),
        other_splits=_other_splits(benchmark, annotations),
    )


def _load(
    benchmark: CaptionConfig, annotations: Path, images: Path, kinds: Mapping[str, str]
) -> CaptionItems:
    if isinstance(benchmark, SpotConfig):
        return std.load_spot_the_diff(annotations, images, benchmark.protocol, kinds)
    return ier.load_image_edit_request(annotations, images, kinds)


def _places(benchmark: CaptionConfig, cache: Path, *, needs_images: bool) -> tuple[Path, Path]:
    """The annotation file and the folder of images."""
    root = benchmark.root
    if root is not None and root.startswith(PREFIX):
        raise ConfigError(
            f"benchmark.root={root}: the images of this benchmark are on no hub; give a folder. "
            + (std.REMEDY if isinstance(benchmark, SpotConfig) else ier.REMEDY)
        )
    folder = _drawn(benchmark, cache) if benchmark.is_drawn else None
    if root is not None:
        folder = Path(root).expanduser()
    if benchmark.annotations is not None:
        annotations = Path(benchmark.annotations).expanduser()
    else:
        assert folder is not None
        annotations = _annotations(benchmark, folder)
    if benchmark.images is not None:
        return annotations, Path(benchmark.images).expanduser()
    if not needs_images:
        return annotations, _images_if_any(benchmark, folder or annotations.parent)
    if folder is None:
        raise ConfigError(
            f"benchmark.annotations={benchmark.annotations}: the images are needed too. Set "
            "benchmark.images to their folder (or predictions to a file of captions)."
        )
    return annotations, _images(benchmark, folder)


def _images_if_any(benchmark: CaptionConfig, folder: Path) -> Path:
    try:
        return _images(benchmark, folder)
    except DataError:  # told when a model is to see them
        return folder / NO_IMAGES


def _drawn(benchmark: CaptionConfig, cache: Path) -> Path:
    if isinstance(benchmark, SpotConfig):
        return spot_the_diff_folder(cache, benchmark.pairs, benchmark.seed, benchmark.split.value)
    assert isinstance(benchmark, EditConfig)
    return image_edit_request_folder(cache, benchmark.pairs, benchmark.seed, benchmark.split.value)


def _annotations(benchmark: CaptionConfig, folder: Path) -> Path:
    if isinstance(benchmark, SpotConfig):
        return std.spot_annotations(folder, benchmark.split.value)
    assert isinstance(benchmark, EditConfig)
    return ier.edit_annotations(folder, benchmark.split.value)


def _images(benchmark: CaptionConfig, folder: Path) -> Path:
    if isinstance(benchmark, SpotConfig):
        return std.spot_images(folder)
    assert isinstance(benchmark, EditConfig)
    return ier.edit_images(folder, benchmark.split.value)


def _splits(benchmark: CaptionConfig) -> list[str]:
    """The names of all splits."""
    kind: type[SpotSplit | EditSplit] = (
        SpotSplit if isinstance(benchmark, SpotConfig) else EditSplit
    )
    return [split.value for split in kind]


def _split(benchmark: CaptionConfig) -> str:
    assert isinstance(benchmark, (SpotConfig, EditConfig))
    return str(benchmark.split.value)


def _other_splits(benchmark: CaptionConfig, annotations: Path) -> dict[str, frozenset[str]]:
    """Ids of the other splits whose files lie beside this one; unreadable ones are not asked."""
    key = "img_id" if isinstance(benchmark, SpotConfig) else "uid"
    found = {}
    for split in _splits(benchmark):
        path = annotations.parent / f"{split}.json"
        if path == annotations or not path.is_file():
            continue
        try:
            records = read_records(path, "")
            found[split] = frozenset(str(record.get(key)) for _, record in records)
        except DataError:
            continue
    return found
