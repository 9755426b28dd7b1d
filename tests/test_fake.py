"""The double over real sockets: what it says when it is right, and what it does on the wire when it is not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from gateway import fake_api
from gateway.fake import CUT, HOLD, Delay, FakeUpstream, Fault, Received, parse_fault, serve

TEXT = "Hello from the fake upstream."
MESSAGES = [{"role": "user", "content": "two words"}]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http(upstream: FakeUpstream) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=upstream.base_url) as client:
        yield client


@pytest.fixture
async def sdk(upstream: FakeUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="k", max_retries=0) as client:
        yield client


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": MESSAGES, **fields}


def events_of(text: str) -> list[Any]:
    """The parsed data of each event; `[DONE]` as it stands."""
    datas = [block.split("data: ", 1)[1] for block in text.split("\n\n") if "data: " in block]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def text_of(events: list[Any]) -> str:
    choices = [c for e in events if isinstance(e, dict) for c in e.get("choices", ())]
    return "".join(c["delta"].get("content") or "" for c in choices)


class Wire:
    """A connection that shows every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> None:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: fake\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
        )
        self.writer.write(head.encode() + b"\r\n" + data)

    async def until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def wire_to(upstream: FakeUpstream) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", upstream.port))
    try:
        yield wire
    finally:
        await wire.leave()


async def test_a_plain_answer_says_the_text_and_counts_words(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(**chat(model="asked-for"))
    assert reply.id == "chatcmpl-fake-1"
    assert reply.model == "asked-for"
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (2, 5, 7)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


async def test_a_stream_is_role_then_words_then_finish_then_usage_then_done(http: httpx2.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"] == "text/event-stream"
    first, *deltas, finish, usage, done = events_of(reply.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [d["choices"][0]["delta"] for d in deltas] == [{"content": w} for w in fake_api.split(TEXT)]
    assert all(d["usage"] is None for d in [first, *deltas, finish])
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
    assert done == "[DONE]"


async def test_a_stream_without_usage_asked_has_none(http: httpx2.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=True))
    assert all("usage" not in e for e in events_of(reply.text)[:-1])


async def test_each_event_is_a_chunk_of_its_own(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        body = (await wire.until(b"\r\n0\r\n\r\n")).split(b"\r\n\r\n", 1)[1]
    lines = body.split(b"\r\n")
    sizes, chunks = lines[0:-2:2], lines[1:-2:2]
    assert [int(size, 16) for size in sizes[:-1]] == [len(c) for c in chunks[: len(sizes) - 1]]
    assert all(c.startswith(b"data: ") and c.endswith(b"\n\n") for c in chunks[: len(sizes) - 1])


@pytest.mark.parametrize("stream", [False, True])
async def test_max_tokens_ends_the_answer_with_length(http: httpx2.AsyncClient, stream: bool) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=stream, max_tokens=2))
    if stream:
        events = events_of(reply.text)
        assert text_of(events) == "Hello from "
        assert events[-2]["choices"][0]["finish_reason"] == "length"
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "Hello from "
        assert reply.json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_n_gives_n_choices(http: httpx2.AsyncClient, stream: bool) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=stream, n=3))
    if stream:
        ends = [c["index"] for e in events_of(reply.text)[:-1] for c in e["choices"] if c["finish_reason"]]
        assert ends == [0, 1, 2]
    else:
        assert [c["index"] for c in reply.json()["choices"]] == [0, 1, 2]
        assert reply.json()["usage"]["completion_tokens"] == 15


async def test_json_mode_gives_an_object_unless_a_script_was_chosen(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    asked = chat(response_format={"type": "json_object"})
    reply = await http.post("/chat/completions", json=asked)
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == {"answer": TEXT}

    upstream.says("no object")
    reply = await http.post("/chat/completions", json=asked)
    assert reply.json()["choices"][0]["message"]["content"] == "no object"


async def test_logprobs_come_when_asked(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.chat.completions.create(**chat(logprobs=True, top_logprobs=1))
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(t.token for t in logprobs.content) == TEXT
    assert logprobs.content[0].top_logprobs[0].token == "Hello "


async def test_a_tool_call_in_both_forms(sdk: openai.AsyncOpenAI, upstream: FakeUpstream) -> None:
    arguments = '{"city": "Paris", "unit": "C"}'
    upstream.tool_call("weather", arguments, id="call_9")
    whole = await sdk.chat.completions.create(**chat())
    assert whole.choices[0].finish_reason == "tool_calls"

    async with sdk.chat.completions.stream(**chat()) as stream:
        streamed = await stream.get_final_completion()
    for reply in (whole, streamed):
        calls = reply.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].id == "call_9"
        assert calls[0].type == "function"
        assert (calls[0].function.name, calls[0].function.arguments) == ("weather", arguments)


async def test_completions_in_both_forms(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.completions.create(model="m", prompt="two words")
    assert whole.choices[0].text == TEXT
    stream = await sdk.completions.create(model="m", prompt="two words", stream=True)
    parts = [event.choices[0] async for event in stream]
    assert "".join(p.text for p in parts) == TEXT
    assert parts[-1].finish_reason == "stop"


async def test_responses_in_both_forms(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.responses.create(model="m", input="two words")
    assert whole.output_text == TEXT
    async with sdk.responses.stream(model="m", input="two words") as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert streamed.output_text == TEXT
    assert streamed.usage is not None
    assert streamed.usage.input_tokens == 2


async def test_a_response_cut_by_max_output_tokens_is_incomplete(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.responses.create(model="m", input="x", stream=True, max_output_tokens=1)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"


async def test_messages_in_both_forms(upstream: FakeUpstream) -> None:
    async with anthropic.AsyncAnthropic(base_url=upstream.origin, api_key="k", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        counted = await client.messages.count_tokens(model="m", messages=asked["messages"])
        upstream.tool_call("weather", '{"city": "Paris"}')
        async with client.messages.stream(**asked) as stream:
            tool = await stream.get_final_message()
        upstream.then(Fault.status(529))
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(**asked)
    assert [[block.model_dump()["text"] for block in m.content] for m in (whole, streamed)] == [[TEXT], [TEXT]]
    assert (whole.stop_reason, whole.usage.input_tokens, whole.usage.output_tokens) == ("end_turn", 2, 5)
    assert counted.input_tokens == 2
    assert tool.stop_reason == "tool_use"
    assert tool.content[0].type == "tool_use"
    assert tool.content[0].input == {"city": "Paris"}
    assert refused.value.response.json()["error"]["type"] == "overloaded_error"


async def test_embeddings_are_alike_where_words_are(sdk: openai.AsyncOpenAI) -> None:
    reply = await sdk.embeddings.create(model="m", input=["a red fox", "a red dog", "quite other things"])
    one, two, three = (item.embedding for item in reply.data)

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(one, one) == pytest.approx(1)
    assert likeness(one, two) > likeness(one, three)
    assert reply.usage.prompt_tokens == 9


async def test_embeddings_come_packed_or_as_numbers_in_the_dimensions_asked(http: httpx2.AsyncClient) -> None:
    plain = await http.post("/embeddings", json={"model": "m", "input": "a b", "dimensions": 8})
    packed = await http.post(
        "/embeddings", json={"model": "m", "input": "a b", "dimensions": 8, "encoding_format": "base64"}
    )
    numbers = array("f", base64.b64decode(packed.json()["data"][0]["embedding"])).tolist()
    assert numbers == pytest.approx(plain.json()["data"][0]["embedding"])
    assert len(numbers) == 8


@pytest.mark.parametrize(
    ("path", "body", "seen"),
    [
        ("/v1/moderations", {"input": ["a", "b"]}, lambda r: len(r["results"]) == 2),
        (
            "/v1/rerank",
            {"query": "fox", "documents": ["dog", "fox"], "top_n": 1},
            lambda r: r["results"][0]["index"] == 1,
        ),
        ("/score", {"text_1": "fox", "text_2": ["fox", "cat"]}, lambda r: len(r["data"]) == 2),
        ("/tokenize", {"prompt": "hé"}, lambda r: (r["count"], r["tokens"]) == (2, [104, 233])),
        ("/detokenize", {"tokens": [104, 233]}, lambda r: r["prompt"] == "hé"),
        ("/v1/images/generations", {"prompt": "p", "n": 2}, lambda r: len(r["data"]) == 2),
        ("/v1/files", {"any": "thing"}, lambda r: r["bytes"] == len(b'{"any":"thing"}')),
        ("/openai/deployments/d/chat/completions", {"messages": []}, lambda r: r["model"] == "fake-model"),
    ],
)
async def test_other_paths_answer_in_their_own_form(
    upstream: FakeUpstream, path: str, body: dict[str, Any], seen: Any
) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(upstream.origin + path, json=body)
    assert reply.status_code == 200
    assert seen(reply.json())


async def test_models_health_and_metrics_cost_nothing(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(500))
    upstream.load["num_requests_waiting"] = 3.0
    assert (await http.get(upstream.origin + "/health")).content == b""
    metrics = (await http.get(upstream.origin + "/metrics")).text
    assert 'vllm:num_requests_waiting{engine="0",model_name="fake-model"} 3.0\n' in metrics
    assert 'vllm:num_requests_running{engine="0",model_name="fake-model"} 1.0\n' in metrics
    assert (await http.get("/models")).status_code == 500  # the fault was not spent on the probes
    assert (await http.get("/models")).json()["data"][0]["id"] == "fake-model"
    assert [r.path for r in upstream.calls] == ["/v1/models", "/v1/models"]
    assert len(upstream.received) == 4


async def test_audio_arrives_and_leaves_as_bytes(sdk: openai.AsyncOpenAI) -> None:
    sound = bytes(range(256)) * 999 + b"\r\n--not-the-boundary\r\n"
    heard = await sdk.audio.transcriptions.create(model="m", file=("a.wav", sound))
    assert heard.text == TEXT
    assert heard.model_extra is not None
    assert heard.model_extra["file"] == {
        "filename": "a.wav",
        "size": len(sound),
        "sha256": hashlib.sha256(sound).hexdigest(),
    }
    spoken = await sdk.audio.speech.create(model="m", voice="alloy", input="hi")
    assert len(spoken.content) == 4096


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/nothing", {}, 404),
        ("/chat/completions", {"messages": []}, 404),
        ("/v1/chat/completions", {}, 400),
        ("/v1/chat/completions", {"messages": [], "n": "many"}, 400),
    ],
)
async def test_what_cannot_be_answered_gets_an_openai_error(
    upstream: FakeUpstream, path: str, body: dict[str, Any], status: int
) -> None:
    async with httpx2.AsyncClient() as http:
        reply = await http.post(upstream.origin + path, json=body)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_request_is_remembered_as_it_came(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    body = b'{"model":"m","messages":[],"odd":123456789012345678901234567890}'
    await http.post("/chat/completions?api-version=7", content=body, headers={"X-Odd": "Value"})
    received = await upstream.next_received()
    assert received.body == body
    assert received.json["odd"] == 123456789012345678901234567890
    assert (received.method, received.path, received.query) == ("POST", "/v1/chat/completions", "api-version=7")
    assert received.header("x-ODD") == "Value"
    assert received.header("absent") is None
    assert (received.serial, received.connection, received.cancelled) == (1, 1, False)
    assert received.done.is_set()


async def test_the_same_question_is_answered_the_same_under_a_new_id(
    http: httpx2.AsyncClient, upstream: FakeUpstream
) -> None:
    upstream.says("chatcmpl-fake-1")
    one, two = [(await http.post("/chat/completions", json=chat(model="m-fake-1"))).json() for _ in range(2)]
    assert (one.pop("id"), two.pop("id")) == ("chatcmpl-fake-1", "chatcmpl-fake-2")
    assert one == two
    upstream.says("other")
    three = (await http.post("/chat/completions", json=chat(model="m-fake-1"))).json()
    assert three["choices"][0]["message"]["content"] == "other"


async def test_connections_are_kept_and_numbered(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    for _ in range(2):
        await http.post("/chat/completions", json=chat())
    assert [r.connection for r in upstream.received] == [1, 1]
    assert upstream.open_connections == 1
    upstream.hang_up()
    await upstream.until(lambda u: u.open_connections == 0)
    await http.post("/chat/completions", json=chat())
    assert upstream.received[-1].connection == 2


async def test_connection_close_is_honoured(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        wire.writer.write(b"GET /health HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_that_came_together_are_answered_in_order(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        wire.ask(chat(model="one"))
        wire.ask(chat(model="two"))
        assert b'"model":"one"' in await wire.until(b'"cached_tokens":0}}}')
        assert b'"model":"two"' in await wire.until(b'"cached_tokens":0}}}')


async def test_a_request_may_come_in_any_pieces(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        head = b"POST /v1/files?a=b HTTP/1.1\r\nhost: fake\r\ntransfer-encoding: chunked\r\n\r\n"
        for byte in head + b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n":
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
        await wire.until(b"}")
    received = await upstream.next_received()
    assert (received.path, received.query, received.body) == ("/v1/files", "a=b", b"one two")


async def test_a_client_that_waits_for_100_continue_gets_it(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        head = b"POST /v1/files HTTP/1.1\r\nhost: fake\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
        wire.writer.write(head)
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.writer.write(b"body")
        assert b'"bytes":4' in await wire.until(b"}")


async def test_what_is_no_http_is_hung_up_on(upstream: FakeUpstream) -> None:
    async with wire_to(upstream) as wire:
        wire.writer.write(b"EHLO fake\r\n\r\n")
        with suppress(ConnectionError):
            assert await wire.rest() == b""
    assert upstream.received == []


async def test_a_whole_answer_is_sent_byte_for_byte(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    body = b'{ "n" : 0.70, "n": 1e400 }\n'
    upstream.answers(201, body, headers={"openai-organization": "o", "X-Request-Id": "mine"})
    reply = await http.post("/anything", json={})
    assert (reply.status_code, reply.content, reply.headers["openai-organization"]) == (201, body, "o")
    assert reply.headers.get_list("x-request-id") == ["mine"]
    upstream.says()
    assert (await http.post("/anything", json={})).status_code == 404


async def test_stream_pieces_are_read_one_by_one(upstream: FakeUpstream) -> None:
    pieces = [b'data: {"a', b'": "\xc3', b'\xa9"}', b"\n", b"\n"]
    upstream.streams(pieces)
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b"\r\n\r\n")
        read = [await wire.reader.read(9999) for _ in range(len(pieces) + 1)]
    assert [chunk.split(b"\r\n")[1] for chunk in read[:-1]] == pieces
    assert read[-1] == b"0\r\n\r\n"


async def test_an_empty_stream_piece_does_not_end_the_body(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.streams([b"one", b"", b"two"])
    assert (await http.post("/chat/completions", json=chat(stream=True))).content == b"onetwo"


async def test_a_hold_is_silent_until_released(upstream: FakeUpstream) -> None:
    upstream.says("one ", HOLD, "two ", HOLD, "three")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        assert b"two" not in await wire.until(b'"one "')
        received = await upstream.next_received()
        assert not received.done.is_set()
        upstream.release()
        assert b"three" not in await wire.until(b'"two "')
        upstream.release()
        await wire.until(b"[DONE]")
        await upstream.until(lambda _: received.done.is_set())
    assert not received.cancelled


async def test_a_plain_answer_makes_its_pauses_first(upstream: FakeUpstream) -> None:
    upstream.says("one ", HOLD, "two")
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        await upstream.next_received()
        upstream.release()
        assert b'"one two"' in await wire.until(b"}}}")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_in_a_script_ends_the_connection(upstream: FakeUpstream, stream: bool) -> None:
    upstream.says("one ", CUT, "two ")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        said = await wire.rest()
    assert b'"finish_reason":"' not in said
    assert not said.endswith(b"}")
    assert not said.endswith(b"0\r\n\r\n")
    assert upstream.cancelled == 0


async def test_delays_keep_to_the_clock(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.says(*[part for _ in range(10) for part in (Delay(0.005), "x ")])
    clock = asyncio.get_running_loop().time
    start = clock()
    assert text_of(events_of((await http.post("/chat/completions", json=chat(stream=True))).text)) == "x " * 10
    assert clock() - start >= 0.05


async def test_a_client_that_leaves_is_counted_once_and_its_timers_end(upstream: FakeUpstream) -> None:
    upstream.says("one ", Delay(3600), "two ")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b'"one "')
    received = await upstream.next_received()
    await upstream.until(lambda u: u.cancelled == 1)
    assert received.cancelled
    assert received.done.is_set()
    assert upstream.open_connections == 0
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # the only place that shows timers
    assert not [timer for timer in scheduled if "_Connection" in repr(timer) and not timer.cancelled()]
    upstream.release()
    assert upstream.cancelled == 1


async def test_it_runs_without_tasks(upstream: FakeUpstream) -> None:
    upstream.says("one ", Delay(3600))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b'"one "')
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_a_hold_is_not_released_later(upstream: FakeUpstream) -> None:
    upstream.says(HOLD, "one")
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        await upstream.next_received()
    await upstream.until(lambda u: u.cancelled == 1)
    upstream.release()


async def test_a_client_that_stops_reading_stops_the_script(upstream: FakeUpstream) -> None:
    upstream.says(*["x" * 50_000] * 400)
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        await wire.until(b"\r\n\r\n")
        received = await upstream.next_received()
        assert not received.done.is_set()
        while not (await wire.reader.read(1_000_000)).endswith(b"0\r\n\r\n"):
            pass
        await upstream.until(lambda _: received.done.is_set())


async def test_stopping_ends_what_is_open_and_cancels_nothing() -> None:
    upstream = FakeUpstream()
    await upstream.start()
    upstream.always(Fault.silence())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        received = await upstream.next_received()
        await upstream.stop()
    assert received.done.is_set()
    assert (received.cancelled, upstream.cancelled) == (False, 0)
    await upstream.stop()


async def test_an_upstream_comes_back_on_its_port() -> None:
    upstream = FakeUpstream()
    await upstream.start()
    url, port = upstream.base_url, upstream.port
    await upstream.stop()
    async with httpx2.AsyncClient() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(url + "/models")
        await upstream.start(port=port)
        assert (await http.get(url + "/models")).status_code == 200
        await upstream.stop()


async def test_until_gives_up_and_says_what_it_saw(upstream: FakeUpstream) -> None:
    with pytest.raises(TimeoutError, match="0 received, 0 cancelled, 0 connections open"):
        await upstream.until(lambda u: u.cancelled == 1, timeout_s=0.01)


async def test_a_prefill_is_continued_only_by_vllm() -> None:
    asked = chat(
        messages=[*MESSAGES, {"role": "assistant", "content": "Hello from "}],
        continue_final_message=True,
        add_generation_prompt=False,
    )
    said = []
    for vllm in (True, False):
        async with FakeUpstream(vllm=vllm) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
            whole = (await http.post("/chat/completions", json=asked)).json()
            streamed = events_of((await http.post("/chat/completions", json=asked | {"stream": True})).text)
            said.append((whole["choices"][0]["message"]["content"], text_of(streamed)))
    assert said == [("the fake upstream.", "the fake upstream."), (TEXT, TEXT)]


async def test_a_continued_script_keeps_only_the_marks_that_lie_ahead() -> None:
    async with FakeUpstream(vllm=True) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
        upstream.says("one ", CUT, "two ", "three ")
        messages = [{"role": "assistant", "content": "one tw"}]
        reply = await http.post("/chat/completions", json=chat(messages=messages, continue_final_message=True))
    assert reply.json()["choices"][0]["message"]["content"] == "o three "


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("JSON", 'JSON {"named_metrics":{"num_requests_running":1.0,"kv_cache_usage_perc":0.5}}'),
        ("TEXT", "TEXT named_metrics.num_requests_running=1.0, named_metrics.kv_cache_usage_perc=0.5"),
        ("YAML", None),
    ],
)
async def test_vllm_reports_its_load_on_plain_answers(asked: str, given: str | None) -> None:
    async with FakeUpstream(vllm=True) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
        upstream.load = {"kv_cache_usage_perc": 0.5}
        headers = {"endpoint-load-metrics-format": asked}
        plain = await http.post("/chat/completions", json=chat(), headers=headers)
        stream = await http.post("/chat/completions", json=chat(stream=True), headers=headers)
    assert plain.headers.get("endpoint-load-metrics") == given
    assert "endpoint-load-metrics" not in stream.headers


async def test_one_shot_faults_are_met_in_order_and_then_none(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(500), Fault.rate_limited(retry_after=2))
    replies = [await http.post("/chat/completions", json=chat()) for _ in range(3)]
    assert [r.status_code for r in replies] == [500, 429, 200]
    assert replies[1].headers["retry-after"] == "2"
    assert replies[1].json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_constant_fault_lasts_until_told_otherwise(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.always(Fault.status(503))
    codes = [(await http.post("/chat/completions", json=chat())).status_code for _ in range(2)]
    codes.append((await http.get(upstream.origin + "/health")).status_code)
    upstream.always(None)
    codes.append((await http.post("/chat/completions", json=chat())).status_code)
    assert codes == [503, 503, 503, 200]


async def test_a_share_of_faults_is_spread_evenly(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.always(Fault.status(500), share=0.25)
    codes = [(await http.post("/chat/completions", json=chat())).status_code for _ in range(8)]
    assert codes == [200, 200, 200, 500] * 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.context_length(), 400, "context_length_exceeded"),
        (Fault.content_policy(), 400, "content_policy_violation"),
        (Fault.status(429, error_code="insufficient_quota"), 429, "insufficient_quota"),
        (Fault.status(500, message="m"), 500, None),
    ],
)
async def test_errors_carry_their_code(upstream: FakeUpstream, fault: Fault, status: int, code: str | None) -> None:
    upstream.then(fault)
    async with httpx2.AsyncClient(base_url=upstream.base_url) as http:
        reply = await http.post("/chat/completions", json=chat(stream=True))
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


async def test_an_error_can_have_any_body(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(502, body=b"<html>bad gateway</html>"))
    assert (await http.post("/chat/completions", json=chat())).content == b"<html>bad gateway</html>"


async def test_refuse_prefill_refuses_nothing_else(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.always(Fault.refuse_prefill())
    codes = [
        (await http.post("/chat/completions", json=chat(**more))).status_code
        for more in ({}, {"continue_final_message": False}, {"continue_final_message": True})
    ]
    assert codes == [200, 200, 400]


async def test_reset_comes_before_any_byte(upstream: FakeUpstream) -> None:
    upstream.then(Fault.reset())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        with pytest.raises(ConnectionResetError):
            await wire.rest()
    assert (await upstream.next_received()).done.is_set()
    assert upstream.cancelled == 0


async def test_silence_lasts_until_the_client_leaves(upstream: FakeUpstream) -> None:
    upstream.then(Fault.silence())
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        received = await upstream.next_received()
        upstream.release()
        assert not received.done.is_set()
    await upstream.until(lambda _: received.cancelled)


async def test_slow_head_says_nothing_before_its_time(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.slow_head(0.05))
    clock = asyncio.get_running_loop().time
    start = clock()
    assert (await http.post("/chat/completions", json=chat())).status_code == 200
    assert clock() - start >= 0.05


@pytest.mark.parametrize("stream", [False, True])
async def test_slow_first_token_gives_the_headers_at_once(upstream: FakeUpstream, stream: bool) -> None:
    upstream.then(Fault.slow_first_token(0.05))
    clock = asyncio.get_running_loop().time
    async with wire_to(upstream) as wire:
        start = clock()
        wire.ask(chat(stream=stream))
        await wire.until(b"\r\n\r\n")
        assert clock() - start < 0.05
        await wire.until(b"upstream.")
        assert clock() - start >= 0.05


@pytest.mark.parametrize(("deltas", "said"), [(0, ""), (2, "Hello from "), (99, TEXT)])
async def test_cut_after_closes_without_an_end(upstream: FakeUpstream, deltas: int, said: str) -> None:
    upstream.then(Fault.cut_after(deltas))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        raw = await wire.rest()
    assert text_of(events_of(raw.decode())) == said
    assert b'"finish_reason":"' not in raw
    assert not raw.endswith(b"0\r\n\r\n")
    assert upstream.cancelled == 0


async def test_cut_after_halves_a_plain_body(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.cut_after(2))
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat())


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_after_is_silent_and_can_be_released(upstream: FakeUpstream, stream: bool) -> None:
    upstream.then(Fault.stall_after(2))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        await wire.until(b'"from "' if stream else b"{")
        received = await upstream.next_received()
        assert not received.done.is_set()
        upstream.release()
        await wire.until(b"[DONE]" if stream else b"}}}")
        await upstream.until(lambda _: received.done.is_set())


async def test_malformed_after_spoils_one_event(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.malformed_after(2), Fault.malformed_after(2))
    reply = await http.post("/chat/completions", json=chat(stream=True))
    blocks = reply.text.split("\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(blocks[3].removeprefix("data: "))
    del blocks[3]
    assert text_of(events_of("\n\n".join(blocks))) == TEXT

    with pytest.raises(json.JSONDecodeError):
        (await http.post("/chat/completions", json=chat())).json()


async def test_broken_chunk_after_breaks_the_framing(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.broken_chunk_after(2))
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat(stream=True))


async def test_no_done_finishes_but_does_not_end(upstream: FakeUpstream) -> None:
    upstream.then(Fault.no_done())
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True, stream_options={"include_usage": True}))
        await wire.until(b'"finish_reason":"stop"')
        await wire.until(b'"usage":{')
        received = await upstream.next_received()
        assert not received.done.is_set()
    await upstream.until(lambda _: received.cancelled)


async def test_no_done_can_end_cleanly(upstream: FakeUpstream) -> None:
    upstream.then(Fault.no_done(close=True))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        raw = await wire.rest()
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"stop"' in raw
    assert raw.endswith(b"\r\n0\r\n\r\n")


async def test_short_ends_cleanly_and_says_no_finish(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.short(), Fault.short())
    reply = await http.post("/chat/completions", json=chat(stream=True))
    events = events_of(reply.text)
    assert text_of(events) == "Hello from "
    assert all(c["finish_reason"] is None for e in events for c in e["choices"])
    assert (await http.post("/chat/completions", json=chat())).content == b""


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_error_body_is_a_200(http: httpx2.AsyncClient, upstream: FakeUpstream, path: str) -> None:
    upstream.always(Fault.error_body())
    asked = {"model": "m", "messages": [], "input": "x"}
    plain = await http.post(path, json=asked)
    stream = await http.post(path, json=asked | {"stream": True})
    assert (plain.status_code, stream.status_code) == (200, 200)
    assert "error" in plain.json()
    (event,) = events_of(stream.text)
    assert "error" in event or event["type"] == "error"


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_error_event_after_some_deltas(http: httpx2.AsyncClient, upstream: FakeUpstream, path: str) -> None:
    upstream.then(Fault.error_event_after(1))
    reply = await http.post(path, json={"model": "m", "messages": [], "input": "x", "stream": True})
    *said, last = events_of(reply.text)
    assert "error" in last or last["type"] == "error"
    assert json.dumps(said).count("Hello ") == 1
    assert "from" not in json.dumps(said)


async def test_header_drip_never_ends_the_head(upstream: FakeUpstream) -> None:
    upstream.then(Fault.header_drip(0.001))
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        assert b"\r\n\r\n" not in await wire.until(b"x-drip-5: drip\r\n")
    await upstream.until(lambda u: u.cancelled == 1)


@pytest.mark.parametrize(("stream", "filler"), [(True, b": keep-alive\n\n"), (False, b" ")])
async def test_comments_forever_say_nothing(upstream: FakeUpstream, stream: bool, filler: bytes) -> None:
    upstream.then(Fault.comments_forever(0.001))
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        await wire.until(b"\r\n\r\n")
        for _ in range(4):
            assert await wire.until(filler + b"\r\n") == b"%x\r\n%b\r\n" % (len(filler), filler)
    await upstream.until(lambda u: u.cancelled == 1)


async def test_garbage_is_no_http(http: httpx2.AsyncClient, upstream: FakeUpstream) -> None:
    upstream.then(Fault.garbage())
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/chat/completions", json=chat())


@pytest.mark.parametrize(
    "text",
    [
        "status:503",
        "rate_limited",
        "rate_limited:2",
        "reset",
        "silence",
        "slow_head:0.5",
        "slow_first_token:20",
        "cut_after:3",
        "stall_after:0",
        "malformed_after:1",
        "broken_chunk_after:1",
        "no_done",
        "no_done_close",
        "short",
        "error_body",
        "error_event_after:2",
        "context_length",
        "content_policy",
        "refuse_prefill",
        "header_drip:0.1",
        "comments_forever:1",
        "garbage",
    ],
)
def test_a_fault_is_read_by_the_name_it_has(text: str) -> None:
    assert parse_fault(text).name == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cut_aftr:3", "did you mean 'cut_after'"),
        ("xyzzy", "the faults are broken_chunk_after, "),
        ("cut_after", "needs a number, as in 'cut_after:3'"),
        ("cut_after:soon", "'soon' is none"),
        ("silence:3", "takes no number"),
    ],
)
def test_a_fault_that_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_fault(text)


async def test_many_streams_at_once_all_arrive(upstream: FakeUpstream) -> None:
    upstream.says(*[part for _ in range(5) for part in (Delay(0.001), "x ")])

    async def one() -> bytes:
        async with wire_to(upstream) as wire:
            wire.ask(chat(stream=True))
            return await wire.until(b"[DONE]")

    assert all(raw.count(b'"x "') == 5 for raw in await asyncio.gather(*[one() for _ in range(200)]))


async def test_serve_runs_until_cancelled(unused_tcp_port: int) -> None:
    serving = asyncio.gather(serve("127.0.0.1", unused_tcp_port, tokens=3, fault=Fault.status(500), fault_rate=0.5))
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=5)) as http:
        url = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
        codes = [(await http.post(url, json=chat())).status_code for _ in range(4)]
    assert codes == [200, 500, 200, 500]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


def test_received_is_compared_by_identity() -> None:
    one, two = (Received("GET", "/", "", [], 1, 1) for _ in range(2))
    assert one != two
