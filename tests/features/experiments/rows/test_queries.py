"""What was served in each arm of a split, and how many units were assigned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Count, Tally, Target
from gateway.features.experiments.rows import queries
from gateway.features.experiments.rows.queries import LatestPlan, expected_language
from gateway.features.experiments.rows.served import (
    assigned_units,
    is_only_plan,
    seen_populations,
    served_answers,
    split_scores,
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
    scores = store.run(lambda c: split_scores(c, [row.id for row in rows]))
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


def test_unit_history_ends_before_the_split(store: Any, split: Any, exchange: Any) -> None:
    for received, total_s, outcome in ((10.0, 1.0, "ok"), (20.0, 3.0, "cut"), (200.0, 9.0, "ok")):
        store.write(of(exchange, split, "control", "u1", received=received, total_s=total_s, outcome=outcome))
    assert store.run(lambda c: unit_history(c, 100.0, ["u1", "u2"])) == {"u1": (2.0, 0.5)}


SWAP = {"experiment": "swap", "plan": "p1"}


@pytest.fixture
def pair(exchange):
    """A served exchange and its shadow."""

    def make(a: str = "1", b: str = "0", **fields):
        served = exchange(a, arm="control", stratum="default+swap", pi=0.5, **{**SWAP, **fields})
        shadow = exchange(b, arm="candidate", role="shadow", pair=served.id, stratum="shadow:swap", pi=0.2,
                          target=Target("local", "new"), **{**SWAP, **fields})  # fmt: skip
        return served, shadow

    return make


def ask(store, question, *arguments):
    return store.run(lambda connection: question(connection, *arguments))


def test_the_plan_that_ran_last_counts(store, pair):
    assert ask(store, queries.latest_plan, "swap") is None
    store.write(*pair(received=10.0))
    assert ask(store, queries.latest_plan, "swap") == LatestPlan("swap", "p1", only=True)
    store.write(*pair(received=20.0, plan="p2"))
    plan = ask(store, queries.latest_plan, "swap")
    assert plan == LatestPlan("swap", "p2", only=False)
    assert ask(store, queries.target_counts, plan) == {
        "candidate": [("shadow", "local/new", 1)],
        "control": [("served", "local/small", 1)],
    }


def test_scores_are_summed_by_arm_and_stratum(store, pair, tally):
    made = [*pair("1", "0"), *pair("0.5", "n/a"), *pair("error", "1")]
    served = [e for e in made if e.arm == "control"]
    store.write(*made, tally(served, {"default+swap": 6}))
    found = ask(store, queries.scorer_sums, LatestPlan("swap", "p1", True))
    by_arm = {arm: sums for (arm, _), (sums,) in found.items()}
    assert by_arm["control"].population == 6
    assert (by_arm["control"].scored, by_arm["control"].total, by_arm["control"].nonresponse) == (2, 1.5, 1)
    assert (by_arm["candidate"].scored, by_arm["candidate"].not_applicable) == (2, 1)
    assert by_arm["candidate"].inverse_pi == pytest.approx(15.0)
    nominal = ask(store, queries.scorer_sums, LatestPlan("swap", "p1", False))
    assert all(sums.population == 0 for each in nominal.values() for sums in each)


def test_only_the_newest_version_of_a_scorer_counts(store, pair, stated_scorer):
    store.write(*pair())
    store.scorers["stated"] = stated_scorer(version="2")
    store.write(*pair())
    found = ask(store, queries.scorer_sums, LatestPlan("swap", "p1", True))
    assert {key.version for _, key in found} == {"2"}


def test_latency_is_of_whole_answers_and_failures_are_counted(store, pair):
    slow = pair(total_s=2.0, first_token_s=0.5)
    gone = pair(total_s=0.1, outcome="client_gone")
    failed = pair(total_s=9.0, outcome="timeout", status=504)
    store.write(*slow, *gone, *failed)
    found = ask(store, queries.measure_sums, LatestPlan("swap", "p1", True))
    (total,), (first,), (failure,) = (found["control", n] for n in ("total_s", "first_token_s", "failure"))
    assert (total.scored, total.total, total.squares, total.not_applicable) == (1, 2.0, 4.0, 2)
    assert (first.scored, first.total) == (1, 0.5)
    assert (failure.scored, failure.total, failure.not_applicable) == (2, 1.0, 1)


def test_only_shadows_with_their_served_exchange_are_counted(store, pair):
    both, (served, _), (_, shadow) = pair(), pair(), pair()
    store.write(*both, served, shadow, *pair(plan="p2"))
    assert ask(store, queries.joined_pair_count, LatestPlan("swap", "p1", False)) == 1


def test_the_language_of_a_segment_is_that_of_the_question() -> None:
    assert [expected_language(text) for text in ("in fr, expected en", None, "no language")] == ["en", None, None]
