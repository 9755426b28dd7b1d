"""What scorers cost adds up once, and outlives the scores."""

from __future__ import annotations

from gateway.evals.store import costs
from gateway.evals.store.costs import Cost
from gateway.evals.store.rows import score_rows
from gateway.evals.store.tables import scores


def test_only_rows_that_cost_something_count(store, exchange):
    (row,) = score_rows(store.judged(exchange()), store.scorers, 0.0)
    names = scores.columns.keys()
    dear = list(row)
    dear[names.index("cost_usd")], dear[names.index("tokens")] = 0.25, 10
    assert costs.of_rows([row, tuple(dear)]) == [("said", Cost(0.25, 10))]


def test_sums_grow_by_scorer(store):
    store.run(lambda c: costs.add(c, [("judge", Cost(0.25, 10)), ("other", Cost(0.0, 7)), ("judge", Cost(0.5, 1))]))
    store.run(lambda c: costs.add(c, [("judge", Cost(0.25, 1))]))
    store.run(lambda c: costs.add(c, []))
    assert store.run(costs.costs) == {"judge": Cost(1.0, 12), "other": Cost(0.0, 7)}
