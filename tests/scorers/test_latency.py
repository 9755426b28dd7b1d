"""Objectives of time, and what they were measured against."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.core.score import Skipped
from gateway.scorers.latency import CLIENT_GONE, NO_TIME, Latency

SAID = Completion("hi", finish_reason="stop", usage=Usage(5, 11))
STREAM = {"stream": True, "first_token_s": 1.0, "total_s": 3.0}


@pytest.mark.parametrize(
    ("options", "fields", "value", "why"),
    [
        ({}, STREAM, 1.0, None),
        ({"total_s": 3.0}, STREAM, 1.0, None),
        ({"total_s": 2.9}, STREAM, 0.0, "total_s 3, expected at most 2.9"),
        ({"first_token_s": 1.0}, STREAM, 1.0, None),
        (
            {"first_token_s": 0.5, "total_s": 2},
            STREAM,
            0.0,
            "first_token_s 1, expected at most 0.5; total_s 3, expected at most 2",
        ),
        ({"per_token_s": 0.2}, STREAM, 1.0, None),  # (3 − 1) / (11 − 1)
        ({"per_token_s": 0.19}, STREAM, 0.0, "per_token_s 0.2, expected at most 0.19"),
        ({"per_token_s": 0.27}, {"total_s": 3.0}, 0.0, "per_token_s 0.273, expected at most 0.27"),  # 3 / 11
        ({"first_token_s": 0.5}, {"total_s": 3.0}, 1.0, None),  # a plain answer has no first token
    ],
)
def test_every_objective_that_can_be_measured_counts(ask, subject, options, fields, value, why):
    got = ask(Latency("latency", **options), subject(SAID, **fields))
    assert (got.value, got.explanation) == (value, why)
    assert got.detail["total_s"] == 3.0


def test_an_unmeasurable_objective_is_not_applicable(ask, subject):
    only_first = Latency("latency", first_token_s=1.0, total_s=None)
    assert ask(only_first, subject(SAID, total_s=3.0)) == NO_TIME


def test_a_timeout_is_a_miss_and_a_gone_client_is_skipped(ask, subject):
    rule = Latency("latency")
    assert ask(rule, subject(Completion(), outcome="timeout", status=504, total_s=2.0)).value == 0.0
    assert ask(rule, subject(SAID, outcome="client_gone")) == CLIENT_GONE
    assert isinstance(ask(rule, subject(Completion(error="x"), status=500)), Skipped)


def test_no_objective_is_a_mistake():
    with pytest.raises(ValueError, match="no objective"):
        Latency("latency", total_s=None)
