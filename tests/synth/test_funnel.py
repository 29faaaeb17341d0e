"""The funnel adds up, over shards and through JSON."""

from imgdiff.core.geometry import Box
from imgdiff.core.records import Region, Side
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.states import ItemState, RegionState


def item(name, reason=None, regions=()):
    state = ItemState(id=name, caption=None, regions=[_region(name, r) for r in regions])
    if reason:
        state.reject(*reason)
    return state


def _region(name, reason):
    box = Box(left=0, top=0, right=1, bottom=1)
    state = RegionState(region=Region(id=f"{name}-r", pair_id=name, side=Side.LEFT, box=box))
    if reason:
        state.reject(*reason)
    return state


STATES = [
    item("a", ("source", "empty caption")),
    item("b", ("edit", "no known object")),
    item("c", ("regions", "no region left"), [("difference", "crops too alike")]),
    item("d", None, [None, ("match", "no changed object in the box"), None]),
    item("e", None, [None]),
]


def test_every_loss_is_counted_at_its_stage():
    funnel = Funnel()
    funnel.count(STATES)
    report = funnel.report()
    items = {row["stage"]: (row["in"], row["out"], row["rejected"]) for row in report["items"]}
    assert items["source"] == (5, 4, {"empty caption": 1})
    assert items["edit"] == (4, 3, {"no known object": 1})
    assert items["generate"] == (3, 3, {})
    assert items["regions"] == (3, 2, {"no region left": 1})
    regions = {row["stage"]: (row["in"], row["out"]) for row in report["regions"]}
    assert regions["difference"] == (5, 4)
    assert regions["match"] == (4, 3)
    assert regions["sentence"] == (3, 3)
    assert (report["samples"], report["pairs_with_samples"]) == (3, 2)


def test_parts_add_up_to_the_whole():
    whole, joined = Funnel(), Funnel()
    whole.count(STATES)
    for part in (STATES[:2], STATES[2:]):
        one = Funnel()
        one.count(part)
        joined.add(one.to_json())
    assert joined.report() == whole.report()
