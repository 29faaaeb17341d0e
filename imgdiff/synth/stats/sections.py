"""Boxes, scores, sentences and repeats of a run, each as one section of the page."""

from __future__ import annotations

from collections.abc import Sequence

from imgdiff.synth.page_parts import escaped
from imgdiff.synth.selection import Combine, Interval
from imgdiff.synth.stats import charts
from imgdiff.synth.stats.boxes import CORNERS, BoxCounts
from imgdiff.synth.stats.charts import Look, histogram, threshold_places
from imgdiff.synth.stats.gather import Stats
from imgdiff.synth.stats.histogram import Histogram, bars_of
from imgdiff.synth.stats.markup import (
    counted,
    cut,
    legend,
    note,
    nothing,
    panel,
    panels,
    percent,
    section,
    table,
)
from imgdiff.synth.stats.repeats import Group, Repeats
from imgdiff.synth.stats.scores import ScoreCounts, ScoreKind

UNITS = {"pairs": "pairs", "regions": "regions", "removals": "objects"}


def no_data(stats: Stats, what: str, *columns: str) -> str:
    """Why a run has none of `what`, which is read from `columns` (`table.column`)."""
    if lacking := [name for name in columns if name in stats.absent]:
        return f"{absent_text(lacking)}, so {what} cannot be shown."
    last = stats.run.settings.get("stop_after", "export")
    if last != "export":
        return f"The run stopped after the stage {last}, before {what}."
    return f"The run has no {what}."


def absent_text(names: Sequence[str]) -> str:
    """`regions.parquet has no column kept, left`."""
    tables = dict.fromkeys(name.partition(".")[0] for name in names)
    return "; ".join(
        f"{table}.parquet has no column "
        + ", ".join(
            name.partition(".")[2] for name in dict.fromkeys(names) if name.startswith(f"{table}.")
        )
        for table in tables
    )


def box_section(stats: Stats) -> str:
    """Box sizes, shapes and places, proposed and kept."""
    about = (
        "Proposed: every candidate box. Kept: the boxes of exported samples. Bars and line are "
        "shares of all proposed and of all kept boxes, so that both can be compared."
    )
    held = [_box_panels(stats, counts, named=len(stats.boxes) > 1) for counts in stats.boxes]
    return section("boxes", "Box sizes and places", about, *held)


def _box_panels(stats: Stats, counts: BoxCounts, *, named: bool) -> str:
    title = f'<h3 class="kind">{counts.title}</h3>' if named else ""
    if not counts.proposed.number:
        needed = [f"{counts.key}.{name}" for name in ("pair_id", *CORNERS)]
        needed += [f"pairs.{name}" for name in ("id", "width", "height")]
        return title + panels(panel("Boxes", nothing(no_data(stats, "boxes", *needed))))
    low, high = counts.limits
    limits = Interval(at_least=low or None, at_most=high if high is not None and high < 1 else None)
    both = (counts.proposed, counts.kept)
    names = [
        f"{kind} ({boxes.number:,})" for kind, boxes in zip(("proposed", "kept"), both, strict=True)
    ]
    unit = "% of boxes"
    shown = [
        panel(
            "Size",
            legend(*names, "accepted sizes" if limits.describe() != "any" else ""),
            _pair_chart(
                [boxes.areas for boxes in both],
                Look(
                    label=f"Histogram of box area as a share of the image, {counts.title}",
                    across="box area, share of the image (logarithmic)",
                    up=unit, shares=True, interval=limits,
                ),
            ),
            _no_area(counts.proposed.areas),
        ),
        panel(
            "Shape",
            legend(*names),
            _pair_chart(
                [boxes.aspects for boxes in both],
                Look(
                    label=f"Histogram of width over height of boxes, {counts.title}",
                    across="width : height (logarithmic)", up=unit, shares=True,
                ),
            ),
        ),
        *(
            panel(
                f"Centres, {kind}",
                charts.heat_map(
                    boxes.centres,
                    f"Heat map of box centres in the image, {kind} boxes, {counts.title}",
                    "boxes",
                ),
                kind="place",
            )
            if boxes.number
            else panel(f"Centres, {kind}", nothing("No box was kept."), kind="place")
            for kind, boxes in zip(("proposed", "kept"), both, strict=True)
        ),
    ]  # fmt: skip
    return title + panels(*shown, kind="panels boxes")


def _no_area(areas: Histogram) -> str:
    if not areas.below:
        return ""
    return note(f"{counted(areas.below, 'boxes')} without area or below 0.001 % not shown.")


def _pair_chart(histograms: Sequence[Histogram], look: Look) -> str:
    places = threshold_places(look.interval, histograms[0].axis)
    bars = bars_of(histograms, also=places)
    return histogram(bars, look) if bars else nothing("No box has an area.")


def score_section(stats: Stats) -> str:
    """Every score with the range that the run's settings accept."""
    about = (
        "Every score that was computed, of what was kept and what was not. Shaded: the range that "
        "the settings of this run accept."
    )
    held = [_score_panel(stats, counts) for counts in stats.scores]
    return section("scores", "Scores and thresholds", about, panels(*held))


def _score_panel(stats: Stats, counts: ScoreCounts) -> str:
    kind, total = counts.kind, counts.histogram.total
    if not total:
        return panel(kind.title, nothing(_not_scored(stats, kind)))
    unit = UNITS[kind.table]
    bars = bars_of([counts.histogram], also=threshold_places(kind.interval, counts.histogram.axis))
    look = Look(
        label=f"Histogram of {kind.title}; accepted: {kind.interval.describe()}",
        across=kind.measure,
        up=unit,
        interval=kind.interval,
    )
    said = (
        f"<b>{counts.accepted:,} of {counted(total, unit)}</b> "
        f"({percent(counts.accepted, total)}) lie in "
        f"<code>{escaped(kind.setting)}</code>: {escaped(kind.interval.describe())}."
    )
    return panel(
        kind.title,
        histogram(bars, look) if bars else nothing("All scores lie outside -1 to 1."),
        note(" ".join((said, *_remarks(counts)))),
    )


def _remarks(counts: ScoreCounts) -> list[str]:
    kind, said = counts.kind, []
    if kind.combine is not None:
        which = "better" if kind.combine is Combine.either else "worse"
        rule = f"<code>{escaped(kind.setting)}_combine: {kind.combine.value}</code>"
        said.append(f"The {which} of both sides counts ({rule}).")
    if kind.digits is not None:
        said.append(f"Rounded to {kind.digits} decimals first.")
    beyond = counts.histogram.below + counts.histogram.above
    if beyond:
        said.append(f"{beyond:,} lie outside -1 to 1 and are not drawn.")
    if counts.not_numbers:
        said.append(f"{counts.not_numbers:,} were stored as NaN and count as not accepted.")
    return said


def _not_scored(stats: Stats, kind: ScoreKind) -> str:
    needed = [f"{kind.table}.{name}" for name in kind.columns]
    stopped = stats.run.settings.get("stop_after", "export") != "export"
    if stopped or stats.absent.intersection(needed):
        return no_data(stats, "scores", *needed)
    if stats.run.settings["rules"].get("regions_from") == "truth":
        return "Regions come from the generator's own record, so this score was not asked for."
    return "Nothing came as far as this score."


def sentence_section(stats: Stats) -> str:
    """Lengths of sentences and descriptions, the most frequent sentences, answers of removal."""
    held = []
    sentences = next((one for one in stats.repeats if one.key == "sentences"), None)
    if sentences is not None:
        held += [
            _length_panel(
                stats, "Difference sentences", "sentences", stats.sentence_words, "regions.sentence"
            ),
        ]
    held.append(
        _length_panel(
            stats, "Descriptions", "descriptions", stats.description_words, *_DESCRIPTIONS
        )
    )
    if stats.run.edit.removes:
        held.append(_answer_panel(stats))
    frequent = _frequent(sentences) if sentences is not None else ""
    return section("sentences", "Sentences", "", panels(*held), frequent)


_DESCRIPTIONS = ("regions.content_0", "regions.content_1", "removals.content")


def _length_panel(stats: Stats, title: str, unit: str, words: Histogram, *columns: str) -> str:
    bars = bars_of([words])
    if not bars:
        kept = [f"{name.partition('.')[0]}.kept" for name in columns]
        return panel(title, nothing(no_data(stats, unit, *columns, *kept)))
    look = Look(label=f"Histogram of the length of {unit} in words", across="words", up=unit)
    longer = f" {words.above:,} are longer than 511 words." if words.above else ""
    return panel(
        title,
        histogram(bars, look),
        note(
            f"<b>{counted(words.total, unit)}</b>, median {median(words)} words, at most "
            f"{most(words)}.{longer}"
        ),
    )


def median(words: Histogram) -> int:
    """The middle number of words (the lower one of two)."""
    reached = words.counts.cumsum()
    return int((reached >= (words.total + 1) // 2).argmax())


def most(words: Histogram) -> int:
    """The largest number of words on the axis."""
    return int(words.counts.nonzero()[0][-1])


def _answer_panel(stats: Stats) -> str:
    total = sum(stats.answers.values())
    if not total:
        return panel(
            "Answers of removal questions",
            nothing(no_data(stats, "questions", "removals.answer", "removals.kept")),
        )
    rows = [(letter, f"{n:,}", percent(n, total)) for letter, n in stats.answers.items()]
    return panel(
        "Answers of removal questions",
        table(("answer", "samples", "share"), rows),
        note("A: the left image shows the object. B: the right one does."),
    )


def _frequent(sentences: Repeats) -> str:
    figures = sentences.figures
    if not figures.total:
        return ""
    rows = [
        (cut(group.parts[0]), f"{group.number:,}", percent(group.number, figures.total))
        for group in sentences.groups
    ]
    said = note(
        f"<b>{figures.distinct:,} distinct</b> of {counted(figures.total, 'sentences')} "
        f"({percent(figures.distinct, figures.total)})."
    )
    return panel("Most frequent sentences", said, table(("sentence", "samples", "share"), rows))


def repeat_section(stats: Stats, nearest: str) -> str:
    """What is equal, by kind; `nearest` is what a model found alike (HTML)."""
    subject = "pairs with samples" if stats.run.samples else "all pairs"
    about = f"Compared are {subject}. Equal means equal in every character or every pixel."
    held = [one for one in stats.repeats if one.figures.total]
    if not held:
        found = panels(
            panel("Equal things", nothing(no_data(stats, "pairs to compare", "pairs.kept")))
        )
    else:
        found = _repeat_table(held, stats) + panels(*map(_group_panel, held), kind="panels wide")
    return section("repeats", "Nearest duplicates", about, found, nearest)


_IMAGE_IDS = frozenset({"pairs.image_id_0", "pairs.image_id_1"})


def _repeat_table(held: Sequence[Repeats], stats: Stats) -> str:
    rows = [
        (
            one.title, f"{one.figures.total:,}", f"{one.figures.distinct:,}",
            f"{one.figures.spare:,}", percent(one.figures.spare, one.figures.total),
            f"{one.figures.most:,}",
        )
        for one in held
    ]  # fmt: skip
    header = ("what is compared", "all", "distinct", "repeats", "share", "largest group")
    said = ""
    if not _IMAGE_IDS.isdisjoint(stats.absent):
        said = f"{absent_text(sorted(_IMAGE_IDS & stats.absent))}, so pixels are not compared."
    elif any(one.key == "image_pairs" for one in held):
        said = f"Both images are equal in {counted(stats.same_images, 'pairs')}."
    return panel("Equal things", table(header, rows), note(said) if said else "")


def _group_panel(one: Repeats) -> str:
    groups = [group for group in one.groups if group.number > 1]
    if not groups or one.key == "sentences":
        return ""
    items = "\n".join(map(_group, groups))
    return panel(f"Most repeated {one.title}", f'<ol class="groups">\n{items}\n</ol>')


def _group(group: Group) -> str:
    said = " \u2192 ".join(f'<span dir="auto">{escaped(cut(part))}</span>' for part in group.parts)
    more = ", \u2026" if group.number > len(group.ids) else ""
    ids = ", ".join(map(escaped, group.ids))
    return f"<li><b>{group.number:,}\u00d7</b> {said}<small>{ids}{more}</small></li>"
