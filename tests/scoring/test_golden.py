"""Every built-in rule passes its golden cases; failed cases and hanging scorers are reported."""

from __future__ import annotations

import threading

import pytest
from fixtures.scoring import INSTALLED, JUDGES

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scoring.golden import check_golden, subject_of
from gateway.scoring.types import Golden, Rule, Subject


@pytest.mark.parametrize("name", INSTALLED)
async def test_a_rule_gets_its_golden_cases_right(built_in, name):
    scorer = built_in(name)
    for case in scorer.golden():
        result = await scorer.score(subject_of(case))
        if case.expected is None:
            assert isinstance(result, Skipped), (case.name, result)
            assert result.need, case.name
        else:
            assert isinstance(result, Score), (case.name, result)
            assert result.value == pytest.approx(case.expected, abs=1e-6), case.name


@pytest.mark.parametrize("name", INSTALLED)
def test_every_rule_has_scoring_and_inapplicable_cases(built_in, name):
    expected = [case.expected for case in built_in(name).golden()]
    assert name in JUDGES or any(e is not None for e in expected)  # what a model says is calibrated, not proven
    if name != "secrets":  # applies to every answer
        assert None in expected


class Wrong(Rule):
    async def score(self, subject: Subject) -> Score | Skipped:
        if subject.completion.text == "raise":
            raise KeyError("oops")
        return Score(0.25)

    def golden(self) -> tuple[Golden, ...]:
        return (
            Golden("right", {}, Completion(), 0.25 + 1e-9),
            Golden("too low", {}, Completion(), 0.5),
            Golden("not for it", {}, Completion(), None),
            Golden("raises", {}, Completion("raise"), 1.0),
        )


def test_each_case_a_scorer_gets_wrong_is_named():
    assert check_golden(Wrong("wrong")) == [
        'golden case "too low": expected 0.5, got 0.25',
        'golden case "not for it": expected not applicable, got 0.25',
        "golden case \"raises\": expected 1, got KeyError: 'oops'",
    ]


async def test_golden_cases_can_be_checked_inside_a_coroutine(built_in):
    assert check_golden(built_in("valid_json")) == []


class NoCases(Wrong):
    def golden(self) -> tuple[Golden, ...]:
        raise OSError("no file")


def test_cases_that_cannot_be_made_are_a_mistake():
    assert check_golden(NoCases("n")) == ["its golden cases cannot be run: OSError: no file"]


def test_a_scorer_that_hangs_on_its_cases_is_refused():
    free = threading.Event()

    class Hangs(Wrong):
        async def score(self, subject: Subject) -> Score | Skipped:
            free.wait()
            return Score(1.0)

    assert check_golden(Hangs("h"), deadline_s=0.01) == ["its golden cases took longer than 0.01 s"]
    free.set()
