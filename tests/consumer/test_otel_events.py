"""Scores reach a real collector, each below the span of its call, without any word of an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fixtures.program_command import gateway_command
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.types import OtelConfig
from gateway.consumer.consumer import Consumer
from gateway.consumer.otel_events import MOST_CHARACTERS, NAME, ScoreEvents, content_attributes
from gateway.core.completion import Completion, ToolCall, completion_of
from gateway.core.exchange import run_key
from gateway.observability.tracing import run_ids


async def scored(room: Any, url: str, *sent: Any) -> None:
    """Exchanges are scored by a consumer that tells this collector."""
    await room.send(*sent)
    events = ScoreEvents(OtelConfig(endpoint=url))
    async with room.opened() as (_, context):
        consumer = Consumer(dataclasses.replace(context, events=events), "c1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await room.until_read()
            consumer.stop()
    await asyncio.to_thread(events.close)


async def test_each_opinion_is_an_event_below_the_span_of_its_call(
    room: Any, exchange: Any, collector: Any, otlp: Any
) -> None:
    sent = exchange("0.25", experiment="swap", plan="p", arm="candidate")
    await scored(room, collector.url, sent)
    (event,) = collector.events
    attributes = otlp.attributes(event)
    assert event.event_name == NAME == "gen_ai.evaluation.result"
    assert attributes["gen_ai.evaluation.name"] == "stated"
    assert attributes["gen_ai.evaluation.score.value"] == 0.25
    assert attributes["gen_ai.evaluation.score.label"] == "number"
    assert attributes["gen_ai.response.id"] == sent.id
    assert (attributes["gateway.experiment"], attributes["gateway.arm"]) == ("swap", "candidate")
    assert event.trace_id.hex() == sent.id.replace("-", "")
    assert event.span_id.hex() == sent.id.replace("-", "")[16:]


async def test_a_call_of_a_run_is_in_the_trace_of_the_run(room: Any, exchange: Any, collector: Any) -> None:
    first, second, shadow = (
        exchange("1", run="r"),
        exchange("1", run="r"),
        exchange("1", run="r", role="shadow", pair="x"),
    )
    await scored(room, collector.url, first, second, shadow)
    traces = [event.trace_id.hex() for event in collector.events]
    trace = f"{run_ids(run_key('web', 'r'), 1.0).trace:032x}"
    assert sorted(traces) == sorted([trace, trace, shadow.id.replace("-", "")])
    assert {e.span_id.hex() for e in collector.events} == {e.id.replace("-", "")[16:] for e in (first, second, shadow)}


async def test_a_missing_score_has_a_reason_and_no_value(room: Any, exchange: Any, collector: Any, otlp: Any) -> None:
    await scored(room, collector.url, exchange("n/a"), exchange("no number"))
    attributes = {otlp.attributes(e)["gateway.evaluation.status"]: otlp.attributes(e) for e in collector.events}
    assert set(attributes) == {"not_applicable", "error"}
    assert attributes["error"]["error.type"] == "error"
    assert "error.type" not in attributes["not_applicable"]
    assert not any("gen_ai.evaluation.score.value" in each for each in attributes.values())
    assert "no number" not in str(collector.events)


async def test_the_program_tells_the_collector_that_its_config_names(
    exchange: Any, room: Any, collector: Any, otlp: Any, servers: Any, tmp_path: Path
) -> None:
    sent = exchange("plain words")
    await room.send(sent)
    target = {"upstream": "local", "model": "small"}
    config = {
        "open": True, "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {"chat": {"targets": [target]}}, "scorers": {"length": {}}, "otel": {"endpoint": collector.url},
        "stream": {"url": room.stream_url, "name": room.stream_name},
    }  # fmt: skip
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    command = gateway_command("evaluate", "--config", str(path))
    command += ["--metrics-port", str(servers.free_ports(1)[0])]
    process = await asyncio.create_subprocess_exec(
        *command, "--data", str(tmp_path), env={**os.environ, "OTEL_BLRP_SCHEDULE_DELAY": "50"}
    )
    await room.until(lambda: collector.events)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    (event,) = collector.events
    assert otlp.attributes(event)["gen_ai.response.id"] == sent.id
    assert otlp.attributes(event)["gen_ai.evaluation.name"] == "length"


async def consumed(room: Any, otel: OtelConfig, *sent: Any) -> None:
    await room.send(*sent)
    events = ScoreEvents(otel)
    async with room.opened() as (_, context):
        consumer = Consumer(dataclasses.replace(context, events=events), "c1")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await room.until_read()
            consumer.stop()
    await asyncio.to_thread(events.close)


def read(found: dict[str, Any], name: str) -> Any:
    return json.loads(found[f"gen_ai.{name}"])


async def test_an_exchange_is_a_span_with_messages_below_its_call(
    room: Any, exchange: Any, collector: Any, otlp: Any
) -> None:
    sent = exchange("0.25", experiment="swap", plan="p", arm="candidate")
    await consumed(room, OtelConfig(endpoint=collector.url, content=True), sent)
    (span,) = collector.spans
    found = otlp.attributes(span)
    assert read(found, "input.messages") == [{"role": "user", "parts": [{"type": "text", "content": "a number?"}]}]
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "0.25"}], "finish_reason": "stop"}
    assert read(found, "output.messages") == [answer]
    assert span.trace_id.hex() == sent.id.replace("-", "")
    assert span.parent_span_id.hex() == sent.id.replace("-", "")[16:]
    assert (found["gateway.experiment"], found["gateway.arm"]) == ("swap", "candidate")
    assert not [name for name in found if "usage" in name or "cost" in name], "the call's own span has them"
    assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000


async def test_without_the_setting_no_word_leaves(room: Any, exchange: Any, collector: Any) -> None:
    await consumed(room, OtelConfig(endpoint=collector.url), exchange("0.25"))
    assert len(collector.events) == 1
    assert collector.spans == []


async def test_a_call_that_is_not_traced_has_no_span(room: Any, exchange: Any, collector: Any) -> None:
    await consumed(room, OtelConfig(endpoint=collector.url, content=True, sample=0.0), exchange("0.25"))
    assert collector.spans == []


def test_a_caller_whose_content_is_not_recorded_has_no_messages(exchange: Any) -> None:
    found = content_attributes(exchange(request=b"{}", response=b""), Completion())
    assert not [name for name in found if "messages" in name or "instructions" in name]


TOOLS = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "weather?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "get", "arguments": '{"at":"x"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
}
ANTHROPIC = {
    "system": [{"type": "text", "text": "be brief"}],
    "messages": [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "get", "input": {"at": "x"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]},
    ],
}
RESPONSES = {
    "instructions": "be brief",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "function_call", "call_id": "c1", "name": "get", "arguments": '{"at":"x"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    ],
}


@pytest.mark.parametrize(
    ("api", "body"), [("chat", TOOLS), ("messages", ANTHROPIC), ("responses", RESPONSES)], ids=lambda x: str(x)[:9]
)
def test_every_api_has_the_same_turns(exchange: Any, api: str, body: dict[str, Any]) -> None:
    found = content_attributes(exchange(api=api, request=orjson.dumps(body)), Completion(text="It rains."))
    turns = read(found, "input.messages")
    parts = [part for turn in turns for part in turn["parts"]]
    assert {"type": "text", "content": "weather?"} in parts
    [call] = [part for part in parts if part["type"] == "tool_call"]
    assert (call["id"], call["name"]) == ("c1", "get")
    assert call["arguments"] in ('{"at":"x"}', {"at": "x"})
    assert {"type": "tool_call_response", "id": "c1", "response": "rain"} in parts
    brief = [{"type": "text", "content": "be brief"}]
    assert brief == (turns[0]["parts"] if api == "chat" else read(found, "system_instructions"))


def test_an_answer_has_its_reasoning_and_its_tool_calls(exchange: Any) -> None:
    said = Completion(reasoning="hm", tool_calls=(ToolCall("c1", "get", "{}"),), finish_reason="tool_calls")
    (answer,) = read(content_attributes(exchange(), said), "output.messages")
    assert [part["type"] for part in answer["parts"]] == ["reasoning", "tool_call"]
    assert answer["finish_reason"] == "tool_calls"


def test_a_long_text_is_cut_and_says_so(exchange: Any) -> None:
    (answer,) = read(content_attributes(exchange(), Completion(text="x" * (MOST_CHARACTERS + 5))), "output.messages")
    assert answer["parts"][0]["content"].endswith("x… [5 characters left out]")


NAMES = st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "id"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5))
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner))


@given(st.dictionaries(st.sampled_from(["messages", "input", "prompt", "system", "instructions"]), JSON))
def test_any_request_is_read(exchange_of_any: Any, body: dict[str, Any]) -> None:
    sent = exchange_of_any(request=orjson.dumps(body))
    found = content_attributes(sent, completion_of(sent))
    assert all(isinstance(value, str | float) for value in found.values())


@pytest.fixture(scope="module")
def exchange_of_any() -> Any:
    """Makes an exchange from its fields."""
    from gateway.core.exchange import Exchange, Target

    plain = {
        "id": "i", "received": 0.0, "caller": "web", "api": "chat", "alias": "chat", "target": Target("u", "m"),
        "stream": False, "response": b"{}", "status": 200, "outcome": "ok", "total_s": 0.5, "unit": "i", "u": 0.1,
        "pi": 1.0, "stratum": "default", "incarnation": "g", "seq": 1,
    }  # fmt: skip
    return lambda **fields: Exchange(**{**plain, **fields})
