"""Ramps show each difference of served answers within its interval: in sentences, and in the evidence kept as JSON."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.shown_figures import figures_in_json, figures_in_text, outside

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.ramp import RampDesign
from gateway.features.ramp.served import served_values, switch_line, switch_of
from gateway.ramps.alarms import AlarmTerms, step_finding
from gateway.ramps.callers import caller_alarms
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.periods import StepPeriod
from gateway.ramps.plan_proofs import proofs_of, served_proofs_of
from gateway.store.query import reading

STEPS = [StepPeriod(0, 1000.0, 2000.0), StepPeriod(1, 2000.0, 3000.0)]
Make = Callable[..., Exchange]


@pytest.fixture
def ramped(plan: Plan) -> Plan:
    """Returns a plan of mode both with a ramp of three steps and two guardrails."""
    rails = (Guardrail("error_rate", 0.02), Guardrail("latency_p95", 0.2))
    design = RampDesign((0.1, 0.5, 1.0), 0.0, 1)
    return replace(plan, mode="both", unit="conversation", guardrails=rails, ramp=design, rules=2)


def even(rng: random.Random, i: int) -> dict[str, Any]:
    return {"text": f"{rng.random():.3f}"}


def at_the_bounds(rng: random.Random, i: int) -> dict[str, Any]:
    """The candidate's scores are all 0, and the control's all 1."""
    return {"text": str(i % 2)}


def failing(rng: random.Random, i: int) -> dict[str, Any]:
    fails = {"status": 500, "outcome": "upstream_error"} if i % 2 == 0 and rng.random() < 0.2 else {}
    return {"text": "0.5", "total_s": rng.lognormvariate(0.0, 1.0) * (1 + (i % 2 == 0)), **fails}


def heavy(rng: random.Random, i: int) -> dict[str, Any]:
    """One user makes nearly all calls, in a few conversations; calls are recorded with unlike probabilities."""
    of = "u0" if i % 20 else f"u{i}"
    return {"text": f"{rng.random():.3f}", "caller": of, "cluster": f"{of} {i % 3}", "pi": rng.choice([1.0, 0.05])}


WORLDS: dict[str, tuple[Callable[[random.Random, int], dict[str, Any]], int]] = {
    "even": (even, 400), "few": (even, 12), "at the bounds": (at_the_bounds, 200), "failing": (failing, 400),
    "a heavy user": (heavy, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_differences_of_served_answers_lie_in_their_intervals(
    ramped: Plan, exchange: Make, keep: Callable[..., str], name: str
) -> None:
    make, count = WORLDS[name]
    plan, rng = StoredPlan(ramped, ramped.hash, "running", 0.0), random.Random(6)
    url = keep([call(ramped, exchange, make(rng, i), i, count) for i in range(count)])
    terms = AlarmTerms.of(ramped)
    with reading(url) as connection:
        values = served_values(connection, plan, STEPS, terms, 5000.0)
        lines = switch_of(connection, plan, StepPeriod(1, 1000.0, 3000.0))
    steps = (
        step_finding(each, terms.margin(each), terms.alpha) for each in values.values if each.metric in terms.margins
    )
    proofs = [*proofs_of(values.values, ramped), *served_proofs_of(values.blocks, ramped)]
    findings = [*values.findings, *steps, *proofs, *caller_alarms(values.values, terms)]
    assert lines
    assert len(findings) >= 4
    for finding in findings:
        assert outside(figures_in_json(orjson.loads(orjson.dumps(finding.fields(), default=str)))) == []
        check_words(finding)
    for of in lines:
        assert outside(figures_in_json(of)) == []
        figures = list(figures_in_text(switch_line(of)))
        assert len(figures) == (0 if of["low"] is None else 1), switch_line(of)
        assert outside(iter(figures)) == []


def call(plan: Plan, exchange: Make, changes: dict[str, Any], i: int, count: int) -> Exchange:
    arm = "candidate" if i % 2 == 0 else "control"
    same = {
        "experiment": plan.name,
        "plan": plan.hash,
        "target": plan.target(arm),
        "cluster": f"c{i}",
        "stratum": "split:swap",
    }
    return exchange(arm=arm, received=1000.0 + 2000.0 * i / count, **{**same, **changes})


def check_words(finding: ServedFinding) -> None:
    """Worse by more than the margin is written only where the whole interval is."""
    of = finding.difference
    assert not finding.raised or (of.high is not None and of.high < -finding.margin), finding.says()
    proven = finding.found in ("non_inferior", "equivalent")
    assert not proven or (of.low is not None and of.low >= -finding.margin), finding.missing()
