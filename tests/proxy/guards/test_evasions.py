"""Ways around guards, over real sockets: what callers send, what upstreams answer, and what reaches the other side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from proxy.guards.evasions import CARD, FORMS, NOT_IN_STREAMS, NOT_JUDGED, WIRES, leaks
from proxy.guards.test_client import stream_of, through

from gateway.core.sse import Splitter
from gateway.fake import FakeUpstream

Configured = Callable[..., dict[str, Any]]
Make = Callable[..., Any]
APIS = ("chat", "responses", "messages")
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
ACTIONS = ("block", "redact")


def guards(on: str, action: str) -> dict[str, Any]:
    return {"cards": {"on": on, "scorer": "personal_data", "action": action, "hold_chars": 1, "if_late": "pass"}}


async def started(start: Any, configured: Configured, upstream: FakeUpstream, api: str, given: Any) -> Any:
    """A gateway whose upstream speaks the API, so that nothing is translated."""
    config = configured(upstream, guards=given)
    if api == "messages":
        config["upstreams"]["u0"]["kind"] = "anthropic"
    return await start(config)


def requests_of(api: str, text: Any) -> dict[str, dict[str, Any]]:
    """Requests with a text in different places, by their name."""
    arguments = json.dumps({"a": text})
    if api == "responses":
        return {
            "input": {"input": text},
            "a part": {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]},
            "a tool's output": {"input": [{"type": "function_call_output", "call_id": "c", "output": text}]},
            "arguments": {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}]},
            "a tool": {"input": "x", "tools": [{"type": "function", "name": "f", "description": text}]},
        }
    more = {"max_tokens": 9} if api == "messages" else {}
    user = {"role": "user", "content": text}
    part = {"role": "user", "content": [{"type": "text", "text": "look: "}, {"type": "text", "text": text}]}
    if api == "messages":
        use = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": text}}
        others = {
            "a tool's input": {"messages": [{"role": "assistant", "content": [use]}]},
            "a tool": {
                "messages": [{"role": "user", "content": "x"}],
                "tools": [{"name": "f", "description": text, "input_schema": {}}],
            },
        }
    else:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        tool = {"type": "function", "function": {"name": "f", "description": text}}
        others = {
            "arguments": {"messages": [{"role": "assistant", "tool_calls": [call]}]},
            "a tool": {"messages": [{"role": "user", "content": "x"}], "tools": [tool]},
            "a name": {"messages": [{"role": "user", "content": "x", "name": text}]},
        }
    return {name: {**more, **given} for name, given in {"a text": {"messages": [user]}, "a part": {"messages": [part]},
                                                        **others}.items()}  # fmt: skip


def answer_of(api: str, text: str) -> dict[str, Any]:
    """A plain answer with this text."""
    if api == "chat":
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    if api == "messages":
        return {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
    content = [{"type": "output_text", "text": text}]
    return {"id": "r", "object": "response", "output": [{"type": "message", "content": content}]}


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()  # orjson takes no half of a surrogate pair


class Tried:
    """Attempts, and those that went through."""

    def __init__(self) -> None:
        self.attempts = 0
        self.through: list[str] = []

    def note(self, name: str, leaked: bool) -> None:
        self.attempts += 1
        if leaked:
            self.through.append(name)

    def check(self, name: str, least: int) -> None:
        print(f"{name}: {len(self.through)} of {self.attempts} through")  # noqa: T201
        assert self.through == []
        assert self.attempts >= least


async def _check_harmless(gateway: Any, upstream: FakeUpstream, api: str) -> None:
    """The gateway and its upstream still answer what no guard objects to: nothing was stopped by something else."""
    for place, body in requests_of(api, "harmless").items():
        before = len(upstream.calls)
        reply = await gateway.client.post(PATHS[api], json={"model": "chat", **body})
        assert (reply.status_code, len(upstream.calls)) == (200, before + 1), (place, reply.text)
        assert b"harmless" in upstream.calls[-1].body


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("api", APIS)
async def test_no_form_of_a_request_goes_through(
    start: Any, configured: Configured, upstream: FakeUpstream, api: str, action: str
) -> None:
    gateway = await started(start, configured, upstream, api, guards("request", action))
    tried = Tried()
    for form, text in FORMS.items():
        for place, body in requests_of(api, text).items():
            before = len(upstream.calls)
            content = dumped({"model": "chat", **body})
            await gateway.client.post(PATHS[api], content=content, headers={"content-type": "application/json"})
            tried.note(f"{form} in {place}", any(leaks(call.body) for call in upstream.calls[before:]))
    tried.check(f"{api} requests, {action}", 200)
    await _check_harmless(gateway, upstream, api)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("api", APIS)
async def test_no_encoding_of_a_request_goes_through(
    start: Any, configured: Configured, upstream: FakeUpstream, api: str, action: str
) -> None:
    gateway = await started(start, configured, upstream, api, guards("request", action))
    tried = Tried()
    for name, write in WIRES.items():
        for place, body in requests_of(api, CARD).items():
            before = len(upstream.calls)
            content, headers = write(dumped({"model": "chat", **body}))
            given = {"content-type": "application/json", **headers}
            await gateway.client.post(PATHS[api], content=content, headers=given)
            tried.note(f"{name} in {place}", any(leaks(call.body) for call in upstream.calls[before:]))
    tried.check(f"{api} encodings, {action}", 64)
    await _check_harmless(gateway, upstream, api)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("api", APIS)
async def test_no_split_of_a_request_goes_through(
    start: Any, configured: Configured, upstream: FakeUpstream, api: str, action: str
) -> None:
    """Chunks of HTTP that end at each byte, and parts of a content that end at each character of the card."""
    gateway = await started(start, configured, upstream, api, guards("request", action))
    body = dumped({"model": "chat", **requests_of(api, CARD)["a part"]})
    tried = Tried()

    async def pieces(at: int) -> Any:
        yield body[:at]
        await asyncio.sleep(0)
        yield body[at:]

    headers = {"content-type": "application/json"}
    for at in range(1, len(body)):
        before = len(upstream.calls)
        await gateway.client.post(PATHS[api], content=pieces(at), headers=headers)
        tried.note(f"chunks at {at}", any(leaks(call.body) for call in upstream.calls[before:]))
    kind = "input_text" if api == "responses" else "text"
    for at in range(1, len(CARD)):
        content = [{"type": kind, "text": CARD[:at]}, {"type": kind, "text": CARD[at:]}]
        messages = [{"role": "user", "content": content}]
        given = {"input": messages} if api == "responses" else {"messages": messages, "max_tokens": 9}
        before = len(upstream.calls)
        await gateway.client.post(PATHS[api], json={"model": "chat", **given})
        tried.note(f"parts at {at}", any(leaks(call.body) for call in upstream.calls[before:]))
    tried.check(f"{api} splits, {action}", 100)
    await _check_harmless(gateway, upstream, api)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("action", ACTIONS)
async def test_ambiguous_requests_are_refused(
    start: Any, configured: Configured, upstream: FakeUpstream, api: str, action: str
) -> None:
    gateway = await started(start, configured, upstream, api, guards("request", action))
    member = "input" if api == "responses" else "messages"
    twice = f'{{"role": "user", "content": "{CARD}", "content": "x"}}'
    deep = '{"role": "user", "content": ' + "[" * 30 + json.dumps(CARD) + "]" * 30 + "}"
    for text, status in ((twice, 400), (deep, 400)):
        body = f'{{"model": "chat", "max_tokens": 9, "{member}": [{text}]}}'
        reply = await gateway.client.post(PATHS[api], content=body, headers={"content-type": "application/json"})
        assert reply.status_code == status, reply.text
        assert "guard" in reply.text
    assert upstream.calls == []
    observing = await started(start, configured, upstream, api, guards("request", "observe"))
    body = f'{{"model": "chat", "max_tokens": 9, "{member}": [{twice}]}}'
    reply = await observing.client.post(PATHS[api], content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200, "a guard that only observes refuses nothing"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("api", APIS)
async def test_no_form_of_an_answer_goes_through(
    start: Any, configured: Configured, upstream: FakeUpstream, api: str, action: str
) -> None:
    gateway = await started(start, configured, upstream, api, guards("answer", action))
    given = {"model": "chat", **requests_of(api, "hi")["input" if api == "responses" else "a text"]}
    tried = Tried()
    for form, text in FORMS.items():
        upstream.answers(200, dumped(answer_of(api, text)))
        reply = await gateway.client.post(PATHS[api], json=given)
        tried.note(f"{form}, plain", leaks(reply.content))
        if form in NOT_IN_STREAMS:
            continue
        upstream.streams(stream_of_form(api, text))
        async with gateway.client.stream("POST", PATHS[api], json={**given, "stream": True}) as streamed:
            tried.note(f"{form}, stream", leaks(await streamed.aread()))
    tried.check(f"{api} answers, {action}", 70)
    upstream.answers(200, dumped(answer_of(api, "harmless")))
    await _check_harmless(gateway, upstream, api)


READS = (
    *(("GET", "/responses/ID"), ("GET", "/responses/ID?stream=true"), ("HEAD", "/responses/ID")),
    *(("GET", "/responses/ID/input_items"), ("POST", "/responses/ID/cancel"), ("GET", "/responses/ID?include[]=x")),
)  # fmt: skip
"""Reads of a stored answer by its id, as the API has them."""
SPELLINGS = (
    *(("GET", f"/responses/ID{more}") for more in (
        "?stream=true&starting_after=0", "/input_items?order=asc&limit=100", "/", "/input_items/", "/cancel", "/../ID",
        "%2Finput_items", ";a=b", "?", "/output")),
    *((method, "/responses/ID") for method in ("POST", "PUT", "PATCH", "QUERY")),
    ("PUT", "/responses/ID/cancel"),
    *(("GET", path) for path in (
        "/%72esponses/ID", "/responses//ID", "//responses/ID",
        "/Responses/ID", "/responses?id=ID", "/responses/./ID", "/v1/responses/ID", "/openai/responses/ID",
        "/conversations/ID/items", "/chat/completions/ID", "/chat/completions/ID/messages", "/threads/ID/messages",
        "/batches/ID", "/messages/batches/ID/results")),
)  # fmt: skip
"""Reads that a server might take for these, and those of other APIs."""


@pytest.mark.parametrize("passthrough", ["u0", None])
@pytest.mark.parametrize("action", ACTIONS)
async def test_no_form_of_a_stored_answer_goes_through(
    start: Any, configured: Configured, upstream: FakeUpstream, action: str, passthrough: str | None
) -> None:
    """The upstream keeps the answer as it made it, and would return it to each of these reads."""
    config = configured(upstream, guards=guards("answer", action), passthrough=passthrough)
    gateway = await start({**config, "responses": {"seal": False}})
    tried = Tried()
    for i, (form, text) in enumerate(FORMS.items()):
        upstream.answers(200, dumped({**answer_of("responses", text), "id": "resp_1"}))
        made = await gateway.client.post("/responses", json={"model": "chat", "input": "hi"})
        tried.note(f"{form}, made", leaks(made.content))
        asked = len(upstream.calls)
        for method, path in (*READS, *(SPELLINGS if i % 10 == 0 else ())):
            reply = await gateway.client.request(method, path.replace("ID", "resp_1"))
            tried.note(f"{form}, {method} {path}", leaks(reply.content) or reply.status_code < 400)
        assert len(upstream.calls) == asked
        given = {"model": "chat", "input": "hi", "background": True}
        later = await gateway.client.post("/responses", json=given)
        tried.note(f"{form}, in the background", leaks(later.content) or len(upstream.calls) > asked)
    tried.check(f"responses by id, {action}, passthrough {passthrough}", 500)


async def test_the_same_reads_reach_an_upstream_without_a_guard(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """The reads of the API are refused for the guard, and not by something else."""
    gateway = await start({**configured(upstream, passthrough="u0"), "responses": {"seal": False}})
    upstream.answers(200, dumped({**answer_of("responses", CARD), "id": "resp_1"}))
    replies = [await gateway.client.request(method, path.replace("ID", "resp_1")) for method, path in READS]
    assert len(upstream.calls) == len(READS)
    assert sum(leaks(reply.content) for reply in replies) == len(READS) - 1, "HEAD has no body"


def stream_of_form(api: str, text: str) -> list[bytes]:
    """A stream whose text comes in two halves."""
    halves = [text[: len(text) // 2], text[len(text) // 2 :]]
    whole = stream_of(api, ["<0>", "<1>"])
    named = {"<0>": json.dumps(halves[0])[1:-1], "<1>": json.dumps(halves[1])[1:-1]}
    joined = b"".join(whole).decode()
    for mark, half in named.items():
        joined = joined.replace(mark, half)
    return [joined.encode()]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("api", APIS)
async def test_no_split_of_a_stream_goes_through(make: Make, api: str, action: str) -> None:
    """The bytes of a stream arrive in two pieces that are cut at each byte, and its events at each character."""
    tried = Tried()
    given = guards("answer", action)
    data = b"".join(stream_of(api, ["It is ", CARD[:9], CARD[9:], " there. "]))
    for at in range(1, len(data)):
        splitter = Splitter()
        blocks = [block for block in (splitter.feed(data[:at]), splitter.feed(data[at:])) if block]
        tried.note(f"bytes at {at}", leaks(await through(make(api, given), [*blocks, splitter.tail])))
    for at in range(1, len(CARD)):
        chunks = stream_of(api, ["It is ", CARD[:at], CARD[at:], " there. "])
        tried.note(f"events at {at}", leaks(await through(make(api, given), chunks)))
    tried.check(f"{api} splits of streams, {action}", 200)


STRANGE = {
    "a text": json.dumps(CARD),
    "a list": json.dumps([{"text": CARD}]),
    "broken JSON": f'{{"text": "{CARD}',
    "no JSON": CARD,
    "a number": "4111111111111111",
}


BEGUN = b'data: {"choices":[{"index":0,"delta":{"content":"so "}}]}\n\n'
EVENTS = {
    **{name: f"data: {data}\n\n".encode() for name, data in STRANGE.items()},
    **{name: f"{line}: {CARD}\n".encode() + BEGUN for name, line in (
        ("a comment", ""), ("a name", "event"), ("an id", "id"), ("an unknown field", "note"))},
    "several lines": f'data: {{"choices":[{{"index":0,"delta":\ndata: {{"content":"{CARD} "}}}}]}}\n\n'.encode(),
    "no end": f'data: {{"choices":[{{"index":0,"delta":{{"content":"{CARD}"}}}}]}}'.encode(),
}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
async def test_data_that_is_not_an_object_is_judged(make: Make, action: str) -> None:
    given, tried = guards("answer", action), Tried()
    for name, data in STRANGE.items():
        answer = await make("chat", given).guarded.judge_answer(data.encode())
        tried.note(f"{name}, plain", leaks(answer or b""))
        assert (answer is None) is (action == "block")
    for name, event in EVENTS.items():
        made = make("chat", given)
        received = await through(made, [BEGUN, event])
        tried.note(f"{name}, stream", leaks(received))
        assert b"so " in received
        assert (made.context.outcome == "blocked") is (action == "block")
    tried.check(f"data that is not an object, {action}", 16)
    harmless = [BEGUN, b": ping\n\n", b'data: "a text"\n\n', b"event: x\nid: abc\ndata: [1]\n\n", b"data: [DONE]\n\n"]
    assert await through(make("chat", given), harmless) == b"".join(harmless)


@pytest.mark.parametrize("action", ACTIONS)
async def test_tokens_names_and_new_members_are_judged(make: Make, action: str) -> None:
    """Members of a chat answer besides its text, plain and in a stream."""
    tried = Tried()
    text = {"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}
    tokens = {"content": [{"token": t, "logprob": -1, "bytes": [1], "top_logprobs": []} for t in CARD.split(" ")]}
    spelled = {"content": [{"token": t, "logprob": -1} for t in ("4111 ", "1111 ", "1111 ", "1111")]}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    cases: dict[str, dict[str, Any]] = {
        "tokens": {"choices": [{**text, "logprobs": spelled}]},
        "tokens without blanks": {"choices": [{**text, "logprobs": tokens}]},
        "top_logprobs": {"choices": [{**text, "logprobs": {"content": [{"token": "x", "top_logprobs": [
            {"token": CARD}]}]}}]},
        "tokens of text completions": {"choices": [{"index": 0, "text": "so", "logprobs": {"tokens": [
            "4111 ", "1111 ", "1111 ", "1111"]}}]},
        "a new member": {"choices": [text], "note": CARD},
        "a new object": {"choices": [text], "note": {"a": [CARD]}},
        "the name of a member": {"choices": [text], "note": {CARD: 1}},
        "a member of the choice": {"choices": [{**text, "note": CARD}]},
        "a reason": {"choices": [{**text, "finish_reason": CARD}]},
        "a role": {"choices": [{**text, "message": {"role": CARD, "content": "so"}}]},
        "a tool's name": {"choices": [{**text, "message": {"content": None, "tool_calls": [
            {**call, "function": {"name": CARD, "arguments": "{}"}}]}}]},
        "a tool's id": {"choices": [{**text, "message": {"content": None, "tool_calls": [{**call, "id": CARD}]}}]},
        "a tool's type": {"choices": [{**text, "message": {"content": None, "tool_calls": [{**call, "type": CARD}]}}]},
        "reasoning": {"choices": [{**text, "message": {"content": "so", "reasoning_content": f"data: {CARD}"}}]},
        "a second choice": {"choices": [text, {**text, "message": {"content": CARD}}]},
        "no choices": {"choices": [], "error": {"message": CARD}},
        "30 lists deep": {"choices": [{**text, "note": json.loads("[" * 30 + json.dumps(CARD) + "]" * 30)}]},
    }  # fmt: skip
    given = guards("answer", action)
    for name, body in cases.items():
        for quick in (True, False):
            made = make("chat", given)
            made.guarded.quick = quick
            passed = quick and made.guarded.passes(orjson.dumps(body))
            answer = orjson.dumps(body) if passed else await made.guarded.judge_answer(orjson.dumps(body))
            tried.note(f"{name}, plain", leaks(answer or b"") or _spells(answer or b""))
        chunk = {**body, "choices": [_delta(choice) for choice in body["choices"]]}
        received = await through(make("chat", given), [b"data: " + orjson.dumps(chunk) + b"\n\n", b"data: [DONE]\n\n"])
        tried.note(f"{name}, stream", leaks(received) or _spells(received))
    tried.check(f"members of answers, {action}", 50)


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    return {("delta" if name == "message" else name): value for name, value in choice.items()}


def _spells(data: bytes) -> bool:
    """Whether the card stands in tokens."""
    return data.count(b'"1111') >= 3


@pytest.mark.parametrize("form", NOT_JUDGED)
async def test_listed_encodings_are_not_judged(
    start: Any, configured: Configured, upstream: FakeUpstream, form: str
) -> None:
    gateway = await started(start, configured, upstream, "chat", guards("request", "block"))
    messages = [{"role": "user", "content": NOT_JUDGED[form]}]
    reply = await gateway.client.post(PATHS["chat"], json={"model": "chat", "messages": messages})
    assert reply.status_code == 200
