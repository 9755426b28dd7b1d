"""The last day against the previous one: what changed, since when, and with which certainty."""

from __future__ import annotations

import pytest

from gateway.features.today.changes import HOURS, course_chart, report, windows
from gateway.features.today.rows import HOUR_S, HourSums, WeightedSums, bucket_of

NOW = 1_764_001_800.0
GROUP = ("chat", "local/small")


def an_hour(n=20, score=0.9, failed=0, seconds=1.0, cost=0.001):
    """Scores spread by ±0.05."""
    cell = HourSums()
    for i in range(n):
        cell.errors.add(float(i < failed), 1.0)
        cell.cost.add(cost * (0.9 + 0.2 * (i % 2)), 1.0)
        cell.slow.add(0.0, 1.0)
        cell.scores.setdefault("judge", WeightedSums()).add(score + 0.05 * (-1) ** i, 1.0)
    cell.latency = {bucket_of(seconds): float(n)}
    return {GROUP: cell}


def hours(**since):
    """48 equal hours; those from `hour` on (0: now) have other values."""
    today, yesterday = windows(NOW)
    hour = since.pop("hour", -1)
    return {
        begin: an_hour(**(since if begin > today[-1] - HOUR_S * (hour + 1) else {})) for begin in (*yesterday, *today)
    }


def test_the_windows_are_24_hours_each():
    today, yesterday = windows(NOW)
    assert len(today) == len(yesterday) == HOURS
    assert today[-1] == NOW // HOUR_S * HOUR_S
    assert yesterday[-1] + HOUR_S == today[0]


def test_without_a_change_nothing_is_reported():
    found = report(hours(), NOW)
    assert found.changes == []
    assert found.groups[0].calls == found.groups[0].calls_before == 480


@pytest.mark.parametrize(
    ("changed", "measure", "tone"),
    [
        ({"score": 0.6}, "score", "bad"),
        ({"score": 0.99}, "score", "good"),
        ({"failed": 6}, "errors", "bad"),
        ({"seconds": 5.0}, "p95", "bad"),
        ({"cost": 0.01}, "cost", "bad"),
    ],
)
@pytest.mark.parametrize("hour", [5, 12])
def test_a_change_is_dated_to_its_hour(changed, measure, tone, hour):
    found = report(hours(hour=hour, **changed), NOW)
    assert [(c.figure.measure, c.figure.tone) for c in found.changes] == [(measure, tone)]
    assert found.changes[0].since == windows(NOW)[0][-1] - HOUR_S * hour


def test_the_earliest_change_comes_first():
    merged = hours(hour=9, failed=10)
    later = hours(hour=3, score=0.3)
    for begin, cells in later.items():
        if begin > windows(NOW)[0][-1] - HOUR_S * 4:
            merged[begin][GROUP].scores = cells[GROUP].scores
    found = report(merged, NOW)
    assert [c.figure.measure for c in found.changes] == ["errors", "score"]


def test_few_calls_prove_nothing():
    today, yesterday = windows(NOW)
    found = report({today[-1]: an_hour(19, score=0.1), yesterday[-1]: an_hour(19)}, NOW)
    assert found.changes == []
    assert {f.z for f in found.groups[0].figures} == {None}


def test_a_new_target_is_not_a_change():
    found = report({windows(NOW)[0][-1]: an_hour(500)}, NOW)
    assert found.changes == []
    assert found.groups[0].calls_before == 0


def test_constants_differ_only_where_they_are_unequal():
    changed = report(hours(hour=23, failed=20), NOW)
    assert [c.figure.measure for c in changed.changes] == ["errors"]
    assert report(hours(failed=20), NOW).changes == []


def test_calls_without_a_known_cost_are_counted_never_free():
    cells = an_hour(10)
    cells[GROUP].cost = WeightedSums()
    [group] = report({windows(NOW)[0][-1]: cells}, NOW).groups
    assert (group.cost, group.unpriced) == (None, 10)


def test_a_chart_has_both_days_and_a_description():
    [change] = report(hours(hour=5, score=0.2), NOW).changes
    chart = course_chart(change, "c1", "Score", str)
    for variant in chart.variants:
        looks = [s.attributes.get("class") for s in variant.shapes]
        assert "trail" in looks
        assert "before" in looks
    assert chart.description.startswith("Score: 0.9 usually, ")


def test_a_score_of_which_less_is_better_is_worse_when_it_rises():
    made = hours(hour=5, score=0.99)
    for cells in made.values():
        cells[GROUP].minimised = {"judge"}
    [change] = report(made, NOW).changes
    assert (change.figure.changed, change.figure.tone) == ("rose", "bad")
