"""The mean logprob, where the upstream gave logprobs."""

from __future__ import annotations

import math

import pytest

from gateway.core.completion import Completion
from gateway.scorers.mean_logprob import NO_LOGPROBS, MeanLogprob

RULE = MeanLogprob("mean_logprob")


@pytest.mark.parametrize(("given", "value"), [(-0.5, -0.5), (0.0, 0.0), (1e-6, 0.0), (-9999.0, -9999.0)])
def test_the_value_is_the_mean_and_never_above_zero(ask, subject, given, value):
    score = ask(RULE, subject(Completion("a", mean_logprob=given)))
    assert score.value == value
    assert score.detail["perplexity"] == pytest.approx(math.exp(min(-value, 700)))


@pytest.mark.parametrize("given", [None, float("-inf"), float("nan")])
def test_without_logprobs_it_is_not_applicable(ask, subject, given):
    assert ask(RULE, subject(Completion("a", mean_logprob=given))) == NO_LOGPROBS
