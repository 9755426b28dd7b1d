"""Answers of a split to which its primary does not apply: what the gate makes of them, in a real store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Plan
from gateway.features.experiments.completeness import SplitMissing, split_completeness_gate
from gateway.features.experiments.findings import Finding, finding
from gateway.reports.model import Estimate, GateResult
from gateway.reports.number_format import counted
from gateway.store.plans import StoredPlan
from gateway.store.query import reading

LATER = 2e9  # after every window
GOOD, BAD, NO_SCORE = "0.8", "0.2", "none"
Says = Callable[[str, random.Random], str]
Read = Callable[..., Finding]


@pytest.fixture
def halves(plan: Plan) -> Plan:
    made = replace(plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", guardrails=(), rules=2)
    return replace(made, empty="failed", min_hours=0.0)


@pytest.fixture
def read(keep: Callable[..., str], exchange: Callable[..., Exchange]) -> Read:
    def look(plan: Plan, says: Says, n: int = 1500, **of_bad: Any) -> Finding:
        with reading(keep(records(plan, exchange, says, n, of_bad))) as connection:
            return finding(connection, StoredPlan(plan, plan.hash, "running", 0.0), "candidate", LATER)

    return look


def records(
    plan: Plan,
    exchange: Callable[..., Exchange],
    says: Says,
    n: int,
    of_bad: dict[str, Any] | None = None,
    seed: int = 7,
) -> list[Exchange]:
    """n calls of both arms in turn. of_bad: fields of the candidate's bad answers."""
    rng, made = random.Random(seed), []
    for i in range(n):
        arm = ("candidate", "control")[i % 2]
        text = says(arm, rng)
        more = of_bad if of_bad and arm == "candidate" and text == BAD else {}
        same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "received": 1000.0 + i}
        made.append(exchange(text, arm=arm, cluster=f"u{i}", **same, **more))
    return made


def hides(arm: str, rng: random.Random) -> str:
    """A quarter of the candidate's answers is bad, and has no score: 0.15 worse, with a margin of 0.1."""
    return NO_SCORE if arm == "candidate" and rng.random() < 0.25 else GOOD


def at_random(share: float) -> Says:
    """Of either arm."""
    return lambda arm, rng: NO_SCORE if rng.random() < share else rng.choice((GOOD, "0.6"))


def gate_of(found: Finding) -> GateResult | None:
    return next((gate for gate in found.gates if gate.name == "completeness"), None)


def test_by_the_first_rules_bad_answers_without_a_score_ship(halves: Plan, read: Read) -> None:
    before = read(replace(halves, rules=1, headers="all"), hides)
    assert (before.decision.verdict, gate_of(before)) == ("ship", None), before.decision


def test_bad_answers_without_a_score_withhold_the_verdict(halves: Plan, read: Read) -> None:
    found = read(halves, hides)
    gate = gate_of(found)
    assert gate is not None
    assert (found.decision.verdict, gate.state) == ("hold", -1)
    assert "stated does not apply to 0 of 750 answers of control, 207 of 750 of candidate" in gate.says
    assert "candidate lacks more, by more than 0.025" in gate.says


def test_a_score_of_a_cut_record_is_not_used_in_a_split(halves: Plan, read: Read) -> None:
    """The record holds less than the client got, so a scorer may find the rest of a bad answer good."""

    def cut(arm: str, rng: random.Random) -> str:
        return BAD if hides(arm, rng) == NO_SCORE else GOOD

    found = read(halves, cut, truncated=True)
    gate = gate_of(found)
    assert gate is not None
    assert (found.decision.verdict, gate.state) == ("hold", -1)
    assert found.primary is not None
    assert found.primary.b.value == pytest.approx(0.8)


def test_failed_answers_are_counted_as_failed_only(halves: Plan, read: Read) -> None:
    def fails(arm: str, rng: random.Random) -> str:
        return BAD if hides(arm, rng) == NO_SCORE else GOOD

    found = read(halves, fails, status=502, outcome="upstream_error")
    assert gate_of(found) is None
    assert found.primary is not None
    assert found.primary.b.value == pytest.approx(0.8 * 0.75, abs=0.05)


def test_equal_arms_ship_once_what_is_missing_is_shown_to_be_alike(halves: Plan, read: Read) -> None:
    found = read(halves, at_random(0.06), 9000)
    gate = gate_of(found)
    assert gate is not None
    assert (found.decision.verdict, gate.state) == ("ship", 1), (found.decision, found.gates)
    assert "the arms are alike within ±0.025" in gate.says


@pytest.mark.parametrize(("share", "verdict", "state"), [(0.1, "hold", 0), (0.05, "ship", 1)])
def test_ship_must_hold_at_worst_until_that_is_known(
    halves: Plan, read: Read, share: float, verdict: str, state: int
) -> None:
    found = read(halves, at_random(share), 1500)
    gate, primary = gate_of(found), found.primary
    assert gate is not None
    assert primary is not None
    assert primary.margin_found != "unclear", "what has a score alone would ship"
    assert (found.decision.verdict, gate.state) == (verdict, state), (gate.says, found.decision)
    assert "with these counted as the worst for the candidate the difference is" in gate.says
    assert primary.at_worst is not None
    assert primary.difference.value is not None
    # 0.7: the mean score; a missing one costs the candidate 0.7, and gives the control 0.3.
    assert primary.at_worst.value == pytest.approx(primary.difference.value - share, abs=0.04)


def test_the_open_gate_says_how_many_units_would_close_it(halves: Plan, read: Read) -> None:
    """That many close it, with a third more for what chance moved at the first look."""
    short = read(halves, at_random(0.07), 700)
    gate = gate_of(short)
    assert gate is not None
    assert short.split is not None
    assert short.split.missing is not None
    more = short.split.missing.more_units
    assert more is not None
    assert gate.says.endswith(f"; about {counted(more, 'unit')} more close this gate")
    assert 100 < more < 10_000
    longer = gate_of(read(replace(halves, name="longer"), at_random(0.07), round(1.33 * (700 + more))))
    assert longer is not None
    assert longer.state == 1, longer.says


def test_where_no_units_would_close_the_gate_it_says_so(halves: Plan) -> None:
    found = SplitMissing((30, 300), (10, 300), 0.13, Estimate(0.05, -0.1, 0.2))
    gate = split_completeness_gate("stated", "candidate", found, Estimate(-0.2, -0.3, 0.0), 0.1)
    assert gate is not None
    assert gate.says.endswith("; it is not known how many units would close this gate")


def test_served_answers_that_decide_have_the_gate_next_to_pairs_too(halves: Plan, read: Read) -> None:
    """No pair has a value of the primary yet, so the served answers decide it."""
    found = read(replace(halves, mode="both", shadow=0.1), hides)
    gate = gate_of(found)
    assert gate is not None
    assert (found.decision.verdict, gate.state) == ("hold", -1)


def test_few_answers_without_a_score_change_nothing(halves: Plan, read: Read) -> None:
    found = read(halves, at_random(0.005))
    gate = gate_of(found)
    assert gate is not None
    assert (found.decision.verdict, gate.state) == ("ship", 1)
    assert "too few to change the verdict" in gate.says


@pytest.mark.parametrize(
    ("low", "high", "state"), [(0.03, 0.2, -1), (-0.2, -0.03, -1), (-0.02, 0.02, 1), (None, None, 0)]
)
def test_the_gate_of_a_split(low: float | None, high: float | None, state: int) -> None:
    found = SplitMissing((30, 300), (10, 300), 0.13, Estimate(0.0, low, high))
    gate = split_completeness_gate("stated", "candidate", found, None, 0.1)
    assert gate is not None
    assert gate.state == state
    assert (
        split_completeness_gate("stated", "candidate", SplitMissing((0, 9), (0, 9), 0.0, Estimate(0.0)), None, 0.1)
        is None
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("rules", "says", "least", "most"),
    [(1, hides, 95, 100), (2, hides, 0, 0), (1, at_random(0.03), 95, 100), (2, at_random(0.03), 90, 100)],
    ids=("bad before", "bad", "equal before", "equal"),
)
def test_how_often_a_split_ships(
    halves: Plan,
    keep: Callable[..., str],
    exchange: Callable[..., Exchange],
    rules: int,
    says: Says,
    least: int,
    most: int,
) -> None:
    """In 100 splits of 1 500 units each, with one look. 0 of 100 is below 0.04 with an error of 0.025."""
    shipped = 0
    for seed in range(100):
        plan = replace(halves, name=f"swap{seed}", rules=rules, headers="all" if rules < 2 else halves.headers)
        with reading(keep(records(plan, exchange, says, 1500, seed=seed))) as connection:
            found = finding(connection, StoredPlan(plan, plan.hash, "running", 0.0), "candidate", LATER)
        shipped += found.decision.verdict == "ship"
    print(f"rules {rules}: {shipped} of 100 ship")  # noqa: T201
    assert least <= shipped <= most
