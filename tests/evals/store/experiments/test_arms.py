"""The sums of an experiment are those of its last plan's exchanges, arm by arm."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Target
from gateway.evals.store.experiments import arms
from gateway.evals.store.experiments.arms import LatestPlan, PairTotals

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
    assert ask(store, arms.latest_plan, "swap") is None
    store.write(*pair(received=10.0))
    assert ask(store, arms.latest_plan, "swap") == LatestPlan("swap", "p1", only=True)
    store.write(*pair(received=20.0, plan="p2"))
    plan = ask(store, arms.latest_plan, "swap")
    assert plan == LatestPlan("swap", "p2", only=False)
    assert ask(store, arms.counts, plan) == {
        "candidate": [("shadow", "local/new", 1)],
        "control": [("served", "local/small", 1)],
    }
    assert ask(store, arms.experiments) == ["swap"]


def test_scores_are_summed_by_arm_and_stratum_with_their_population(store, pair, tally):
    made = [*pair("1", "0"), *pair("0.5", "n/a"), *pair("error", "1")]
    served = [e for e in made if e.arm == "control"]
    store.write(*made, tally(served, {"default+swap": 6}))
    found = ask(store, arms.score_sums, LatestPlan("swap", "p1", True))
    by_arm = {arm: sums for (arm, _), (sums,) in found.items()}
    assert by_arm["control"].population == 6
    assert (by_arm["control"].scored, by_arm["control"].total, by_arm["control"].nonresponse) == (2, 1.5, 1)
    assert (by_arm["candidate"].scored, by_arm["candidate"].not_applicable) == (2, 1)
    assert by_arm["candidate"].inverse_pi == pytest.approx(15.0)
    nominal = ask(store, arms.score_sums, LatestPlan("swap", "p1", False))
    assert all(sums.population == 0 for each in nominal.values() for sums in each)


def test_only_the_newest_version_of_a_scorer_counts(store, pair, said):
    store.write(*pair())
    store.scorers["said"] = said(version="2")
    store.write(*pair())
    found = ask(store, arms.score_sums, LatestPlan("swap", "p1", True))
    assert {key.version for _, key in found} == {"2"}


def test_latency_is_of_whole_answers_and_failures_are_counted(store, pair):
    slow = pair(total_s=2.0, first_token_s=0.5)
    gone = pair(total_s=0.1, outcome="client_gone")
    failed = pair(total_s=9.0, outcome="timeout", status=504)
    store.write(*slow, *gone, *failed)
    found = ask(store, arms.measures, LatestPlan("swap", "p1", True))
    (total,), (first,), (failure,) = (found["control", n] for n in ("total_s", "first_token_s", "failure"))
    assert (total.scored, total.total, total.squares, total.not_applicable) == (1, 2.0, 4.0, 2)
    assert (first.scored, first.total) == (1, 0.5)
    assert (failure.scored, failure.total, failure.not_applicable) == (2, 1.0, 1)


def test_pairs_are_joined_by_id_and_what_is_alone_is_counted(store, pair):
    both, (served, _), (_, shadow) = pair(), pair(), pair()
    store.write(*both, served, shadow, *pair(plan="p2"))
    assert ask(store, arms.pairs, LatestPlan("swap", "p1", False)) == PairTotals(1, 1, 1)
