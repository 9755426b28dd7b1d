"""Tokens are read from the end of a plain answer, and are those that a full parse finds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.proxy.dialects.plain_answer import tail_usage

LONG = "x" * 5000
USAGE = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)}),
    st.fixed_dictionaries(
        {
            "input_tokens": st.integers(0, 99),
            "output_tokens": st.integers(0, 99),
            "input_tokens_details": st.fixed_dictionaries({"cached_tokens": st.integers(0, 9)}),
        }
    ),
    st.just(
        {"prompt_tokens": 1, "completion_tokens": 2, "note": '"usage":{"prompt_tokens":7} }', "deep": {"a": {"b": {}}}}
    ),
)
NAMES = st.sampled_from(["usage", "choices", "x", 'my"usage', '\\"usage', "a\\", "id"])
TRICKS = st.sampled_from(['"usage":{"prompt_tokens":9}', "usage", "}", '\\"'])
VALUES = st.recursive(
    st.one_of(USAGE, st.text(max_size=5), TRICKS, st.floats(0, 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans())
def test_the_found_usage_equals_a_full_parse(members: list[tuple[str, Any]], ascii_only: bool) -> None:
    parts = [orjson.dumps(n) + b": " + orjson.dumps(v) for n, v in [("pad", LONG), *members]]
    body = b"{" + b" , ".join(parts) + b" } "
    if ascii_only:
        body = body.replace(b'"usage": {', b'"\\u0075sage": {')
    try:
        expected = usage_of(orjson.loads(body).get("usage"))
    except orjson.JSONDecodeError:
        return
    assert tail_usage(body) == expected


@pytest.mark.parametrize("pad", ["", LONG])
@pytest.mark.parametrize(
    "tail",
    [
        "}",
        ',"service_tier":"default","system_fingerprint":null}',
        ',"prompt_logprobs":null,"kv_transfer_params":null}\n',
        ',"id":"x","timings":{"prompt_n":9,"predicted_per_second":118.25}}',
        ',"metadata":{},"user":null,"tools":[{"type":"function","parameters":{"a":[1]}}]}',
    ],
)
def test_usage_stands_near_the_end_of_every_answer(pad: str, tail: str) -> None:
    body = (
        f'{{"choices":[{{"message":{{"content":"{pad}"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":2,'
        f'"prompt_tokens_details":{{"cached_tokens":0}}}}{tail}'
    )
    assert tail_usage(body.encode()) == Usage(9, 2, 0)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"no", b"x" * 5000, b'{"a":"' + b"x" * 5000 + b'"usage":{', b"[" + b"1," * 3000 + b"1]"]
)
def test_an_answer_without_usage_has_none(body: bytes) -> None:
    assert tail_usage(body) is None
