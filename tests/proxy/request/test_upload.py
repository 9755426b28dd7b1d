"""An upload is forwarded while it arrives: unchanged but for its model, once per attempt, and never incomplete."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, Overloaded, TooLarge
from gateway.fake import FakeUpstream, Fault
from gateway.proxy.relay.deadlines import Deadlines, Ticker
from gateway.proxy.request.upload import Upload, begin_upload
from gateway.proxy.types import ClientGone

BOUNDARY = b"b0undary"
TYPE = {b"content-type": b"multipart/form-data; boundary=" + BOUNDARY}
MB = 1_000_000
PATH = "/audio/transcriptions"
Part = tuple[str, bytes, str | None]  # name, value, file name


def form(*parts: Part) -> bytes:
    out = []
    for name, value, filename in parts:
        of_file = f'; filename="{filename}"\r\nContent-Type: audio/wav' if filename else ""
        head = f'Content-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode()
        out.append(b"--" + BOUNDARY + b"\r\n" + head + value + b"\r\n")
    return b"".join([*out, b"--" + BOUNDARY + b"--\r\n"])


def model(name: str = "chat") -> Part:
    return "model", name.encode(), None


def file(data: bytes) -> Part:
    return "file", data, "a.wav"


LANGUAGE: Part = ("language", "fr é".encode(), None)


class Client:
    """An ASGI receive. Gives the body in these pieces; `last`: what comes after them."""

    def __init__(self, *pieces: bytes, last: dict[str, Any] | None = None) -> None:
        end = len(pieces) - 1 if last is None else None
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": p, "more_body": at != end} for at, p in enumerate(pieces)
        ]
        self.messages += [last] if last else []
        self.on_receive: Callable[[], None] = lambda: None

    async def __call__(self) -> Any:
        self.on_receive()
        return self.messages.pop(0)


LEFT = {"type": "http.disconnect"}


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, *(p for p in places if p < len(body)), len(body)})
    return [body[a:b] for a, b in pairwise(at)]


@contextlib.asynccontextmanager
async def begun(client: Any, length: int | None = None, limit: int = 100 * MB) -> AsyncIterator[Upload]:
    headers = TYPE if length is None else {**TYPE, b"content-length": b"%d" % length}
    upload = await begin_upload(client, headers, limit)
    try:
        yield upload
    finally:
        upload.close()


async def all_of(upload: Upload, name: str = "whisper") -> bytes:
    return b"".join([piece async for piece in upload.with_model(name)])


def a_form(*fields: tuple[str, str], quote: str = '"') -> bytes:
    parts = [f"--b0undary\r\nContent-Disposition: form-data; name={quote}{n}{quote}\r\n\r\n{v}\r\n" for n, v in fields]
    return "".join([*parts, "--b0undary--\r\n"]).encode()


FORMS: list[tuple[bytes, str, bool]] = [
    (a_form(("file", "RIFF"), ("model", "whisper")), "whisper", False),
    (a_form(("model", " whisper ")), "whisper", False),
    (a_form(("model", "whisper"), quote=""), "whisper", False),
    (a_form(("stream", "true"), ("model", "org/modèle")), "org/modèle", True),
    (a_form(("model", "org/modèle"), ("stream", "true")), "org/modèle", True),
    (a_form(("stream", "false"), ("model", "w")), "w", False),
    (a_form(("model", "w")).replace(b"Content-Disposition", b"content-disposition"), "w", False),
    (a_form(("model", "w")).replace(b"\r\n\r\nw", b"\r\nContent-Type: text/plain\r\n\r\nw"), "w", False),
    (a_form(("x", "1"), ("submodel", "no"), ("model", "w")), "w", False),
]


@pytest.mark.parametrize(("body", "named", "stream"), FORMS, ids=[str(at) for at in range(len(FORMS))])
async def test_a_form_names_its_model_in_a_field(body: bytes, named: str, stream: bool) -> None:
    async with begun(Client(body)) as upload:
        assert (upload.alias, upload.stream) == (named, stream)


@pytest.mark.parametrize("body", [b"--b0undary--", a_form(("model", " ")), form(file(b"x"))])
async def test_a_form_without_a_model_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"no field `model`.*`defaults` in gateway\.yaml") as refused:
        await begin_upload(Client(body), TYPE, 1000)
    assert refused.value.param == "model"


async def test_no_more_is_read_than_the_model_needs() -> None:
    body = form(model(), file(b"x" * 100), LANGUAGE)
    client = Client(*cut(body, list(range(0, len(body), 10))))
    async with begun(client) as upload:
        assert not upload.complete
        assert len(b"".join(m["body"] for m in client.messages)) > 150


async def test_a_second_model_is_refused_wherever_it_stands() -> None:
    """An upstream may use the last one, which was not checked against the key's models."""
    other = model("dear")
    for parts in ([model(), other], [model(), file(b"x" * 50), other], [other, model(), file(b"x")]):
        body = form(*parts)
        for places in ([], list(range(0, len(body), 7))):
            with pytest.raises(BadRequest, match="more than one"):
                async with begun(Client(*cut(body, places))) as upload:
                    await all_of(upload)


VALUES = st.binary(max_size=80).filter(lambda v: b"--" + BOUNDARY not in v)
PARTS = st.lists(
    st.tuples(st.sampled_from(["file", "stream", "modelx"]), VALUES, st.sampled_from([None, "a.wav"])), max_size=3
)


@given(PARTS, PARTS, st.lists(st.integers(1, 600), max_size=12), st.sampled_from(["chat", "w", "a-longer-name"]))
async def test_only_the_model_changes_in_any_split_and_any_order(
    before: list[Part], after: list[Part], places: list[int], name: str
) -> None:
    body = form(*before, model(), *after)
    async with begun(Client(*cut(body, places)), len(body)) as upload:
        expected = form(*before, model(name), *after)
        for _ in range(3):
            assert upload.with_model(name).length == len(expected)
            assert await all_of(upload, name) == expected


async def test_an_upload_with_the_right_model_is_unchanged() -> None:
    body = form(model(" chat\t"), file(b"x"))
    async with begun(Client(body)) as upload:
        assert await all_of(upload, "chat") == body


async def one_more(reading: AsyncIterator[bytes]) -> bytes:
    return await anext(reading, b"")


async def test_an_attempt_that_is_given_up_loses_nothing() -> None:
    """Given up at every place, in memory and on disk, also while the client is waited for."""
    body = form(model(), file(os.urandom(3 * MB)), LANGUAGE)
    client = Client(*cut(body, list(range(0, len(body), 100_000))))
    async with begun(client) as upload:
        for pieces in range(1, 40):
            reading = aiter(upload.with_model("whisper"))
            for _ in range(pieces):
                with contextlib.suppress(StopAsyncIteration):
                    await anext(reading)
            given_up = asyncio.get_running_loop().create_task(one_more(reading))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
        assert await all_of(upload) == body.replace(b"\r\n\r\nchat\r\n", b"\r\n\r\nwhisper\r\n", 1)


def deleted_files() -> list[int]:
    """Sizes of the open files that have no name, as temporary files have none."""
    links = {fd: os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.exists() or fd.is_symlink()}
    return [os.stat(fd).st_size for fd, link in links.items() if link.endswith(" (deleted)") and "memfd" not in link]


async def test_a_large_upload_is_spooled_to_a_file() -> None:
    data = os.urandom(5 * MB)
    body = form(file(data), model())
    async with begun(Client(*cut(body, list(range(0, len(body), 65_536))))) as upload:
        assert max(deleted_files(), default=0) > 5 * MB - 65_536
        assert await all_of(upload, "chat") == body
    async with asyncio.timeout(30):
        while max(deleted_files(), default=0) >= MB:  # a thread closes the file
            await asyncio.sleep(0.01)
    small = form(file(data[:1000]), model())
    async with begun(Client(small)) as upload:
        assert max(deleted_files(), default=0) < MB, "the files of pytest itself are small"


async def test_every_attempt_reports_a_full_disk() -> None:
    body = form(model(), file(bytes(3 * MB)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with begun(Client(*cut(body, list(range(0, len(body), MB))))) as upload:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MB, hard))
        try:
            for _ in range(2):
                with pytest.raises(Overloaded, match="the upload could not be kept: File too large"):
                    await all_of(upload)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_client_that_leaves_ends_every_attempt() -> None:
    client = Client(form(model(), file(b"half"))[:-30], last=LEFT)
    async with begun(client) as upload:
        for _ in range(2):
            with pytest.raises(ClientGone):
                await all_of(upload)
    with pytest.raises(ClientGone):
        await begin_upload(Client(b"--b0undary\r\n", last=LEFT), TYPE, 100)


async def test_the_size_limit_holds_before_and_after_an_attempt() -> None:
    with pytest.raises(TooLarge, match="max_body_mb"):
        await begin_upload(Client(), {**TYPE, b"content-length": b"1001"}, 1000)
    with pytest.raises(TooLarge):
        await begin_upload(Client(form(file(bytes(2000)))), TYPE, 1000)
    async with begun(Client(form(model(), file(b""))[:-20], bytes(2000)), limit=1000) as upload:
        for _ in range(2):
            with pytest.raises(TooLarge):
                await all_of(upload)


async def test_the_upstream_deadline_pauses_while_the_client_is_slow() -> None:
    body = form(model(), file(b"x" * 1000))
    client = Client(*cut(body, [300, 600, 900]))
    async with begun(client) as upload:
        with Deadlines(1000.0, Ticker()) as limit, upload.pausing(limit):
            waiting: list[float] = []
            client.on_receive = lambda: waiting.append(limit.at)
            whole = limit.at
            limit.start_phase("answer", 5.0)
            async for _ in upload.with_model("whisper"):
                assert limit.at < whole - 900
            assert waiting == [whole] * 3


async def test_the_end_of_the_form_is_reported_once() -> None:
    body = form(model(), file(b"x" * 1000))
    calls: list[int] = []
    async with begun(Client(*cut(body, [300]))) as upload:
        upload.when_complete(lambda: calls.append(1))
        assert not calls
        await all_of(upload)
        await all_of(upload)
    assert calls == [1]


class Seen:
    """An upstream that shows what has arrived, and reads and answers on command."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()  # the connection is over
        self.reads = asyncio.Event()
        self.reads.set()
        self.base_url = ""
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connected.set()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.heard += data
                await self.reads.wait()
        self.ended.set()
        writer.close()

    def says(self, status: str, body: bytes = b"{}") -> None:
        assert self.writer is not None
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    @property
    def head(self) -> bytes:
        return bytes(self.heard).partition(b"\r\n\r\n")[0]


@pytest.fixture
async def seen() -> AsyncIterator[Seen]:
    """A server that records what arrives, as it arrives."""
    seen = Seen()
    server = await asyncio.start_server(seen.serve, "127.0.0.1", 0)
    seen.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield seen
    server.close()
    seen.reads.set()
    if seen.writer is not None:
        seen.writer.close()


class Wire:
    """A client that sends its request by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunked: bool) -> None:
        self.reader, self.writer, self.chunked = reader, writer, chunked

    async def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def end(self) -> bytes:
        """The answer."""
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(60):
            return await self.reader.read()

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def sending(gateway: Any, length: int | None, path: str = PATH) -> AsyncIterator[Wire]:
    """length: None sends in chunks."""
    host, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    head = f"POST /v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\nconnection: close\r\n{framing}\r\n"
    writer.write(head.encode() + b"content-type: multipart/form-data; boundary=%b\r\n\r\n" % BOUNDARY)
    try:
        yield Wire(reader, writer, length is None)
    finally:
        writer.close()


async def shows(seen: Seen, wanted: bytes) -> None:
    async with asyncio.timeout(60):
        while wanted not in seen.heard:
            await asyncio.sleep(0.005)


def digest(reply: bytes) -> str:
    found = re.search(rb'"sha256": ?"(\w+)"', reply)
    return found[1].decode() if found else reply[:500].decode("latin-1")


ORDERS: dict[str, Callable[[bytes], bytes]] = {
    "first": lambda data: form(model(), file(data), LANGUAGE),
    "last": lambda data: form(file(data), LANGUAGE, model()),
    "between": lambda data: form(LANGUAGE, file(data[:MB]), model(), file(data)),
}


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("order", ["first", "last"])
async def test_20_mb_arrive_whole(gateway: Any, upstream: FakeUpstream, order: str, framing: str) -> None:
    data = os.urandom(20 * MB)
    body = ORDERS[order](data)
    async with sending(gateway, len(body) if framing == "length" else None) as wire:
        await wire.send(body)
        assert digest(await wire.end()) == sha256(data).hexdigest()
    assert upstream.calls[0].body == body.replace(b"\r\n\r\nchat\r\n", b"\r\n\r\nmodel-u0\r\n")
    if framing == "length":
        assert upstream.calls[0].header("content-length") == str(len(body) + len("model-u0") - len("chat"))


async def test_a_model_between_two_files_is_found(gateway: Any, upstream: FakeUpstream) -> None:
    body = ORDERS["between"](os.urandom(3 * MB))
    async with sending(gateway, len(body)) as wire:
        await wire.send(body)
        assert b" 200 " in await wire.end()
    assert upstream.calls[0].body == body.replace(b"\r\n\r\nchat\r\n", b"\r\n\r\nmodel-u0\r\n")


@pytest.mark.parametrize("wire_kind", ["http1", "httpx"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_upload_reaches_the_upstream_while_it_arrives(
    start: Any, configured: Any, seen: Seen, framing: str, wire_kind: str
) -> None:
    config = configured(seen)
    config["upstreams"]["u0"]["transport"] = wire_kind
    gateway = await start(config)
    body = form(model(), file(b"begins here" + bytes(100_000) + b"ends here"))
    async with sending(gateway, len(body) if framing == "length" else None) as wire:
        await wire.send(body[:50_000])
        await shows(seen, b"begins here")
        assert b"model-u0" in seen.heard
        assert b"ends here" not in seen.heard
        await wire.send(body[50_000:])
        await shows(seen, b"ends here\r\n--" + BOUNDARY + b"--\r\n")
        seen.says("200 OK", b'{"text":"hi"}')
        assert b'{"text":"hi"}' in await wire.end()
    head = seen.head.lower()
    if framing == "length":
        assert b"content-length: %d" % (len(body) + 4) in head
        assert b"transfer-encoding" not in head
    else:
        assert b"transfer-encoding: chunked" in head


async def test_a_fallback_gets_the_whole_of_what_had_half_come(
    start: Any, configured: Any, seen: Seen, second: FakeUpstream
) -> None:
    """The first refuses in the middle; the second has the form from its beginning, and the rest as it comes."""
    gateway = await start(configured(seen, second, chat={"retries": {"attempts": 1}}))
    data = os.urandom(4 * MB)
    body = form(model(), file(data), LANGUAGE)
    for length in (len(body), None):
        seen.connected.clear()
        opened = second.connections_opened
        async with sending(gateway, length) as wire:
            await wire.send(body[: 2 * MB])
            await seen.connected.wait()
            seen.says("503 Service Unavailable")
            if not opened:
                await second.until(lambda u: u.connections_opened > 0)
            await wire.send(body[2 * MB :])
            reply = await wire.end()
        assert digest(reply) == sha256(data).hexdigest()
        assert b"x-gateway-attempts: 2" in reply
        assert b"model-u1" in second.calls[-1].body


async def test_a_retry_gets_the_whole(gateway: Any, upstream: FakeUpstream) -> None:
    data = os.urandom(3 * MB)
    for fault in (Fault.status(503), Fault.reset()):
        upstream.then(fault)
        body = form(file(data), model())
        async with sending(gateway, len(body)) as wire:
            await wire.send(body)
            reply = await wire.end()
        assert digest(reply) == sha256(data).hexdigest()
        assert upstream.calls[-1].body == upstream.calls[-2].body


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("wire_kind", ["http1", "httpx"])
async def test_an_aborted_upload_never_looks_complete(
    start: Any, configured: Any, upstream: FakeUpstream, framing: str, wire_kind: str
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["transport"] = wire_kind
    gateway = await start(config)
    body = form(model(), file(bytes(MB)))
    async with sending(gateway, len(body) if framing == "length" else None) as wire:
        await wire.send(body[: MB // 2])
        await upstream.until(lambda u: u.connections_opened == 1)
        await wire.leave()
    await upstream.until(lambda u: u.open_connections == 0)
    assert not upstream.received
    await gateway.until(lambda: not gateway.gateway.calls.total())
    assert await gateway.metric("gateway_requests_total", alias="chat", outcome="client_gone") == 1
    assert await gateway.metric("gateway_requests_total", alias="chat") == 1
    assert await gateway.metric("gateway_attempts_total", upstream="u0", result="client_gone") == 1
    assert not any(p.in_flight for p in gateway.gateway.router.target_states)


async def test_a_refusal_in_the_middle_is_the_clients_at_once(start: Any, configured: Any, seen: Seen) -> None:
    gateway = await start(configured(seen))
    body = form(model(), file(bytes(MB)))
    async with sending(gateway, len(body)) as wire:
        await wire.send(body[: MB // 2])
        await seen.connected.wait()
        seen.says("400 Bad Request", b'{"error":{"message":"no such format"}}')
        assert b"no such format" in await wire.end()
    await seen.ended.wait()
    assert bytes(seen.heard).count(b"--" + BOUNDARY + b"--") == 0


async def test_a_client_that_leaves_after_its_upload_is_seen(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.always(Fault.silence())
    body = form(model(), file(bytes(MB)))
    async with sending(gateway, len(body)) as wire:
        await wire.send(body)
        await upstream.until(lambda u: len(u.received) == 1)
        await wire.leave()
    await upstream.until(lambda u: u.cancelled == 1)
    await gateway.until(lambda: not gateway.gateway.calls.total())
    assert await gateway.metric("gateway_requests_total", alias="chat", outcome="client_gone") == 1


async def test_an_upload_announced_as_too_large_is_refused(gateway: Any, upstream: FakeUpstream) -> None:
    async with sending(gateway, 40 * MB) as wire:
        assert b" 413 " in await wire.reader.readline()
    assert upstream.connections_opened == 0


async def test_an_upload_that_grows_too_large_never_looks_complete(
    start: Any, configured: Any, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream, limits={"max_body_mb": 1}))
    body = form(model(), file(bytes(2 * MB)))

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:1000]
        await upstream.until(lambda u: u.connections_opened == 1)
        yield body[1000:]

    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    reply = await gateway.client.post(PATH, content=pieces(), headers=headers)
    assert reply.status_code == 413
    await upstream.until(lambda u: u.open_connections == 0)
    assert not upstream.received


async def test_a_second_model_at_the_end_never_reaches_anybody_whole(gateway: Any, upstream: FakeUpstream) -> None:
    body = form(model(), file(bytes(MB)), model("dear"))
    async with sending(gateway, len(body)) as wire:
        await wire.send(body[: MB // 2])
        await upstream.until(lambda u: u.connections_opened == 1)
        await wire.send(body[MB // 2 :])
        assert b" 400 " in await wire.end()
    await upstream.until(lambda u: u.open_connections == 0)
    assert not upstream.received


async def test_a_slow_upstream_slows_its_client(start: Any, configured: Any, seen: Seen) -> None:
    """Nothing is read from the client that the upstream has not taken, but for what sockets hold."""
    gateway = await start(configured(seen, chat={"timeouts": {"answer_s": 60, "total_s": 90}}))
    seen.reads.clear()
    body = form(model(), file(bytes(31 * MB)))
    async with sending(gateway, len(body)) as wire:
        sent = asyncio.get_running_loop().create_task(wire.send(body))
        done, _ = await asyncio.wait([sent], timeout=1)
        assert not done
        seen.reads.set()
        await sent
        await shows(seen, b"--" + BOUNDARY + b"--\r\n")
        seen.says("200 OK", b'{"text":"hi"}')
        assert b'{"text":"hi"}' in await wire.end()


async def test_a_stream_asked_for_after_the_file_arrives_as_events(gateway: Any, upstream: FakeUpstream) -> None:
    events = [b'data: {"type":"image_edit.partial_image"}\n\n', b'data: {"type":"image_edit.completed"}\n\n']
    upstream.streams(events)
    body = form(model(), file(bytes(MB)), ("stream", b"true", None))
    for path in ("/images/edits", PATH):
        async with sending(gateway, len(body), path) as wire:
            await wire.send(body)
            assert b"image_edit.completed" in await wire.end()
