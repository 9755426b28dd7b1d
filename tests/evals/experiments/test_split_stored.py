"""A split as its report reads it from a store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan
from gateway.evals.experiments.report import Comparison
from gateway.evals.experiments.split import SplitResult, split_of
from gateway.evals.store.experiments.plans import StoredPlan
from gateway.evals.store.query import reading

ERRORS = "error_rate"
LATER = 2e9  # after every window


@pytest.fixture
def halves(plan: Plan) -> Plan:
    rails = (Guardrail("latency_p95", 0.5),)
    return replace(
        plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", guardrails=rails, rules=2
    )


@pytest.fixture
def read(keep: Callable[..., str]) -> Callable[..., SplitResult]:
    def look(plan: Plan, records: list[Exchange], since: float = 0.0, state: str = "running") -> SplitResult:
        with reading(keep(records)) as connection:
            return split_of(connection, StoredPlan(plan, plan.hash, state, since), "candidate", LATER)

    return look


def of(found: SplitResult, metric: str) -> Comparison:
    (comparison,) = (c for c in found.comparisons if c.metric == metric)
    return comparison


def calls(plan: Plan, exchange: Callable[..., Exchange], slower: float, units: int = 400) -> list[Exchange]:
    """Of users who call six times each, as fast as their network is."""
    rng, made = random.Random(1), []
    for i in range(units):
        arm, level = ("candidate", "control")[i % 2], rng.gauss(0, 0.2)
        for _ in range(6):
            seconds = rng.lognormvariate(level, 0.4) * (slower if arm == "candidate" else 1.0)
            same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}"}
            made.append(exchange(arm=arm, total_s=seconds, **same))
    return made


def test_the_p95_is_compared_where_units_call_often(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    slow = of(read(halves, calls(halves, exchange, 2.0)), "latency_p95")
    assert (slow.direction_found, slow.margin_found, slow.role) == ("worse", "inferior", "guardrail")
    assert (slow.unit, slow.pairs) == ("s", 400)
    assert "slower than the control's: 5.0% of the control's answers, " in slow.method


def test_plans_of_the_first_rules_have_no_p95_of_units(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    older = replace(halves, rules=1)
    found = read(older, calls(older, exchange, 2.0, 100))
    assert "latency_p95" not in [c.metric for c in found.comparisons]


def failing(
    plan: Plan, exchange: Callable[..., Exchange], fails: Callable[[str, str, random.Random], int | None], n: int = 6000
) -> list[Exchange]:
    """One call a unit, of six callers. fails: (caller, arm) → the status of a failed call; None: it succeeds."""
    rng, made = random.Random(3), []
    for i in range(n):
        arm, caller = ("candidate", "control")[i % 2], f"team{rng.randrange(6)}"
        status = fails(caller, arm, rng)
        end: Any = {} if status is None else {"status": status, "outcome": "upstream_error"}
        same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}"}
        made.append(exchange("1", arm=arm, caller=caller, **same, **end))
    return made


def at_times(status: int) -> Callable[[str, str, random.Random], int | None]:
    """A tenth of the candidate's calls end so."""
    return lambda _, arm, rng: status if arm == "candidate" and rng.random() < 0.1 else None


@pytest.fixture
def failures(halves: Plan) -> Plan:
    return replace(halves, guardrails=(Guardrail("error_rate", 0.03),))


def test_refused_requests_are_no_failures_and_are_not_hidden(
    failures: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    """The candidate refuses a tenth of what the control takes: a shorter context, say."""
    found = read(
        failures,
        failing(failures, exchange, lambda _, arm, rng: 400 if arm == "candidate" and rng.random() < 0.1 else None),
    )
    errors, refused = of(found, ERRORS), of(found, "request_refused")
    assert (errors.b.value, errors.margin_found) == (0.0, "equivalent")
    assert (refused.role, refused.margin, refused.margin_found) == ("guardrail", 0.03, "inferior")
    assert refused.b.value == pytest.approx(0.1, abs=0.02)
    first = replace(failures, rules=1, headers="all")
    earlier = read(
        first, failing(first, exchange, lambda _, arm, rng: 400 if arm == "candidate" and rng.random() < 0.1 else None)
    )
    assert of(earlier, "error_rate").margin_found == "inferior", "by the first rules, refusals are failures"
    assert not [c for c in earlier.comparisons if c.metric == "request_refused"]


def test_one_caller_does_not_decide_what_failures_show(
    failures: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    of_one = ("team0", "candidate")
    found = of(read(failures, failing(failures, exchange, lambda *call: 500 if call[:2] == of_one else None)), ERRORS)
    assert found.margin_found == "unclear"
    assert "not shown without the calls of team0" in found.method


@pytest.mark.parametrize(("status", "found"), [(500, "inferior"), (None, "equivalent")])
def test_what_every_caller_sees_decides(
    failures: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult], status: int | None, found: str
) -> None:
    ends = at_times(status) if status else lambda *_: None
    assert of(read(failures, failing(failures, exchange, ends)), ERRORS).margin_found == found
