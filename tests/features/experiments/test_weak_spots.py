"""The search for weak spots over stored pairs: it takes whole blocks once, and names what it finds."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
from fixtures.simulated import a_pair, a_plan, seen

from gateway.core.plan import Plan, StoredPlan
from gateway.core.ramp import RampChange, RampDesign, RampEvent, started
from gateway.core.segments import SegmentDesign
from gateway.features.experiments.advance import advance_search
from gateway.store import sequences as kept
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.ramp_events import add_ramp_events
from gateway.verdict.segments.weak_spots import searches
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.states import SEARCHED, SequenceStates

DESIGN = SegmentDesign((), 0.1, weak_spots=0.02)
PLAN = a_plan(margin=0.05, rules=2, method="anytime", guardrails=(), segments=DESIGN)


def stored_pairs(
    store: Any, exchange: Any, n: int, first: int = 1, seed: int = 1, plan: Plan = PLAN, worst: str = "code"
) -> None:
    """Pairs whose candidate loses where the product is code, a fifth of them, and wins a little elsewhere."""
    rng = random.Random(seed + first)

    def work(connection: Any) -> None:
        progress = PlanProgress(plan, plan.hash, kept.states(connection, plan.hash))
        for i, (pair, code) in enumerate(made, first):
            b = min(1.0, max(0.0, 0.5 + rng.gauss(-0.4 if code else 0.1, 0.15)))
            progress.take(i, replace(a_pair(i, seen(0.5), candidate=seen(b), repeat=seen(0.5)), id=pair))
        kept.save(connection, progress.changes(), 1.0)

    made = []
    for i in range(n):
        product = worst if i % 5 == 0 else "mail"
        body = orjson.dumps({"messages": [{}], "metadata": {"product": product}})
        declared = orjson.dumps({"values": {"metadata.product": product}}).decode()
        record = exchange("1", request=body, segments=declared)
        store.write(record)
        made.append((record.id, i % 5 == 0))
    store.run(work)


def found(store: Any, plan: Plan = PLAN) -> Any:
    """Findings of the search after it went on."""
    stored = StoredPlan(plan, plan.hash, "running", 1.0)
    store.run(lambda c: advance_search(c, stored, 2.0))
    return store.run(lambda c: SequenceStates(StoredEvidence(c, stored)).weak_spot("candidate"))


def test_the_search_takes_whole_blocks_of_stored_pairs(store: Any, exchange: Any) -> None:
    assert found(store).pairs == 0
    stored_pairs(store, exchange, 49)
    assert (found(store).pairs, found(store).needed) == (0, SEARCHED)
    stored_pairs(store, exchange, 56, first=50)
    assert found(store).pairs == 100
    assert found(store).pairs == 100, "no pair is taken twice"
    stored_pairs(store, exchange, 300, first=106)
    spot = found(store)
    assert (spot.pairs, spot.alarm, spot.where) == (400, True, "metadata.product = code")
    assert spot.difference < -0.2
    assert spot.p <= 0.02
    stored_pairs(store, exchange, 100, first=406)
    again = found(store)
    assert (again.pairs, again.where, again.difference) == (500, spot.where, spot.difference), (
        "an alarm stays as it was"
    )


def test_excepted_segments_leave_the_search(store: Any, exchange: Any) -> None:
    """The ramp would never go on past the spot, which its exception has dealt with already. The search goes on in the
    traffic that moves, and finds the next spot there."""
    design = replace(DESIGN, by=("metadata.product",), values=(("metadata.product", ("code", "mail", "poems")),))
    plan = replace(PLAN, rules=3, mode="both", ramp=RampDesign((0.1, 1.0), 10.0, 20), segments=design)
    stored_pairs(store, exchange, 1_000, plan=plan)
    assert found(store, plan).where == "metadata.product = code"
    begun = started("swap", plan.hash, RampChange(1.0, "ada", "the plan has started"))
    agreed = replace(begun, version=begun.version + 1, state="ramp", step=0, kept=("metadata.product=code",))
    store.run(lambda c: add_ramp_events(c, [RampEvent("1-0", begun, None, {}), RampEvent("2-0", agreed, None, {})]))
    spot = found(store, plan)
    assert (spot.pairs, spot.alarm) == (800, False), "four fifths of the pairs, from the first one on"
    assert found(store, plan).pairs == 800
    stored_pairs(store, exchange, 1_000, first=1_001, plan=plan, worst="poems")
    spot = found(store, plan)
    assert (spot.pairs, spot.where) == (1_800, "metadata.product = poems")


def test_a_plan_that_asks_for_no_search_has_none(store: Any, exchange: Any) -> None:
    plan = replace(PLAN, segments=replace(DESIGN, by=("tools",), weak_spots=0.0))
    assert not searches(plan)
    assert not searches(replace(PLAN, segments=None))
    assert found(store, plan) is None
