"""The gallery of a run: one static HTML file to look at, with everything it needs inside.

No external resource is referred to, the bytes depend on the entries, images and funnel alone, and
every text of the data is escaped. Without JavaScript all of it shows; only the filters need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.files import write_text
from imgdiff.synth.gallery_card import card
from imgdiff.synth.page_parts import (
    entered,
    escaped,
    funnel_charts,
    funnel_levels,
    spoken,
    tiles,
    whole_page,
)
from imgdiff.synth.removal_card import removal_card

ACCEPTED = "accepted"
REMOVED = "removed"
REMOVAL = "removal "  # opens the verdicts of removals that fell
TITLE = "Image pairs of this run"
_HERE = Path(__file__).parent


def write_gallery(
    path: Path,
    entries: Sequence[dict[str, Any]],
    store: Path,
    funnel: dict[str, Any],
    remark: str = "",
) -> None:
    """Write the page of `entries` (rows of `export.gallery_entries`) to `path`, atomically.

    Images are read from `store`; one that cannot be read is named in its card. `funnel` is
    `Funnel.report()`, `remark` stands at the top. StoreError where `path` cannot be written.
    """
    groups = _groups(entries, funnel)
    body = [
        f"<p><strong>{escaped(remark)}</strong></p>" if remark else "",
        _top(funnel, groups),
        _filters(groups) if groups else "",
        "<main>",
        *(_section(group, store) for group in groups),
        "" if groups else _nothing(funnel),
        "<footer>Red: exported regions. Dashed orange: regions that fell. Green and red contents: "
        "those that do and do not name what the generator drew there.</footer></main>",
    ]
    write_text(path, _page("\n".join(part for part in body if part)))


def _page(body: str) -> str:
    style = (_HERE / "gallery.css").read_text(encoding="utf-8")
    script = (_HERE / "gallery.js").read_text(encoding="utf-8")
    return whole_page(TITLE, style, body, script)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """One section: the entries of a verdict, and how many the funnel counted at which level."""

    place: str  # the section's id on the page
    verdict: str
    level: str  # "items", "regions" or "removals"
    entries: Sequence[dict[str, Any]]
    total: int | None

    @property
    def kind(self) -> str:
        return ACCEPTED if self.verdict in (ACCEPTED, REMOVED) else "rejected"

    def heading(self) -> tuple[str, str]:
        """(stage, reason); the stage is empty where the verdict names none."""
        if self.kind == ACCEPTED:
            return "", "Accepted" if self.verdict == ACCEPTED else "Removed objects"
        stage, colon, reason = self.verdict.partition(": ")
        return (spoken(stage), reason) if colon else ("", stage)


def _groups(entries: Sequence[dict[str, Any]], funnel: dict[str, Any]) -> list[_Group]:
    """Entries by verdict: accepted first, then in the order of the funnel, unknown reasons last."""
    by_verdict: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_verdict.setdefault(entry["verdict"], []).append(entry)
    counts = {
        (level, _verdict(level, stage, reason)): n for level, stage, reason, n in _fallen(funnel)
    }
    counts["items", ACCEPTED] = funnel["pairs_with_samples"]
    if removals := funnel.get("removals"):
        counts["removals", REMOVED] = removals[-1]["out"]
        # A pair may be in the count above for its removals alone.
        counts.pop(("items", ACCEPTED))
    order = dict.fromkeys([ACCEPTED, REMOVED, *(verdict for _, verdict in counts), *by_verdict])
    groups: list[_Group] = []
    for number, verdict in enumerate(verdict for verdict in order if verdict in by_verdict):
        held = by_verdict[verdict]
        level = "regions" if held[0]["regions"] and verdict != ACCEPTED else "items"
        if "removal" in held[0]:
            level = "removals"
        groups.append(
            _Group(
                place=verdict if verdict in (ACCEPTED, REMOVED) else f"reason-{number}",
                verdict=verdict,
                level=level,
                entries=held,
                total=counts.get((level, verdict)),
            )
        )
    return groups


def _fallen(funnel: dict[str, Any]) -> Iterator[tuple[str, str, str, int]]:
    """(level, stage, reason, number) of everything that fell."""
    for level in ("items", "regions", "removals"):
        for step in funnel.get(level, ()):
            for reason, number in step["rejected"].items():
                yield level, step["stage"], reason, number


def _verdict(level: str, stage: str, reason: str) -> str:
    """The heading under which what fell so is shown."""
    return f"{REMOVAL if level == 'removals' else ''}{stage}: {reason}"


def _top(funnel: dict[str, Any], groups: Sequence[_Group]) -> str:
    names = {"regions": "regions proposed", "removals": "objects to remove"}
    proposed = [(names[x], entered(funnel, x)) for x in funnel_levels(funnel) if x in names]
    figures = tiles(
        (
            ("captions in", entered(funnel, "items")),
            *proposed,
            ("pairs with samples", funnel["pairs_with_samples"]),
            ("samples out", funnel["samples"]),
        )
    )
    places = {(group.level, group.verdict): group.place for group in groups}
    charts = funnel_charts(funnel, lambda level, *fell: places.get((level, _verdict(level, *fell))))
    return f'<header class="top"><h1>{TITLE}</h1>\n{figures}\n{charts}</header>'


def _filters(groups: Sequence[_Group]) -> str:
    """The sticky bar. Numbers are the cards that each button shows."""
    accepted = [group for group in groups if group.kind == ACCEPTED]
    rejected = [group for group in groups if group.kind != ACCEPTED]
    choices: list[tuple[str, str, Sequence[_Group]]] = [("all", "All", groups)]
    choices += [(ACCEPTED, "Accepted", accepted)] if accepted else []
    choices += [("rejected", "Rejected", rejected)] if rejected else []
    choices += [(group.place, group.heading()[1], [group]) for group in rejected]
    buttons = "".join(
        f'<button type="button" data-show="{key}" aria-pressed="{str(key == "all").lower()}">'
        f"{escaped(text)} <small>{sum(len(group.entries) for group in held)}</small></button>"
        for key, text, held in choices
    )
    return f'<nav aria-label="Filter by verdict"><div>{buttons}</div></nav>'


def _section(group: _Group, store: Path) -> str:
    stage, title = group.heading()
    badge = f'<span class="stage">{escaped(stage)}</span>' if stage else ""
    shown = (removal_card if "removal" in entry else card for entry in group.entries)
    cards = "\n".join(made(entry, store) for made, entry in zip(shown, group.entries, strict=True))
    return (
        f'<section class="group {group.kind}" id="{group.place}" data-kind="{group.kind}">'
        f'<header>{badge}<h2 dir="auto">{escaped(title)}</h2>'
        f'<p class="soft">{_tally(group)}</p></header>\n'
        f'<div class="cards">\n{cards}\n</div></section>'
    )


def _tally(group: _Group) -> str:
    """`3 of 57 pairs shown`, or for regions, which are shown in their pairs, both numbers."""
    shown, total = len(group.entries), group.total
    if group.level == "removals":
        return f"{shown:,} of {total or shown:,} shown"
    pairs = f"{shown:,} {'pair' if shown == 1 else 'pairs'} shown"
    if total is None:
        return pairs
    if group.level == "items":
        return f"{shown:,} of {total:,} {'pair' if total == 1 else 'pairs'} shown"
    return f"{total:,} {'region' if total == 1 else 'regions'} fell here, {pairs}"


def _nothing(funnel: dict[str, Any]) -> str:
    why = (
        "No image pair was drawn; the funnel above says where the captions fell."
        if entered(funnel, "items")
        else "Nothing entered this run."
    )
    return f'<div class="nothing"><h2>No pairs to show</h2><p class="soft">{why}</p></div>'
