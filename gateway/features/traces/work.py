"""`POST /v1/traces`: a receiver of OTLP within the consumer. Calls go to the stream, and are scored like others.

A request is answered once its calls are in the stream. The spans around a call are remembered for ten minutes on the
stream server, for all consumers: of spans around one call, only one is taken, whichever of them comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import zlib
from collections.abc import Coroutine, Generator, Iterator
from hashlib import sha256
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.config.config import IngestConfig
from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.features.task import TaskContext
from gateway.features.traces.formats import otlp
from gateway.features.traces.formats.genai import record_of
from gateway.features.traces.model import InvalidTrace, Nesting, SpanRecord, check_time, exchange_of, without_content
from gateway.features.traces.nesting import SeenSpans
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

MOST_BYTES = 4 << 20
"""Size of a request, unpacked."""
MOST_WAITING = 10_000
"""Entries of the stream that wait to be scored, above which no more traces are taken: live calls come first."""
JSON, PROTOBUF = "application/json", "application/x-protobuf"
_BODY_S = 30.0
_CONNECTIONS = 64
_AGAIN = Backoff(first_s=1.0, most_s=30.0)  # to bind the address
log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not taken. status: HTTP's."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


class TraceReceiver:
    """Answers requests, and appends the calls in them to the stream."""

    def __init__(self, config: IngestConfig, corridor: Corridor) -> None:
        self._digest = bytes.fromhex(config.sha256)
        self._corridor = corridor
        self._seen = SeenSpans(corridor.state)
        self.app = Starlette(routes=[Route("/v1/traces", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        encoded = request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON
        try:
            self._check(request)
            records, unread = _records(await _body(request), encoded=encoded)
            left_out = [*unread, *(f"{each.place} {each.left_out}" for each in _left_out(records))]
            await self._append(records)
        except Refused as error:
            return _response(error.status, _status(str(error), encoded=encoded), error.headers, encoded=encoded)
        reason = left_out[0] if left_out else ""
        return _response(200, _accepted(len(left_out), reason, encoded=encoded), encoded=encoded)

    def _check(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._digest):
            raise Refused(
                401,
                "no token, or another one: send `Authorization: Bearer TOKEN` whose SHA-256 is ingest.sha256 "
                '(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20TOKEN")',
                www_authenticate="Bearer",
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, PROTOBUF):
            raise Refused(415, f"content-type {kind[:100]!r}; expected {PROTOBUF} or {JSON}, as OTLP/HTTP has them")

    async def _append(self, records: list[SpanRecord]) -> None:
        """Appends the calls that are not taken yet. Raises Refused while the stream server cannot take them."""
        if not any(record.call for record in records):
            return
        try:
            if (waiting := (await self._corridor.lag()).waiting) > MOST_WAITING:
                raise Refused(503, f"{waiting} calls wait to be scored; send it again later", retry_after="10")
            taken, marks = await self._seen.choose(records)
            if taken:
                await self._corridor.append([exchange_of(call).to_fields() for call in taken])
            await self._seen.remember(marks)
        except StreamDown as error:
            log.warning("traces are refused until the stream server answers: %s", error)
            raise Refused(503, "the stream server does not answer; send it again later", retry_after="10") from error


async def _body(request: Request) -> bytes:
    """The body, unpacked. Raises Refused."""
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", ""):
        raise Refused(415, f"content-encoding {packing[:50]!r}; expected gzip, or none")
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > MOST_BYTES:
                    raise _too_large()
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {_BODY_S:g} s") from None
    body = b"".join(parts)
    return unpacked(body) if packing == "gzip" else body


def unpacked(body: bytes) -> bytes:
    """A gzip body. Raises Refused for one that is broken, or larger than MOST_BYTES when unpacked."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(body, MOST_BYTES + 1)
    except zlib.error as error:
        raise Refused(400, f"the body is not gzip, as its content-encoding says: {error}") from None
    if len(data) > MOST_BYTES:
        raise _too_large()
    if not unpacker.eof:
        raise Refused(400, "the body is gzip that ends too early")
    return data


def _too_large() -> Refused:
    return Refused(413, f"more than {MOST_BYTES >> 20} MiB, unpacked; lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE")


def _records(body: bytes, *, encoded: bool) -> tuple[list[SpanRecord], list[str]]:
    """(the spans, the reasons of those that cannot be read). Raises Refused for a body that cannot be read."""
    records, unread = list[SpanRecord](), list[InvalidTrace]()
    try:
        read = otlp.spans_in_protobuf if encoded else _spans_in_json
        for span in read(body, unread.append):
            record = record_of(span, "body")
            try:
                if record.call is not None:
                    check_time(record.call, record.place)
            except InvalidTrace as error:
                unread.append(error)
            else:
                records.append(record)
    except InvalidTrace as error:
        raise Refused(400, str(error)) from None
    return records, [str(error) for error in unread]


def _spans_in_json(body: bytes, refuse: otlp.Refuse) -> Iterator[otlp.Span]:
    return otlp.spans_in_json(_document(body), refuse)


def _left_out(records: list[SpanRecord]) -> list[SpanRecord]:
    nesting = Nesting()
    for record in records:
        nesting.add(record)
    return without_content(records, nesting)


def _document(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidTrace(f"the body is not JSON: {error.msg}, in line {error.lineno}, column {error.colno}") from None
    if not isinstance(document, dict) or otlp.MEMBER not in document:
        raise InvalidTrace(f"the body has no member {otlp.MEMBER}, which an export request of OTLP/JSON has")
    return document


def _response(status: int, body: bytes, headers: dict[str, str] | None = None, *, encoded: bool) -> Response:
    return Response(body, status, headers, media_type=PROTOBUF if encoded else JSON)


def _accepted(left_out: int, reason: str, *, encoded: bool) -> bytes:
    """An ExportTraceServiceResponse."""
    if not left_out:
        return b"" if encoded else b"{}"
    if not encoded:
        return orjson.dumps({"partialSuccess": {"rejectedSpans": str(left_out), "errorMessage": reason}})
    inner = b"\x08" + _varint(left_out) + b"\x12" + _text(reason)
    return b"\x0a" + _varint(len(inner)) + inner


def _status(message: str, *, encoded: bool) -> bytes:
    """A google.rpc.Status, whose message is its second field."""
    return b"\x12" + _text(message) if encoded else orjson.dumps({"message": message})


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data


def _varint(n: int) -> bytes:
    found = bytearray()
    while n > 0x7F:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes((*found, n))


class OneRequestProtocol(H11Protocol):
    """A connection that carries one request, whose head must arrive in time; its body has a deadline in _body."""

    head_s = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(self.head_s, self._end_silent)

    def _end_silent(self) -> None:
        begun: Any = self.cycle  # None, whatever its annotation says, until a head has come
        if begun is None:
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server within a program that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def receive_traces(of: TaskContext) -> Coroutine[Any, Any, None] | None:
    """The receiver; None if the config has none."""
    return None if of.config.ingest is None else serve_traces(of.config.ingest, of.corridor)


async def serve_traces(
    config: IngestConfig, corridor: Corridor, protocol: type[OneRequestProtocol] = OneRequestProtocol
) -> None:
    """Receives traces until it is cancelled."""
    settings = uvicorn.Config(
        TraceReceiver(config, corridor).app,
        http=protocol,
        headers=[("connection", "close")],
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    server = _Server(settings)
    with contextlib.closing(await _bound(config.bind)) as listener:
        log.info("traces are received at http://%s:%d/v1/traces", *listener.getsockname()[:2])
        async with Tasks() as tasks:
            serving = tasks.start(server.serve(sockets=[listener]), "receiver of traces")
            try:
                await asyncio.shield(serving)
            finally:  # requests in progress are answered
                server.should_exit = True
                await serving


async def _bound(bind: str) -> socket.socket:
    """A socket that the workers of one consumer may share. Retried: the address may be another program's for now."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    failures = 0
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, int(port)), family=family, reuse_port=True)
        except OSError as error:
            failures += 1
            log.error("ingest.bind: %s cannot be bound: %s; retrying", bind, error.strerror)
            await asyncio.sleep(_AGAIN.wait_s(failures))
