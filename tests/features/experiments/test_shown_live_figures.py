"""Reports of live splits and of likelihood: every surface shows a point within its interval."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from fixtures.likelihoods import likelihood_plan, pair
from fixtures.shown_figures import figures_in_json, figures_in_svg, figures_in_text, outside
from rich.console import Console

from gateway.core.exchange import Exchange
from gateway.core.plan import AGAIN, Guardrail, Plan, PlanState
from gateway.features.experiments.page import listed_verdicts
from gateway.features.experiments.report.build import reports_of
from gateway.features.experiments.work import figures_of
from gateway.reports.model import Report
from gateway.store import engine
from gateway.store.plans import save_plans
from gateway.store.query import reading
from gateway.verdict.report.as_json import to_json
from gateway.verdict.report.html import to_html
from gateway.verdict.report.likelihood import likelihood_lines
from gateway.verdict.report.terminal import to_terminal

Fields = dict[str, Any]
BOTH = ("candidate", "control")


def even(rng: random.Random, i: int) -> Fields:
    return {"text": f"{rng.random():.3f}", "total_s": rng.lognormvariate(0.0, 0.5)}


def at_the_bounds(rng: random.Random, i: int) -> Fields:
    """All scores of one arm are 1, and all of the other 0."""
    return {"text": str(i % 2)}


def failing(rng: random.Random, i: int) -> Fields:
    """The candidate fails now and then, and leaves no score; whatever fails is recorded more often."""
    fails = i % 2 == 0 and rng.random() < 0.2
    status = {"status": 500, "outcome": "upstream_error"} if fails else {"pi": 0.1}
    return {"text": "0.5" if i % 7 else "none", "total_s": rng.lognormvariate(0.5 * (i % 2), 1.0), **status}


def heavy(rng: random.Random, i: int) -> Fields:
    """One user makes nine calls of ten, each with another score, of one caller; the others are recorded rarely."""
    one = i % 10 != 0
    unit = f"u{i % 2}" if one else f"u{i}"
    of = {"cluster": unit, "unit": unit, "caller": "bot" if one else f"k{i % 3}", "pi": 1.0 if one else 0.05}
    return {"text": f"{rng.random():.3f}", **of}


def few(rng: random.Random, i: int) -> Fields:
    return {"text": f"{rng.random():.3f}", "cluster": f"u{i % 4}", "unit": f"u{i % 4}"}


SPLITS: dict[str, tuple[Fields, Callable[[random.Random, int], Fields], int]] = {
    "even": ({"unit": "request"}, even, 400),
    "at the bounds": ({"unit": "user"}, at_the_bounds, 200),
    "failing": ({"unit": "request"}, failing, 600),
    "a heavy user": ({"unit": "user"}, heavy, 600),
    "few clusters": ({"unit": "user"}, few, 80),
    "first rules": ({"unit": "user", "rules": 1}, heavy, 300),
    "of runs": ({"unit": "run"}, even, 300),
    "none": ({"unit": "request"}, even, 0),
}


@pytest.fixture(params=list(SPLITS))
def split(request: pytest.FixtureRequest, plan: Plan, exchange: Callable[..., Exchange], keep: Any) -> Any:
    """Returns what every surface shows of a stored split; one test for each entry of SPLITS."""
    changes, make, count = SPLITS[request.param]
    rails = (Guardrail("error_rate", 0.05), Guardrail("latency_p95", 0.5))
    made = replace(plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, guardrails=rails, **changes)
    rng, records = random.Random(8), []
    for i in range(count):
        same = {"experiment": made.name, "plan": made.hash, "target": made.target(BOTH[i % 2]), "arm": BOTH[i % 2]}
        unit = {"cluster": f"u{i}", "stratum": f"split:{made.name}", "received": 1000.0 + 30 * i}
        records.append(exchange(**{**same, **unit, **make(rng, i)}))
    url = keep(records)
    opened = engine.writer(url)
    with opened.begin() as connection:
        save_plans(connection, [PlanState(made, "running", 1.0)], 1.0)
    opened.dispose()
    return surfaces(url, made.name)


def surfaces(url: str, name: str) -> Any:
    with reading(url) as connection:
        return SimpleNamespace(
            reports=reports_of(connection, name),
            gauges=figures_of(connection, 1e6),
            listed=listed_verdicts(connection)[name],
        )


def texts_of(shown: Any) -> Iterator[str]:
    for report in shown.reports:
        yield from (on_terminal(report, full) for full in (False, True))
        yield from (report.sentence, *report.reasons, *likelihood_lines(report.likelihood))
        yield re.sub(r"(?s)<(style|script).*?</\1>|<[^>]+>", " ", to_html(report))
    yield from (figures.sentence for figures in shown.gauges)
    yield from (line for each in shown.listed for line in (each.sentence, each.action))


def on_terminal(report: Report, full: bool) -> str:
    console = Console(width=400)
    with console.capture() as written:
        console.print(to_terminal(report, full=full))
    return written.get()


def check(shown: Any) -> None:
    for report in shown.reports:
        assert outside(figures_in_json(orjson.loads(to_json(report)))) == []
        assert outside(figures_in_svg(to_html(report))) == []
    for text in texts_of(shown):
        assert outside(figures_in_text(text)) == []
    gauges = [m for figures in shown.gauges for m in figures.metrics]
    assert outside((m.metric, m.difference, m.low, m.high) for m in gauges if m.difference is not None) == []


def test_a_split_shows_each_point_within_its_interval(split: Any) -> None:
    check(split)
    for report in split.reports:
        if report.primary is not None and report.primary.difference.low is not None:
            assert len(list(figures_in_svg(to_html(report)))) >= 2
            assert sum(len(list(figures_in_text(text))) for text in texts_of(split)) >= 2


SHIFTS: dict[str, Callable[[random.Random], float]] = {
    "the same": lambda rng: 0.0,
    "another": lambda rng: -0.3,
    "one answer of ten": lambda rng: -40.0 if rng.random() < 0.1 else 0.0,
    "likelier": lambda rng: 0.2,
}


@pytest.mark.parametrize("name", SHIFTS)
async def test_a_likelihood_shows_each_point_within_its_interval(room: Any, paired: Any, name: str) -> None:
    plan, rng, pairs = likelihood_plan(), random.Random(4), 24
    await room.begin(plan)
    async with room.consuming():
        for _ in range(pairs):
            made = paired(plan, "1", {"candidate": "1", "repeat": "1", AGAIN: "1"})
            await room.send(*pair(made, rng, SHIFTS[name]))
        await room.until_settled(pairs)
    shown = surfaces(room.store_url, plan.name)
    check(shown)
    (report,) = shown.reports
    assert report.likelihood is not None
    assert len([f for line in likelihood_lines(report.likelihood) for f in figures_in_text(line)]) >= 2
    of = report.likelihood.divergence
    assert report.verdict != "ship" or (of.value or 0.0) <= (report.primary.margin or 0.0)
