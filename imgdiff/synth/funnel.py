"""How many items and regions each stage took in and let through, and why the others fell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgdiff.synth.config import StopAfter
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.states import ItemState

ITEM_STAGES = ("source", "edit", "generate", "image_similarity", "regions")
REMOVED_ITEM_STAGES = (*ITEM_STAGES[:-1], "removal")  # where nothing else is made
REGION_STAGES = (
    "regions", "difference", "match", "suppression", "top_n", "describe",
    "content_similarity", "content_match", "sentence",
)  # fmt: skip
REMOVAL_STAGES = (
    "propose", "difference", "suppression", "top_n", "mask", "inpaint", "describe", "match",
)  # fmt: skip
STAGES = {"items": ITEM_STAGES, "regions": REGION_STAGES, "removals": REMOVAL_STAGES}


@dataclass
class Funnel:
    """Additive counts: `(level, stage, reason)` of everything that fell, and the totals."""

    totals: Counter[str] = field(default_factory=Counter)
    fallen: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def count(self, states: Sequence[ItemState]) -> None:
        """Add one shard."""
        for state in states:
            self.totals["items"] += 1
            if state.rejected is not None:
                self.fallen["items", state.rejected.stage, state.rejected.reason] += 1
            self.totals["regions"] += len(state.regions)
            kept = 0
            for region in state.regions:
                if region.rejected is not None:
                    key = ("regions", region.rejected.stage, region.rejected.reason)
                    self.fallen[key] += 1
                else:
                    kept += state.rejected is None
            kept += self._count_removals(state)
            self.totals["samples"] += kept
            self.totals["pairs_with_samples"] += bool(kept)

    def _count_removals(self, state: ItemState) -> int:
        """Add the removals of one item; returns how many stand."""
        if state.removals:
            self.totals["removals"] += len(state.removals)
        fallen = [item.rejected for item in state.removals if item.rejected is not None]
        for rejected in fallen:
            self.fallen["removals", rejected.stage, rejected.reason] += 1
        return len(state.removals) - len(fallen)

    def add(self, other: dict[str, object]) -> None:
        """Add the JSON form of another funnel."""
        totals, fallen = other["totals"], other["fallen"]
        assert isinstance(totals, dict) and isinstance(fallen, list)  # noqa: PT018
        self.totals.update(totals)
        for level, stage, reason, number in fallen:
            self.fallen[level, stage, reason] += number

    def to_json(self) -> dict[str, object]:
        """A form that `add` reads."""
        fallen = [[*key, number] for key, number in sorted(self.fallen.items())]
        return {"totals": dict(self.totals), "fallen": fallen}

    def steps(self, level: str, stages: Sequence[str] | None = None) -> list[dict[str, object]]:
        """For each stage of a level: what came in, what went on, and the reasons."""
        remaining = self.totals[level]
        rows: list[dict[str, object]] = []
        for stage in stages or STAGES[level]:
            reasons = {
                r: n for (lv, s, r), n in sorted(self.fallen.items()) if (lv, s) == (level, stage)
            }
            lost = sum(reasons.values())
            rows.append(
                {"stage": stage, "in": remaining, "out": remaining - lost, "rejected": reasons}
            )
            remaining -= lost
        return rows

    def report(
        self, stop: StopAfter = StopAfter.export, edit: Edit = Edit.replace
    ) -> dict[str, object]:
        """funnel.json: the stages up to the one where the run stopped."""
        stages = ITEM_STAGES if edit.replaces else REMOVED_ITEM_STAGES
        whole = stop in (StopAfter.decide, StopAfter.export)
        ran = len(stages) if whole else stages.index(stop.value) + 1
        told = REGION_STAGES if stop is StopAfter.export else REGION_STAGES[:-1]
        removals = {"removals": self.steps("removals") if whole else []} if edit.removes else {}
        return {
            "items": self.steps("items", stages)[:ran],
            "regions": self.steps("regions", told) if whole and edit.replaces else [],
            **removals,
            "pairs_with_samples": self.totals["pairs_with_samples"],
            "samples": self.totals["samples"],
        }


@dataclass
class Decision:
    """What was decided about some items: their funnel and the counts of their audit."""

    funnel: Funnel = field(default_factory=Funnel)
    audit: Counter[str] = field(default_factory=Counter)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add the JSON form of another one."""
        self.funnel.add(other["funnel"])
        self.audit.update(other["audit"])

    def to_json(self) -> dict[str, object]:
        """A form that `add` reads."""
        return {"funnel": self.funnel.to_json(), "audit": dict(self.audit)}
