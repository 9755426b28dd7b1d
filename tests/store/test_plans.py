"""Plans as they were frozen, and who may move them forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.plan import PlanState, StoredPlan
from gateway.store.plans import (
    DRAWS,
    deployment_secret,
    experiment_names,
    hold_lease,
    release_lease,
    save_plans,
    stored_plans,
)


def test_every_plan_is_kept_with_its_newest_state(store: Any, plan: Any) -> None:
    changed = replace(plan, margin=0.5)
    for state in (
        PlanState(plan, "running", 1.0),
        PlanState(changed, "running", 2.0),
        PlanState(plan, "stopped", 3.0),
        PlanState(plan, "running", 2.5),  # read late
    ):
        store.run(lambda c, state=state: save_plans(c, [state], 9.0))
    assert store.run(stored_plans) == [
        StoredPlan(changed, changed.hash, "running", 2.0),
        StoredPlan(plan, plan.hash, "stopped", 3.0),
    ]
    assert store.run(lambda c: stored_plans(c, "other")) == []
    assert store.run(experiment_names) == ["swap"]


def test_a_plan_that_this_version_cannot_read_is_left_out(store: Any, plan: Any) -> None:
    store.run(lambda c: save_plans(c, [PlanState(plan, "running", 1.0)], 9.0))
    store.run(lambda c: c.exec_driver_sql("UPDATE plans SET json = '[]'").rowcount)
    assert store.run(stored_plans) == []


def test_a_lease_is_one_holders_until_it_ends_or_is_given_back(store: Any) -> None:
    def asks(holder: str, now: float) -> bool:
        found: bool = store.run(lambda c: hold_lease(c, "l", holder, now, 10.0))
        return found

    assert asks("one", 0.0)
    assert not asks("two", 9.0)
    assert asks("one", 9.0), "renewed"
    assert not asks("two", 18.9)
    assert asks("two", 19.0)
    assert not asks("one", 20.0)
    store.run(lambda c: release_lease(c, "l", "one"))
    assert not asks("one", 21.0), "only its holder gives it back"
    store.run(lambda c: release_lease(c, "l", "two"))
    assert asks("one", 21.0)


def test_settings_that_change_no_result_are_kept_as_they_are_now(store: Any, plan: Any) -> None:
    for wanted in ("stop", "continue"):
        state = PlanState(replace(plan, after_verdict=wanted), "running", 5.0)
        store.run(lambda c, state=state: save_plans(c, [state], 5.0))
    (kept,) = store.run(stored_plans)
    assert (kept.plan.after_verdict, kept.hash) == ("continue", plan.hash)


def test_the_first_value_of_a_name_stays(store: Any) -> None:
    assert store.run(lambda c: deployment_secret(c, DRAWS, b"\x01" * 32)) == b"\x01" * 32
    assert store.run(lambda c: deployment_secret(c, DRAWS, b"\x02" * 32)) == b"\x01" * 32
    assert store.run(lambda c: deployment_secret(c, "another", b"\x03" * 32)) == b"\x03" * 32
