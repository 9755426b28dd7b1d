from __future__ import annotations

import pytest

from gateway.core.likelihood import (
    AnswerLikelihood,
    AnswerToken,
    agreement,
    likelihood_from_json,
    tokens_from_json,
    tokens_to_json,
)


def test_a_likelihood_survives_its_record() -> None:
    one = AnswerLikelihood(2, 3.0, 1, "ab", "00ff1234")
    assert likelihood_from_json(one.to_json()) == one
    assert one.nats_per_token == 1.5
    refused = AnswerLikelihood(refused="rejected")
    assert refused.to_json() == '{"refused":"rejected"}'
    assert likelihood_from_json(refused.to_json()) == refused


@pytest.mark.parametrize("text", ["", "[1]", '{"unknown":1}', "no"])
def test_a_record_that_cannot_be_read_holds_no_likelihood(text: str) -> None:
    assert likelihood_from_json(text) == AnswerLikelihood(refused="not_recorded")
    assert likelihood_from_json(None) is None


def test_agreement_is_by_place() -> None:
    a = AnswerLikelihood(3, 1.0, 3, "x", "000011112222")
    assert agreement(a, a) == 1.0
    assert agreement(a, AnswerLikelihood(3, 1.0, 3, "x", "0000ffff2222")) == pytest.approx(2 / 3)


def test_tokens_survive_their_record() -> None:
    tokens = (AnswerToken("Hi", -0.5, 1, "Hi", -0.5), AnswerToken(" \ud83d", -2.0, 3, " you", None))
    with pytest.raises(TypeError):  # a lone surrogate is not JSON
        tokens_to_json(tokens, None, "m")
    assert tokens_from_json(tokens_to_json(tokens[:1], {"prompt_tokens": 3}, "m")) == tokens[:1]
    assert tokens_from_json(b"") == tokens_from_json(b'{"choices":[]}') == ()
