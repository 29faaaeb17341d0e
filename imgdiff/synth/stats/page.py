"""stats.html: one static page that refers to nothing outside and runs no script."""

from __future__ import annotations

from pathlib import Path

from imgdiff.core.files import write_text
from imgdiff.synth.page_parts import entered, escaped, funnel_charts, tiles, whole_page
from imgdiff.synth.report import parts_of, public_settings
from imgdiff.synth.stats.gather import Stats, gather
from imgdiff.synth.stats.markup import section
from imgdiff.synth.stats.name_section import name_section
from imgdiff.synth.stats.names import NameList
from imgdiff.synth.stats.nearest import nearest_panel
from imgdiff.synth.stats.profiles import preset_of, profile_of
from imgdiff.synth.stats.reading import Run, open_run
from imgdiff.synth.stats.sections import (
    absent_text,
    box_section,
    repeat_section,
    score_section,
    sentence_section,
)

TITLE = "Pictures of the data"
FILE = "stats.html"
_MAKES = {
    "replace": "replaced objects",
    "remove": "removed objects",
    "both": "replaced objects and removed ones",
}
PLACES = (
    ("names", "Names"), ("boxes", "Boxes"), ("scores", "Scores"), ("funnel", "Funnel"),
    ("repeats", "Duplicates"), ("sentences", "Sentences"),
)  # fmt: skip


def write_stats(
    output: Path, store: Path | None, lists: tuple[NameList, ...] = (), *, finished: bool = True
) -> None:
    """Write `stats.html` of the run in `output`, whose images are in `store` (None: unknown).

    `lists` are names whose coverage is told; `finished=False` is for the run itself. DataError
    where there is no run, or its files cannot be read.
    """
    stats = gather(open_run(output, finished=finished), lists)
    write_text(output / FILE, page(stats, store))


def page(stats: Stats, store: Path | None = None) -> str:
    """The HTML text; pictures are taken from `store`."""
    style = (Path(__file__).parent / "stats.css").read_text(encoding="utf-8")
    funnel = section(
        "funnel",
        "Funnel",
        "What came into each stage and went on; hatched: what fell, and why.",
        funnel_charts(stats.run.funnel),
    )
    body = [
        _head(stats),
        "<main>",
        _remarks(stats),
        name_section(stats),
        box_section(stats),
        score_section(stats),
        funnel,
        repeat_section(stats, nearest_panel(stats.nearest, store)),
        sentence_section(stats),
        "<footer>Pictures of single pairs are in gallery.html.</footer></main>",
    ]
    return whole_page(TITLE, style, "\n".join(body))


def _head(stats: Stats) -> str:
    run = stats.run
    figures = [
        ("captions", entered(run.funnel, "items")),
        ("edited captions", stats.caption_pairs),
        ("pairs drawn", drawn(run)),
        ("pairs with samples", int(run.funnel["pairs_with_samples"])),
        ("samples", run.samples),
    ]
    if run.edit.replaces and run.edit.removes:
        figures += [("of them replace", stats.kept.get("replace", 0))]
        figures += [("of them remove", stats.kept.get("remove", 0))]
    links = "".join(f'<a href="#{place}">{name}</a>' for place, name in PLACES)
    facts = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"
        for name, value in facts_of(run)
    )
    return (
        f'<header class="top"><h1>{TITLE}</h1>\n{tiles(figures)}\n<dl class="facts">{facts}</dl>\n'
        f'<nav class="places" aria-label="Sections">{links}</nav></header>'
    )


def _remarks(stats: Stats) -> str:
    """What the reader must know first: that there is nothing, or not all there should be."""
    said = []
    if stats.absent:
        named = escaped(absent_text(sorted(stats.absent)))
        said.append(f"{named}: another version of imgdiff wrote it. Make the run again to see all.")
    if not stats.caption_pairs and not stats.run.edit.removes:
        said.append("No caption of this run was edited.")
    if not stats.run.samples:
        said.append("This run has no sample, so all its pairs are shown.")
    return "\n".join(f'<p class="remark">{text}</p>' for text in said)


def drawn(run: Run) -> int:
    """How many pairs have images: what the stage that generates let through."""
    steps = run.funnel["items"]
    return next((int(step["out"]) for step in steps if step["stage"] == "generate"), 0)


def facts_of(run: Run) -> list[tuple[str, str]]:
    """What the data was made with, in words; paths are cut to their last name."""
    settings = public_settings(run.settings)
    facts = [("shows", _MAKES[run.edit.value])]
    if settings.get("stop_after", "export") != "export":
        facts.append(("stopped after", str(settings["stop_after"])))
    facts += [(name, phrase.replace("`", "")) for name, phrase in parts_of(settings)]
    facts += [
        ("preset", preset_of(run.settings)),
        ("profile", profile_of(run.settings)),
        ("seed", str(settings.get("seed", "not on record"))),
    ]
    for key, identity in (settings.get("checkpoints") or {}).items():
        role = str(key).split(".")[0]
        model = settings[role].get("model", "") if isinstance(settings.get(role), dict) else ""
        facts.append((f"{role} checkpoint", f"{model} ({identity})"))
    return facts
