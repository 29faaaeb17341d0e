"""Object names and replacement pairs, as section 5.2 of the paper counts them."""

from __future__ import annotations

from collections.abc import Sequence

from imgdiff.synth.page_parts import escaped
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.stats.gather import Listed, Stats
from imgdiff.synth.stats.markup import (
    DASH,
    note,
    nothing,
    panel,
    panels,
    percent,
    ranked,
    section,
    table,
)
from imgdiff.synth.stats.names import COVERS, TOP, NameCounts, Ranking, ranking
from imgdiff.synth.stats.sections import no_data

PAPER = ("Img-Diff as published (paper, 5.2)", "1,203", "3,680")
_ABOUT = (
    "Two sources are told apart. <b>Captions</b> say what the edit replaced: the nouns that only "
    "one caption of a pair has (<code>nouns_0</code>, <code>nouns_1</code> of pairs.parquet; found "
    "anew by the same rules where a pair did not get as far). Nouns that stand together are one "
    "name. They are the right source for what was <em>replaced by what</em>, which the paper "
    "counts. <b>Descriptions</b> ({columns}) say what the exported samples "
    "<em>speak of</em>; a name is the first object of a lexicon of everyday names that a "
    "description holds, so what the lexicon lacks is counted as unnamed. A replacement pair "
    "counts where each side has exactly one name."
)


_REGIONS = "<code>content_0</code> and <code>content_1</code> of regions.parquet"
_REMOVALS = "<code>content</code> of removals.parquet"


def _about(edit: Edit) -> str:
    columns = [_REGIONS] if edit.replaces else []
    columns += [_REMOVALS] if edit.removes else []
    return _ABOUT.format(columns=", ".join(columns))


def name_section(stats: Stats) -> str:
    """Figures, coverage by lists, and the most frequent names of each source."""
    rankings = {counts.key: ranking(counts.both()) for counts in stats.names}
    parts = [
        panel("Names and replacement pairs", _figures(stats.names, rankings)),
        *(_listed(one) for one in stats.listed),
    ]
    shown = [counts for counts in stats.names if counts.key != _less_telling(stats)]
    return section(
        "names",
        "Object names and replacement pairs",
        _about(stats.run.edit),
        panels(*parts, kind="panels wide"),
        *(_source(stats, counts) for counts in shown),
    )


def _less_telling(stats: Stats) -> str:
    """Of the two readings of captions one is drawn: that of the samples where there are any."""
    return "edited" if stats.run.samples else "exported"


def _figures(names: Sequence[NameCounts], rankings: dict[str, Ranking]) -> str:
    header = (
        "source", "names", "replacement pairs", "occurrences",
        *(f"top {n} cover" for n in COVERS), "several names", "unnamed",
    )  # fmt: skip
    rows = [_figure_row(counts, rankings[counts.key]) for counts in names]
    rows.append((*PAPER, *(DASH for _ in header[3:])))
    return table(header, rows)


def _figure_row(counts: NameCounts, held: Ranking) -> tuple[str, ...]:
    return (
        counts.title,
        f"{held.distinct:,}",
        f"{len(counts.pairs):,}" if len(counts.sides) > 1 else DASH,
        f"{held.total:,}",
        *(percent(covered, held.total) for _, covered in held.covered),
        f"{counts.several:,} of {counts.looked_at:,}" if len(counts.sides) > 1 else DASH,
        f"{counts.unnamed:,} of {counts.looked_at:,}",
    )


def _listed(one: Listed) -> str:
    rows = [
        (
            held.source, percent(held.covered, held.total), f"{held.covered:,}", f"{held.total:,}",
            f"{held.occurring:,} of {one.names:,}",
        )
        for held in one.coverage
    ]  # fmt: skip
    header = ("source", "covered", "occurrences in the list", "all", "listed names that occur")
    missed = next((held.missed for held in one.coverage if held.missed), ())
    said = ", ".join(f"<bdi>{escaped(name)}</bdi> ({number:,})" for name, number in missed)
    return panel(
        f"Coverage by {one.title} ({one.names:,} names)",
        table(header, rows),
        note(f"Most frequent outside it: {said}.") if said else "",
        note("In the paper the names of Objects365 cover 52.06 % of occurrences."),
    )


def _source(stats: Stats, counts: NameCounts) -> str:
    title = f'<h3 class="kind">{escaped(counts.title)}</h3>'
    if not any(counts.by_side):
        return title + panels(panel("Names", nothing(_no_names(stats, counts))))
    held = [ranking(side) for side in counts.by_side]
    shown = [
        panel(f"Top {min(TOP, one.distinct)} names, {side}", ranked(one.top, one.total))
        for side, one in zip(counts.sides, held, strict=True)
    ]
    if len(counts.sides) > 1:
        pairs = ranking(counts.pairs)
        name = f"Top {min(TOP, pairs.distinct)} replacement pairs"
        body = ranked(pairs.top, pairs.total) if pairs.total else nothing(_NO_PAIR)
        shown.append(panel(name if pairs.total else "Replacement pairs", body))
    return title + panels(*shown, kind="panels lists")


_NO_PAIR = "No pair has exactly one name on each side."


_CAPTIONS = ("pairs.caption_0", "pairs.caption_1")
_COLUMNS = {
    "edited": _CAPTIONS,
    "exported": (*_CAPTIONS, "pairs.kept"),
    "described": ("regions.content_0", "regions.content_1", "regions.kept"),
    "removed": ("removals.content", "removals.kept"),
}


def _no_names(stats: Stats, counts: NameCounts) -> str:
    if counts.looked_at:
        return "None of them names an object that is known."
    if stats.absent.intersection(_COLUMNS[counts.key]):
        return no_data(stats, "names", *_COLUMNS[counts.key])
    if counts.key in ("edited", "exported") and stats.run.samples:
        return "Captions of this run were not edited: annotated objects of photos were removed."
    return no_data(stats, "names")
