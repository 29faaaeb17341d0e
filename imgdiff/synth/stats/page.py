"""stats.html: one static page that refers to nothing outside and runs no script."""

from __future__ import annotations

from pathlib import Path

from imgdiff.synth.page_parts import entered, escaped, funnel_charts, tiles, whole_page
from imgdiff.synth.report import parts_of, public_settings
from imgdiff.synth.stats.gather import Stats
from imgdiff.synth.stats.markup import section
from imgdiff.synth.stats.name_section import name_section
from imgdiff.synth.stats.profiles import preset_of, profile_of
from imgdiff.synth.stats.reading import Run
from imgdiff.synth.stats.sections import (
    box_section,
    repeat_section,
    score_section,
    sentence_section,
)

TITLE = "Pictures of the data"
PLACES = (
    ("names", "Names"), ("boxes", "Boxes"), ("scores", "Scores"), ("funnel", "Funnel"),
    ("repeats", "Duplicates"), ("sentences", "Sentences"),
)  # fmt: skip


def page(stats: Stats, nearest: str = "") -> str:
    """The HTML text; `nearest` is the panel of what a model found alike."""
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
        name_section(stats),
        box_section(stats),
        score_section(stats),
        funnel,
        repeat_section(stats, nearest),
        sentence_section(stats),
        "<footer>The numbers behind the pictures are in stats.json. Pictures of single pairs are "
        "in gallery.html.</footer></main>",
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


def drawn(run: Run) -> int:
    """How many pairs have images: what the stage that generates let through."""
    steps = run.funnel["items"]
    return next((int(step["out"]) for step in steps if step["stage"] == "generate"), 0)


def facts_of(run: Run) -> list[tuple[str, str]]:
    """What the data was made with, in words; paths are cut to their last name."""
    settings = public_settings(run.settings)
    facts = [("makes", run.edit.value)]
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
