"""Today shows each value within its interval, and no change in the direction that its values contradict."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from fixtures.shown_figures import drawn, figures_in_svg, outside

from gateway.features.today.changes import Figure, TodayReport, report
from gateway.features.today.charts import series_charts
from gateway.features.today.page import ends, said, said_of_hour, sentence
from gateway.features.today.rows import HOUR_S, GroupKey, HourSums, WeightedSums, bucket_of
from gateway.features.today.series import series_report
from gateway.reports.charts import Chart

NOW = 1_764_001_800.0
CHAT, FAST = ("chat", "local/small"), ("fast", "local/large")
Hours = dict[float, dict[GroupKey, HourSums]]


def an_hour(
    calls: int, *, slow: float = 0.0, late: float = 0.0, failed: int = 0, weight: float = 1.0, cost: float = 0.001
) -> HourSums:
    """Calls of which shares take 5 s (slow) and 9 s (late), and the others 0.5 to 1 s."""
    made, rng = HourSums(), random.Random(calls)
    for i in range(calls):
        made.errors.add(float(i < failed), weight)
        made.cost.add(cost * rng.uniform(0.5, 1.5), weight)
        seconds = 9.0 if i < late * calls else 5.0 if i < slow * calls else 0.5 + 0.5 * i / calls
        made.latency[bucket_of(seconds)] = made.latency.get(bucket_of(seconds), 0.0) + weight
        made.slow.add(0.0, weight)
        made.scores.setdefault("judge", WeightedSums()).add(min(1.0, max(0.0, rng.gauss(0.8, 0.2))), weight)
    return made


def faster_weekday() -> Hours:
    """Calls of which 8 % take 5 s on most days. On this weekday 1 % took 9 s, and now 3 % do: more, and a low p95."""
    last = NOW // HOUR_S * HOUR_S
    this, other = an_hour(200, late=0.01), an_hour(200, slow=0.08)
    found = {last - HOUR_S * i: {CHAT: other if i // 24 % 7 else this} for i in range(24, 24 * 29)}
    return found | {last - HOUR_S * i: {CHAT: an_hour(200, late=0.03)} for i in range(24)}


def costlier() -> Hours:
    last = NOW // HOUR_S * HOUR_S
    return {
        last - HOUR_S * i: {CHAT: an_hour(50, cost=0.004 if i < 24 else 0.001), FAST: an_hour(50)}
        for i in range(24 * 4)
    }


def few_and_failing() -> Hours:
    """Intervals that are cut at 0 or 1, weights that differ, and one hour with nearly all the calls."""
    last = NOW // HOUR_S * HOUR_S
    found: Hours = {}
    for i in range(24 * 4):
        found[last - HOUR_S * i] = {
            CHAT: an_hour(300 if i == 3 else 1, failed=299 if i == 3 else 0, weight=1.0 + i % 7),
            FAST: an_hour(2, slow=0.5),
        }
    return found


WORLDS: dict[str, Callable[[], Hours]] = {
    "a faster weekday": faster_weekday, "costlier": costlier, "few and failing": few_and_failing,
}  # fmt: skip


@pytest.fixture(params=list(WORLDS), scope="module")
def hours(request: pytest.FixtureRequest) -> Hours:
    """Returns the sums of each hour; one test for each entry of WORLDS."""
    return WORLDS[request.param]()


@pytest.fixture
def found(hours: Hours) -> TodayReport:
    """Returns the report of those hours."""
    return report(hours, NOW)


def figures(found: TodayReport) -> list[Figure]:
    return [figure for group in found.groups for figure in group.figures]


def number(text: str) -> float:
    return float(re.sub(r"[^\d.−e-]", "", text).replace("−", "-")) * (0.001 if text.endswith(" ms") else 1.0)


def test_a_value_lies_in_its_interval_as_written(found: TodayReport) -> None:
    shown = [figure for figure in figures(found) if figure.interval is not None]
    assert len(shown) >= 3
    for figure in shown:
        assert figure.now is not None
        assert figure.interval is not None
        assert figure.interval[0] <= figure.now <= figure.interval[1], figure
        low, high = map(number, ends(figure.measure, figure.interval).split(" … "))
        value = number(said(figure.measure, figure.now))
        assert low <= value <= high, figure


def test_the_share_of_all_failures_lies_in_its_interval(found: TodayReport) -> None:
    of = [(group, figure) for group in found.groups if (figure := group.figure("errors")) is not None]
    share = sum(group.calls * (figure.now or 0.0) for group, figure in of) / sum(group.calls for group, _ in of)
    if found.errors is not None:
        assert found.errors[0] <= share <= found.errors[1]


def test_a_change_is_worded_as_its_values_are(found: TodayReport) -> None:
    for change in found.changes:
        words = re.fullmatch(r"(rose|fell) from (\S+(?: \S+)?) to (\S+(?: \S+)?)", sentence(change))
        if words is None:
            assert change.figure.slower is not None
            assert not change.figure.agrees
            continue
        before, now = number(words[2]), number(words[3])
        assert now > before if words[1] == "rose" else now < before, sentence(change)


def test_a_p95_of_a_faster_weekday_is_worded_by_slow_calls() -> None:
    """3 % of the calls are slow where 1 % were; the p95 itself is a tenth of what it is on other days."""
    (change,) = report(faster_weekday(), NOW).changes
    assert (change.figure.measure, change.figure.changed) == ("p95", "rose")
    assert sentence(change) == "has 3.00 % of the calls above 4.88 s, 1.00 % usually"
    chart = charts(faster_weekday(), CHAT)["p95 of the time"]
    assert sentence(change) in chart.description


def charts(hours: Hours, group: GroupKey | None) -> dict[str, Chart]:
    made = series_charts(series_report(hours, NOW, group), report(hours, NOW).changes, (), said_of_hour, group)
    return {each.title: each.chart for each in made}


def test_the_charts_of_a_group_draw_the_value_on_its_interval(hours: Hours) -> None:
    for group in (CHAT, FAST):
        for chart in charts(hours, group).values():
            figures = list(figures_in_svg(drawn(chart)))
            assert len(figures) == drawn(chart).count('class="whisker')
            assert outside(iter(figures)) == []


def test_the_charts_of_all_calls_have_no_interval_of_a_group() -> None:
    """The change is of one of two groups, and the line is of both."""
    of_all, of_chat = (charts(few_and_failing(), group) for group in (None, CHAT))
    assert [drawn(chart).count("whisker") for chart in of_all.values()] == [0] * len(of_all)
    assert "whisker" in drawn(of_chat["Failed"])
    assert "changed bad" in drawn(of_all["Failed"])


def test_the_cost_of_an_hour_has_no_interval_of_the_cost_of_a_call() -> None:
    chart = charts(costlier(), CHAT)["Cost an hour"]
    assert "whisker" not in drawn(chart)
    assert re.search(r"the cost of 1 000 calls rose from \$1\.0\d to \$4\.1\d\.", chart.description), chart.description
