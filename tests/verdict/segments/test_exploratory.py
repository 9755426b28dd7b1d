"""Segments: which properties a request has, which segments are shown, and that chance marks none of them."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.plan_evidence import SegmentRow
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.work import figures_and_errors
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import reading
from gateway.verdict.findings import finding
from gateway.verdict.outcome import outcome_of
from gateway.verdict.report.as_json import to_dict
from gateway.verdict.report.html import to_html
from gateway.verdict.report.presentation import headline, segment_lines
from gateway.verdict.segments.exploratory import FEWEST, MOST_VALUES, collected, parts_of, with_intervals
from gateway.verdict.sentence import verdict_sentence
from gateway.verdict.states import SequenceStates

ROW = SegmentRow(0.1, "web", "chat", "chat", False, 300, b"{}", None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"caller": "web", "alias": "chat", "prompt": "under 1 KB", "tools": "no", "stream": "no"}),
        ({"request_bytes": 5000, "language": "de"}, {"prompt": "4 to 16 KB", "language": "de"}),
        ({"request_bytes": 70_000, "request": None}, {"prompt": "over 16 KB"}),
        ({"request": b'{"tools": [{"type": "function"}]}'}, {"tools": "yes"}),
        ({"request": b'{"metadata": {"team": "a", "n": 3, "deep": {}}}'}, {"metadata.team": "a", "metadata.n": "3"}),
        ({"request": b'{"metadata": ["x"]}'}, {"tools": "no"}),
        ({"tags": "env=prod feature=search"}, {"tag.env": "prod", "tag.feature": "search"}),
        ({"request": b"no json"}, {"caller": "web"}),
    ],
)
def test_the_properties_of_a_request(changes: dict[str, Any], expected: dict[str, str]) -> None:
    parts = parts_of(replace(ROW, **changes))
    assert expected.items() <= parts.items()
    assert "metadata.deep" not in parts


def test_rare_and_constant_values_are_not_segments() -> None:
    pairs = [({"alias": "chat", "caller": f"c{i % 10}", "language": "de" if i < FEWEST - 1 else "en"}, 0.0)
             for i in range(FEWEST * 10)]  # fmt: skip
    found = collected(pairs)
    assert not [part for part in found if part[0] == "alias"], "it has one value"
    assert [part for part in found if part[0] == "language"] == [("language", "en")]
    assert len([part for part in found if part[0] == "caller"]) == MOST_VALUES
    assert found["caller", "c0"].n == FEWEST


def test_a_decided_segment_leaves_its_error_to_the_others() -> None:
    third, half = (guarded_half_width(0.05 / k, 200.0, 400, 40.0) for k in (3, 2))
    near, same = Moments(400, -(third + half) / 2, 40.0), Moments(400, 0.0, 40.0)

    def found(first: Moments) -> dict[str, str]:
        parts = {("language", "de"): first, ("language", "en"): near, ("tools", "yes"): same}
        return {segment.value: segment.found for segment in with_intervals(parts, 0.05)}

    assert found(Moments(400, -0.5, 40.0)) == {"de": "worse", "en": "worse", "yes": "unclear"}
    assert found(same) == {"de": "unclear", "en": "unclear", "yes": "unclear"}


def test_chance_marks_a_segment_in_few_experiments() -> None:
    """Ten callers without a difference, a look after every fiftieth pair; five standard errors are allowed."""
    rng, runs, marked = random.Random(1), 200, 0
    for _ in range(runs):
        pairs = [({"caller": f"c{rng.randrange(10)}"}, max(-1.0, min(1.0, rng.gauss(0, 0.3)))) for _ in range(500)]
        looks = (with_intervals(collected(pairs[:n]), 0.05) for n in range(250, 501, 50))
        marked += any(segment.found != "unclear" for found in looks for segment in found)
    assert marked <= runs * (0.05 + 5 * math.sqrt(0.05 * 0.95 / runs))


async def test_a_report_names_the_segment_that_got_worse(room: Any, plan: Any, paired: Any) -> None:
    """The candidate is worse for one caller of two; the whole difference hides it."""
    plan, rng, sent = replace(plan, method="hybrid", max_pairs=400, aa="alarm"), random.Random(2), []
    for i in range(160):
        lost = 0.4 if i % 4 == 0 else -0.13
        control = 0.5 + 0.1 * rng.random()
        request = orjson.dumps({"model": "chat", "messages": [], "metadata": {"team": "law" if i % 4 == 0 else "shop"}})
        sent += paired(plan, f"{control:.3f}", {"candidate": f"{control - lost:.3f}"}, request=request)
    await room.begin(plan)
    async with room.consuming():
        await room.send(*sent)
        await room.until_settled(160)
    with reading(room.store_url) as connection:
        report = report_of(connection, "swap")
    law, shop = (next(s for s in report.segments if s.value == value) for value in ("law", "shop"))
    assert (law.property, law.pairs, law.found) == ("metadata.team", 40, "worse")
    assert (shop.pairs, shop.found) == (120, "better")
    assert law.difference.value == pytest.approx(-0.4)
    assert segment_lines(report)[0].startswith("exploratory: worse where metadata.team = law: −0.40")
    assert to_dict(report)["segments"][0]["found"] == "worse"
    page = to_html(report)
    assert "Segments, exploratory" in page
    assert "metadata.team" in page


@pytest.fixture
async def shipped(room: Any, plan: Any, paired: Any) -> Any:
    """A candidate that ships, and loses 0.46 on a product that nobody declared."""
    plan, rng, sent = replace(plan, method="hybrid", max_pairs=240, aa="alarm", guardrails=()), random.Random(2), []
    for i in range(240):
        product, gain = ("code", -0.46) if i % 6 == 0 else ("mail", 0.12)
        control = 0.5 + 0.1 * rng.random()
        request = orjson.dumps({"model": "chat", "messages": [], "metadata": {"product": product}})
        arms = {"candidate": f"{control + gain:.3f}"} | ({"repeat": f"{control:.3f}"} if i % 4 == 1 else {})
        sent += paired(plan, f"{control:.3f}", arms, request=request)
    await room.begin(plan)
    async with room.consuming():
        await room.send(*sent)
        await room.until_settled(240)
    return room


async def test_a_ship_above_a_strong_loss_says_so_first(shipped: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Every first line names it: of the report, its page, `ab status`, the console's list and the notice."""
    with reading(shipped.store_url) as connection:
        report = report_of(connection, "swap")
        sentences: Any = {}
        ((figures,), _) = figures_and_errors(connection, time.time(), sentences)
        ((again,), _) = figures_and_errors(connection, time.time(), sentences)
        assert again.sentence == figures.sentence
        stored = stored_plans(connection, "swap")[-1]
        found = finding(StoredEvidence(connection, stored), "candidate")
        listed = verdict_sentence(outcome_of(found, SequenceStates(StoredEvidence(connection, stored))))
    assert report.verdict == "ship"
    wanted = "Ship, but code loses 0.46."
    for text in (headline(report), figures.sentence, listed.text):
        assert text.endswith(wanted)
        assert len(text) <= 90
    assert "Ship. But it loses where metadata.product=code (−0.46, " in report.sentence
    assert listed.action == "Look at metadata.product=code first, and declare it as a segment."
    assert wanted in to_html(report)
    assert wanted in to_dict(report)["headline"]["text"]
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["report", "swap", "--data", str(tmp_path / "data")]).output
    assert shown.splitlines()[0].endswith(wanted)
