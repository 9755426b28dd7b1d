"""Calls in spans: the three dialects, and what is left out, with its reason."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from fixtures import traces
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import completion_of
from gateway.core.exchange import IMPORTED, IMPORTED_VERSION, Exchange, from_fields
from gateway.features.traces.formats.genai import kept_with, record_of
from gateway.features.traces.formats.otlp import spans_in_json
from gateway.features.traces.model import Nesting, SpanRecord, check_time, exchange_of, without_content

pytestmark = pytest.mark.quick


def records(*spans: dict[str, Any]) -> list[SpanRecord]:
    return [record_of(each, "f") for each in spans_in_json(traces.export(*spans))]


def one(attributes: dict[str, Any], **fields: Any) -> Exchange:
    [record] = records(traces.span("call", attributes=attributes, **fields))
    assert record.call is not None, record.left_out
    check_time(record.call, record.place)
    return exchange_of(record.call)


def test_a_span_of_the_present_conventions_becomes_a_call() -> None:
    made = one(traces.chat_attributes(**{"gen_ai.request.temperature": 0.5, "gen_ai.conversation.id": "c"}))
    assert (made.role, made.v, made.pi, made.stratum) == (IMPORTED, IMPORTED_VERSION, None, "imported")
    assert (made.alias, str(made.target), made.caller) == ("gpt-x", "openai/gpt-x-2026", "shop")
    assert (made.received, made.total_s, made.status, made.outcome) == (traces.START, 1.5, 200, "ok")
    assert orjson.loads(made.request) == {
        "model": "gpt-x", "messages": [{"role": "user", "content": "Capital of France?"}], "temperature": 0.5,
    }  # fmt: skip
    completion = completion_of(made)
    assert (completion.text, completion.finish_reason) == ("Paris", "stop")
    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (12, 3)
    assert from_fields(made.to_fields()) == made


def test_numbered_attributes_become_messages_and_tool_calls() -> None:
    made = one(traces.numbered_attributes())
    assert [m["role"] for m in orjson.loads(made.request)["messages"]] == ["system", "user"]
    completion = completion_of(made)
    assert [(call.name, call.arguments) for call in completion.tool_calls] == [("weather", '{"city": "Rome"}')]
    assert completion.finish_reason == "tool_calls"
    assert made.usage is not None
    assert made.usage.output_tokens == 9


def test_openinference_becomes_messages_with_its_parameters() -> None:
    made = one(traces.openinference_attributes())
    request = orjson.loads(made.request)
    assert (request["messages"], request["max_tokens"]) == ([{"role": "user", "content": "Two plus two?"}], 64)
    assert (completion_of(made).text, str(made.target)) == ("4", "anthropic/claude-x")


def test_content_may_stand_in_an_event_of_the_span() -> None:
    whole = traces.chat_attributes()
    content = {name: whole.pop(name) for name in ("gen_ai.input.messages", "gen_ai.output.messages")}
    event = {"name": "gen_ai.client.inference.operation.details", "attributes": traces.attributes(content)}
    assert completion_of(one(whole, events=[event])).text == "Paris"


def test_tool_results_are_messages_of_their_own_and_reasoning_is_kept() -> None:
    asked = [
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}, {"type": "blob", "content": "AAAA"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "w", "arguments": {"x": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "rain"}]},
    ]
    parts = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "Rain."}]
    said = [{"role": "assistant", "parts": parts, "finish_reason": "end_turn"}]
    of = {"gen_ai.input.messages": json.dumps(asked), "gen_ai.output.messages": json.dumps(said)}
    rules = json.dumps([{"type": "text", "content": "Be kind."}])
    made = one(traces.chat_attributes(**of, **{"gen_ai.system_instructions": rules}))
    call = {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"x":1}'}}
    assert orjson.loads(made.request)["messages"] == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Weather?\n[blob]"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]  # fmt: skip
    completion = completion_of(made)
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("Rain.", "hm", "stop")


def test_a_failed_call_has_its_status_and_error() -> None:
    whole = traces.chat_attributes(**{"error.type": "429"})
    del whole["gen_ai.output.messages"]
    made = one(whole, status={"code": 2, "message": "slow down"})
    assert (made.status, made.outcome) == (429, "upstream_error")
    assert completion_of(made).error == "slow down"


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("gen_ai.input.messages", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
        ("gen_ai.output.messages", "answer"),
    ],
)
def test_a_call_without_content_is_left_out_with_its_reason(without: str, why: str) -> None:
    whole = traces.chat_attributes()
    del whole[without]
    [record] = records(traces.span("call", attributes=whole))
    assert record.call is None
    assert why in record.left_out


@pytest.mark.parametrize("operation", ["embeddings", "execute_tool", "invoke_agent", "fetch_response"])
def test_other_operations_are_not_calls(operation: str) -> None:
    of = traces.chat_attributes(**{"gen_ai.operation.name": operation})
    [record] = records(traces.span("call", attributes=of))
    assert (record.call, record.left_out) == (None, "")


@pytest.mark.parametrize(
    ("state", "pi"),
    [
        ("", None), ("ot=th:0", 1.0), ("ot=th:8", 0.5), ("other=1,ot=rv:6e6d1a75832a2f;th:c", 0.25), ("ot=p:3", 0.125),
        ("ot=th:xyz", None), ("ot=p:x", None), ("th:8", None),
    ],
)  # fmt: skip
def test_pi_is_what_the_sampler_states(state: str, pi: float | None) -> None:
    assert kept_with(state, {}) == pi
    assert one(traces.chat_attributes(), traceState=state).pi == pi


def test_the_same_span_has_the_same_id_each_time_and_ids_follow_time() -> None:
    first, again, later = (one(traces.chat_attributes(), start=traces.START + seconds).id for seconds in (0, 0, 10))
    assert first == again < later
    assert first[14] == "7"


NAMES = st.sampled_from(["role", "parts", "content", "type", "text", "name", "id"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))


@given(JSON)
def test_no_content_breaks_the_reading(content: Any) -> None:
    """The result is a call, or a reason, whatever an instrumentation writes."""
    try:
        text = orjson.dumps(content).decode()
    except orjson.JSONEncodeError:
        return
    whole = traces.chat_attributes(**{"gen_ai.input.messages": text, "gen_ai.output.messages": text})
    [record] = records(traces.span("call", attributes=whole))
    if record.call is not None:
        completion_of(exchange_of(record.call))
    else:
        assert record.left_out


def test_the_time_to_the_first_token_is_that_of_the_first_piece() -> None:
    pieces = [
        {"name": name, "timeUnixNano": str(int((traces.START + at) * 1e9))}
        for name, at in (("other", 0.1), ("First Token Stream Event", 0.4), ("gen_ai.content.completion.chunk", 0.9))
    ]
    made = one({**traces.openinference_attributes(), "llm.invocation_parameters": '{"stream": true}'}, events=pieces)
    assert made.first_token_s == pytest.approx(0.4)
    assert (made.stream, completion_of(made).text) == (True, "4")


def test_spans_without_content_around_one_with_it_are_not_missing() -> None:
    """Anthropic's client makes such spans itself, below those of an instrumentation."""
    bare = {name: value for name, value in traces.chat_attributes().items() if "messages" not in name}
    spans = [
        traces.span("outer", attributes=bare), traces.span("call", parent="outer", attributes=traces.chat_attributes()),
        traces.span("inner", parent="call", attributes=bare), traces.span("alone", "t2", attributes=bare),
    ]  # fmt: skip
    nesting, found = Nesting(), records(*spans)
    for each in found:
        nesting.add(each)
    assert [each.span for each in without_content(found, nesting)] == [spans[3]["spanId"]]
