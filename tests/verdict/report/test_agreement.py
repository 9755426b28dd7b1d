"""One report, one answer: its sentence, badge, table and chart agree in every state of an experiment and its ramp."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from gateway.reports import number_format as say
from gateway.reports.model import (
    BestOfK,
    Comparison,
    DeclaredSegment,
    Estimate,
    KeptTraffic,
    RampChangeShown,
    RampHistory,
    RankedCandidate,
    Report,
    SegmentReport,
)
from gateway.verdict.report.as_json import to_dict
from gateway.verdict.report.html import to_html
from gateway.verdict.report.terminal import to_terminal

STATES = [None, "shadow", "ramp", "promoted", "rolled_back", "stopped"]
TONES = {"✓": "good", "?": "open", "✕": "bad"}
WORDS = {"ship": "Ship", "hold": "Hold", "reject": "Reject"}


def ramp(state: str | None) -> RampHistory | None:
    if state is None:
        return None
    change = RampChangeShown(9.0, state, 0.1, "controller", "errors at step 1", "p")
    share = {"ramp": 0.1, "promoted": 1.0}.get(state, 0.0)
    return RampHistory(state, {"ramp": 1, "promoted": 2}.get(state, 0), (0.1, 1.0), share, False, (change,), ())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["ship", "hold", "reject"])
def test_sentence_badge_table_and_chart_agree(report: Any, read: Any, kind: str, state: str | None) -> None:
    made = report(kind, ramp=ramp(state))
    if kind == "hold":
        made = replace(made, gates=tuple(gate for gate in made.gates if gate.state >= 0))
    page = read(to_html(made))
    badge, sentence = page.one("span", "badge"), page.one("h1", "sentence").text
    assert TONES[badge.text[0]] in badge.attributes["class"].split()
    serves = state not in (None, "shadow")
    word = badge.text[2:]
    if not serves:
        assert word == WORDS[kind]
        assert sentence.endswith(f"{word}.")
    elif state == "ramp":
        assert word.lower() in sentence.lower()
    else:
        assert sentence.startswith(word)
        assert WORDS[kind] not in sentence
    assert to_dict(made)["headline"]["text"] == sentence
    assert terminal(made)[0] == sentence
    if not serves:
        the_numbers_are_those_of_table_and_chart(made, page, sentence)


def the_numbers_are_those_of_table_and_chart(made: Any, page: Any, sentence: str) -> None:
    c = made.primary
    places = say.digits_of(c.difference, margin=c.margin)
    table = next(t for t in page.all("table") if t.one("caption").text == "Each metric in both arms")
    row = next(r.text for r in table.all("tr") if r.text.startswith(c.metric))
    for value in (c.a.value, c.b.value):
        assert say.number(value, places) in sentence
        assert say.number(value, places) in row
    chart = next(each.text for each in page.all("desc") if each.text.startswith("After"))
    bounds = say.interval(c.difference, places)
    assert bounds in row
    assert bounds in chart
    for bound in (c.difference.low, c.difference.high):
        assert say.number(abs(bound), places) in sentence
    worse = c.difference.high < 0
    assert ("worse by" in sentence) == worse
    assert say.number(c.difference.value, places, signed=True) in row
    assert c.margin_found != "inferior" or worse


def terminal(made: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=400, height=1000, highlight=False, color_system=None)
    console.print(to_terminal(made))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_two_verdicts_of_a_gate_and_of_no_pair_agree(report: Any, read: Any) -> None:
    for made, end in ((report("hold"), "too many judgements failed. Hold."), (report("nothing"), "No pair yet. Hold.")):
        page = read(to_html(made))
        assert page.one("span", "badge").text == "? Hold"
        assert page.one("h1", "sentence").text.endswith(end)
    assert any("red" in each.text for each in read(to_html(report("hold"))).one("ul", "gates").all("li"))


LOSING = DeclaredSegment(
    "tools=yes", "tools", "yes", 210, 0.17, Estimate(-0.12, -0.17, -0.07), 0.05, "inferior", "worse", closed=True
)
HOLDING = DeclaredSegment(
    "tools=no", "tools", "no", 1030, 0.83, Estimate(0.03, 0.012, 0.048), 0.05, "equivalent", "kept"
)
"""A segment below, and one within, a margin of 0.05."""


def segmented(made: Report, state: str | None) -> Report:
    """A report whose candidate is worse in one segment, and so over all calls, and better without it."""
    assert made.primary is not None
    worse = replace(
        made.primary, b=Estimate(0.7), difference=Estimate(-0.031, -0.049, -0.013), margin_found="unclear",
        direction_found="worse",
    )  # fmt: skip
    better = replace(
        worse, b=Estimate(0.761), difference=Estimate(0.03, 0.012, 0.048), margin_found="equivalent", pairs=1030,
        direction_found="better",
    )  # fmt: skip
    kept = KeptTraffic((LOSING.name,), 0.83, (better,), True)
    return replace(
        made, verdict="ship_except", ramp=ramp(state), primary=worse, metrics=(worse, *made.metrics[1:]),
        declared=SegmentReport((LOSING, HOLDING), kept),
    )  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_verdict_but_for_segments_agrees(report: Any, read: Any, state: str | None) -> None:
    made = segmented(report(), state)
    page = read(to_html(made))
    badge, sentence = page.one("span", "badge"), page.one("h1", "sentence").text
    assert TONES[badge.text[0]] in badge.attributes["class"].split()
    assert to_dict(made)["headline"]["text"] == terminal(made)[0] == sentence
    if state in (None, "shadow"):
        assert badge.text == "✓ Ship except"
        assert sentence.endswith(f"Ship, but keep {LOSING.name}.")
    elif state == "ramp":
        assert badge.text[2:].lower() in sentence.lower()
    else:
        assert sentence.startswith(badge.text[2:])
    assert "worse" not in sentence, "what moves is better"
    table = next(t for t in page.all("table") if t.one("caption").text == "Declared segments")
    rows = {row.one("th").text: row for row in table.one("tbody").all("tr")}
    losing, kept = rows[LOSING.name], next(row for name, row in rows.items() if name.startswith("without tools=yes"))
    assert "worse" in losing.text
    assert "better" in kept.text
    assert say.interval(Estimate(0.03, 0.012, 0.048), 3) in kept.text
    if state in (None, "shadow", "promoted"):
        assert "0.761 instead of 0.731" in sentence
        assert "elsewhere" in sentence
    assert drawn(losing)[1] < margin_of(losing), "the chart shows the loss beyond its margin"
    assert drawn(kept)[0] > margin_of(kept)


def drawn(row: Any) -> tuple[float, float]:
    """The ends of the interval that a row's chart draws."""
    line = row.one("line", "whisker")
    return float(line.attributes["x1"]), float(line.attributes["x2"])


def margin_of(row: Any) -> float:
    return float(row.one("line", "margin").attributes["x1"])


def ranked(candidate: str, state: str, difference: Estimate, cost: float) -> RankedCandidate:
    return RankedCandidate(
        candidate,
        f"local/{candidate}",
        state,
        f"why of {candidate}",
        difference,
        1240,
        cost_per_1k=Estimate(cost),  # type: ignore[arg-type]
    )


def best_of(made: Report, verdict: str) -> BestOfK:
    """Three candidates: the report's own, a second that is compared, and a third that is dropped."""
    first = {"best": "best", "open": "compared", "none": "dropped"}[verdict]
    second = "dropped" if verdict == "none" else "compared"
    assert made.primary is not None
    rows = (
        ranked("llama", first, made.primary.difference, 0.7),
        ranked("second", second, Estimate(0.001, -0.014, 0.016), 0.9),
        ranked("third", "dropped", Estimate(-0.061, -0.081, -0.041), 0.2),
    )
    leader = None if verdict == "none" else "llama"
    best = "llama" if verdict == "best" else None
    return BestOfK(
        verdict, best, leader, "The best of 3: so it is.", 0.05 / 6, 0.02, rows, "openai/gpt-x", Estimate(2.4)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "kind", "badge", "begins", "ends"),
    [
        ("best", "ship", "✓ Best: llama", "llama is the best of 3: ", "Ship."),
        ("open", "hold", "? Hold", "The best of 3 is open; llama leads: ", "Hold."),
        ("none", "reject", "✕ Reject", "None of 3 candidates may replace gpt-x.", "Reject."),
    ],
)
def test_the_report_on_the_one_that_leads_agrees(
    report: Any, read: Any, verdict: str, kind: str, badge: str, begins: str, ends: str
) -> None:
    made = report(kind)
    made = replace(made, best=best_of(made, verdict), gates=tuple(gate for gate in made.gates if gate.state >= 0))
    page = read(to_html(made))
    assert page.one("span", "badge").text == badge
    sentence = page.one("h1", "sentence").text
    assert sentence.startswith(begins)
    assert sentence.endswith(ends)
    assert to_dict(made)["headline"]["text"] == terminal(made)[0] == sentence
    if verdict != "none":
        places = say.digits_of(made.primary.difference, margin=made.primary.margin)
        for value in (made.primary.a.value, made.primary.b.value):
            assert say.number(value, places) in sentence
    the_row_is_that_of_the_chart(made, page, "llama", made.primary)


def the_row_is_that_of_the_chart(made: Report, page: Any, candidate: str, c: Comparison) -> None:
    """The row of a candidate among the others, its course, and the chart of cost and quality."""
    table = next(t for t in page.all("table") if t.one("caption").text.startswith("The candidates, compared"))
    row = next(row for row in table.one("tbody").all("tr") if row.one("th").text.startswith(candidate))
    places = say.digits_of(c.difference, margin=c.margin)
    bounds = say.interval(c.difference, places)
    assert bounds in row.text
    assert bounds in next(each.text for each in page.all("desc") if each.text.startswith("After"))
    costs = next(each.text for each in page.all("desc") if each.text.startswith("USD per thousand requests"))
    value = c.difference.value or 0.0
    assert f"{candidate}: $" in costs
    assert say.number(value, 2, signed=True)[:5] in costs
    low, high = drawn(row)
    assert (high < margin_of(row)) == (c.margin_found == "inferior")
    assert low < high
    assert made.best is not None
    state = next(each.state for each in made.best.candidates if each.candidate == candidate)
    assert state.capitalize() in row.text


@pytest.mark.parametrize(
    ("candidate", "kind", "badge"), [("second", "hold", "? Hold"), ("third", "reject", "✕ Reject")]
)
def test_a_report_on_one_that_does_not_lead_is_about_it(
    report: Any, read: Any, candidate: str, kind: str, badge: str
) -> None:
    """The figures are those of the candidate, so the sentence must not be that of the leader."""
    made = report(kind, best=best_of(report(), "best"), candidate=candidate)
    row = next(each for each in made.best.candidates if each.candidate == candidate)
    primary = replace(made.primary, difference=row.difference)
    arms = tuple(replace(a, arm=candidate, target=f"local/{candidate}") if a.arm == "llama" else a for a in made.arms)
    gates = tuple(gate for gate in made.gates if gate.state >= 0)
    made = replace(made, primary=primary, metrics=(primary, *made.metrics[1:]), arms=arms, gates=gates)
    page = read(to_html(made))
    sentence = page.one("h1", "sentence").text
    assert page.one("span", "badge").text == badge
    assert sentence.endswith(f"{badge[2:]}.")
    assert "llama" not in sentence
    assert to_dict(made)["headline"]["text"] == terminal(made)[0] == sentence
    the_numbers_are_those_of_table_and_chart(made, page, sentence)
    the_row_is_that_of_the_chart(made, page, candidate, primary)
