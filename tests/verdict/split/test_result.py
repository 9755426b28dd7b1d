"""A split as its report reads it from a store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.reports.model import Comparison
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import reading
from gateway.verdict.split.result import SplitResult, split_of

ERRORS = "error_rate"
LATER = 2e9  # after every window


@pytest.fixture
def halves(plan: Plan) -> Plan:
    """The plan as a split by user, with a guardrail on latency."""
    rails = (Guardrail("latency_p95", 0.5),)
    return replace(
        plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", guardrails=rails, rules=2
    )


@pytest.fixture
def read(keep: Callable[..., str]) -> Callable[..., SplitResult]:
    """Stores records and reads the split's result from them."""

    def look(plan: Plan, records: list[Exchange], since: float = 0.0, state: str = "running") -> SplitResult:
        with reading(keep(records)) as connection:
            return split_of(StoredEvidence(connection, StoredPlan(plan, plan.hash, state, since), LATER), "candidate")

    return look


def of(found: SplitResult, metric: str) -> Comparison:
    (comparison,) = (c for c in found.comparisons if c.metric == metric)
    return comparison


def calls(plan: Plan, exchange: Callable[..., Exchange], slower: float, units: int = 400) -> list[Exchange]:
    """Calls of users who call six times each, as fast as their network is."""
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
    plan: Plan, exchange: Callable[..., Exchange], fails: Callable[[str, str, random.Random], int | None], n: int = 3000
) -> list[Exchange]:
    """One call a unit, of six callers. fails: (caller, arm) → the status of a failed call; None: it succeeds."""
    rng, made, digest = random.Random(3), [], plan.hash
    for i in range(n):
        arm, caller = ("candidate", "control")[i % 2], f"team{rng.randrange(6)}"
        status = fails(caller, arm, rng)
        end: Any = {} if status is None else {"status": status, "outcome": "upstream_error"}
        same: Any = {"experiment": plan.name, "plan": digest, "target": plan.target(arm), "cluster": f"u{i}"}
        made.append(exchange("1", arm=arm, caller=caller, **same, **end))
    return made


def at_times(status: int) -> Callable[[str, str, random.Random], int | None]:
    """A tenth of the candidate's calls end so."""
    return lambda _, arm, rng: status if arm == "candidate" and rng.random() < 0.1 else None


@pytest.fixture
def failures(halves: Plan) -> Plan:
    """The split with a guardrail on errors."""
    return replace(halves, guardrails=(Guardrail("error_rate", 0.03),))


def test_refused_requests_are_neither_failures_nor_hidden(
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
def test_a_loss_of_every_caller_decides(
    failures: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult], status: int | None, found: str
) -> None:
    ends = at_times(status) if status else lambda *_: None
    assert of(read(failures, failing(failures, exchange, ends)), ERRORS).margin_found == found


PLANTED, NAMES = -0.128, {"control": "m-a", "candidate": "m-candidate"}


def planted(plan: Plan, exchange: Callable[..., Exchange], n: int = 1600, effect: float = PLANTED) -> list[Exchange]:
    """Single calls. The bodies as targets got them contain the model's name; those of clients differ by some digits."""
    rng, made = random.Random(5), []
    for i in range(n):
        arm = "candidate" if rng.random() < 0.5 else "control"
        right = rng.random() < 0.9 + (effect if arm == "candidate" else 0.0)
        sent = b'{"model":"chat","messages":[{"role":"user","content":"Is it so? %d"}]}' % (i // 3)
        same: Any = {
            "experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}",
            "request": sent.replace(b"chat", NAMES[arm].encode()), "client_bytes": len(sent), "received": 1000.0 + i,
        }  # fmt: skip
        made.append(exchange(str(int(right)), arm=arm, **same))
    return made


@pytest.fixture
def by_request(halves: Plan) -> Plan:
    """The split by request, adjusted, with a margin of 0.1."""
    return replace(halves, unit="request", guardrails=(), margin=0.1, adjust=True)


def measured(records: list[Exchange]) -> float:
    """The plain difference of the arms' means."""
    sums = {arm: [b'"content":"1"' in e.response for e in records if e.arm == arm] for arm in NAMES}
    return sum(sums["candidate"]) / len(sums["candidate"]) - sum(sums["control"]) / len(sums["control"])


@pytest.mark.parametrize("rules", [1, 2])
def test_an_arms_own_name_is_not_adjusted_for(
    by_request: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult], rules: int
) -> None:
    """Plans of the first rules had no switch: `adjust` was false in all of them, and not read."""
    plan = replace(by_request, rules=rules, adjust=rules > 1)
    records = planted(plan, exchange)
    found = of(read(plan, records), "stated")
    assert found.raw is not None
    assert found.raw.value == pytest.approx(measured(records))
    assert found.difference.value == pytest.approx(measured(records), abs=0.005)
    assert found.margin_found != "equivalent"
    assert found.shift is not None
    assert found.shift.value == pytest.approx(found.raw.value - found.difference.value)
    assert found.shift.low < 0 < found.shift.high  # type: ignore[operator]


def test_records_of_older_gateways_are_not_adjusted_for_a_length(
    by_request: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    records = [replace(each, client_bytes=None) for each in planted(by_request, exchange, 400)]
    found = read(by_request, records)
    assert (of(found, "stated").raw, found.adjusted) == (None, None)
    assert of(found, "stated").difference.value == pytest.approx(measured(records))


def test_adjust_false_holds_for_splits(
    by_request: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    plan = replace(by_request, adjust=False)
    found = read(plan, planted(plan, exchange, 400))
    assert [c.raw for c in found.comparisons] == [None] * len(found.comparisons)
    assert found.adjusted is None


def test_only_the_first_body_of_a_unit_counts(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    """Later ones contain the arm's earlier answers: a worse candidate that writes more would be forgiven for that."""
    plan = replace(halves, adjust=True, guardrails=())
    rng, made = random.Random(9), []
    for i in range(800):
        arm, size = ("candidate", "control")[i % 2], rng.randrange(100, 900)
        for turn in range(3):
            right = rng.random() < 0.9 + (PLANTED if arm == "candidate" else 0.0)
            sent = size + turn * (900 if arm == "candidate" else 100)
            same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}"}
            made.append(exchange(str(int(right)), arm=arm, client_bytes=sent, received=1000.0 + 3 * i + turn, **same))
    found = of(read(plan, made), "stated")
    assert found.raw is not None
    assert found.difference.value == pytest.approx(measured(made), abs=0.005)


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_past_ends_before_the_plan_began(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult], state: str
) -> None:
    """`since` of a stopped plan is when it stopped: its own calls are not the past of its units."""
    plan = replace(halves, adjust=True, guardrails=(Guardrail("error_rate", 0.1),), primary="completion")
    rng, made = random.Random(3), []
    for i in range(600):
        arm = ("candidate", "control")[i % 2]
        for turn in range(4):
            failed = rng.random() < (0.2 if arm == "candidate" else 0.05)
            bad: Any = {"status": 502, "outcome": "upstream_error"} if failed else {}
            same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}"}
            made.append(exchange("0", arm=arm, received=1000.0 + turn, **same, **bad))
    since = 1000.0 if state == "running" else 5000.0
    found = of(read(plan, made, since, state), "completion")
    assert found.difference.value == pytest.approx(-0.15, abs=0.03)
    assert found.raw is None, "nothing was known of these units before"


def test_a_covariate_that_differs_by_arm_withholds_the_verdict(
    by_request: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    """Something before the gateway writes each arm's name into the body."""
    rng = random.Random(8)
    records = []
    for each in planted(by_request, exchange, 1200, 0.0):
        size = rng.randrange(100, 200) + (20 if each.arm == "candidate" else 0)
        right = rng.random() < 0.4 + (size - 100) / 250
        text = b'"content":"1"' if right else b'"content":"0"'
        response = each.response.replace(b'"content":"0"', text).replace(b'"content":"1"', text)
        records.append(replace(each, client_bytes=size, response=response))
    found = read(by_request, records)
    assert found.adjusted is not None
    assert found.adjusted.state == -1, found.adjusted.says
    assert "further apart than chance explains" in found.adjusted.says


def test_sums_of_runs_count_each_run_once_it_is_quiet(halves: Plan, exchange: Any, read: Any) -> None:
    """200 runs of three calls on the control, and of six on the candidate; one run is not over."""
    by_run, made = replace(halves, unit="run", guardrails=(Guardrail("calls_per_run", 5.0),)), []
    for i in range(401):
        arm = ("candidate", "control")[i % 2]
        at = LATER - (10.0 if i == 400 else 10_000.0)
        same: Any = {"experiment": by_run.name, "plan": by_run.hash, "target": by_run.target(arm), "cluster": f"r{i}"}
        made += [exchange(arm=arm, received=at + n, **same) for n in range(3 if arm == "control" else 6)]
    found = read(by_run, made)
    calls, tokens = of(found, "calls_per_run"), of(found, "tokens_per_run")
    assert (calls.a.value, calls.b.value, calls.difference.value, calls.pairs) == (3.0, 6.0, -3.0, 400)
    assert (tokens.a.value, tokens.b.value) == (24.0, 48.0)
    assert (calls.role, calls.margin_found) == ("guardrail", "equivalent")
    assert not [c for c in found.comparisons if c.metric == "cost_per_run"], "no price is known"
    by_user = read(replace(halves, guardrails=()), [])
    assert not [c for c in by_user.comparisons if c.metric.endswith("_per_run")]
