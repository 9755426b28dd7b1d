"""Responses over WebSocket, on a real socket, in front of an upstream that has HTTP alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from itertools import product
from typing import Any

from gateway.fake import HOLD, FakeUpstream, Fault
from gateway.proxy.websocket.history import CONNECTION_BYTES
from gateway.proxy.websocket.session import MOST_RUNNING, MOST_WAITING


def texts(input: Any) -> list[str]:
    """The texts of the items of a request, of every role."""
    found = []
    for item in [{"content": input}] if isinstance(input, str) else input:
        content = item["content"]
        found.append(content if isinstance(content, str) else "".join(part["text"] for part in content))
    return found


def said(upstream: FakeUpstream) -> list[list[str]]:
    return [texts(json.loads(call.body)["input"]) for call in upstream.calls]


async def test_the_events_are_those_of_http(
    gateway: Any, ws: Any, events: Callable[[bytes], list[Any]], upstream: FakeUpstream
) -> None:
    upstream.says("one ", "two")
    done = await ws.answer()
    reply = await gateway.client.post("/responses", json={"model": "chat", "stream": True, "input": "hi"})
    by_http = [event for event in events(reply.content) if event != "[DONE]"]
    assert [event["type"] for event in ws.events] == [event["type"] for event in by_http]
    assert [event["sequence_number"] for event in ws.events] == [event["sequence_number"] for event in by_http]
    assert done["response"]["output"][0]["content"][0]["text"] == "one two"
    assert "stream_id" not in done


async def test_the_upstream_gets_an_ordinary_request(ws: Any, upstream: FakeUpstream) -> None:
    await ws.answer("hi", store=False, unknown={"kept": 1}, stream_id=None, generate=True, background=False)
    [call] = upstream.calls
    body = json.loads(call.body)
    assert (call.method, call.path) == ("POST", "/v1/responses")
    assert body == {"model": "model-u0", "stream": True, "store": False, "input": "hi", "unknown": {"kept": 1}}
    assert not {"upgrade", "sec-websocket-key", "authorization: Bearer test-key"} & {name for name, _ in call.headers}


async def test_a_turn_sends_only_what_is_new(ws: Any, upstream: FakeUpstream) -> None:
    """The upstream keeps nothing: it gets the conversation."""
    answers = iter(("first", "second", "third"))
    upstream.replies(lambda _: next(answers))
    first = await ws.answer("a", store=False)
    second = await ws.answer(
        [{"role": "user", "content": "b"}], store=False, previous_response_id=first["response"]["id"]
    )
    await ws.answer("c", store=False, previous_response_id=second["response"]["id"])
    assert said(upstream)[1:] == [["a", "first", "b"], ["a", "first", "b", "second", "c"]]
    assert all(b"previous_response_id" not in call.body for call in upstream.calls)


async def test_a_new_conversation_has_nothing_of_the_previous_one(ws: Any, upstream: FakeUpstream) -> None:
    await ws.answer("a")
    await ws.answer("b")
    assert json.loads(upstream.calls[1].body)["input"] == "b"


async def test_an_output_that_only_items_have_is_kept(ws: Any, upstream: FakeUpstream) -> None:
    """Some servers leave `output` of the last event empty."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "kept"}]}
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
    stream = [
        {"type": "response.created", "response": response | {"status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "kept"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    upstream.streams([b"data: " + json.dumps(event).encode() + b"\n\n" for event in stream])
    first = await ws.answer("a", store=False)
    await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert said(upstream)[1] == ["a", "kept", "b"]


async def test_a_reasoning_that_the_upstream_did_not_keep_is_left_out(ws: Any, upstream: FakeUpstream) -> None:
    """OpenAI refuses its id, and those of the items after it, where `store` was false."""
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
    ]
    response = {"id": "resp_1", "status": "completed", "output": output}
    done = {"type": "response.completed", "response": response}
    delta = {"type": "response.function_call_arguments.delta", "delta": "{}"}
    upstream.streams([b"data: " + json.dumps(event).encode() + b"\n\n" for event in (delta, done)])
    result = [{"type": "function_call_output", "call_id": "c1", "output": "1"}]
    first = await ws.answer("a", store=False)
    await ws.answer(result, store=False, previous_response_id=first["response"]["id"])
    await ws.answer(result, store=True, previous_response_id=first["response"]["id"])
    sent = json.loads(upstream.calls[1].body)["input"]
    assert sent[1:] == [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}, *result]


async def test_preparing_reaches_no_upstream(ws: Any, upstream: FakeUpstream) -> None:
    """Codex opens with this, so that its first real request is short."""
    prepared = await ws.answer([{"role": "user", "content": "rules"}], generate=False)
    assert (prepared["type"], prepared["response"]["output"]) == ("response.completed", [])
    assert prepared["response"]["usage"]["total_tokens"] == 0
    assert upstream.calls == []
    await ws.answer("now", previous_response_id=prepared["response"]["id"])
    assert said(upstream) == [["rules", "now"]]


async def test_preparing_checks_the_model(ws: Any) -> None:
    refused = await ws.answer(model="chatt", generate=False)
    assert (refused["status"], refused["error"]["code"]) == (404, "model_not_found")


async def test_lanes_run_side_by_side_and_in_order(ws: Any, upstream: FakeUpstream) -> None:
    upstream.says("slow", HOLD)
    await ws.create("a", stream_id="main")
    await ws.until("response.output_text.delta", lane="main")
    await ws.create("b", stream_id="main")
    upstream.says("quick")
    done = await ws.answer("c", lane="critic")
    assert done["response"]["output"][0]["content"][0]["text"] == "quick"
    assert said(upstream) == [["a"], ["c"]]
    upstream.release()
    for _ in range(2):
        await ws.until("response.completed", lane="main")
    assert said(upstream) == [["a"], ["c"], ["b"]]
    assert all(event["stream_id"] in ("main", "critic") for event in ws.events)


async def test_a_conversation_can_be_forked_into_another_lane(ws: Any, upstream: FakeUpstream) -> None:
    first = await ws.answer("a", lane="main", store=False)
    of = {"previous_response_id": first["response"]["id"], "store": False}
    await ws.answer("critic's", lane="critic", **of)
    await ws.answer("main's", lane="main", **of)
    assert [asked[-1] for asked in said(upstream)[1:]] == ["critic's", "main's"]
    assert [asked[0] for asked in said(upstream)[1:]] == ["a", "a"]


async def test_sixteen_responses_run_at_once(ws: Any, upstream: FakeUpstream) -> None:
    """The next one is the first that came of those that wait, in whichever lane."""
    upstream.says(HOLD)
    for number in range(MOST_RUNNING + 1):
        await ws.create("a", stream_id=f"lane.{number}")
    await ws.create("b", stream_id="lane.0")
    await upstream.until(lambda fake: len(fake.calls) == MOST_RUNNING)
    upstream.says("b")
    upstream.release()
    for lane in (f"lane.{MOST_RUNNING}", "lane.0", "lane.0"):
        if lane not in [event.get("stream_id") for event in ws.events if event["type"] == "response.completed"]:
            await ws.until("response.completed", lane=lane)
    await upstream.until(lambda fake: len(fake.calls) == MOST_RUNNING + 2)
    assert said(upstream)[-2:] == [["a"], ["b"]]


BAD_MESSAGES: list[tuple[Any, int, str]] = [
    ("{", 400, "not valid JSON"),
    ('"text"', 400, "must be a JSON object, not a string"),
    ("{}", 400, "`type` is missing"),
    ({"type": "session.update"}, 400, '"session.update"; this connection takes `response.create`'),
    ({"type": "response.create", "model": "chat", "input": "a", "background": True}, 400, "background"),
    ({"type": "response.create", "model": "chat", "input": "a", "stream_id": ""}, 400, "stream_id must be"),
    ({"type": "response.create", "model": "chat", "input": "a", "stream_id": "a b"}, 400, "stream_id must be"),
    ({"type": "response.create", "model": "chat", "input": "a", "stream_id": 3}, 400, "stream_id must be"),
    ({"type": "response.create", "model": "chat", "input": "a", "generate": "no"}, 400, "generate must be"),
    ({"type": "response.create", "model": "chat", "previous_response_id": 3}, 400, "previous_response_id must be"),
    ({"type": "response.create", "model": "nope", "input": "a"}, 404, 'The model "nope" does not exist here'),
    ({"type": "response.create", "input": "a"}, 400, "you must provide a model"),
    ('{"type": "response.create", "model": "chat", "model": "b"}', 400, 'more than one member "model"'),
]


async def test_a_bad_message_is_answered_and_the_next_is_served(ws: Any) -> None:
    for message, status, words in BAD_MESSAGES:
        await ws.send(message)
        refused = await ws.next()
        assert (refused["type"], refused["status"]) == ("error", status), words
        assert words in refused["error"]["message"]
        assert refused["error"]["type"] == "invalid_request_error"
    assert (await ws.answer())["type"] == "response.completed"


async def test_a_response_that_nobody_has_is_not_found(ws: Any, upstream: FakeUpstream) -> None:
    """The error has the status and the code upon which clients send the whole conversation."""
    for previous, store in product(("resp_unknown", "resp_x.AAAAAAAAAAAAAAAAAAAAAA"), (True, False)):
        refused = await ws.answer(previous_response_id=previous, store=store, lane="main")
        assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
        assert (refused["error"]["param"], refused["stream_id"]) == ("previous_response_id", "main")
    assert upstream.calls == []


async def test_a_stored_response_of_another_connection_is_the_upstream_s(
    gateway: Any, ws: Any, opened: Any, upstream: FakeUpstream
) -> None:
    first = await ws.answer("a")
    other = await opened(gateway)
    second = await other.answer("b", previous_response_id=first["response"]["id"])
    await other.answer("c", previous_response_id=second["response"]["id"])
    bodies = [json.loads(call.body) for call in upstream.calls[1:]]
    assert [body["previous_response_id"] for body in bodies] == ["resp-fake-1", "resp-fake-1"]
    assert texts(bodies[1]["input"]) == ["b", "Hello from the fake upstream.", "c"]


async def test_a_conversation_of_another_key_is_not_found(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    keys = [{"name": n, "sha256": sha256(n.encode()).hexdigest()} for n in ("one", "two")]
    gateway = await start(configured(upstream, keys=keys), key="one")
    first = await (await opened(gateway, "one")).answer("a")
    refused = await (await opened(gateway, "two")).answer("b", previous_response_id=first["response"]["id"])
    assert refused["error"]["code"] == "previous_response_not_found"


async def test_after_an_error_the_lane_has_forgotten_what_it_continued(ws: Any, upstream: FakeUpstream) -> None:
    first = await ws.answer("a", store=False)
    upstream.answers(400, b'{"error": {"message": "no", "type": "invalid_request_error", "code": null}}')
    of = {"previous_response_id": first["response"]["id"], "store": False}
    assert (await ws.answer("b", lane="fork", **of))["status"] == 400
    upstream.says("again")
    assert (await ws.answer("c", **of))["type"] == "response.completed"
    upstream.answers(400, b'{"error": {"message": "no", "type": "invalid_request_error", "code": null}}')
    second = ws.events[-1]["response"]["id"]
    assert (await ws.answer("d", store=False, previous_response_id=second))["status"] == 400
    refused = await ws.answer("e", store=False, previous_response_id=second)
    assert refused["error"]["code"] == "previous_response_not_found"


async def test_a_conversation_above_the_bound_is_not_kept(ws: Any) -> None:
    first = await ws.answer("a" * CONNECTION_BYTES, store=False)
    refused = await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    assert refused["error"]["code"] == "previous_response_not_found"


async def test_the_33rd_lane_is_refused(ws: Any) -> None:
    for number in range(32):
        await ws.answer("a", lane=f"lane{number}", generate=False)
    refused = await ws.answer("a", lane="lane32")
    assert (refused["status"], refused["error"]["code"]) == (400, "websocket_stream_limit_reached")
    assert (await ws.answer("a"))["type"] == "response.completed", "the lane without a name is not counted"


async def test_too_many_waiting_messages_are_refused(ws: Any, upstream: FakeUpstream) -> None:
    upstream.says(HOLD)
    for _ in range(MOST_WAITING + 2):
        await ws.create()
    refused = await ws.next()
    assert (refused["status"], refused["error"]["code"]) == (429, "websocket_queue_full")
    await upstream.until(lambda fake: len(fake.calls) == 1)


async def test_steering_is_refused_with_the_input(ws: Any) -> None:
    await ws.send({"type": "response.steer", "previous_response_id": "resp_1", "input": "stop"})
    refused = await ws.next()
    assert (refused["type"], refused["error"]["code"]) == ("response.steer.failed", "steering_not_supported")
    assert refused["steer"] == {"previous_response_id": "resp_1", "input": "stop"}


async def test_codex_s_note_of_a_response_it_has_read_needs_no_answer(ws: Any) -> None:
    await ws.send({"type": "response.processed", "response_id": "resp_1"})
    assert (await ws.answer())["type"] == "response.completed"
    assert ws.events[0]["type"] == "response.created"


async def test_a_client_that_leaves_cancels_all_its_responses(gateway: Any, ws: Any, upstream: FakeUpstream) -> None:
    upstream.says("a", HOLD)
    for number in range(3):
        await ws.create(stream_id=f"lane{number}")
        await ws.until("response.output_text.delta", lane=f"lane{number}")
    ws.connection.transport.abort()
    await upstream.until(lambda fake: fake.cancelled == 3)
    outcomes = [exchange.outcome for exchange in await gateway.recorded(3)]
    assert outcomes == ["client_gone"] * 3
    await gateway.until(lambda: gateway.process.websockets.sessions.number == 0)
    assert gateway.process.websockets.sessions.history.held == 0


async def test_a_close_frame_cancels_too(ws: Any, upstream: FakeUpstream) -> None:
    upstream.says("a", HOLD)
    await ws.create()
    await ws.until("response.output_text.delta")
    await ws.connection.close()
    await upstream.until(lambda fake: fake.cancelled == 1)


async def test_before_the_first_event_another_target_answers(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream, opened: Any
) -> None:
    gateway = await start(configured(upstream, second))
    upstream.always(Fault.status(500))
    second.says("from the second")
    ws = await opened(gateway)
    done = await ws.answer()
    assert done["response"]["output"][0]["content"][0]["text"] == "from the second"
    assert [event["type"] for event in ws.events].count("response.created") == 1
    [exchange] = await gateway.recorded()
    assert [attempt.target.upstream for attempt in exchange.attempts][-1] == "u1"


async def test_a_stream_that_is_cut_ends_with_the_protocol_s_error(ws: Any, upstream: FakeUpstream) -> None:
    upstream.always(Fault.cut_after(1))
    failed = await ws.answer(lane="main")
    assert (failed["type"], failed["status"], failed["stream_id"]) == ("error", 502, "main")
    assert failed["error"]["code"] == "stream_cut"
    upstream.always(None)
    assert (await ws.answer(lane="main"))["type"] == "response.completed"


async def test_the_error_of_an_upstream_comes_with_its_headers(ws: Any, upstream: FakeUpstream) -> None:
    body = b'{"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}'
    upstream.answers(429, body, {"retry-after": "60"})
    refused = await ws.answer()
    assert (refused["status"], refused["error"]["message"]) == (429, "slow down")
    assert refused["headers"]["retry-after"] == "60"
    assert refused["error"]["headers"]["x-request-id"]


async def test_an_error_that_is_not_json_is_quoted(ws: Any, upstream: FakeUpstream) -> None:
    upstream.answers(400, b"<html>no</html>", content_type="text/html")
    refused = await ws.answer()
    assert (refused["status"], refused["error"]["type"]) == (400, "api_error")
    assert "<html>no</html>" in refused["error"]["message"]


async def test_an_upstream_that_does_not_stream_is_answered_in_two_events(ws: Any, upstream: FakeUpstream) -> None:
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": None}
    upstream.answers(200, json.dumps(response).encode())
    done = await ws.answer("a")
    assert [event["type"] for event in ws.events] == ["response.created", "response.completed"]
    assert done["response"]["status"] == "completed"


async def test_each_response_is_recorded_with_its_conversation(gateway: Any, ws: Any, upstream: FakeUpstream) -> None:
    first = await ws.answer("a", store=False)
    await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    one, two = await gateway.recorded(2)
    assert (one.api, one.stream, one.outcome, one.status, one.caller) == ("responses", True, "ok", 200, "tester")
    assert texts(json.loads(two.request)["input"]) == ["a", "Hello from the fake upstream.", "b"]
    assert two.usage.output_tokens > 0
    assert b"response.completed" in two.response


async def test_a_key_without_content_has_none_recorded(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    config = configured(upstream)
    config["keys"][0]["content"] = "metadata"
    gateway = await start(config)
    await (await opened(gateway)).answer("secret")
    [exchange] = await gateway.recorded()
    assert (exchange.request, exchange.response) == (b"{}", b"")


async def test_limits_hold_for_each_response(start: Any, configured: Any, upstream: FakeUpstream, opened: Any) -> None:
    config = configured(upstream)
    config["keys"][0]["limits"] = {"requests_per_day": 2}
    gateway = await start(config)
    ws = await opened(gateway)
    assert [(await ws.answer())["type"] for _ in range(2)] == ["response.completed"] * 2
    refused = await ws.answer()
    assert refused["status"] == 429
    assert int(refused["headers"]["retry-after"]) > 0
    assert len(upstream.calls) == 2


async def test_headers_of_the_upgrade_hold_for_each_response(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream, opened: Any
) -> None:
    gateway = await start(configured(upstream, second))
    headers = {
        "x-gateway-target": "u1/model-u1",
        "openai-beta": "responses_websockets=2026-02-06",
        "idempotency-key": "one",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    ws = await opened(gateway, headers=headers)
    for _ in range(2):
        await ws.answer()
    sent = [dict(call.headers) for call in second.calls]
    assert [each["traceparent"] for each in sent] == [headers["traceparent"]] * 2
    assert not {"openai-beta", "idempotency-key", "x-gateway-target"} & {name for each in sent for name in each}


async def test_a_conversation_continues_behind_a_translation(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    config = configured(upstream, upstreams={"u0": {"kind": "anthropic", "base_url": upstream.base_url}})
    ws = await opened(await start(config))
    first = await ws.answer("a", store=False)
    await ws.answer("b", store=False, previous_response_id=first["response"]["id"])
    messages = json.loads(upstream.calls[1].body)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    unknown = await ws.answer("c", previous_response_id="resp_unknown")
    assert (unknown["status"], unknown["error"]["code"]) == (400, "previous_response_not_found")


async def test_turns_of_a_connection_are_a_run_where_responses_are(
    start: Any, configured: Any, opened: Any, upstream: FakeUpstream
) -> None:
    """The upstream gets the conversation, and no id of what it did not keep."""
    gateway = await start(configured(upstream, runs={"from": ["previous_response_id"]}))
    socket = await opened(gateway)
    first = await socket.answer("a", store=False)
    second = await socket.answer("b", store=False, previous_response_id=first["response"]["id"])
    await socket.answer("c", store=False, previous_response_id=second["response"]["id"])
    await socket.answer("a", store=False)
    found = await gateway.recorded(4)
    assert [e.run for e in found] == [found[0].id] * 3 + [found[3].id]
