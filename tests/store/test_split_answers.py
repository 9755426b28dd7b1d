"""The answers that each arm of a split served, and the numbers of assigned units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Count, Tally
from gateway.core.plan import HarmStop, StoredPlan
from gateway.store.harm_stops import keep_harm
from gateway.store.served_answers import (
    answer_scores,
    assigned_units,
    is_only_plan,
    seen_populations,
    served_answers,
    split_evidence,
    unit_history,
)


@pytest.fixture
def split(plan: Any) -> Any:
    """The plan as a split by user."""
    return replace(plan, mode="split", split=0.5, repeat_control=0.0, unit="user")


def of(exchange: Any, plan: Any, arm: str, unit: str, **more: Any) -> Any:
    fields = {"experiment": "swap", "plan": plan.hash, "arm": arm, "cluster": unit, "stratum": "split:swap"}
    return exchange("0.5", **{**fields, **more})


def test_those_whose_client_left_say_nothing(store: Any, split: Any, exchange: Any) -> None:
    store.write(
        of(exchange, split, "control", "u1"), of(exchange, split, "candidate", "u2"),
        of(exchange, split, "candidate", "u3", outcome="client_gone"), of(exchange, split, "control", "u1", status=502),
        of(exchange, replace(split, margin=0.9), "control", "u9"),
    )  # fmt: skip
    rows = store.run(lambda c: served_answers(c, split.hash, ("control", "candidate")))
    assert [(row.arm, row.unit, row.status) for row in rows] == [
        ("control", "u1", 200), ("candidate", "u2", 200), ("control", "u1", 502),
    ]  # fmt: skip
    assert {row.client_bytes for row in rows} == {None}, "it is what the client sent, and not the body of a target"
    scores = store.run(lambda c: answer_scores(c, [row.id for row in rows])).answers
    assert {each[:2] for each in scores["stated"].values()} == {("scored", 0.5)}


def test_units_are_counted_where_every_rule_records(store: Any, split: Any, exchange: Any) -> None:
    """A rule that looks at the answer may prefer an arm: units it alone brought in would bend the ratio."""
    store.write(
        *(of(exchange, split, "control", f"a{i}", u=0.05, pi=0.1) for i in range(3)),
        *(of(exchange, split, "candidate", f"b{i}", u=0.05, pi=0.1) for i in range(2)),
        *(of(exchange, split, "candidate", "b0", u=0.05, pi=0.1) for _ in range(4)),
        *(of(exchange, split, "candidate", f"e{i}", u=0.7, pi=1.0, status=500) for i in range(5)),
    )
    assert store.run(lambda c: assigned_units(c, split.hash, split)) == {"control": 3, "candidate": 2}


def test_single_requests_are_counted_by_the_tallies(store: Any, split: Any) -> None:
    requests = replace(split, unit="request")
    counts = (Count("split:swap", "chat", "local/small", "control", 70), Count("split:swap", "chat", "local/new",
              "candidate", 60), Count("default", "other", "local/small", "", 5))  # fmt: skip
    store.write(Tally("g1", 1.0, 1, seen=counts))
    assert store.run(lambda c: assigned_units(c, requests.hash, requests)) == {"control": 70, "candidate": 60}
    assert store.run(seen_populations)["control", "chat", "local/small", "split:swap"] == 70
    assert store.run(lambda c: is_only_plan(c, requests))


def test_calls_during_a_stop_for_harm_are_of_no_arm(store: Any, split: Any, exchange: Any) -> None:
    """Every unit has the control until somebody resumes the plan, which says nothing about either arm."""
    both = StoredPlan(replace(split, mode="both", rules=3, unit="request"), "", "running", 0.0)
    both = replace(both, hash=both.plan.hash)
    of_arm = {"control": (50.0, 150.0, 250.0), "candidate": (60.0, 260.0)}
    store.write(
        *(
            of(exchange, both.plan, arm, f"{arm}{at}", received=at, outcome=outcome, u=0.05, pi=0.1)
            for arm, times in of_arm.items() for at in times for outcome in ("ok", "client_gone")
        )
    )  # fmt: skip

    def seen() -> tuple[int, int, dict[str, int]]:
        found = store.run(lambda c: split_evidence(c, both, "candidate"))
        return len(found.answers), len(found.left), dict(found.units)

    stop = HarmStop(100.0, 60, -0.3, 2.0)
    store.run(lambda c: keep_harm(c, both.hash, stop, 100.0))
    assert seen() == (2, 2, {"control": 1, "candidate": 1})
    store.run(lambda c: keep_harm(c, both.hash, replace(stop, cleared=200.0), 200.0))
    assert seen() == (4, 4, {"control": 2, "candidate": 2})


def test_unit_history_ends_before_the_split(store: Any, split: Any, exchange: Any) -> None:
    for received, total_s, outcome in ((10.0, 1.0, "ok"), (20.0, 3.0, "cut"), (200.0, 9.0, "ok")):
        store.write(of(exchange, split, "control", "u1", received=received, total_s=total_s, outcome=outcome))
    assert store.run(lambda c: unit_history(c, 100.0, ["u1", "u2"])) == {"u1": (2.0, 0.5)}
