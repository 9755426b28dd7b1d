"""The drift alarm of a guard: silent while nothing changes, also where hits come in bursts, and on after a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gateway.features.guards.hourly.hours import DAY_S, HOUR_S, QUARTER_S, DecisionHour, Quarter
from gateway.features.guards.hourly.usual_range import (
    USUAL_AFTER_S,
    DriftState,
    advanced,
    drift_of,
    drift_sentence,
    state_from_json,
    state_to_json,
)

CONFIG = "answer h"
Rate = Callable[[float], float]


def hour(begin: float, quarters: list[Quarter], config_hash: str = "h") -> DecisionHour:
    return DecisionHour("answer", config_hash, first=begin, last=begin + 1, quarters=quarters)


def world(days: float, rate: Rate, seed: int, calls: int = 200, burst: int = 1) -> dict[float, list[DecisionHour]]:
    """Hours in which a quarter has about `calls` calls, by day twice as many as by night, and hits come `burst` at a
    time. rate: of hits, at a time in seconds."""
    rng, found = np.random.default_rng(seed), {}
    for h in range(int(days * 24)):
        quarters = []
        for q in range(4):
            at = h * HOUR_S + q * QUARTER_S
            n = int(rng.poisson(calls * (1 + 0.33 * np.sin(2 * np.pi * at / DAY_S))))
            hits = min(n, burst * int(rng.poisson(n * rate(at) / burst)))
            quarters.append(Quarter(n, float(n), float(hits), float(hits)))
        found[h * HOUR_S] = [hour(h * HOUR_S, quarters)]
    return found


def after(hours: dict[float, list[DecisionHour]], step_s: float = 6 * HOUR_S) -> tuple[DriftState, list[float]]:
    """The state at the end, and when alarms began, with a look from time to time."""
    state: DriftState | None = None
    began: list[float] = []
    end = max(hours) + HOUR_S
    for now in np.arange(step_s, end + step_s, step_s):
        shown = {at: of for at, of in hours.items() if now - 8 * DAY_S <= at < now}
        state = state_from_json(state_to_json(advanced(state, CONFIG, shown, float(now) + 61)))
        if state.since is not None and state.since not in began:
            began.append(state.since)
    assert state is not None
    return state, began


def test_there_is_no_alarm_before_a_day_is_known() -> None:
    state, _ = after(world(0.9, lambda at: 0.01, 1))
    assert drift_of("g", state) is None
    state, began = after(world(3, lambda at: 0.01, 1))
    assert began == []
    drift = drift_of("g", state)
    assert drift is not None
    assert not drift.alarm
    assert drift.usual == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize(("burst", "within_days"), [(1, 1), (5, 2)])
def test_a_rate_that_triples_rings(burst: int, within_days: float) -> None:
    state, began = after(world(5, lambda at: 0.01 if at < 3 * DAY_S else 0.03, 2, burst=burst), HOUR_S)
    assert len(began) == 1, "an alarm does not come and go"
    assert 3 * DAY_S < began[0] <= (3 + within_days) * DAY_S
    drift = drift_of("g", state)
    assert drift is not None
    assert (drift.direction, drift.alarm) == ("up", True)
    assert drift_sentence(replace(drift, what="hits", usual=0.0102, now=0.0312)) == (
        "the share of hits rose from 1.02\u202f% to 3.12\u202f%"
    )


def test_hits_that_end_ring_within_two_days() -> None:
    state, began = after(world(5, lambda at: 0.02 if at < 3 * DAY_S else 0.0, 3))
    assert len(began) == 1
    drift = drift_of("g", state)
    assert drift is not None
    assert (drift.direction, round(drift.now, 3)) == ("down", 0.0)


def test_scores_that_move_below_the_threshold_ring() -> None:
    hours = world(4, lambda at: 0.0, 4)
    for at, (of,) in hours.items():
        for quarter in of.quarters:
            quarter.scores = quarter.judged * (0.05 if at < 3 * DAY_S else 0.15)
    state, began = after(hours)
    drift = drift_of("g", state)
    assert len(began) == 1
    assert drift is not None
    assert (drift.what, drift.direction) == ("scores", "up")


def test_another_config_begins_anew() -> None:
    state, began = after(world(4, lambda at: 0.01 if at < 2 * DAY_S else 0.2, 5))
    assert began
    other = advanced(state, "answer other", world(4, lambda at: 0.01, 5), 4 * DAY_S)
    assert (other.since, other.detector, other.config) == (None, None, "answer other")


def test_a_change_that_lasts_a_week_is_usual() -> None:
    hours = world(2 + 9, lambda at: 0.01 if at < 2 * DAY_S else 0.1, 6, calls=60)
    state, [began] = after(hours)
    assert began + USUAL_AFTER_S < 11 * DAY_S
    drift = drift_of("g", state)
    assert drift is not None
    assert not drift.alarm
    assert drift.usual == pytest.approx(0.1, rel=0.2)


def test_a_weekend_that_was_seen_once_is_usual() -> None:
    """The range of a week covers each of its days."""

    def rate(at: float) -> float:
        return 0.012 if int(at // DAY_S) % 7 >= 5 else 0.02

    state, _ = after(world(15, rate, 7, calls=60))
    assert state.weekly
    assert state.since is None


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("burst", [1, 10])
def test_nothing_changes_for_a_quarter_of_a_year(burst: int) -> None:
    """The bound is one alarm in 2.8 years of such time; in 24 quarters of years, 6 years, more than 9 have p < 1e-3."""
    found = [after(world(91, lambda at: 0.012, seed, calls=100, burst=burst), DAY_S)[1] for seed in range(24)]
    assert sum(map(len, found)) <= 2, [len(each) for each in found]
