"""One report, one answer: its sentence, badge, table and chart agree in every state of an experiment and its ramp."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from gateway.features.experiments.report.as_json import to_dict
from gateway.features.experiments.report.html import to_html
from gateway.features.experiments.report.terminal import to_terminal
from gateway.reports import number_format as say
from gateway.reports.model import RampChangeShown, RampHistory

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
