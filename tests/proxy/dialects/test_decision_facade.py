from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import Answer, DecisionReply, answer_of
from gateway.core.decision_schema import DecisionSchema, read_schema
from gateway.core.exchange import Usage, new_id
from gateway.proxy.dialects.decision_facade import (
    MOST_HEADER_BYTES,
    MOST_SHOWN,
    decision_headers,
    rendered,
    usage_of_reply,
)
from gateway.proxy.request.call import Api, Call, Caller

MANY = [f"option {n}" for n in range(20)]


def a_schema(*options: list[str]) -> DecisionSchema:
    return read_schema({"type": "object", "properties": {f"m{n}": {"enum": enum} for n, enum in enumerate(options)}})


def even(schema: DecisionSchema) -> list[Answer]:
    return [answer_of(q, [1 / len(q.options)] * len(q.options)) for q in schema.questions]


def shown(schema: DecisionSchema, answers: list[Answer]) -> dict[str, dict[str, float]]:
    headers = dict(decision_headers("native", schema, answers))
    assert headers[b"x-gateway-decision"] == b"native"
    text = headers.get(b"x-gateway-decision-probabilities", b"{}")
    assert len(text) <= MOST_HEADER_BYTES
    assert text.isascii()
    assert not {10, 13} & set(text)
    return dict(orjson.loads(text))


def test_the_header_shows_the_likeliest_options() -> None:
    schema = a_schema(MANY)
    weights = [n / 190 for n in range(20)]
    probabilities = shown(schema, [answer_of(schema.questions[0], weights)])["m0"]
    assert list(probabilities) == [f"option {n}" for n in range(19, 19 - MOST_SHOWN, -1)]


def test_the_header_leaves_out_questions_that_do_not_fit() -> None:
    schema = a_schema(*[MANY] * 30)
    assert 0 < len(shown(schema, even(schema))) < 30
    long = a_schema(["a" * 900, "b" * 900])
    assert shown(long, even(long)) == {}


@given(
    st.lists(st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable()), min_size=2, max_size=9, unique=True)
)
def test_any_option_fits_a_header(options: list[str]) -> None:
    schema = a_schema(options)
    assert shown(schema, even(schema)).keys() <= {"m0"}


def test_an_option_that_is_a_text_differs_from_a_boolean() -> None:
    schema = read_schema({"type": "object", "properties": {"a": {"enum": [True, "true", "no"]}}})
    assert len(shown(schema, even(schema))["a"]) == 3


@pytest.mark.parametrize(("reply", "usage"), [
    (DecisionReply("m", (), 90, 2, 10), Usage(90, 2, 10)),
    (DecisionReply("m", (), 90), Usage(90, 0)),
    (DecisionReply("m", ()), None),
])  # fmt: skip
def test_usage_is_none_where_the_server_reports_none(reply: DecisionReply, usage: Usage | None) -> None:
    assert usage_of_reply(reply) == usage


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_without_usage_and_a_name_is_answered_for(api: Api, stream: bool) -> None:
    body = b'{"model":"chat","stream":%b}' % str(stream).lower().encode()
    call = Call(new_id(), 0.0, 0.0, Caller("web"), api, b"POST", b"/chat/completions", "chat", stream, body)
    schema = a_schema(["billing", "other"])
    answer = answer_of(schema.questions[0], [0.1, 0.9])
    text = rendered(call, schema, DecisionReply("", (answer,)), "decider")
    assert text.count(b'\\"m0\\":\\"other\\"') >= 1
    assert b'"model":"decider"' in text
    if stream:
        assert text.endswith(b"\n\n")
    else:
        assert isinstance(orjson.loads(text), dict)
