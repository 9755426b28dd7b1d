"""Groups of failures in the report of an experiment: of an arm's own answers, whichever role they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from gateway.core.exchange import Target
from gateway.features.groups.report import experiment_sections
from gateway.verdict.report.html import to_html
from gateway.verdict.report.terminal import to_terminal

AS_JSON = b'{"messages":[{"role":"user","content":"a number?"}],"response_format":{"type":"json_object"}}'


@pytest.fixture
def shadowed(keep: Callable[..., str], exchange: Callable[..., Any], report: Callable[..., Any]) -> tuple[str, Any]:
    """A store with pairs, whose candidate fails at half of the requests for JSON; and the report of the experiment."""
    shown = report("reject")
    shown = replace(shown, plan="p", candidate="candidate", primary=replace(shown.primary, metric="stated"))
    made = []
    for i in range(400):
        of = {"plan": "p", "experiment": "swap", **({"request": AS_JSON} if i % 4 < 2 else {})}
        served = exchange("1", arm="control", **of)
        failed = (i % 4 < 2 and i % 8 < 4) or i % 40 == 2
        target = Target("local", "new")
        made += [
            served,
            exchange("0" if failed else "1", arm="candidate", role="shadow", pair=served.id, target=target, **of),
        ]
    return keep(made), shown


def test_a_report_names_the_requests_at_which_the_candidate_fails(shadowed: tuple[str, Any]) -> None:
    """The control, which fails nowhere, has no section."""
    url, shown = shadowed
    sections = experiment_sections(url, shown)
    assert [section.title for section in sections] == ["Failures of candidate in groups"]
    page = to_html(shown, (), sections)
    assert "Failures of candidate in groups" in page
    assert "JSON asked for" in page
    console = Console(width=200)
    with console.capture() as captured:
        console.print(to_terminal(shown, full=True, more=sections))
    assert "JSON asked for" in captured.get()


def test_without_a_plan_there_are_no_groups(shadowed: tuple[str, Any]) -> None:
    url, shown = shadowed
    assert experiment_sections(url, replace(shown, primary=None)) == []
    assert experiment_sections(url, replace(shown, plan="other")) == []
