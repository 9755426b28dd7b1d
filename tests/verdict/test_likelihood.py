"""Requests state what the mean difference estimates; calls and tokens are compared whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from fixtures.likelihoods import response

from gateway.core.likelihood import AnswerToken
from gateway.reports.model import TokenLikelihood
from gateway.verdict.likelihood import (
    MOST_TOKENS,
    PLAIN,
    compared_call,
    distribution,
    settings_of,
    token_differences,
    what_it_estimates,
    worst_tokens,
)


@pytest.mark.parametrize(
    ("request_", "setting"),
    [
        (b'{"temperature":1,"top_p":1.0}', PLAIN),
        (b'{"temperature":1}', PLAIN),
        (b'{"temperature":0.7,"top_p":0.9}', "temperature 0.7, top_p 0.9"),
        (b'{"temperature":1,"top_k":40}', "temperature 1, top_p 1, top_k"),
        (b"{}", "temperature not stated"),
        (b"no JSON", "temperature not stated"),
    ],
)
def test_the_estimand_depends_on_the_sampling(request_: bytes, setting: str) -> None:
    assert settings_of([request_]) == Counter([setting])
    says = what_it_estimates({setting: 3})
    assert ("Every answer" in says) == (setting == PLAIN)
    assert ("is not a KL divergence" in says) == (setting != PLAIN)


def test_the_distribution_holds_every_call() -> None:
    values = [i / 100 for i in range(200)]
    bins = distribution([*values, 50.0], [0.0] * 7)
    assert sum(b.calls for b in bins) == 201
    assert sum(b.noise for b in bins) == 7
    assert bins[-1].high < 3.0
    assert sum(b.calls for b in distribution([0.1, 0.1], [])) == 2
    assert distribution([], []) == ()


def test_the_worst_tokens_stand_in_their_context() -> None:
    a = [AnswerToken(text, -0.5, 1, text, -0.5) for text in ("The", " sea", " is", " red")]
    b = [replace(token, logprob=-0.5 - i, best=" cold") for i, token in enumerate(a)]
    tokens = token_differences(a, b)
    assert tokens[3] == TokenLikelihood(" red", -0.5, -3.5, " cold")
    first, *_, last = worst_tokens(tokens)
    assert (first.before, first.token.text) == ("The sea is", " red")
    assert last.token.text == " sea"
    assert token_differences(a, b[:2]) == ()
    assert response(["x"], [-1.0])


def test_a_long_call_counts_the_tokens_that_it_leaves_out() -> None:
    tokens = [AnswerToken(" a", -0.5, 1, " a", -0.5)] * (MOST_TOKENS + 3)
    call = compared_call("0190-x", -0.2, tokens, tokens)
    assert (len(call.tokens), call.left_out, call.worst) == (MOST_TOKENS, 3, ())
    assert compared_call("0190-x", -0.2, tokens, tokens[1:]).tokens == ()
