"""Plans of the same swap are counted, and the verdict is also known with one alpha for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_pair, seen

from gateway.core.exchange import Target
from gateway.core.plan import PlanState
from gateway.features.experiments.plans_tried import ordinal, tried_cautions, tried_plans, tried_sentence
from gateway.features.experiments.report.build import report_of
from gateway.store.plans import StoredPlan, save_plans
from gateway.store.query import reading
from gateway.store.tables import pairs


def tried(run: Any, earlier: Any) -> None:
    """An earlier plan with one settled pair, stopped."""
    row = {
        "id": f"e-{earlier.hash}", "experiment": earlier.name, "plan": earlier.hash, "position": "0" * 20,
        "received": 0.5, "cluster": None, "asked": '["candidate"]', "state": "joined", "reason": None, "place": 1,
        "arms": "{}",
    }  # fmt: skip
    with run.engine.begin() as connection:
        save_plans(connection, [PlanState(earlier, "stopped", 0.5)], 0.5)
        connection.execute(pairs.insert(), [row])


def test_the_verdict_with_one_alpha_for_all_is_stricter(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2, method="anytime", aa="alarm", guardrails=(), repeat_control=0.0, margin=0.1)
    run.add([a_pair(i, seen(0.5), candidate=seen(0.5 + 0.1 * (-1) ** i)) for i in range(400)])
    stored = StoredPlan(run.plan, run.hash, "running", 1.0)
    with reading(run.url) as connection:
        assert tried_plans(connection, stored, "candidate") is None
        assert list(tried_cautions(connection, run.plan)) == []
        assert report_of(connection, "swap").tried is None
    tried(run, replace(run.plan, margin=0.2))
    tried(run, replace(run.plan, margin=0.3, name="swap_again"))
    tried(run, replace(run.plan, control=Target("a", "another")))
    with reading(run.url) as connection:
        found = tried_plans(connection, stored, "candidate")
        (caution,) = tried_cautions(connection, run.plan)
        report = report_of(connection, "swap")
    assert found is not None
    assert (found.number, found.alpha, found.shared) == (3, 0.05, pytest.approx(0.05 / 3))
    assert report.tried == found
    assert "this is the third plan of this swap" in caution
    assert "`alpha: 0.017`" in caution
    assert any(text.startswith("Third plan of this swap: each has an alpha of 0.05") for text in report.cautions)


@pytest.mark.parametrize(("n", "verdict"), [(220, "hold"), (800, "ship")])
def test_less_evidence_than_the_shared_alpha_asks_for_does_not_ship(
    begin_experiment: Any, n: int, verdict: str
) -> None:
    """220 pairs at this deviation ship by an alpha of 0.05, and not by a third of it."""
    run = begin_experiment(rules=2, method="anytime", aa="alarm", guardrails=(), repeat_control=1.0, margin=0.05)
    pair = [a_pair(i, seen(0.5), candidate=seen(0.5 + 0.2 * (-1) ** i), repeat=seen(0.5)) for i in range(n)]
    run.add(pair)
    assert run.found().decision.verdict == "ship"
    tried(run, replace(run.plan, margin=0.2))
    tried(run, replace(run.plan, margin=0.3))
    with reading(run.url) as connection:
        found = tried_plans(connection, StoredPlan(run.plan, run.hash, "running", 1.0), "candidate")
    assert found is not None
    assert found.verdict == verdict
    assert tried_sentence(found).endswith(f"shared over the 3, this verdict is: {verdict}.")


def test_a_plan_without_evidence_spent_no_alpha(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2)
    with run.engine.begin() as connection:
        save_plans(connection, [PlanState(replace(run.plan, margin=0.2), "stopped", 0.5)], 0.5)
    with reading(run.url) as connection:
        assert tried_plans(connection, StoredPlan(run.plan, run.hash, "running", 1.0), "candidate") is None


def test_a_plan_is_named_by_its_place() -> None:
    assert [ordinal(n) for n in (1, 3, 12)] == ["first", "third", "12th"]
