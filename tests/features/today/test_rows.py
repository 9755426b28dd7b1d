"""Sums of hours, and their history."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.core.exchange import Target
from gateway.features.today.rows import (
    HourSums,
    WeightedSums,
    bucket_of,
    hour_from_json,
    hour_sums,
    hour_to_json,
    store_hour,
    stored_begins,
    stored_hours,
)
from gateway.store.query import reading

BEGIN = 1_764_000_000.0


@pytest.fixture
def sums(store):
    """Reads the sums of hours since a time."""

    def ask(begin=BEGIN):
        with reading(store.url) as connection:
            return hour_sums(connection, begin)

    return ask


def test_an_hour_is_summed_by_model_name_and_target(store, exchange, sums):
    at = {"received": BEGIN + 10}
    store.write(
        exchange("1", **at, pi=0.5, total_s=1.0),
        exchange("0", **at, total_s=2.0),
        exchange("0.5", **at, outcome="timeout", status=504),
        exchange("1", **at, outcome="client_gone"),
        exchange("1", **at, target=Target("local", "small", "t=1")),
        exchange("1", **at, role="shadow", pair="x"),
        exchange("1", received=BEGIN - 1),
        exchange("1", received=BEGIN + 3600),
    )
    found = sums()
    assert set(found) == {("chat", "local/small"), ("chat", "local/small[t=1]")}
    cell = found["chat", "local/small"]
    assert (cell.errors.n, cell.errors.w, cell.errors.wv) == (4, 5.0, 1.0)
    assert cell.slow.w == 3.0
    assert cell.latency == {bucket_of(1.0): 2.0, bucket_of(2.0): 1.0}
    assert cell.cost.n == 0, "no price is known"
    stated = cell.scores["stated"]
    assert (stated.n, stated.w, stated.wv) == (4, 5.0, 2.0 + 0.5 + 1.0)


def test_hours_add_up(store, exchange, sums):
    store.write(*(exchange("1", received=BEGIN + 3600 * (i % 2), total_s=0.1 * (i + 1)) for i in range(100)))
    total = HourSums()
    for begin in (BEGIN, BEGIN + 3600):
        for cell in sums(begin).values():
            total.plus(cell)
    assert total.errors.w == 100
    assert total.quantile(0.95) == pytest.approx(9.5, rel=0.026)
    assert total.slower(5.0) == pytest.approx(0.5, abs=0.03)
    assert HourSums().quantile(0.95) is None
    assert HourSums().slower(1.0) is None


def test_weights_count_as_fewer_values():
    sums = WeightedSums()
    for weight in (1.0, 1.0, 100.0):
        sums.add(1.0, weight)
    assert sums.effective == pytest.approx(102**2 / 10002)
    assert sums.mean == pytest.approx(1.0)
    assert sums.variance == pytest.approx(0.0, abs=1e-9)
    assert (WeightedSums().mean, WeightedSums().effective, WeightedSums().variance) == (None, 0.0, 0.0)


def test_the_error_of_a_mean_is_that_of_its_weighted_deviations() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.random(200), rng.choice([1.0, 20.0], 200)
    sums = WeightedSums()
    for value, weight in zip(values, weights, strict=True):
        sums.add(float(value), float(weight))
    mean = np.average(values, weights=weights)
    assert sums.squared_error == pytest.approx(((weights * (values - mean)) ** 2).sum() / weights.sum() ** 2)
    assert WeightedSums().squared_error == 0.0


def test_a_score_is_the_scorers_own_value(store, exchange, sums, stated_scorer):
    """The list of calls does so too: of a refusal, 0 is best and is shown as 0."""
    store.scorers = {"refused": stated_scorer(name="refused", direction="minimise")}
    store.write(exchange("0", received=BEGIN + 1), exchange("0", received=BEGIN + 2), exchange("1", received=BEGIN + 3))
    cell = sums()["chat", "local/small"]
    assert cell.scores["refused"].mean == pytest.approx(1 / 3)
    assert cell.minimised == {"refused"}
    assert hour_from_json(hour_to_json({("chat", "local/small"): cell})) == {("chat", "local/small"): cell}


@pytest.fixture
def one_hour(store, exchange):
    """The sums of an hour with one success, sampled at ½, and one timeout."""
    store.write(
        exchange("1", received=BEGIN + 10, pi=0.5, total_s=1.0),
        exchange("0", received=BEGIN + 20, total_s=2.0, outcome="timeout", status=504),
    )
    with reading(store.url) as connection:
        return hour_sums(connection, BEGIN)


def test_an_hour_comes_back_as_it_was(store, one_hour):
    with store.engine.begin() as connection:
        store_hour(connection, BEGIN, one_hour, 0.0)
        store_hour(connection, BEGIN, {}, 0.0)
    with reading(store.url) as connection:
        assert stored_hours(connection, [BEGIN, BEGIN + 3600]) == {BEGIN: one_hour}
        assert stored_begins(connection, BEGIN + 1) == set()
        assert stored_begins(connection, BEGIN) == {BEGIN}


def test_old_hours_are_forgotten(store):
    with store.engine.begin() as connection:
        for begin in (BEGIN, BEGIN + 3600):
            store_hour(connection, begin, {}, begin)
    with reading(store.url) as connection:
        assert stored_begins(connection, 0.0) == {BEGIN + 3600}


def test_json_holds_names_of_any_kind(one_hour):
    odd = {('"quoted"\n', "up/m\u202e\x00"): next(iter(one_hour.values()))}
    assert hour_from_json(hour_to_json(odd)) == odd
