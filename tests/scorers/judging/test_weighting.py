"""The expected score, from the probabilities of the token in which it was given."""

from __future__ import annotations

import math

import pytest

from gateway.scorers.judging.weighting import distribution, expected


def tokens(*pieces, **tops):
    """The piece "@" bears the alternatives; the others none."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in tops.items()]
    return [{"token": next(iter(tops)), "top_logprobs": top} if p == "@" else {"token": p} for p in pieces]


def test_the_alternatives_at_the_score_are_weighed():
    found = distribution(tokens('{"', 'score": ', "@", "}", **{"4": 0.5, "5": 0.3, "ok": 0.2}), "score", 1, 5)
    assert {k: round(v, 9) for k, v in found.items()} == {"4": 0.625, "5": 0.375}
    assert math.isclose(expected(found), 4.375)


def test_spellings_of_one_digit_add_up():
    found = distribution(tokens('{"score":', "@", **{" 4": 0.4, "4": 0.3, "2": 0.3}), "score", 1, 5)
    assert {k: round(v, 9) for k, v in found.items()} == {"2": 0.3, "4": 0.7}


def test_a_score_that_shares_its_token_is_found():
    top = [{"token": "4", "logprob": -0.1}]
    assert distribution([{"token": '{"score": 4}', "top_logprobs": top}], "score", 1, 5) == {"4": 1.0}


@pytest.mark.parametrize(
    "given",
    [
        [],
        tokens("no score here", "@", **{"4": 1.0}),
        tokens('{"score": ', "@", **{"4": 0.2, "x": 0.8}),
        tokens('{"score": ', "@", **{"9": 1.0}),
        [{"token": '{"score": '}, {"token": "4"}],
        [{"token": '{"score": '}, {"token": "4", "top_logprobs": "x"}],
        [3, None],
        tokens('{"score": ', "@", "5", **{"1": 1.0}),
    ],
)
def test_tokens_without_the_score_give_no_distribution(given):
    assert distribution(given, "score", 1, 5) is None


def test_a_scale_of_two_digits_cannot_be_weighed():
    assert distribution(tokens('{"score": ', "@", **{"7": 1.0}), "score", 0, 10) is None
