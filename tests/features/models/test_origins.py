"""New values of `model` and `system_fingerprint`: after a baseline of a week, unseen for 30 days, 5 % and 20 calls."""

from __future__ import annotations

import random

from gateway.features.models.origins import (
    BASELINE_H,
    DAY_H,
    KEPT_H,
    MOST_VALUES,
    UNSEEN_H,
    NewValue,
    Series,
    ValueCounts,
    new_values,
)

SERIES = Series("chat", "openai", "gpt", "fingerprint")
Hours = dict[int, dict[str, int]]


def found_in(hours: Hours, until: int | None = None) -> list[NewValue]:
    """The values that are new at any hour."""
    history = {at: {SERIES: counts(values)} for at, values in hours.items()}
    last = max(hours) if until is None else until
    return [new for hour in range(min(hours), last + 1) for new in new_values(history, hour)]


def counts(values: dict[str, int]) -> ValueCounts:
    made = ValueCounts()
    for value, calls in values.items():
        made.add(value or None, calls, float(calls))
    return made


def constant(hours: int, begin: int = 0, **values: int) -> Hours:
    return {begin + at: dict(values) for at in range(hours)}


def test_the_first_week_is_a_baseline_without_notice() -> None:
    hours = constant(BASELINE_H, a=50)
    hours[BASELINE_H - 1] = {"b": 50}
    assert found_in(hours) == []


def test_a_new_value_is_one_event() -> None:
    hours = constant(BASELINE_H + DAY_H, a=50) | constant(DAY_H, BASELINE_H + DAY_H, b=50)
    found = found_in(hours)
    assert {(new.value, new.before, new.first_hour) for new in found} == {("b", "a", BASELINE_H + DAY_H)}
    assert found[0].hour == BASELINE_H + DAY_H + 1, "50 of 1 200 calls are less than 5 %, 100 are more"


def test_few_calls_and_small_shares_are_no_event() -> None:
    few = constant(BASELINE_H, a=1) | constant(DAY_H, BASELINE_H, a=1) | {BASELINE_H + DAY_H: {"b": 19}}
    assert found_in(few) == []
    small = constant(BASELINE_H, a=100) | constant(10 * DAY_H, BASELINE_H, a=100, b=5)
    assert found_in(small) == []


def test_a_slow_rollout_is_seen_when_it_matters() -> None:
    hours = constant(BASELINE_H, a=100)
    hours |= {BASELINE_H + at: {"a": 100 - at // DAY_H, "b": 1 + at // DAY_H} for at in range(10 * DAY_H)}
    found = found_in(hours)
    assert {new.first_hour for new in found} == {BASELINE_H}
    assert 3 * DAY_H < found[0].hour - BASELINE_H < 6 * DAY_H


def test_a_value_that_returns_within_30_days_is_known() -> None:
    away = constant(DAY_H, 0, b=50) | constant(UNSEEN_H - 2 * DAY_H, DAY_H, a=50)
    assert found_in(away | constant(DAY_H, UNSEEN_H - DAY_H, b=50)) == []
    longer = constant(DAY_H, 0, b=50) | constant(UNSEEN_H + DAY_H, DAY_H, a=50)
    assert {new.value for new in found_in(longer | constant(DAY_H, UNSEEN_H + 2 * DAY_H, b=50))} == {"b"}


def test_an_older_gateway_without_values_begins_a_baseline() -> None:
    """The week of the baseline begins with the first value, whatever was served before an upgrade."""
    hours = constant(20 * DAY_H, **{"": 50})
    assert found_in(hours | constant(BASELINE_H, 20 * DAY_H, a=50)) == []


def test_rotating_backends_are_never_new() -> None:
    """Five backends with unequal shares over 120 days, looked at with the history that is kept: 40 deployments."""
    events = 0
    for seed in range(40):
        generator = random.Random(seed)
        shares = [generator.uniform(0.02, 1) for _ in range(5)]
        hours: Hours = {}
        for at in range(0, 120 * DAY_H, 6):
            drawn = generator.choices("abcde", shares, k=generator.randint(5, 60))
            hours[at] = {value: drawn.count(value) for value in set(drawn)}
        for hour in range(10 * DAY_H, 120 * DAY_H, 10 * DAY_H):
            kept = {at: {SERIES: counts(of)} for at, of in hours.items() if hour - KEPT_H <= at <= hour}
            events += len(list(new_values(kept, hour)))
    assert events == 0


def test_a_value_for_each_call_is_bounded() -> None:
    many = counts({f"v{at}": 1 for at in range(500)})
    assert len(many.bounded().values) == MOST_VALUES
    assert many.bounded().weight == 500.0
    hours = constant(BASELINE_H, a=50) | {BASELINE_H + at: {f"v{at}-{i}": 1 for i in range(40)} for at in range(48)}
    assert found_in(hours) == []
