"""Declared segments: what the sequences take, which segments hold, and the verdict that they lead to."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from fixtures.simulated import JUDGE, Simulated, a_pair, a_plan, looked, seen

from gateway.core.horizon import precision
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.plan_evidence import SegmentRow
from gateway.core.ramp import RampChange, RampDesign, RampPace, started
from gateway.core.segments import SegmentDesign
from gateway.core.sequence import SequenceName
from gateway.features.experiments.report.build import report_of
from gateway.features.ramp.evidence import evidence_of
from gateway.ramps.decision import decide_ramp
from gateway.reports.model import GateResult
from gateway.store.query import reading
from gateway.verdict.conditions import conditions_of
from gateway.verdict.decision import Decision, SwapDescription
from gateway.verdict.findings import Finding
from gateway.verdict.metrics import SEGMENT, JoinedPair, Metric, StoredScore
from gateway.verdict.report.as_json import schema, to_dict, to_json
from gateway.verdict.report.html import to_html
from gateway.verdict.report.presentation import declared_lines, except_lines
from gateway.verdict.segments.declared import (
    CandidateEvidence,
    decide_by_segment,
    gates_of_moved,
    is_done,
    kept_part,
    segments_found,
)
from gateway.verdict.segments.weak_spots import request_parts, searched
from gateway.verdict.sequences.difference import (
    DifferenceSequence,
    segment_pairs,
    segment_power,
    segment_rule,
)
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.sequences.segment_cells import CELLS, SegmentCells

DESIGN = SegmentDesign(("product", "tools"), 0.1, 0.05, 0.02, (("product", ("code",)),))
CODE, REST = {"product": "code", "tools": "no"}, {"product": "other", "tools": "no"}
SWAP = SwapDescription("chat", "a/large", "b/small")


def plan(**changes: Any) -> Plan:
    usual = {"margin": 0.05, "rules": 2, "method": "hybrid", "max_pairs": 300, "auto_horizon": True, "aa": "alarm"}
    return a_plan(**{**usual, "segments": DESIGN, **changes})


def pairs(n: int, means: dict[str, float], seed: int = 1, **more: Any) -> list[JoinedPair]:
    """n pairs, a fifth of them of code. means: product → mean difference."""
    rng, made = random.Random(seed), []
    for i in range(n):
        product = "code" if rng.random() < 0.2 else "other"
        a = min(1.0, max(0.0, 0.5 + rng.gauss(0, 0.1)))
        b = min(1.0, max(0.0, a + rng.gauss(means[product], 0.2)))
        values = {"product": product, "tools": "no"}
        failing = more.get("fails") == product and rng.random() < 0.3
        joined = a_pair(i, seen(a), candidate=seen(b, failed=failing), repeat=seen(a))
        made.append(replace(joined, segments=values))
    return made


def progressed(of: Plan, joined: list[JoinedPair]) -> PlanProgress:
    progress = PlanProgress(of, of.hash, {})
    for i, pair in enumerate(joined, 1):
        progress.take(i, pair)
    return progress


def states(progress: PlanProgress) -> dict[SequenceName, Any]:
    return {name: state for name, (_, state) in progress.changes().states.items()}


def test_pairs_go_to_each_of_their_segments_and_to_their_cell() -> None:
    joined = pairs(80, {"code": -0.3, "other": 0.0})
    found = progressed(plan(), joined).sequences
    n = {name.metric: s.n for name, s in found.items() if name.metric.startswith(SEGMENT)}
    code = sum(pair.segments == CODE for pair in joined)
    assert n == {"segment product=code": code, "segment product=other": 80 - code, "segment tools=no": 80}


def test_a_pair_drawn_for_its_segment_is_in_no_mean_of_all_calls() -> None:
    joined = pairs(80, {"code": -0.3, "other": 0.0})
    extra = [replace(pair, draw=1.5 * (pair.segments == CODE)) for pair in joined]
    more = (("product", "code", 2.0), ("tools", "no", 1.2))
    of = plan(segments=replace(DESIGN, more=more))
    found = {name.metric: s for name, s in progressed(of, extra).sequences.items()}
    code = sum(pair.extra for pair in extra)
    assert found["quality"].n == 80 - code
    assert found["error_rate"].n == 80 - code
    assert found["segment product=code"].n == code
    assert found["segment tools=no"].n == 80 - code, "with its own rate, whatever another segment's is"
    cells = next(s for name, s in states(progressed(of, extra)).items() if name.metric.startswith(CELLS))
    assert sum(cells["pairs"].values()) == 80 - code


def test_segments_continue_bit_identically_after_a_restart() -> None:
    of, joined = plan(), pairs(150, {"code": -0.2, "other": 0.0})
    whole, stored = states(progressed(of, joined)), {}
    for at in range(0, 150, 30):
        progress = PlanProgress(of, of.hash, orjson_copy(stored))
        for i, pair in enumerate(joined[at : at + 30], at + 1):
            progress.take(i, pair)
        stored |= states(progress)
    assert orjson_copy(stored) == orjson_copy(whole)


def orjson_copy(of: dict[SequenceName, Any]) -> dict[SequenceName, Any]:
    return {name: orjson.loads(orjson.dumps(state)) for name, state in of.items()}


def test_a_missing_score_counts_as_the_worst_in_its_segment() -> None:
    """Answers without a score on one arm could be all of a small segment's losses."""
    joined = pairs(60, {"code": 0.0, "other": 0.0})
    none = replace(seen(0.5), scores={JUDGE: StoredScore("not_applicable")})
    lacking = [replace(p, arms={**p.arms, "candidate": none}) if p.segments == CODE else p for p in joined]
    found = {name.metric: s for name, s in progressed(plan(), lacking).sequences.items()}
    assert found["segment product=code"].moments.mean < -0.4
    assert "quality" in found
    assert found["quality"].n == sum(p.segments == REST for p in lacking)


def evidence(of: Plan, joined: list[JoinedPair]) -> CandidateEvidence:
    progress = progressed(of, joined)
    cells = next(SegmentCells.from_state(s) for n, s in states(progress).items() if n.metric.startswith(CELLS))
    sequences = {name.metric: s for name, s in progress.sequences.items() if name.candidate == "candidate"}
    return CandidateEvidence(of, "candidate", sequences, cells)


def verdict(of: CandidateEvidence, base: str, gates: tuple[GateResult, ...] = ()) -> Decision:
    made = Decision(base, f"Switching. {base.capitalize()}.", ())  # type: ignore[arg-type]
    return decide_by_segment(made, SWAP, segments_found(of, {}), gates)


def test_ship_needs_every_segment() -> None:
    good = evidence(plan(), pairs(700, {"code": 0.02, "other": 0.02}))
    shipped = verdict(good, "ship")
    assert shipped.verdict == "ship"
    assert shipped.sentence == "Switching. All 3 segments hold (1 more are too rare to decide). Ship.", "tools=yes"
    few = evidence(plan(), pairs(60, {"code": 0.02, "other": 0.02}))
    held = verdict(few, "ship")
    assert held.verdict == "hold"
    assert "Undecided: segment product=code (difference" in held.sentence


def test_a_segment_that_is_shown_to_be_worse_is_excepted() -> None:
    of = evidence(plan(), pairs(500, {"code": -0.3, "other": 0.01}))
    for base in ("hold", "reject"):
        found = verdict(of, base)
        assert found.verdict == "ship_except", base
        assert found.sentence.startswith("Switching chat from a/large to b/small, except product=code: not worse by")
        assert "Ship, but keep product=code on a/large: worse by 0.2" in found.sentence
    red = GateResult("aa", -1, "the pipeline makes a difference")
    assert verdict(of, "hold", (red,)).verdict == "hold", "a gate withholds it"


def test_calls_that_stay_with_the_control_hold_no_ship_back() -> None:
    of = evidence(plan(), pairs(500, {"code": -0.3, "other": 0.01}))
    calls, other = (
        GateResult("calls", 0, "counting every call alike, it is −0.06", -0.06),
        GateResult("units", 0, "few"),
    )
    assert verdict(of, "hold", (calls,)).verdict == "ship_except"
    assert verdict(of, "hold", (calls, other)).verdict == "hold"
    moved, kept = gates_of_moved((calls, other), segments_found(of, {}))
    assert (moved.state, kept) == (1, other)
    assert moved.says.startswith("counting every call that moves alike, the difference is −0.004")
    without = evidence(plan(), pairs(500, {"code": 0.02, "other": 0.02}))
    assert gates_of_moved((calls,), segments_found(without, {})) == (calls,), "all calls move"


def test_an_excepted_segment_is_waited_for_while_it_is_undecided() -> None:
    of = evidence(plan(), pairs(250, {"code": -0.08, "other": 0.02}))
    found = segments_found(of, {})
    assert [s.state for s in found.segments if s.name == "product=code"] == ["undecided"]
    assert verdict(of, "ship").verdict == "hold"
    assert not is_done(of, ("product", "code"))


def test_a_segment_is_judged_without_an_excepted_ones_requests() -> None:
    """Nine of ten code requests have tools, so that requests with tools lose as well, for the sake of code."""
    rng, joined = random.Random(7), []
    for pair in pairs(1200, {"code": -0.3, "other": 0.01}):
        code = pair.segments == CODE
        tools = "yes" if rng.random() < (0.9 if code else 0.15) else "no"
        joined.append(replace(pair, segments={"product": "code" if code else "other", "tools": tools}))
    of = evidence(plan(), joined)
    tools, code = ("tools", "yes"), ("product", "code")
    assert (of.estimate(tools).value or 0.0) < -0.1
    assert (of.estimate(tools, 1.0, [code]).value or 0.0) > -0.05
    found = verdict(of, "hold")
    assert found.verdict == "ship_except"
    assert "except product=code: not worse" in found.sentence


def test_leaving_out_undecided_segments_takes_little_of_the_error() -> None:
    """All choices of as many segments together have no more than the part that is left for them."""
    assert kept_part(5, 0) == 0.8
    parts = [math.comb(5, j) * kept_part(5, j) for j in range(6)]
    assert sum(parts) <= 1.0
    assert kept_part(5, 1) == pytest.approx(0.02)


@pytest.mark.parametrize(("segments", "price"), [(2, 1.30), (3, 1.48), (5, 1.69), (8, 1.88)])
def test_the_price_of_deciding_all_segments(segments: int, price: float) -> None:
    """The price is a multiple of the pairs of a test of one segment with a power of 0.8."""
    values_ = tuple("abcdefgh"[: segments - 1])
    of = plan(segments=SegmentDesign(("caller",), 0.1, values=(("caller", values_),)))
    one, all_ = precision(0.1, 0.05), precision(0.1, 0.05, segment_power(of))
    assert (one / all_) ** 2 == pytest.approx(price, abs=0.02)


def test_reject_waits_while_the_rest_may_still_hold() -> None:
    early = evidence(plan(), pairs(100, {"code": -0.5, "other": 0.0}))
    held = verdict(early, "reject")
    assert held.verdict in ("hold", "ship_except")
    assert held.verdict != "hold" or "may still hold. Hold." in held.sentence
    everywhere = evidence(plan(), pairs(100, {"code": -0.3, "other": -0.3}))
    assert verdict(everywhere, "reject").verdict == "reject"


def test_a_guardrail_must_hold_on_the_traffic_that_goes() -> None:
    rails = (Guardrail("error_rate", 0.05),)
    only_code = evidence(plan(guardrails=rails), pairs(500, {"code": -0.3, "other": 0.01}, fails="code"))
    assert verdict(only_code, "reject").verdict == "ship_except"
    elsewhere = evidence(plan(guardrails=rails), pairs(500, {"code": -0.3, "other": 0.01}, fails="other"))
    assert verdict(elsewhere, "reject").verdict == "reject"


def test_a_rare_segment_is_not_waited_for() -> None:
    joined = [p for i, p in enumerate(pairs(500, {"code": -0.4, "other": 0.02})) if p.segments == REST or i % 10 == 0]
    found = segments_found(evidence(plan(), joined), {})
    assert {s.name for s in found.segments if s.state == "rare"} == {"product=code", "tools=yes"}
    assert "product=code" not in {s.name for s in found.waited}


def test_the_rule_of_a_segment_has_its_own_horizon_and_margin() -> None:
    of = plan()
    rule = segment_rule(of, Metric("quality", "score", "1 c1"), 0.1)
    assert rule.method == "hybrid"
    assert rule.horizon == segment_pairs(of, 0.1**0.5, 0.1)
    assert rule.compared == 0
    assert segment_rule(plan(method="anytime", max_pairs=None), Metric("quality", "score"), 0.1).method == "guarded"


@pytest.fixture
def stored(empty_store: Path, tmp_path: Path) -> Any:
    """Makes a stored experiment of these pairs."""
    made: list[Simulated] = []

    def make(of: Plan, joined: list[JoinedPair]) -> Simulated:
        simulated = Simulated.at(empty_store, tmp_path / f"{len(made)}.db", of)
        made.append(simulated)
        simulated.add(joined)
        return simulated

    yield make
    for each in made:
        each.close()


def report(of: Simulated) -> Any:
    with reading(of.url) as connection:
        return report_of(connection, "swap")


def test_the_report_begins_with_the_segments(stored: Any) -> None:
    made = report(stored(plan(min_hours=0.0), pairs(500, {"code": -0.3, "other": 0.01})))
    assert made.verdict == "ship_except"
    assert made.declared.segments[0].name == "product=code", "worst first"
    assert made.declared.kept.excepted == ("product=code",)
    assert 0.7 < made.declared.kept.share < 0.9
    lines = declared_lines(made.declared)
    assert lines[0].startswith("product=code")
    assert "●" in lines[0]
    assert "┆" in lines[0]
    assert any(line.startswith("without product=code (") for line in lines)
    assert any(line.startswith("weak spots: none found in 0 pairs (of 800") for line in lines)
    page = to_html(made)
    assert page.index("Where it holds") < page.index("The difference, as pairs came")
    assert except_lines(made) == ["next: gateway route except swap --write makes the route that serves it"]
    assert "gateway route except swap --write" in page
    found = to_dict(made)
    jsonschema_rs.validator_for(schema()).validate(orjson.loads(to_json(made)))
    assert found["declared"]["segments"][0]["name"] == "product=code"
    assert "segment product=code" not in {m["metric"] for m in found["metrics"]}
    assert not [name for name in found["versions"] if name.startswith("segment")]


def test_a_report_without_segments_has_no_word_of_them(stored: Any) -> None:
    made = report(stored(plan(segments=None), pairs(60, {"code": 0.0, "other": 0.0})))
    assert "declared" not in to_dict(made)
    assert made.declared is None
    assert "Where it holds" not in to_html(made)


def test_open_segments_are_conditions_of_the_verdict(stored: Any) -> None:
    of = stored(plan(min_hours=0.0), pairs(60, {"code": 0.02, "other": 0.02}))
    found: Finding = of.found()
    assert found.decision.verdict == "hold"
    with of.engine.connect() as connection:
        open_ = [c for c in conditions_of(found, looked(connection, of.plan)) if c.kind == "segment"]
    assert {c.name for c in open_} == {"product=code", "product=other", "tools=no"}


def a_row(i: int, difference: float, weak: bool, cluster: str | None = None) -> SegmentRow:
    request = orjson.dumps({"messages": [{"role": "user", "content": "```" if weak else "text"}]})
    return SegmentRow(difference, "web", "chat", "chat", False, 300, request, None, "", i, cluster)


def test_the_search_names_the_part_that_loses() -> None:
    rng, of = random.Random(4), plan()
    rows = [a_row(i, rng.gauss(-0.5 if i % 5 == 0 else 0.1, 0.2), i % 5 == 0) for i in range(1, 601)]
    rows = [replace(row, difference=max(-1.0, min(1.0, row.difference))) for row in rows]
    at_once = searched(of, {}, rows)
    assert at_once is not None
    assert at_once["where"] == "code = yes"
    assert at_once["share"] == pytest.approx(0.2, abs=0.05)
    state: dict[str, Any] = {}
    for n in (30, 120, 121, 400, 600):
        state = orjson.loads(orjson.dumps(searched(of, state, rows[:n]) or state))
    assert state == orjson.loads(orjson.dumps(at_once)), "however the pairs came"


def test_the_search_knows_code_and_turns() -> None:
    assert request_parts(a_row(1, 0.0, True)) | {"code": "yes", "turns": "1"} == request_parts(a_row(1, 0.0, True))


def test_a_state_of_a_sequence_without_pairs_has_no_interval() -> None:
    sequence = DifferenceSequence(segment_rule(plan(), Metric("quality", "score"), 0.1), True)
    assert sequence.estimate().value is None


def test_a_ramps_evidence_names_the_segments_that_do_not_hold(stored: Any) -> None:
    """The consumer reads it from the store: the next step waits for a person, and for the search."""
    design = RampDesign((0.5, 1.0), 0.0, 1)
    of = plan(mode="both", ramp=design, method="anytime", max_pairs=None, auto_horizon=False, min_hours=0.0)
    made = stored(of, pairs(1000, {"code": -0.3, "other": 0.02}))
    with made.engine.connect() as connection:
        evidence_ = evidence_of(connection, StoredPlan(of, of.hash, "running", 1.0), [], 1600.0)
    assert evidence_.verdict == "ship_except", evidence_.sentence
    assert evidence_.excepted == ("product=code",)
    assert evidence_.weak_spot is not None
    assert (evidence_.weak_spot.pairs, evidence_.weak_spot.alarm) == (0, False)
    record = started("swap", of.hash, RampChange(1.0, "t", "t"))
    held = decide_ramp(record, design, replace(evidence_, newest=1599.0), 1600.0, RampPace("auto"))
    assert (held.action, held.without) == ("hold", ("product=code",))
    assert "gateway ab promote swap --except product=code" in held.reason
    assert any("the search for weak spots has seen 0 of 800 pairs" in text for text in held.also)
