"""One list of sections is behind every form of a report."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from gateway.verdict.report.html import page_values, to_html
from gateway.verdict.report.sections import sections_of
from gateway.verdict.report.terminal import to_terminal


def terminal(report: Any) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False, force_terminal=False)
    console.print(to_terminal(report, full=True))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("kind", ["ship", "hold", "reject", "nothing", "hostile"])
def test_the_page_and_the_console_have_the_same_sections(report, kind):
    made = report(kind)
    values, every = page_values(made), sections_of(made)
    assert sorted(each.name for each in (*values["sections"], *values["others"])) == sorted(s.name for s in every)
    assert all(each in every for each in (*values["sections"], *values["others"]))
    assert all(sections_of(made)), "a section without content is left out"


@pytest.mark.parametrize("kind", ["ship", "hold", "reject"])
def test_each_form_titles_each_section_alike(report, read, kind):
    made = report(kind)
    lines, headings = terminal(made).splitlines(), [h.text for h in read(to_html(made)).all("h2")]
    for section in sections_of(made):
        assert (section.title in headings) == (section.on != "terminal")
        assert (section.title in lines) == (section.on != "page")


def test_a_new_row_is_in_every_form(report):
    made = report("ship")
    gate = replace(made.gates[0], name="a new gate", says="says why")
    metric = replace(made.guardrails[0], metric="a new metric")
    arm = replace(made.arms[0], arm="a new arm", target="up/stream")
    made = replace(
        made, gates=(*made.gates, gate), guardrails=(*made.guardrails, metric), arms=(*made.arms, arm),
        withheld=(*made.withheld, ("a new reason", 9)), limits=(*made.limits, "a new limit"),
    )  # fmt: skip
    for text in (terminal(made), to_html(made)):
        for part in ("a new gate", "says why", "a new metric", "a new arm", "up/stream", "a new reason", "a new limit"):
            assert part in text, part


def test_numbers_are_the_same_in_every_form(report):
    made = report("ship")
    text, page = terminal(made), to_html(made)
    for section in sections_of(made):
        for row in section.rows.rows if section.rows and section.on == "everywhere" else ():
            for cell in row.cells:
                assert cell.text in text, (section.name, cell)
                assert cell.text.replace("'", "&#39;") in page, (section.name, cell)


def test_the_metrics_of_the_controls_repeats_are_named(report):
    made = report("ship")
    assert any(arm.arm == "repeat" for arm in made.arms)
    [metrics] = [section for section in sections_of(made) if section.name == "metrics"]
    assert metrics.note.startswith("Of the control, error_rate")
    assert "as measured on its repeats" in metrics.note

    alone = replace(made, arms=tuple(arm for arm in made.arms if arm.arm != "repeat"))
    [metrics] = [section for section in sections_of(alone) if section.name == "metrics"]
    assert "repeats" not in metrics.note
