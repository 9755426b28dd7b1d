"""Requests that an upstream's API cannot express are refused by the name of what it lacks."""

from __future__ import annotations

import orjson
import pytest

from gateway.proxy.dialects.unsupported import unsupported_api, unsupported_parameter


@pytest.mark.parametrize(("why", "end"), [("", ""), ("it gives one choice", ": it gives one choice")])
def test_a_parameter_is_refused_with_its_name_and_the_api(why: str, end: str) -> None:
    error = unsupported_parameter("Bedrock's Converse API", "n", why)
    text = f'"n" is not supported by the upstream of this model, which speaks Bedrock\'s Converse API{end}'
    assert (error.status, error.message, error.param, error.code) == (400, text, "n", "unsupported_parameter")


def test_an_api_is_refused_at_the_model_that_has_none() -> None:
    body = orjson.loads(unsupported_api("use /v1/chat/completions").body())["error"]
    assert (body["message"], body["param"], body["code"]) == ("use /v1/chat/completions", "model", "unsupported_api")
