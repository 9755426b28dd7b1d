"""Every surface shows a point within its interval, and a direction that the interval does not contradict."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from fixtures.shown_figures import figures_in_json, figures_in_svg, figures_in_text, outside
from fixtures.simulated import a_pair, seen
from rich.console import Console

from gateway.core.exchange import Target
from gateway.core.plan import PlanState
from gateway.core.segments import SegmentDesign
from gateway.features.experiments.page import listed_verdicts
from gateway.features.experiments.report.build import reports_of
from gateway.features.experiments.work import figures_of
from gateway.reports.model import Comparison, Report
from gateway.store.plans import save_plans
from gateway.verdict.report.as_json import to_json
from gateway.verdict.report.html import page_values, to_html
from gateway.verdict.report.presentation import best_lines, declared_lines, headline, next_lines
from gateway.verdict.report.terminal import to_terminal
from gateway.verdict.split.comparison import counted_as

Begin = Callable[..., Any]
HYBRID = {"method": "hybrid", "max_pairs": 400, "auto_horizon": True, "aa": "alarm", "rules": 2}


def near(rng: random.Random, mean: float) -> float:
    return min(1.0, max(0.0, rng.gauss(mean, 0.2)))


def repeats_fail(n: int = 320) -> Iterator[Any]:
    """The candidate fails on two of the 32 pairs that ask the control again, and on no other."""
    rng = random.Random(1)
    for i in range(n):
        asked_again = i % 10 == 5
        arms = {"candidate": seen(near(rng, 0.6), failed=asked_again and i < 20)}
        arms |= {"repeat": seen(near(rng, 0.6))} if asked_again else {}
        yield a_pair(i, seen(near(rng, 0.6)), **arms)


def parts(n: int = 240) -> Iterator[Any]:
    """Segments: worse on code, better elsewhere, with failures and repeats."""
    rng = random.Random(2)
    for i in range(n):
        code = i % 4 == 0
        arms = {"candidate": seen(near(rng, 0.3 if code else 0.7), failed=i % 50 == 5)}
        arms |= {"repeat": seen(near(rng, 0.6))} if i % 5 == 0 else {}
        yield replace(a_pair(i, seen(near(rng, 0.6)), **arms), segments={"product": "code" if code else "other"})


def drift(n: int = 240) -> Iterator[Any]:
    """The difference turns round: no constant mean fits."""
    for i in range(n):
        yield a_pair(i, seen(0.5), candidate=seen(0.9 if i < n // 2 else 0.05), repeat=seen(0.5))


def several(n: int = 160) -> Iterator[Any]:
    rng = random.Random(3)
    for i in range(n):
        made = {arm: seen(near(rng, mean)) for arm, mean in (("fast", 0.75), ("slow", 0.6), ("tiny", 0.2))}
        yield a_pair(i, seen(near(rng, 0.6)), repeat=seen(near(rng, 0.6)), **made)


def worse(n: int) -> Iterator[Any]:
    """Far worse, with too few repeats for the gate."""
    rng = random.Random(4)
    for i in range(n):
        arms = {"candidate": seen(near(rng, 0.2))} | ({"repeat": seen(near(rng, 0.6))} if i % 5 == 0 else {})
        yield a_pair(i, seen(near(rng, 0.6)), **arms)


THREE = tuple((arm, Target("b", arm)) for arm in ("fast", "slow", "tiny"))
SEGMENTS = SegmentDesign(("product",), 0.2, values=(("product", ("code",)),), weak_spots=0.0)
WORLDS: dict[str, tuple[dict[str, Any], Callable[[], Iterator[Any]]]] = {
    "repeats": ({**HYBRID, "repeat_control": 0.1, "margin": 0.1}, repeats_fail),
    "segments": ({**HYBRID, "repeat_control": 0.2, "segments": SEGMENTS}, parts),
    "segments that keep failing": ({**HYBRID, "repeat_control": 0.1, "segments": SEGMENTS}, partial(parts, 60)),
    "betting": ({"method": "stationary"}, drift),
    "guaranteed": ({"method": "guaranteed"}, drift),
    "adjusted": ({**HYBRID, "shadow": 0.2, "adjust": True}, drift),
    "anytime": ({"method": "anytime", "repeat_control": 0.1, "aa": "alarm"}, repeats_fail),
    "best": ({"method": "anytime", "max_pairs": 200, "family": "best", "candidates": THREE}, several),
    "holm": ({**HYBRID, "family": "holm", "candidates": THREE}, several),
    "few": ({**HYBRID, "repeat_control": 0.2}, partial(worse, 30)),
    "worse": ({**HYBRID, "repeat_control": 0.2}, partial(worse, 80)),
    "none": (HYBRID, lambda: iter(())),
}


@pytest.fixture(params=list(WORLDS))
def world(request: pytest.FixtureRequest, begin_experiment: Begin) -> Any:
    """A planted store: its reports, figures and the console's list."""
    changes, pairs = WORLDS[request.param]
    experiment = begin_experiment(**changes)
    if made := list(pairs()):
        experiment.add(made)
    with experiment.engine.connect() as connection:
        return SimpleNamespace(
            reports=reports_of(connection, "swap"),
            gauges=figures_of(connection, 2.0),
            listed=listed_verdicts(connection),
        )


def on_terminal(report: Report, full: bool) -> str:
    written = io.StringIO()
    Console(width=400, file=written).print(to_terminal(report, full=full))
    return written.getvalue()


def texts_of(world: Any) -> Iterator[str]:
    """Every text: the report on a terminal, in full and in short, status lines, the console and the notices."""
    for report in world.reports:
        yield from (on_terminal(report, full) for full in (False, True))
        yield from (report.sentence, headline(report), *report.reasons, *next_lines(report))
        yield from (line for line, _ in best_lines(report.best))
        yield from declared_lines(report.declared)
        yield re.sub(r"(?s)<(style|script).*?</\1>|<[^>]+>", " ", to_html(report))
        yield from (text for text in page_values(report, world.reports).values() if isinstance(text, str))
    yield from (figures.sentence for figures in world.gauges)
    yield from (line for each in world.listed["swap"] for line in (each.sentence, each.action))


def comparisons(report: Report) -> Iterator[Comparison]:
    yield from report.metrics
    if report.declared is not None and report.declared.kept is not None:
        yield from report.declared.kept.metrics


def test_a_shown_point_lies_in_its_interval(world: Any) -> None:
    for report in world.reports:
        assert outside(figures_in_json(orjson.loads(to_json(report)))) == []
        for c in comparisons(report):
            assert outside(iter([(c.metric, c.difference.value or 0.0, c.difference.low, c.difference.high)])) == []
    for text in texts_of(world):
        assert outside(figures_in_text(text)) == []
    gauges = [m for figures in world.gauges for m in figures.metrics]
    assert outside((m.metric, m.difference, m.low, m.high) for m in gauges if m.difference is not None) == []


def test_a_drawn_point_lies_on_its_bar(world: Any) -> None:
    """Bars in tables, and the courses with their bands."""
    for report in world.reports:
        figures = list(figures_in_svg(to_html(report)))
        assert outside(iter(figures)) == []
        assert len(figures) >= 2 or report.pairs == 0


def test_a_negative_number_has_a_minus_sign(world: Any) -> None:
    for text in texts_of(world):
        assert re.findall(r"(?<![\w.\-/=:;\"])-\d+\.\d+", text) == []


def test_a_direction_agrees_with_the_interval(world: Any) -> None:
    """No metric is heading for a reject below "until ship"; one is below "until reject"."""
    for report in world.reports:
        p = report.progress
        if p is None or report.verdict != "hold":
            continue
        deciding = [c for c in (report.primary, *report.guardrails) if c is not None and c.margin is not None]
        below = [c for c in deciding if (c.difference.value or 0.0) < -(c.margin or 0.0)]
        assert (p.until == "reject") == bool(below), p.sentence
        assert not (below and "until ship" in p.sentence)
        assert below or "until reject" not in p.sentence


def test_texts_have_figures_at_all(world: Any) -> None:
    """The patterns above would pass where they match nothing."""
    if any(report.pairs for report in world.reports):
        assert sum(len(list(figures_in_text(text))) for text in texts_of(world)) >= 3


def test_failures_are_one_estimate_over_all_pairs(begin_experiment: Begin) -> None:
    """The point was of the pairs with a repeat (−0.062), the interval of all (−0.059 …)."""
    experiment = begin_experiment(**{**HYBRID, "repeat_control": 0.1})
    experiment.add(list(repeats_fail()))
    with experiment.engine.connect() as connection:
        (report,) = reports_of(connection, "swap")
    (c,) = report.guardrails
    assert (c.metric, c.pairs) == ("error_rate", 320)
    assert c.a.value == 0.0
    assert c.b.value == pytest.approx(2 / 320)
    assert c.difference.value == pytest.approx(-2 / 320)
    assert c.difference.low is not None
    assert c.difference.low < -2 / 320, "its bound is not moved to the point"
    assert c.difference.low > -0.06


@pytest.mark.parametrize("pairs", [partial(worse, 30), partial(parts, 60)])
def test_a_stopped_plan_waits_for_nothing(begin_experiment: Begin, pairs: Callable[[], Iterator[Any]]) -> None:
    """No line says how many pairs more it takes next to one that says that none comes."""
    experiment = begin_experiment(**{**HYBRID, "repeat_control": 0.2})
    experiment.add(list(pairs()))
    stopped = PlanState(experiment.plan, "stopped", 2.0)
    with experiment.engine.begin() as connection:
        save_plans(connection, [stopped], 2.0)
    with experiment.engine.connect() as connection:
        (report,) = reports_of(connection, "swap")
        shown = SimpleNamespace(
            reports=[report], gauges=figures_of(connection, 3.0), listed=listed_verdicts(connection)
        )
    assert report.verdict == "hold"
    assert report.progress is not None
    assert report.progress.sentence.endswith("; the plan is stopped, so no further pair comes")
    for text in texts_of(shown):
        assert not re.search(r"about [0-9]+ (pairs|requests)|to go until|Wait", text), text


def test_nobody_leads_before_the_first_pair(begin_experiment: Begin) -> None:
    experiment = begin_experiment(method="anytime", max_pairs=200, family="best", candidates=THREE)
    with experiment.engine.connect() as connection:
        reports = reports_of(connection, "swap")
    for report in reports:
        assert report.best is not None
        assert not re.search(r"\bleads\b", " ".join((headline(report), *(line for line, _ in best_lines(report.best)))))


def test_a_split_counts_its_units(begin_experiment: Begin) -> None:
    for unit, word in (("request", "answer"), ("run", "run"), ("user", "unit"), ("key", "unit")):
        plan = begin_experiment(mode="split", split=0.1, unit=unit).plan
        assert counted_as(plan) == word
    assert counted_as(begin_experiment().plan) == "pair"
