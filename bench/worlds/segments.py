"""Rows of segments: those that overlap, are rare, or are looked at without having been declared.

The pairs go through `PlanProgress` with the properties of their requests, and a look, after every LOOK pairs, is
`finding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gateway.core.horizon import AT_MOST
from gateway.core.plan import Plan
from gateway.core.segments import SegmentDesign
from gateway.verdict.decision import SHIPS
from gateway.verdict.metrics import JoinedPair, PairOrigin
from gateway.verdict.segments.exploratory import collected, with_intervals
from worlds.rows import Row, Run, Side
from worlds.traffic import DEVIATION, START, Call
from worlds.verdict_play import Experiment, plan_of, seen_of

OWN, LOOK, HOURS = 0.1, 25, 25.0
"""Margin within a segment; pairs between two looks; hours that the planned pairs take."""
Request = tuple[Mapping[str, str], float]
"""(value of each declared property, mean difference)."""
Requests = Callable[[np.random.Generator], Request]


def overlapping(rng: np.random.Generator) -> Request:
    """Code, a fifth, loses its whole margin on average, all of it where it has tools; tools are frequent elsewhere."""
    code = rng.random() < 0.2
    tools = bool(rng.random() < (0.5 if code else 0.4))
    loss = -2 * OWN if code and tools else 0.0
    return {"product": "code" if code else "other", "tools": "yes" if tools else "no"}, loss


def rare(rng: np.random.Generator) -> Request:
    """A segment with 6 % of the pairs, just above the least share, loses exactly its margin."""
    code = rng.random() < 0.06
    return {"product": "code" if code else "other", "tools": "no"}, -OWN if code else 0.0


def alike(rng: np.random.Generator) -> Request:
    return {"product": "code" if rng.random() < 0.2 else "other", "tools": "yes" if rng.random() < 0.4 else "no"}, 0.0


@dataclass(frozen=True, slots=True)
class SegmentWorld:
    """The event: it ships without keeping `product = code` with the control; or, with `any_ship`, it ships."""

    requests: Requests
    any_ship: bool = False

    def __call__(self, seed: int, rules: int) -> Run:
        plan = segment_plan(rules)
        experiment, rng, planned = Experiment(plan), np.random.default_rng([seed, 51]), plan.max_pairs or 1
        for i in range(1, AT_MOST * planned + 1):
            experiment.joined(_pair(rng, i, START + 3600 * HOURS / planned * i, self.requests(rng)))
            if i % LOOK and i < AT_MOST * planned:
                continue
            found = experiment.finding()
            if found.decision.verdict != "hold":
                kept = found.segments.kept.excepted if found.segments and found.segments.kept else ()
                ships = found.decision.verdict in SHIPS
                return Run(ships and (self.any_ship or "product=code" not in kept), i)
        return Run(False, AT_MOST * planned)


def segment_plan(rules: int) -> Plan:
    design = SegmentDesign(("product", "tools"), OWN, 0.05, 0.0, (("product", ("code",)),))
    return replace(plan_of(rules), segments=design, repeat_control=0.25)


def _pair(rng: np.random.Generator, i: int, at: float, request: Request) -> JoinedPair:
    values, mean = request
    difference, again = np.clip(rng.normal([mean, 0.0], DEVIATION), -1, 1).tolist()
    call = Call(at, (1 - difference) / 2, (1 + difference) / 2, (1 + again) / 2)
    control, arms = seen_of(call, repeat=i % 4 == 0)
    return JoinedPair(f"p{i}", control, arms, None, PairOrigin(at, "web", f"u{i}"), segments=values)


@dataclass(frozen=True, slots=True)
class Explored:
    """The table of segments that nobody declared, looked at after every LOOK pairs. No segment differs.

    The event: at some look, a segment is shown to be better or worse. ALPHA for all segments together.
    """

    pairs: int = 600
    properties: int = 6

    def __call__(self, seed: int, rules: int) -> Run:
        rng = np.random.default_rng([seed, 52])
        differences = np.clip(rng.normal(0.0, DEVIATION, self.pairs), -1, 1)
        values = rng.choice(5, (self.pairs, self.properties), p=(0.5, 0.25, 0.15, 0.07, 0.03))
        parts = [({f"p{j}": f"v{v}" for j, v in enumerate(row)}, float(d))
                 for row, d in zip(values.tolist(), differences.tolist(), strict=True)]  # fmt: skip
        for pairs in range(4 * LOOK, self.pairs + 1, LOOK):
            if any(segment.found != "unclear" for segment in with_intervals(collected(parts[:pairs]), 0.05)):
                return Run(True, pairs)
        return Run(False, self.pairs)


def _row(name: str, event: str, world: SegmentWorld, side: Side = "at most", bound: float = 0.025) -> Row:
    return Row(name, "segments", event, world, side, bound, runs=400)


ROWS: list[Row] = [
    _row("segments overlap, one loses its margin", "ships falsely", SegmentWorld(overlapping)),
    _row("a rare segment loses its margin", "ships falsely", SegmentWorld(rare)),
    _row("segments overlap, none differs", "ships", SegmentWorld(alike, any_ship=True), "measured"),
    Row("20 segments that nobody declared", "segments", "one differs falsely", Explored(), "at most", 0.05,
        runs=1_000, rules=(3,)),
]  # fmt: skip
