"""The receiver within a consumer, over a real socket, stream and store."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx2
import orjson
import pytest
from fixtures import traces
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry

from gateway.config.loading import parse
from gateway.consumer.serve import opened
from gateway.features.traces.work import MOST_BYTES, OneRequestProtocol, Refused, serve_traces, unpacked
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

TOKEN = "token-of-the-collector"
JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/x-protobuf"}


@dataclass(frozen=True)
class Receiver:
    """A consumer with a receiver, and a client of it."""

    client: httpx2.AsyncClient
    sql: Callable[[str], list[tuple[Any, ...]]]

    async def post(self, body: bytes, **headers: str) -> httpx2.Response:
        sent = {"authorization": f"Bearer {TOKEN}", **JSON, **{n.replace("_", "-"): v for n, v in headers.items()}}
        return await self.client.post("/v1/traces", content=body, headers=sent)

    async def until_stored(self, n: int) -> None:
        async with asyncio.timeout(60):
            while self.sql("SELECT count(*) FROM exchanges")[0][0] < n:
                await asyncio.sleep(0.01)


def config(room: Any, port: int) -> str:
    return (
        'open: true\nupstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}\n'
        "models: {chat: {targets: [{upstream: local, model: small}]}}\nscorers: {length: {}, valid_json: {}}\n"
        f'ingest: {{bind: "127.0.0.1:{port}", sha256: {sha256(TOKEN.encode()).hexdigest()}}}\n'
        f'stream: {{url: "{room.stream_url}", name: "{room.stream_name}"}}\n'
    )


@contextlib.asynccontextmanager
async def consuming(room: Any) -> AsyncIterator[Receiver]:
    """`gateway evaluate` as it is put together, with the receiver."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    registry, url = CollectorRegistry(), f"http://127.0.0.1:{port}"
    async with (
        opened(parse(config(room, port)), room.store_url, room.stream_url, registry) as consumer,
        asyncio.TaskGroup() as tasks,
        httpx2.AsyncClient(base_url=url) as client,
    ):
        tasks.create_task(consumer.run())
        async with asyncio.timeout(60):
            while not await _answers(client):
                await asyncio.sleep(0.01)
        yield Receiver(client, room.sql)
        consumer.stop()


async def _answers(client: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        await client.get("/")
        return True
    return False


@pytest.fixture
async def receiver(room: Any) -> AsyncIterator[Receiver]:
    """A running receiver."""
    async with consuming(room) as found:
        yield found


async def test_calls_are_stored_and_scored_once_however_often_they_are_sent(receiver: Receiver) -> None:
    document = traces.chats(3)
    for body, headers in (
        (orjson.dumps(document), {}), (gzip.compress(orjson.dumps(document)), {"content_encoding": "gzip"}),
        (traces.encoded(document), {"content_type": PROTOBUF["content-type"]}),
    ):  # fmt: skip
        answer = await receiver.post(body, **headers)
        assert answer.status_code == 200, answer.text
    assert (answer.content, answer.headers["content-type"]) == (b"", PROTOBUF["content-type"])
    await receiver.until_stored(3)
    rows = receiver.sql("SELECT role, pi, alias, run_source, text FROM exchanges")
    assert rows == [("imported", None, "gpt-x", "trace", "Paris")] * 3
    scored = receiver.sql("SELECT scorer, status, count(*), max(pi) FROM scores GROUP BY scorer, status")
    assert ("length", "scored", 3, None) in scored
    assert receiver.sql("SELECT count(*) FROM score_cells") == [(0,)]


async def test_one_of_nested_spans_in_several_requests_is_taken(receiver: Receiver) -> None:
    call = traces.chat_attributes()
    inner, outer = traces.span("inner", parent="outer", attributes=call), traces.span("outer", attributes=call)
    late = traces.span("late", parent="outer", start=traces.START + 30, attributes=call)
    for each in (inner, outer, late, outer):
        assert (await receiver.post(orjson.dumps(traces.export(each)))).status_code == 200
    await receiver.until_stored(2)
    assert (await receiver.post(orjson.dumps(traces.chats(1)))).status_code == 200
    await receiver.until_stored(3)
    groups = receiver.sql("SELECT count(*), count(distinct cluster) FROM exchanges WHERE run IS NOT NULL")
    assert groups == [(3, 2)]


async def test_calls_without_content_are_a_partial_success(receiver: Receiver) -> None:
    bare = traces.span("bare", attributes=traces.chat_attributes(**{"gen_ai.input.messages": "[]"}))
    document = traces.export(bare, traces.span("root"))
    answer = (await receiver.post(orjson.dumps(document))).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in answer["partialSuccess"]["errorMessage"]
    encoded = await receiver.post(traces.encoded(document), content_type=PROTOBUF["content-type"])
    message = ExportTraceServiceResponse.FromString(encoded.content)
    assert message.partial_success.rejected_spans == 1
    assert message.partial_success.error_message == answer["partialSuccess"]["errorMessage"]


HUGE = "9" * 400
UNREADABLE: dict[str, dict[str, Any]] = {
    "a start of 400 digits": {"startTimeUnixNano": HUGE},
    "a negative end": {"endTimeUnixNano": "-1"},
    "a start in 1970": {"startTimeUnixNano": "0"},
    "a start of 65 bits": {"startTimeUnixNano": str(1 << 64)},
    "an event of 400 digits": {"events": [{"name": "e", "timeUnixNano": HUGE}]},
    "an attribute of 400 digits": {"attributes": [{"key": "k", "value": {"intValue": HUGE}}]},
    "2^70 tokens": {"attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": str(1 << 70)}}]},
    "an infinite integer": {"attributes": [{"key": "k", "value": {"intValue": 1e300}}]},
}


@pytest.mark.parametrize("broken", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_a_span_with_numbers_out_of_range_costs_itself_alone(receiver: Receiver, broken: dict[str, Any]) -> None:
    """OTLP's partial success: the call in the same request is taken."""
    good, bad = (traces.span(name, name, attributes=traces.chat_attributes()) for name in ("good", "bad"))
    attributes = [*bad["attributes"], *broken.get("attributes", [])]
    document = traces.export({**bad, **broken, "attributes": attributes}, good)
    answer = await receiver.post(orjson.dumps(document))
    assert answer.status_code == 200, answer.text
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "expected" in answer.json()["partialSuccess"]["errorMessage"]
    await receiver.until_stored(1)
    assert receiver.sql("SELECT run FROM exchanges") == [(good["traceId"],)]


@pytest.mark.parametrize(
    "more",
    [
        {"gen_ai.usage.input_tokens": 1e300}, {"gen_ai.usage.output_tokens": float(1 << 70)},
        {"gen_ai.prompt.².role": "user", f"gen_ai.prompt.{'9' * 5000}.role": "user"},
        {"gen_ai.prompt.0." + "a." * 3000 + "b": "x", "gen_ai.completion.0." + "a." * 3000 + "b": "x"},
        {"llm.tools.0.tool.json_schema" + ".0" * 3000: "x"},
    ],
    ids=["tokens", "answer", "places", "depth", "tools"],
)  # fmt: skip
async def test_odd_attributes_never_refuse_a_call(receiver: Receiver, more: dict[str, Any]) -> None:
    for kind in (traces.chat_attributes(), traces.numbered_attributes(), traces.openinference_attributes()):
        answer = await receiver.post(orjson.dumps(traces.export(traces.span("call", attributes={**kind, **more}))))
        assert (answer.status_code, answer.json()) == (200, {}), answer.text
    encoded = traces.encoded(traces.export(traces.span("c", "t3", attributes={**traces.chat_attributes(), **more})))
    assert (await receiver.post(encoded, content_type=PROTOBUF["content-type"])).content == b""
    await receiver.until_stored(2)


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{}", {"authorization": ""}, 401, "Authorization: Bearer TOKEN"),
        (b"{}", {"authorization": "Bearer other"}, 401, "Authorization: Bearer TOKEN"),
        (b"{}", {"content_type": "text/plain"}, 415, "expected application/x-protobuf or application/json"),
        (b"{}", {"content_encoding": "br"}, 415, "expected gzip"),
        (b"{}", {}, 400, "no member resourceSpans"),
        (b"{broken", {}, 400, "not JSON"),
        (b'{"resourceSpans": 3}', {}, 400, "expected a list"),
        (b"\xff\xff", PROTOBUF, 400, "not an ExportTraceServiceRequest"),
        (b"not gzip", {"content_encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b"{}")[:-5], {"content_encoding": "gzip"}, 400, "ends too early"),
        (b" " * (MOST_BYTES + 1), {}, 413, "more than 4 MiB"),
        (gzip.compress(b" " * (MOST_BYTES + 1)), {"content_encoding": "gzip"}, 413, "more than 4 MiB"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, int | str) else "",
)  # fmt: skip
async def test_bad_requests_are_refused_with_the_reason(
    refusing: Receiver, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await refusing.post(body, **{name.replace("-", "_"): value for name, value in headers.items()})
    assert answer.status_code == status
    assert said.encode() in answer.content
    assert TOKEN.encode() not in answer.content


@pytest.fixture
async def refusing(room: Any) -> AsyncIterator[Receiver]:
    """The receiver's own application, without a consumer around it."""
    from gateway.features.traces.work import TraceReceiver

    corridor = Corridor(room.stream_url, room.stream_name)
    settings = parse(config(room, 4318)).ingest
    assert settings is not None
    transport = httpx2.ASGITransport(app=TraceReceiver(settings, corridor).app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://receiver") as client:
        yield Receiver(client, room.sql)
    await corridor.aclose()


async def test_other_paths_and_methods_are_not_there(refusing: Receiver) -> None:
    assert (await refusing.client.get("/v1/traces")).status_code == 405
    assert (await refusing.client.post("/v1/metrics")).status_code == 404


async def test_while_too_much_waits_traces_are_to_be_sent_later(refusing: Receiver, room: Any, exchange: Any) -> None:
    """Nobody reads: live calls come first."""
    await room.corridor.join()
    for _ in range(11):
        await room.corridor.append([exchange().to_fields() for _ in range(1000)])
    answer = await refusing.post(orjson.dumps(traces.chats(1)))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert b"11000 calls wait" in answer.content


class Hurried(OneRequestProtocol):
    """Waits for the head of a request for a moment only."""

    head_s = 0.05


async def test_a_silent_connection_is_ended_and_one_request_is_answered(room: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = parse(config(room, port)).ingest
    assert settings is not None
    async with asyncio.timeout(60), Tasks() as tasks:
        serving = tasks.start(serve_traces(settings, room.corridor, Hurried), "receiver")
        reader, writer = await _connected(port)
        assert await reader.read() == b""
        writer.close()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post("/v1/traces", content=b"{}", headers=JSON)
        assert (answer.status_code, answer.headers["connection"]) == (401, "close")
        serving.cancel()
        await asyncio.wait([serving])


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.01)


def test_a_body_is_unpacked_up_to_its_bound() -> None:
    assert unpacked(gzip.compress(b"x" * MOST_BYTES)) == b"x" * MOST_BYTES
    with pytest.raises(Refused):
        unpacked(gzip.compress(b"x" * 8 * MOST_BYTES))
