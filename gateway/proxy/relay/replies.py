"""What is done with a good reply: held whole, passed through, streamed, or joined to what was said before a cut.

Each function gives the client what it is owed, or raises AttemptFailed (or a TransportError), which the relay answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from gateway.core.errors import TransportError
from gateway.proxy.dialects import Cut, Reader
from gateway.proxy.http.client import UpstreamReply
from gateway.proxy.relay.continuation import Mismatch, Splicer, continuable, first_id
from gateway.proxy.relay.failures import AttemptFailed, Failure, of_transport
from gateway.proxy.relay.state import RelayState, SentText
from gateway.proxy.request.headers import for_client
from gateway.proxy.routing.target_state import TargetState

_MAX_HELD_BYTES = 64 << 20  # a JSON answer larger than this is refused rather than held
_CLOSING_S = 1.0  # between the model's last word and the stream's end
_MAX_HEAD_BYTES = 1 << 20  # of a stream, before its first content


def relay(asking: RelayState, place: TargetState, reply: UpstreamReply) -> Awaitable[None]:
    """The ordinary case. A 200 is no answer yet: its body may be an error, or end too soon."""
    call = asking.call
    if call.stream and is_events(reply):
        return _stream(asking, place, reply)
    if asking.held and (call.upload is None or not is_events(reply)):  # a form may say `stream` at its end
        return _whole(asking, place, reply)
    return _through(asking, place, reply)


async def read(reply: UpstreamReply, limit_bytes: int) -> bytes | None:
    """The whole body; None when it is larger than the limit."""
    data = await reply.chunk()
    if not data:
        return b""
    pieces, size = [data], len(data)
    while data := await reply.chunk():
        size += len(data)
        if size > limit_bytes:
            return None
        pieces.append(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def is_events(reply: UpstreamReply) -> bool:
    return any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in reply.headers)


def length_of(reply: UpstreamReply) -> int | None:
    """As its head says; None where it does not."""
    return next((int(value) for name, value in reply.headers if name == b"content-length" and value.isdigit()), None)


# ── plain answers ──


async def _whole(asking: RelayState, place: TargetState, reply: UpstreamReply) -> None:
    progress, body, now = asking.progress, reply.whole(), time.monotonic()
    if body is None:
        waiting = now
        body = await read(reply, _MAX_HELD_BYTES)
        now = time.monotonic()
        progress.upstream_s += now - waiting
    if body is None:
        raise AttemptFailed(Failure("error", f"answered with more than {_MAX_HELD_BYTES >> 20} MB"))
    try:
        answer, usage = place.upstream.dialect.answer(asking.call, body)
    except ValueError as error:
        raise AttemptFailed(Failure("error", f"said HTTP 200 without an answer: {error}", again=True)) from error
    progress.usage = progress.attempt_usage = usage
    if place.reports_load:
        _learn_load(place, reply)
    progress.beginning = answer
    progress.kept.add(answer)
    asking.limit.pause()
    asking.start(place, reply.status, for_client(reply.headers), now, len(answer))
    progress.ended = True
    await asking.client.end(answer)


async def _through(asking: RelayState, place: TargetState, reply: UpstreamReply) -> None:
    """Bytes as they come: sound, images, files. What breaks off after the head cannot be mended, only cut."""
    client, progress, limit = asking.client, asking.progress, asking.limit
    data = await reply.chunk()
    asking.start(place, reply.status, for_client(reply.headers), time.monotonic(), length_of(reply))
    while data:
        progress.kept.add(data)
        limit.pause()
        await client.write(data)
        limit.phase("event", asking.route.timeouts.idle_s)
        data = await reply.chunk()
    progress.ended = True
    await client.end()


def _learn_load(place: TargetState, reply: UpstreamReply) -> None:
    for name, value in reply.headers:
        if name == b"endpoint-load-metrics":
            place.told_load(value)


# ── streams ──


async def _stream(asking: RelayState, place: TargetState, reply: UpstreamReply) -> None:
    keep_text = asking.route.on_cut == "continue" and continuable(asking.call)
    reader = place.upstream.dialect.reader(asking.call, keep_text)
    try:
        head = await _to_first_content(asking, reply, reader)
        asking.said = SentText(place, reader, first_id(head))
        asking.progress.beginning = head
        asking.start(place, reply.status, for_client(reply.headers), time.monotonic())
        await _send(asking, head)
        await _events(asking, reply, reader)
    except Cut as error:
        raise AttemptFailed(Failure("error", "cut its stream", "cut", again=True)) from error
    except TransportError as error:
        raise AttemptFailed(of_transport(error)) from error
    finally:
        asking.progress.usage = asking.progress.attempt_usage = reader.usage


async def _to_first_content(asking: RelayState, reply: UpstreamReply, reader: Reader) -> bytes:
    """Everything up to the first content: held, since until then another target can still be asked."""
    progress = asking.progress
    waiting = time.monotonic()
    held = b""
    try:
        while not (reader.first_content or reader.complete):
            data = await (_next(asking, reply, reader) if reader.finished else reply.chunk())
            held += reader.feed(data) if data else reader.end()
            if reader.error is not None:
                raise AttemptFailed(Failure("error", "said HTTP 200 and then an error", again=True))
            if len(held) > _MAX_HEAD_BYTES:
                raise AttemptFailed(Failure("error", "sent a megabyte without content"))
            if not data:
                break
    finally:
        now = time.monotonic()
        progress.upstream_s += now - waiting
    progress.first_content = now
    return held


async def _events(asking: RelayState, reply: UpstreamReply, reader: Reader) -> None:
    """Most events pass from one socket to the other within the callback that brought them; what must be read, or waited
    for, comes here."""
    client, kept, limit = asking.client, asking.progress.kept, asking.limit

    def pass_on(data: bytes) -> bool:
        if not (client.writable and reader.passes(data)):
            return False
        if kept.wanted:
            kept.add(data)
        client.write_nowait(data)
        limit.resume()
        return True

    reply.sink = pass_on
    while not reader.complete:
        data = await _next(asking, reply, reader)
        if not data:
            break
        out = reader.feed(data)
        if out:
            await _send(asking, out)
        if reader.error is not None:
            await _close_with_its_error(asking)
            return
    owed = reader.end()
    asking.progress.finish_seen = True
    asking.progress.ended = True
    asking.progress.kept.add(owed)
    await asking.client.end(owed)


async def _next(asking: RelayState, reply: UpstreamReply, reader: Reader | Splicer) -> bytes:
    """The next bytes. Once the model has said that it is done, only its usage and a [DONE] can still come: a server
    that sends neither, or closes badly, does not make a whole answer a broken one."""
    limit = asking.limit
    limit.phase(
        "event", min(_CLOSING_S, asking.route.timeouts.idle_s) if reader.finished else asking.route.timeouts.idle_s
    )
    try:
        return await reply.chunk()
    except TransportError:
        if not reader.finished:
            raise
    except asyncio.CancelledError:
        if not (reader.finished and limit.passed) or asking.progress.gone or limit.spent:
            raise
        limit.taken()
    finally:
        limit.pause()
    return b""


async def _send(asking: RelayState, data: bytes) -> None:
    asking.progress.kept.add(data)
    await asking.client.write(data)


async def _close_with_its_error(asking: RelayState) -> None:
    """The upstream said in the stream that it failed; its words have gone out. No [DONE] follows them."""
    asking.progress.outcome = "upstream_error"
    asking.progress.ended = True
    await asking.client.end()


# ── going on after a cut ──


async def go_on(asking: RelayState, place: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer asked afresh to what was said."""
    await _join(asking, place, reply, align=True)


async def go_on_prefilled(asking: RelayState, place: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer that continues what was said."""
    await _join(asking, place, reply, align=False)


async def _join(asking: RelayState, place: TargetState, reply: UpstreamReply, *, align: bool) -> None:
    said, limit, idle_s = asking.said, asking.limit, asking.route.timeouts.idle_s
    if said is None:
        raise AttemptFailed(Failure("error", "nothing was said"))
    reader = place.upstream.dialect.reader(asking.call, False)  # whatever it speaks, here it becomes what we splice
    splicer = Splicer(said.id, said.text, align=align, asked_usage=asking.call.asked_usage)
    data = b"-"
    try:
        while data and not splicer.complete:
            data = await (_next(asking, reply, splicer) if splicer.finished else reply.chunk())
            out = splicer.feed(reader.feed(data) if data else reader.end())
            if reader.error is not None or splicer.error is not None:
                raise AttemptFailed(Failure("error", "broke off too"))
            if out:
                limit.pause()
                await _send(asking, out)
                said.text = splicer.said
            limit.phase("event", idle_s)
        owed = splicer.end()
    except Mismatch as error:
        raise AttemptFailed(Failure("error", str(error), target_fault=False)) from error
    except Cut as error:
        raise AttemptFailed(Failure("error", "cut its stream too", "cut")) from error
    finally:
        asking.progress.usage = asking.progress.attempt_usage = reader.usage or splicer.usage
    asking.progress.ended = True
    await _send_last(asking, owed)


async def _send_last(asking: RelayState, owed: bytes) -> None:
    asking.progress.kept.add(owed)
    await asking.client.end(owed)
