"""Sums by cell are those of the rows, and the closed weights represent every call once."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Count, Target
from gateway.core.score import Spent
from gateway.store import score_sums
from gateway.store.pairs import add_pair_scores
from gateway.store.score_sums import BUCKET_COUNT, UNIT_BOUNDS, WIDE_BOUNDS, ScorerCost, bucket_bounds, bucket_of


def test_cells_are_the_sums_over_the_scores(store, exchange):
    texts = ["1", "0.5", "0", "n/a", "error", "timeout", "1"]
    store.write(*(exchange(text, pi=0.5) for text in texts))
    cell = store.cell()
    assert cell.n == {"scored": 4, "not_applicable": 1, "error": 1, "timeout": 1, "budget": 0}
    assert (cell.total, cell.squares, cell.inverse_pi) == (2.5, 2.25, 14.0)
    assert cell.key.model == "local/small"
    (row,) = store.sql("SELECT count(*), sum(value), sum(value * value), sum(1 / pi) FROM scores")
    assert row == (7, 2.5, 2.25, 14.0)


def test_every_alias_model_arm_and_stratum_has_its_own_cell(store, exchange):
    store.write(
        exchange(), exchange(alias="b"), exchange(target=Target("u", "m")), exchange(arm="control"),
        exchange(stratum="slow"),
    )  # fmt: skip
    assert len(store.snapshot().cells) == 5


def test_the_population_grows_by_what_each_tally_adds(store, exchange, tally):
    sent = [exchange(), exchange()]
    store.write(*sent, tally(sent, {"default": 10}))
    store.write(tally(sent, {"default": 10}))
    assert store.cell().population == 10
    store.write(tally(sent, {"default": 25}))
    store.write(tally(sent, {"default": 10}))  # an older one that comes late
    assert store.cell().population == 25


def test_callers_that_opted_out_are_not_in_the_population(store, exchange, tally):
    sent = [exchange()]
    cell = ("default", "chat", "local/small", "")
    out = (Count(*cell, 3, "opted_out"), Count(*cell, 1, "forbidden"), Count(*cell, 5, "not_drawn"))
    store.write(*sent, tally(sent, {"default": 10}, unsampled=out))
    assert store.cell().population == 6


def test_a_scorer_counts_the_population_from_when_it_is_at_work(store, exchange, tally, stated_scorer):
    """N_h of before would weigh a stratum that has since become rare as if it were still common."""
    sent = [exchange()]
    store.write(*sent, tally(sent, {"default": 100}))
    store.scorers["late"] = stated_scorer(name="late")
    store.write(tally(sent, {"default": 110}))
    assert {c.key.scorer: c.population for c in store.snapshot().cells} == {"stated": 110, "late": 10}


def test_a_stratum_without_scores_has_its_population(store, exchange, tally):
    sent = [exchange()]
    more = replace(tally(sent), seen=(Count("rare", "chat", "local/small", "", 7),))
    store.write(*sent, more)
    assert {c.key.stratum: (c.population, c.n["scored"]) for c in store.snapshot().cells} == {
        "default": (0, 1),
        "rare": (7, 0),
    }


def test_closed_weights_give_each_call_to_the_scores_of_its_time(store, exchange, tally):
    early = [exchange("1"), exchange("0")]
    store.write(*early, tally(early, {"default": 20}))
    store.close()
    late = [exchange("1")]
    store.write(*late, tally([*early, *late], {"default": 120}))
    store.close()
    cell = store.cell()
    assert (cell.weight, cell.weighted_sum) == (120.0, 10.0 + 100.0)
    assert sum(cell.bucket_weights) == 120.0
    assert cell.bucket_weights[10] == 110.0  # the bucket of 1.0


def test_counts_without_a_score_wait_for_the_next_closing(store, exchange, tally):
    failed = [exchange("error")]
    store.write(*failed, tally(failed, {"default": 10}))
    store.close()
    assert store.cell().weight == 0.0
    scored = [exchange("1")]
    store.write(*scored, tally([*failed, *scored], {"default": 20}))
    store.close()
    assert (store.cell().weight, store.cell().weighted_sum) == (20.0, 20.0)


def test_scores_whose_tally_is_behind_wait_too(store, exchange, tally):
    sent = [exchange("1"), exchange("1")]
    store.write(*sent)
    store.close()
    assert store.cell().weight == 0.0
    store.write(tally(sent, {"default": 2}))
    store.close()
    assert store.cell().weight == 2.0


def test_a_tally_before_its_samples_holds_no_later_score_back(store, exchange, tally):
    sent = [exchange("1") for _ in range(46)]
    store.write(*sent[:5], tally(sent[:6], {"default": 6}))
    store.close()
    store.write(*sent[5:])
    store.close()
    assert store.cell().weight == 6.0, "the tally is behind"
    store.write(tally(sent, {"default": 46}))  # grew by 40, while 41 samples came
    store.close()
    assert (store.cell().weight, store.cell().weighted_sum) == (46.0, 46.0)


@pytest.mark.parametrize("seed", range(6))
def test_no_score_waits_once_every_call_is_counted(store, exchange, tally, seed):
    """Scores, tallies and closings come in any order, of a stratum of which every call is sampled."""
    rng = random.Random(seed)
    sent, written = [], 0
    for _ in range(60):
        sent += [exchange("1") for _ in range(rng.randint(0, 4))]
        if rng.random() < 0.5:
            store.write(*sent[written:])
            written = len(sent)
        if sent and rng.random() < 0.5:
            store.write(tally(sent, {"default": len(sent)}))
        if rng.random() < 0.5:
            store.close()
    sent.append(exchange("1"))
    store.write(*sent[written:], tally(sent, {"default": len(sent)}))
    store.close()
    assert (store.cell().weight, store.cell().weighted_sum) == pytest.approx((len(sent), len(sent)))


def test_not_applicable_scores_share_the_population(store, exchange, tally):
    sent = [exchange("1"), exchange("n/a")]
    store.write(*sent, tally(sent, {"default": 10}))
    store.close()
    assert (store.cell().weight, store.cell().weighted_sum) == (5.0, 5.0)


def test_closed_sums_never_fall_and_end_at_the_population(store, exchange, tally):
    """Any order of scores, tallies and closings; what windows are made of must be monotone."""
    rng = random.Random(7)
    sent, seen, last = [], 0, (0.0, 0.0)
    for _ in range(40):
        if rng.random() < 0.6:
            sent.append(exchange(rng.choice(["0", "0.5", "1", "n/a", "error"])))
            store.write(sent[-1])
        seen += rng.randint(1, 5)
        if sent and rng.random() < 0.5:
            store.write(tally(sent, {"default": seen}))
        if rng.random() < 0.5:
            store.close()
            now = [(c.weight, c.weighted_sum) for c in store.snapshot().cells] or [(0.0, 0.0)]
            assert now[0][0] >= last[0]
            assert now[0][1] >= last[1]
            last = now[0]
    store.write(exchange("1"), tally(sent, {"default": seen}))
    sent.append(exchange("1"))
    store.write(sent[-1], tally(sent, {"default": seen + 9}))
    store.close()
    (cell,) = store.sql("SELECT spent_population, population FROM score_cells")
    assert cell[0] == cell[1] == seen + 9
    assert sum(store.cell().bucket_weights) == pytest.approx(store.cell().weight)


def spoken(exchange, talk, text, **more):
    """One turn of a conversation that is a unit of sampling."""
    return exchange(text, unit=talk, **more)


def test_a_conversation_is_one_unit_across_batches(store, exchange):
    spoken_texts = (("a", "1"), ("b", "0"), ("a", "0"), ("a", "1"), ("c", "0.5"), ("b", "0.5"), ("a", "0.25"))
    turns = [spoken(exchange, talk, text) for talk, text in spoken_texts]
    store.write(*turns[:3])
    store.write(*turns[3:])
    store.write(*turns)
    sums = {"a": (4, 2.25), "b": (2, 0.5), "c": (1, 0.5)}
    expected = tuple(sum(f(n, t) for n, t in sums.values()) for f in (
        lambda n, t: n * n, lambda n, t: n * t, lambda n, t: t * t))  # fmt: skip
    cell = store.cell()
    assert cell.units == pytest.approx(expected)
    assert (cell.n["scored"], cell.total) == (7, 3.25)
    assert sorted(store.sql("SELECT unit, n, total FROM score_units")) == [("a", 4, 2.25), ("b", 2, 0.5), ("c", 1, 0.5)]


def test_closed_sums_over_units_have_squared_weights(store, exchange, tally):
    """Every score stands for ten calls; a conversation goes on after the first closing."""
    spoken_texts = (("a", "1"), ("b", "0"), ("a", "0.5"), ("a", "1"), ("c", "0.5"), ("b", "0.5"))
    turns = [spoken(exchange, talk, text) for talk, text in spoken_texts]
    store.write(*turns[:3], tally(turns[:3], {"default": 30}))
    store.close()
    assert store.cell().closed_units == pytest.approx((100 * 5, 100 * 3, 100 * 2.25))
    store.write(*turns[3:], tally(turns, {"default": 60}))
    assert store.cell().closed_units[0] == pytest.approx(100 * 5)
    store.close()
    store.close()
    cell = store.cell()
    assert cell.closed_units == pytest.approx(tuple(100 * sums for sums in cell.units))


def test_a_single_exchange_needs_no_unit_row(store, exchange):
    one = exchange("0.5")
    store.write(one, exchange("0.25", pair=one.id, role="shadow", unit=one.unit), exchange("n/a"))
    cell = store.cell()
    assert cell.units == (cell.n["scored"], cell.total, cell.squares) == (2, 0.75, 0.3125)
    assert store.sql("SELECT count(*) FROM score_units") == [(0,)]


def test_an_ended_conversation_is_forgotten_and_its_sums_stay(store, exchange):
    store.write(spoken(exchange, "a", "1", received=10.0), spoken(exchange, "b", "1", received=20.0))
    before = store.cell()
    store.run(lambda c: score_sums.forget_units(c, 15.0))
    assert store.sql("SELECT unit FROM score_units") == [("b",)]
    assert store.cell() == before


@given(st.floats(allow_nan=False), st.sampled_from([UNIT_BOUNDS, WIDE_BOUNDS]))
def test_a_value_is_in_the_first_bucket_whose_bound_holds_it(value, bounds):
    at = bucket_of(value, bounds)
    assert 0 <= at < BUCKET_COUNT
    assert at == len(bounds) or value <= bounds[at]
    assert at == 0 or value > bounds[at - 1]


@pytest.mark.parametrize(("value", "at"), [(0.0, 0), (0.05, 1), (0.1, 1), (1.0, 10), (1.5, 11), (math.inf, 11)])
def test_the_ends_of_the_unit_interval_have_buckets_of_their_own(value, at):
    assert bucket_of(value, UNIT_BOUNDS) == at


def test_scores_of_other_bounds_have_wide_buckets():
    assert bucket_bounds(0.0, 1.0) is UNIT_BOUNDS
    assert bucket_bounds(0.0, None) is WIDE_BOUNDS
    assert len(UNIT_BOUNDS) == len(WIDE_BOUNDS) == BUCKET_COUNT - 1


def test_only_results_that_say_what_they_cost_count(store, exchange):
    (free,) = store.judged(exchange()).results
    dear, odd = free._replace(spent=Spent(0.25, "up/judge", 10)), free._replace(spent=Spent())
    assert [*score_sums.costs_of_results([free, dear, odd])] == [("stated", 0.25, 10), ("stated", None, None)]


def test_sums_grow_by_scorer(store):
    store.run(lambda c: score_sums.add_costs(c, [("judge", 0.25, 10), ("other", 0.0, 7), ("judge", 0.5, 1)]))
    store.run(lambda c: score_sums.add_costs(c, [("judge", 0.25, 1)]))
    store.run(lambda c: score_sums.add_costs(c, []))
    assert store.run(score_sums.scorer_costs) == {"judge": ScorerCost(1.0, 12), "other": ScorerCost(0.0, 7)}


def test_a_repeated_pair_score_costs_once(store):
    plain = {"pair": "a", "arm": "candidate", "exchange_id": "b", "experiment": "swap", "plan": "p", "scorer": "judge",
             "version": "1", "config_hash": "c", "kind": "llm", "direction": "maximise", "status": "scored",
             "value": 1.0, "seconds": 0.1, "created": 1.0}  # fmt: skip
    dear = {**plain, "score_id": "s1", "cost_usd": 0.5, "tokens": 20}
    free = {**plain, "score_id": "s2", "cost_usd": None, "tokens": None}
    for rows in ([dear, free], [dear], []):
        store.run(lambda c, rows=rows: add_pair_scores(c, rows))
    assert store.run(score_sums.scorer_costs) == {"judge": ScorerCost(0.5, 20)}
    assert store.sql("SELECT count(*) FROM pair_scores") == [(2,)]
