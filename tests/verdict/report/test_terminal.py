"""The report on a terminal: the deciding lines come first, and no text takes the terminal over."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from rich.console import Console

from gateway.core.sanitize import plain
from gateway.reports.model import Estimate, IntervalTrail, RampChangeShown, RampHistory
from gateway.reports.number_format import digits_of, interval
from gateway.verdict.report.as_json import schema, to_dict
from gateway.verdict.report.html import to_html
from gateway.verdict.report.presentation import headline
from gateway.verdict.report.terminal import LINES, to_terminal


def shown(report: Any, width: int = 160, *, color: bool = False, full: bool = True) -> str:
    colors = "standard" if color else None
    # With a height, since a Console of a dumb terminal has 80 columns unless it has both.
    size = {"width": width, "height": 1000}
    console = Console(file=io.StringIO(), **size, highlight=False, force_terminal=color, color_system=colors)  # type: ignore[arg-type]
    console.print(to_terminal(report, full=full))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("kind", "code"), [("ship", "\x1b[1;32m"), ("hold", "\x1b[1;33m"), ("reject", "\x1b[1;31m")])
def test_the_first_line_is_the_verdict_in_its_colour(report, kind, code):
    first = shown(report(kind), 400, color=True).splitlines()[0]
    assert first.startswith(code)
    assert plain(first).endswith(f"{kind.capitalize()}.[0m")


@pytest.mark.parametrize("kind", ["ship", "hold", "reject", "nothing", "hostile"])
def test_the_short_form_fits_into_fifteen_lines(report, kind):
    lines = shown(report(kind), 10_000, full=False).splitlines()
    assert len(lines) <= LINES
    assert lines[0] == plain(headline(report(kind))).rstrip()


def test_measured_and_adjusted_differences_stand_in_every_form(report):
    made = report("ship")
    first = replace(made.primary, raw=Estimate(-0.107, -0.145, -0.069), shift=Estimate(-0.077, -0.1, -0.05))
    made = replace(made, primary=first, metrics=(first, *made.metrics[1:]))
    text, page = shown(made, 400), to_html(made)
    for form in (text, page):
        assert "−0.107" in form.replace("-", "−")
        assert "ot adjusted" in form
        assert "0.145 … −0.069" in form.replace("-", "−")
    read = to_dict(made)["primary"]
    assert read["raw"] == {"value": -0.107, "low": -0.145, "high": -0.069}
    assert read["shift"]["value"] == -0.077
    jsonschema_rs.validate(schema(), to_dict(made))


def test_the_short_form_of_a_hold_names_the_remaining_work(report):
    text = shown(report("hold"), 400, full=False)
    for part in (
        "no difference visible so far; about 9\u202f500 requests (2.0 days) to go until ship, for primary helpfulness",
        "open: gate aa: ",
        "shorter with repeat_control 0.25 → 1: about 700 requests, as a new plan that starts from zero",
        "! The judge helpfulness decides and is not calibrated",
        "Where the candidate is worse: refusal 7, cut off 2",
        "✕ gate judge: 9.1 %",
    ):
        assert part in text, part


def test_undecided_metrics_are_named(report):
    lines = shown(report("hold")).splitlines()
    assert lines[1:4] == [f"  {reason}" for reason in report("hold").reasons]
    assert any(line.startswith("✕ red") and "9.1 % of the candidate's" in line for line in lines)
    assert any(line.startswith("? unknown") for line in lines)


def test_each_metric_has_a_complete_row(report):
    lines = shown(report()).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("helpfulness"))
    assert lines[at - 1].rstrip() == "Primary: decides"
    for part in ("0.731", "0.735", "+0.004", "+0.001", "1\u202f240", "+0.006", "0.02", "the same within 0.02"):
        assert part in lines[at]
    for part in ("−0.011 … +0.019", "−0.008 … +0.010", "1\u202f198 effective", "−0.014 … +0.026"):
        assert part in lines[at + 1]
    assert "As people judge" not in shown(report("hold"))


def test_every_section_of_a_report_is_shown(report):
    text = shown(report())
    for part in (
        "candidate preferred 356 (28.7\u202f%), tie 566",
        "The winner changed with the order in 8.3\u202f%",
        "key batch    227  −0.031 [−0.058 … −0.004]",
        "another: not to be compared",
        "local/llama-y",
        "$0.70",
        "not offered: busy       31  2.4\u202f%",
        "busy: the candidate's concurrency was used up: budget.concurrency, or the upstream's concurrency",
        "- The judge is of the candidate's family.",
        "plan 3fa2b1c09d7e4f58, gateway 0.3.0",
        "gateway report swap --candidate llama --html report.html",
    ):
        assert part in text, part


def test_the_course_shows_the_difference_and_its_interval(report):
    points = ((1, -0.5, -9.0, 9.0), (50, 0.0, -0.4, 0.4), (100, 0.0, -0.03, 0.03))
    text = shown(report(trails=(IntervalTrail("helpfulness", points),))).splitlines()
    at = next(i for i, line in enumerate(text) if line.startswith("The difference, as pairs came"))
    drawn = [line[9:12] for line in text[at + 1 : at + 10]]
    middle = drawn[4]
    assert middle == "░██"
    assert [line[2] for line in drawn] == [" ", " ", " ", " ", "█", " ", " ", " ", " "]
    assert [line[1] for line in drawn] == ["░"] * 4 + ["█"] + ["░"] * 4
    assert text[at + 10].split() == ["1", "100", "pairs"]


def test_the_course_says_with_which_interval_it_ends(report):
    points = ((1, -0.5, -9.0, 9.0), (50, 0.0, -0.4, 0.4), (100, 0.0, -0.2, 0.2))
    text = shown(report(trails=(IntervalTrail("helpfulness", points),))).splitlines()
    key = next(line for line in text if "its interval at every look" in line)
    last = text[text.index(key) + 1]
    primary = report().primary
    decides = interval(primary.difference, digits_of(primary.difference, margin=primary.margin))
    assert f"at the end the interval that decides: {decides}" in last


@pytest.mark.parametrize("points", [(), ((1, math.nan, -math.inf, math.inf),)])
def test_a_report_without_points_has_no_course(report, points):
    assert "as pairs came" not in shown(report(trails=(IntervalTrail("helpfulness", points),)))


def test_infinite_bounds_are_drawn(report):
    assert "as pairs came" in shown(report(trails=(IntervalTrail("helpfulness", ((1, 0.0, -math.inf, math.inf),)),)))


def test_an_empty_report_shows_only_the_verdict(report):
    lines = shown(report("nothing")).splitlines()
    assert lines[0] == "No pair yet. Hold."
    assert lines[1] == "Send traffic: pairs come with it."
    assert not any(
        title in lines for title in ("Gates", "Metrics", "The difference, as pairs came", "Limits", "Withheld")
    )


@pytest.mark.parametrize("width", [60, 240])
def test_stored_text_has_no_effect_on_the_terminal(report, width):
    text = shown(report("hostile"), width)
    assert plain(text) == text
    assert "[bold]x[/bold]" in text.replace("\n", "")


RAMP = RampHistory(
    "rolled_back", 0, (0.1, 1.0), 0.0, False,
    (RampChangeShown(0.0, "overridden", 0.1, "mia", "the judge was down", "p"),
     RampChangeShown(60.0, "rolled_back", 0.0, "controller", "error_rate at step 1", "p")),
    (RampChangeShown(0.0, "overridden", 0.1, "mia", "the judge was down", "p"),),
)  # fmt: skip


@pytest.mark.parametrize("full", [False, True])
def test_a_report_shows_the_ramp_and_each_overrides_reason(report, full):
    text = shown(report("hold", ramp=RAMP), 400, full=full)
    assert "Ramp: rolled back: the candidate serves 0\u202f% of the units; 1 step taken without the evidence" in text
    assert "! Override on 1970-01-01" in text
    assert "by mia, to 10.0\u202f% of the units: the judge was down" in text
    assert text.count("error_rate at step 1") == 1 + full, "first of all, and in the share over time"


@pytest.mark.parametrize("full", [False, True])
def test_a_ship_whose_ramp_was_rolled_back_does_not_say_ship_first(report, full):
    lines = shown(report("ship", ramp=RAMP), 400, full=full).splitlines()
    assert lines[0].strip() == "Rolled back: error_rate at step 1"
    assert any(line.strip().startswith("Verdict on the pairs: ") for line in lines)
