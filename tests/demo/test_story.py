"""The lines of the demo: its verdict is the report's, its dollars too, and a standstill ends with a cause."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.errors import CannotRun
from gateway.demo import demo
from gateway.demo.story import HOURS, Story, Watch, kept_names, searched_enough, tell_verdict
from gateway.reports.model import Estimate, KeptTraffic, Report, SegmentReport, WeakSpot


def excepted(made: Report, pairs: int = 1_200, share: float = 0.8) -> Report:
    """The report with a verdict that leaves code with the control."""
    assert made.primary is not None
    cost = next(c for c in made.metrics if c.metric == "cost_per_1k")
    total, moved = (replace(cost, a=Estimate(a), b=Estimate(0.2)) for a in (2.0, 1.5))
    kept = KeptTraffic(("metadata.kind=code",), share, (made.primary, moved), True)
    declared = SegmentReport((), kept, WeakSpot(pairs, 800, 1.0, False))
    return replace(made, verdict="ship_except", guardrails=(total,), metrics=(total,), declared=declared)


def test_the_verdict_comes_with_its_saving_and_what_it_leaves_out(report: Any) -> None:
    lines: list[str] = []
    tell_verdict(excepted(report()), Story(lines.append))
    assert "Ship, but keep metadata.kind=code." in lines[0]
    assert lines[1].endswith(
        "ship, except code: saves 52\u202f% of the cost, $0.96 instead of $2.00 for 1 000 calls like these"
    )
    assert lines[2].endswith(HOURS)


def test_a_verdict_without_exceptions_names_none(report: Any) -> None:
    assert kept_names(report()) == ()
    assert searched_enough(report())


def test_the_ramp_waits_until_the_search_has_enough_pairs(report: Any) -> None:
    assert not searched_enough(excepted(report(), pairs=1_000))
    assert searched_enough(excepted(report(), pairs=1_100))


def test_nothing_is_said_while_the_programs_stop() -> None:
    lines: list[str] = []
    quiet = Story(lines.append, stopping=lambda: True)
    quiet.tell("a call failed")
    assert lines == []
    quiet.tell_always("stopped")
    assert lines[0].endswith("s  stopped")


async def test_a_standstill_ends_with_its_cause(tmp_path: Path) -> None:
    traffic: Any = SimpleNamespace(answered=3, users={"ada"}, last_failure="HTTP 502: no upstream")
    watch = Watch(tmp_path, traffic, Story(lambda _: None), stuck_s=0.0)
    with pytest.raises(
        CannotRun, match=r"after 3 calls. The last failure: HTTP 502: no upstream. The log is .*gateway.log"
    ):
        await watch.until(lambda report: True)


async def test_a_command_that_fails_shows_its_last_lines() -> None:
    with pytest.raises(CannotRun, match=r"(?s)gateway ab ended with 2; its output:.*promote"):
        await demo.run_verb("ab", "promote")
