"""The common properties of comparisons with a reference."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion
from gateway.core.score import Skipped
from gateway.scorers.bleu import Bleu
from gateway.scorers.chrf import Chrf
from gateway.scorers.exact import Exact
from gateway.scorers.f1 import F1
from gateway.scorers.reference import NO_REFERENCE
from gateway.scorers.rouge_l import RougeL

RULES = [Bleu("bleu"), Chrf("chrf"), Exact("exact"), F1("f1"), RougeL("rouge_l")]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_without_a_reference_or_an_answer_it_is_not_applicable(ask, subject, rule):
    assert ask(rule, subject("hi")) == rule.score_immediately(subject("hi")) == NO_REFERENCE
    assert isinstance(ask(rule, subject(Completion(error="x"), None, "hi", status=500)), Skipped)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_silence_is_wrong_and_the_reference_itself_is_right(ask, subject, rule):
    assert ask(rule, subject("", None, "the cat sat on the mat")).value == 0.0
    assert ask(rule, subject("the cat sat on the mat", None, "the cat sat on the mat")).value == pytest.approx(1.0)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_long_texts_are_cut_and_take_bounded_time(ask, subject, rule):
    one, other = "ab cd ef gh " * 100_000, "cd ab gh ef " * 100_000
    assert 0 <= ask(rule, subject(one, None, other)).value <= 1
