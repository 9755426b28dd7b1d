"""The requests of probes, and their bodies."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion
from gateway.core.prices import Price
from gateway.features.models.probes.model import MOST_TOKENS, ProbeRequest, answer_of, month_of
from gateway.features.models.probes.requests import packaged_requests


def test_the_packaged_requests_are_different_and_short() -> None:
    found = packaged_requests()
    assert len({request.key for request in found}) == len(found) == 16
    assert {request.limit for request in found} == {MOST_TOKENS}


def test_temperature_0_and_log_probabilities_are_of_one_mode() -> None:
    request = ProbeRequest("k", "chat", {"messages": [], "temperature": 0.7, "max_tokens": 300})
    exact, served = request.body("chat", "exact"), request.body("chat", "served")
    assert (exact["temperature"], exact["logprobs"], exact["max_tokens"]) == (0, True, 300)
    assert served == {"messages": [], "temperature": 0.7, "max_tokens": 300, "model": "chat", "stream": False}
    assert request.bounded().body("chat", "served")["max_tokens"] == MOST_TOKENS
    assert ProbeRequest("k", "responses", {"input": "hi"}).body("m", "exact")["max_output_tokens"] == MOST_TOKENS


def test_the_price_is_above_that_of_the_tokens() -> None:
    request = ProbeRequest("k", "chat", {"messages": [{"role": "user", "content": "word " * 100}]})
    tokens = 100 * 1.0 + MOST_TOKENS * 4.0
    assert tokens / 1e6 < request.most_usd(Price(1.0, 2.0, reasoning=4.0)) < 2 * tokens / 1e6


def test_digests_are_of_texts_and_calls_of_tools() -> None:
    one, same, other = (answer_of("k", "exact", Completion(text)) for text in ("a b", "a b", "a c"))
    assert one == same
    assert one.digest != other.digest
    assert one.prefixes[0] == other.prefixes[0] != other.prefixes[1]


@pytest.mark.parametrize("now", [1_764_547_200.0, 1_764_547_200.0 + 30.9 * 86_400])
def test_a_month_begins_at_its_first_midnight(now: float) -> None:
    assert month_of(now) == 1_764_547_200.0
