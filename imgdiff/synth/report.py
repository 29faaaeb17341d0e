"""What a run leaves for people: the gallery to look at and the card of the data set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from imgdiff.backends.checkpoints import MINI_PREFIX, draws_weights
from imgdiff.core.files import write_text
from imgdiff.synth.gallery import write_gallery

__all__ = ["markdown_table", "parts_of", "public_settings", "write_card", "write_gallery"]

_PATH_KEY = re.compile(r"(^|_)(root|path|file|folder|dir)$")
_PATH_TEXT = re.compile(r"[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\w+://")
# A class of settings is told by a key that it alone has; the last row of each has none.
_SOURCES = (
    ("root", "photos of a folder in COCO layout, `{root}`"),
    ("path", "captions of the file `{path}`"),
    ("split", "the procedural world of imgdiff, split `{split}`"),
)
_GENERATORS = (
    ("ignored_share", "drawn by the renderer of the procedural world, with recorded faults"),
    ("root", "an object of a photo is cut out and another one pasted in"),
    ("model", "drawn by `{model}`"),
)
_EDITORS = (
    ("model", "the language model `{model[model]}`"),
    ("split", "the words of the procedural world: one of its objects is replaced by another"),
    ("", "a lexicon: one object name is replaced by another of its kind"),
)
_ROLES = (
    ("embedder", "similarity of images, crops and contents"),
    ("segmenter", "candidate regions"),
    ("matcher", "whether a text fits a crop"),
    ("describer", "contents and difference sentences"),
)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_INPAINTERS = (
    ("prompt", '`{model}`, told "{prompt}"'),
    ("", "patches copied from around the hole"),
)
NOISE = (
    "NOISE: models with random weights make this data set in a dry run. It shows that a run of "
    "this size works, and teaches nothing; do not train on it or pass it on."
)
FIGURES = (
    "box_precision", "changed_pair_recall", "region_name_accuracy", "difference_accuracy",
    "removal_answer_accuracy", "removal_box_precision", "removal_name_accuracy", "object_gone",
)  # fmt: skip


def write_card(
    path: Path, settings: dict[str, Any], funnel: dict[str, Any], audit: dict[str, Any]
) -> None:
    """Write the data card (Markdown with the front matter of Hugging Face datasets), atomically.

    `settings` are those of `pipeline.run_settings`, `funnel` of `Funnel.report`, `audit` of
    `audit_report`. Of paths in the settings only the last name is written.
    """
    known = public_settings(settings)
    assert isinstance(known, dict)
    parts = (
        _front_matter(known, funnel),
        _opening(known, funnel),
        _made(known),
        _funnel(funnel),
        _audit(audit),
        _fields(known),
        _loading(known),
        _licence(known),
        _all_settings(known),
    )
    write_text(path, "\n\n".join(part.strip("\n") for part in parts if part) + "\n")


def public_settings(value: Any, key: str = "") -> Any:
    """Settings without places of one machine: of every path only its last name is kept.

    A path is the value of a key such as `root` or `path`, or a text that begins like one; names
    of checkpoints on a hub (`openai/clip-vit-base-patch32`) stay whole.
    """
    if isinstance(value, dict):
        return {str(name): public_settings(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_settings(item, key) for item in value]
    if isinstance(value, Path):
        value, key = str(value), "path"
    if isinstance(value, str) and value and (_PATH_KEY.search(key) or _PATH_TEXT.match(value)):
        return PureWindowsPath(value).name or "local folder"
    return value


def _front_matter(settings: dict[str, Any], funnel: dict[str, Any]) -> str:
    samples = funnel["samples"]
    size = next((name for limit, name in _SIZES if samples < limit), "1M<n<10M")
    licence = ["license: apache-2.0"] if _free(settings) else ["license: other"]
    if not _free(settings):
        licence.append("license_name: that-of-its-sources-and-models")
    noise = noise_mark(model for *_, model in _models(settings))
    name = "Noise of a dry run (image differences)" if noise else "Image differences"
    tags = ["- noise"] if noise else ["- image-difference", "- instruction-tuning", "- synthetic"]
    return "\n".join(
        (
            "---", f"pretty_name: {name}", *licence, "language:", "- en",
            "task_categories:", "- image-to-text", "- visual-question-answering",
            "tags:", *tags,
            "size_categories:", f"- {size}", "configs:", "- config_name: default", "  data_files:",
            "  - split: train", "    path: img_diff.parquet", "---",
        )
    )  # fmt: skip


def _opening(settings: dict[str, Any], funnel: dict[str, Any]) -> str:
    counts = f"{funnel['samples']:,} samples from {funnel['pairs_with_samples']:,} image pairs."
    if settings["stop_after"] != "export":
        counts = f"This run stopped after the stage `{settings['stop_after']}`; it has no samples."
    if noise_mark(model for *_, model in _models(settings)):
        return f"# Noise of a dry run\n\n**{NOISE}**\n\n{counts}"
    return (
        "# Image differences\n\n"
        "Instruction data that teaches a multimodal model to see what differs between two similar "
        "images: both images beside each other with a black bar between them, the same red box in "
        f"each, a question, and a sentence that states the difference.\n\n{counts}"
    )


def _described(settings: dict[str, Any], kinds: Sequence[tuple[str, str]]) -> str:
    """The first phrase whose key the settings have, filled from them."""
    for key, phrase in kinds:
        if key in settings or not key:
            return phrase.format_map(settings)
    return "not known"


def _uses_captions(settings: dict[str, Any]) -> bool:
    """Whether captions are edited; otherwise the generator replaces annotated photo objects."""
    return "root" not in settings["generator"]


def _models(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(role, purpose, checkpoint) of every model that the run may have used."""
    found = []
    if _uses_captions(settings) and "model" in settings["editor"]:
        found.append(("editor", "edits captions", settings["editor"]["model"]["model"]))
    if "model" in settings["generator"]:
        found.append(("generator", "draws images", settings["generator"]["model"]))
    if settings["stop_after"] == "export":
        used = _used(settings)
        found += [(r, purpose, settings[r]["model"]) for r, purpose in _ROLES if r in used]
        if _removes(settings) and "model" in settings["inpainter"]:
            found.append(("inpainter", "paints objects over", settings["inpainter"]["model"]))
    return found


def _used(settings: dict[str, Any]) -> set[str]:
    """The roles with a model that the run may have asked."""
    replaces = settings.get("edit", "replace") != "remove"
    learned = settings["rules"]["regions_from"] == "segmenter"
    matched = _removes(settings) and settings["removal"]["check"] == "matcher"
    told = replaces and settings["describe"]["sentence_by"] == "chat"
    roles = {
        "embedder": learned,
        "segmenter": learned,
        "matcher": matched or (learned and replaces),
        "describer": told or settings["describe"]["by"] == "chat",
    }
    return {role for role, used in roles.items() if used}


def _removes(settings: dict[str, Any]) -> bool:
    return str(settings.get("edit", "replace")) != "replace"


def parts_of(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """What each part of the data was made with, in words; `settings` as `public_settings` gives."""
    rows = [("source", _described(settings["source"], _SOURCES))]
    if _uses_captions(settings):
        rows.append(("caption edits", _described(settings["editor"], _EDITORS)))
    rows.append(("image pairs", _described(settings["generator"], _GENERATORS)))
    if settings["rules"]["regions_from"] == "truth":
        rows.append(("regions", "from the generator's own record of what it changed"))
    rows += [(role, f"`{model}`: {purpose}") for role, purpose, model in _models(settings)]
    if settings.get("edit", "replace") != "remove":
        told = settings["describe"]["sentence_by"] == "chat"
        sentence = "written by the describer" if told else "a fixed form filled with both contents"
        rows.append(("difference sentences", sentence))
    if _removes(settings):
        rows.append(("removed objects", _described(settings["inpainter"], _INPAINTERS)))
    return rows


def _made(settings: dict[str, Any]) -> str:
    rows = [*parts_of(settings), ("seed", str(settings["seed"]))]
    table = markdown_table(("part", "what was used"), rows)
    return f"## How it was made\n\n{_how(settings)}\n\n{table}"


def _how(settings: dict[str, Any]) -> str:
    """The method in a few sentences."""
    edited, edit = _uses_captions(settings), settings.get("edit", "replace")
    if edit == "remove":
        told = "Objects of photos are masked and described."
        if edited:
            told = (
                "Captions become image pairs that differ in an object; objects in which both "
                "images differ are masked and described."
            )
    else:
        told = "One object of a photo is replaced"
        if edited:
            told = "One object of a caption is replaced, both captions become an image pair"
        told += (
            ", regions that differ are found and described, and a sentence tells the two contents "
            "apart."
        )
    if edit != "replace":
        told += (
            " For removal, an object is painted over, and the question is which of the two images "
            "still shows it."
        )
    return told


def _funnel(funnel: dict[str, Any]) -> str:
    rows = []
    for level, label in (("items", "pairs"), ("regions", "regions"), ("removals", "removals")):
        for step in funnel.get(level, ()):
            reasons = "; ".join(f"{number:,} {text}" for text, number in step["rejected"].items())
            stage = step["stage"].replace("_", " ")
            rows.append((label, stage, f"{step['in']:,}", f"{step['out']:,}", reasons))
    return "## Funnel\n\n" + markdown_table(
        ("of", "stage", "in", "out", "why the others fell"), rows
    )


def _audit(audit: dict[str, Any]) -> str:
    """The figures beside their definitions, which are taken from the audit itself."""
    opening, *definitions = str(audit.get("definitions", "")).split(" * ")
    meaning = dict(text.partition(": ")[::2] for text in definitions)
    rows = []
    for key in FIGURES:
        if key not in audit:
            continue
        value = audit[key]
        name = key.replace("_", " ")
        shown = "not known" if value is None else f"{value:.4f}"
        rows.append((name, shown, meaning.get(name, "")))
    note = opening.split(" Definitions ")[0]
    pairs = f"{audit.get('n_pairs', 0):,} pairs were looked at. {audit.get('remark', '')}".strip()
    return f"## Audit\n\n{note} {pairs}\n\n".replace("  ", " ") + markdown_table(
        ("figure", "value", "definition"), rows
    )


def _fields(settings: dict[str, Any]) -> str:
    row = {
        "id": "world-train-000000_0",
        "image": "images/00000/world-train-000000_0.png",
        "conversations": [
            {"from": "human", "value": f"<image>\n{settings['export']['question']}"},
            {"from": "gpt", "value": "The left image shows a dog, the right image shows a cat."},
        ],
        "bbox": "[0.40, 0.07, 0.64, 0.18]",
        "captions1": "A dog.",
        "captions2": "A cat.",
        "path": "images/00000/world-train-000000_0",
    }
    meanings: tuple[tuple[str, str], ...] = (
        ("id", "name of the sample: its pair and a number"),
        ("image", "the pair image: left, 20 black columns, right, with the red boxes drawn"),
        (
            "conversations",
            "one question that holds the image placeholder, one answer (LLaVA format)",
        ),
        ("bbox", "the region as fractions of one image: left, top, right, bottom"),
        ("captions1, captions2", "what the region holds in the left and in the right image"),
        ("path", "the image file without its suffix"),
    )
    if _removes(settings):
        row["task"] = "replace"
        about = (
            "`replace`: what differs; `remove`: which image has the object (A left, B right; the "
            "side without it has an empty caption)"
        )
        meanings += (("task", about),)
    return (
        "## Fields\n\n"
        + markdown_table(("field", "meaning"), meanings)
        + "\n\nThe shape of a row, in `img_diff.json`:\n\n"
        + _fenced(json.dumps(row, indent=2, ensure_ascii=False), "json")
    )


def _loading(settings: dict[str, Any]) -> str:
    held = "the images are inside `img_diff.parquet` and come decoded"
    last = 'rows[0]["image"]  # a PIL image'
    if not settings["export"]["parquet_images"]:
        held = "`image` is a path below this folder"
        last = 'rows[0]["image"]  # "images/..."'
    code = (
        "from datasets import load_dataset\n\n"
        f'rows = load_dataset("path/to/this/folder", split="train")\n{last}'
    )
    shell = (
        "python llava/train/train_mem.py \\\n    --data_path path/to/this/folder/img_diff.json \\\n"
        "    --image_folder path/to/this/folder ..."
    )
    return (
        f"## Loading\n\nWith Hugging Face `datasets`; {held}:\n\n{_fenced(code, 'python')}\n\n"
        f"With LLaVA's trainer, which reads the JSON and the image files:\n\n"
        f"{_fenced(shell, 'bash')}"
    )


def noise_mark(models: Iterable[str]) -> dict[str, str]:
    """What a record says where one of its models has random weights; else nothing."""
    return {"noise": NOISE} if any(map(draws_weights, models)) else {}


def _free(settings: dict[str, Any]) -> bool:
    """Whether every source and model is imgdiff's own."""
    world = not {"root", "path"} & settings["source"].keys()
    drawn = "ignored_share" in settings["generator"]
    return world and drawn and all(m.startswith(MINI_PREFIX) for *_, m in _models(settings))


def _licence(settings: dict[str, Any]) -> str:
    rule = (
        "The licence of this data follows from what it was made of: the captions and photos of "
        "the source, and the terms that the models set for what they produce. "
    )
    own = "Here all of it is imgdiff's own (procedural world, mini checkpoints): Apache-2.0."
    other = (
        "Data from the procedural world and the mini checkpoints alone is Apache-2.0; this run "
        "used other sources or models (see above), so check their terms before passing it on."
    )
    return "## Licence\n\n" + rule + (own if _free(settings) else other)


def _all_settings(settings: dict[str, Any]) -> str:
    text = _fenced(json.dumps(settings, indent=2, ensure_ascii=False), "json")
    return f"## Settings\n\nOf paths only the last name is given.\n\n{text}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; cells may hold any text."""
    lines = [header, ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that can neither end a table cell nor open an HTML tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
