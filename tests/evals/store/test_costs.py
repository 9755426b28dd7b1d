"""What scorers cost adds up once, and outlives the scores."""

from __future__ import annotations

from gateway.core.score import Spent
from gateway.evals.store import costs
from gateway.evals.store.costs import ScorerCost
from gateway.evals.store.experiments.pairs import add_pair_scores


def test_only_results_that_cost_something_count(store, exchange):
    (free,) = store.judged(exchange()).results
    dear, odd = free._replace(spent=Spent(0.25, "up/judge", 10)), free._replace(spent=Spent())
    assert costs.of_results([free, dear, odd]) == [("said", ScorerCost(0.25, 10))]


def test_sums_grow_by_scorer(store):
    store.run(
        lambda c: costs.add(
            c, [("judge", ScorerCost(0.25, 10)), ("other", ScorerCost(0.0, 7)), ("judge", ScorerCost(0.5, 1))]
        )
    )
    store.run(lambda c: costs.add(c, [("judge", ScorerCost(0.25, 1))]))
    store.run(lambda c: costs.add(c, []))
    assert store.run(costs.costs) == {"judge": ScorerCost(1.0, 12), "other": ScorerCost(0.0, 7)}


def test_a_judge_of_pairs_is_paid_for_once_however_often_its_opinion_comes(store):
    plain = {"pair": "a", "arm": "candidate", "exchange_id": "b", "experiment": "swap", "plan": "p", "scorer": "judge",
             "version": "1", "config_hash": "c", "kind": "llm", "direction": "maximise", "status": "scored",
             "value": 1.0, "seconds": 0.1, "created": 1.0}  # fmt: skip
    dear = {**plain, "score_id": "s1", "cost_usd": 0.5, "tokens": 20}
    free = {**plain, "score_id": "s2", "cost_usd": None, "tokens": None}
    for rows in ([dear, free], [dear], []):
        store.run(lambda c, rows=rows: add_pair_scores(c, rows))
    assert store.run(costs.costs) == {"judge": ScorerCost(0.5, 20)}
    assert store.sql("SELECT count(*) FROM pair_scores") == [(2,)]
