from __future__ import annotations

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.decision import Answer, DecisionReply, answer_of
from gateway.core.decision_schema import DecisionSchema, read_schema
from gateway.core.exchange import Usage, new_id
from gateway.proxy.dialects.decision_facade import (
    MOST_HEADER_BYTES,
    MOST_SHOWN,
    AnswerTemplate,
    decision_headers,
    usage_of_reply,
)
from gateway.proxy.request.call import Api, Call, Caller

MANY = [f"option {n}" for n in range(20)]


def a_schema(*options: list[str]) -> DecisionSchema:
    return read_schema({"type": "object", "properties": {f"m{n}": {"enum": enum} for n, enum in enumerate(options)}})


def even(schema: DecisionSchema) -> list[Answer]:
    return [answer_of(q, [1 / len(q.options)] * len(q.options)) for q in schema.questions]


def shown(schema: DecisionSchema, answers: list[Answer]) -> dict[str, dict[str, float]]:
    headers = dict(AnswerTemplate(schema).headers(b"native", answers))
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
    text = AnswerTemplate(schema).rendered(call, DecisionReply("", (answer,)), None, "decider")
    assert text.count(b'\\"m0\\":\\"other\\"') >= 1
    assert b'"model":"decider"' in text
    if stream:
        assert text.endswith(b"\n\n")
    else:
        assert isinstance(orjson.loads(text), dict)


NAMES = st.text(min_size=1, max_size=12)
MEMBERS = st.one_of(
    st.just({"type": "boolean"}),
    st.builds(
        lambda enum: {"enum": enum}, st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=9, unique=True)
    ),
    st.builds(lambda low: {"type": "integer", "minimum": low, "maximum": low + 3}, st.integers(-9, 9)),
)


@st.composite
def answered(draw: st.DrawFn) -> tuple[DecisionSchema, list[Answer]]:
    """A schema, and an answer to each of its questions."""
    properties = draw(st.dictionaries(NAMES, MEMBERS, min_size=1, max_size=5))
    try:
        schema = read_schema({"type": "object", "properties": properties})
    except ValueError:
        assume(False)
    answers = []
    for question in schema.questions:
        weights = [draw(st.integers(1, 99)) for _ in question.options]
        answers.append(answer_of(question, [weight / sum(weights) for weight in weights]))
    return schema, answers


@given(answered(), st.integers(0, 99), st.one_of(st.none(), st.integers(0, 9)))
def test_a_chat_by_its_template_is_the_chat_of_its_parts(
    case: tuple[DecisionSchema, list[Answer]], tokens: int, cached: int | None
) -> None:
    schema, answers = case
    call = Call(new_id(), 7.9, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
    usage = Usage(tokens, 3, cached) if tokens else None
    written = AnswerTemplate(schema).rendered(call, DecisionReply('a "name"', tuple(answers)), usage, "")
    chat = orjson.loads(written)
    assert orjson.dumps(chat) == written, "as compact as a serialiser would write it"
    [choice] = chat["choices"]
    assert choice["message"]["content"].encode() == schema.render(answers)
    assert (choice["finish_reason"], chat["model"], chat["created"]) == ("stop", 'a "name"', 7)
    assert chat["id"] == f"chatcmpl-{call.id.replace('-', '')}"
    shown = None if usage is None else chat["usage"].get("prompt_tokens_details", {}).get("cached_tokens")
    assert (chat["usage"] is None, shown) == (usage is None, cached if usage is not None else None)


@given(answered())
def test_the_header_by_its_template_is_the_header_of_its_parts(case: tuple[DecisionSchema, list[Answer]]) -> None:
    schema, answers = case
    parts = dict(decision_headers("native", schema, answers)).get(b"x-gateway-decision-probabilities", b"{}")
    known, written = orjson.loads(parts), shown(schema, answers)
    assert [*written] == [*known][: len(written)]
    assert len(known) - len(written) <= 1, "four places for each number take a few bytes more"
    for name, shares in written.items():
        assert shares == pytest.approx(known[name], abs=1e-4)
