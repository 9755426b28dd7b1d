"""What is done with a good reply: held whole, passed through, streamed, or joined to what was said before a cut.

Each function gives the client what it is owed, or raises AttemptFailed (or a TransportError), which the relay answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from gateway.core.errors import TransportError
from gateway.proxy.dialects.types import Cut, Reader
from gateway.proxy.http.client.transport import UpstreamReply
from gateway.proxy.relay.continuation import Mismatch, Splicer, continuable, first_id
from gateway.proxy.relay.failures import AttemptFailed, Failure, of_transport
from gateway.proxy.relay.state import RelayState, SentText
from gateway.proxy.request.headers import for_client
from gateway.proxy.routing.target_state import TargetState

_MAX_HELD_BYTES = 64 << 20  # a JSON answer larger than this is refused rather than held
_CLOSING_S = 1.0  # between the model's last word and the stream's end
_MAX_HEAD_BYTES = 1 << 20  # of a stream, before its first content


def relay(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> Awaitable[None]:
    """The ordinary case. A 200 is no answer yet: its body may be an error, or end too soon."""
    call = state.call
    if call.stream and is_events(reply):
        return _stream(state, target_state, reply)
    if state.held and (call.upload is None or not is_events(reply)):  # a form may say `stream` at its end
        return _whole(state, target_state, reply)
    return _through(state, target_state, reply)


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


async def _whole(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    context, body, now = state.context, reply.whole(), time.monotonic()
    if body is None:
        waiting = now
        body = await read(reply, _MAX_HELD_BYTES)
        now = time.monotonic()
        context.upstream_s += now - waiting
    if body is None:
        raise AttemptFailed(Failure("error", f"answered with more than {_MAX_HELD_BYTES >> 20} MB"))
    try:
        answer, usage = target_state.upstream.dialect.answer(state.call, body)
    except ValueError as error:
        raise AttemptFailed(Failure("error", f"said HTTP 200 without an answer: {error}", again=True)) from error
    context.usage = context.attempt_usage = usage
    if target_state.reports_load:
        _learn_load(target_state, reply)
    context.beginning = answer
    context.kept.add(answer)
    state.limit.pause()
    state.start(target_state, reply.status, for_client(reply.headers), now, len(answer))
    context.ended = True
    await state.client.end(answer)


async def _through(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Bytes as they come: sound, images, files. What breaks off after the head cannot be mended, only cut."""
    client, context, limit = state.client, state.context, state.limit
    data = await reply.chunk()
    state.start(target_state, reply.status, for_client(reply.headers), time.monotonic(), length_of(reply))
    while data:
        context.kept.add(data)
        limit.pause()
        await client.write(data)
        limit.phase("event", state.route.timeouts.idle_s)
        data = await reply.chunk()
    context.ended = True
    await client.end()


def _learn_load(target_state: TargetState, reply: UpstreamReply) -> None:
    for name, value in reply.headers:
        if name == b"endpoint-load-metrics":
            target_state.record_load_report(value)


# ── streams ──


async def _stream(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    keep_text = state.route.on_cut == "continue" and continuable(state.call)
    reader = target_state.upstream.dialect.reader(state.call, keep_text)
    try:
        head = await _to_first_content(state, reply, reader)
        state.said = SentText(target_state, reader, first_id(head))
        state.context.beginning = head
        state.start(target_state, reply.status, for_client(reply.headers), time.monotonic())
        await _send(state, head)
        await _events(state, reply, reader)
    except Cut as error:
        raise AttemptFailed(Failure("error", "cut its stream", "cut", again=True)) from error
    except TransportError as error:
        raise AttemptFailed(of_transport(error)) from error
    finally:
        state.context.usage = state.context.attempt_usage = reader.usage


async def _to_first_content(state: RelayState, reply: UpstreamReply, reader: Reader) -> bytes:
    """Everything up to the first content: held, since until then another target can still be asked."""
    context = state.context
    waiting = time.monotonic()
    held = b""
    try:
        while not (reader.first_content or reader.complete):
            data = await (_next(state, reply, reader) if reader.finished else reply.chunk())
            held += reader.feed(data) if data else reader.end()
            if reader.error is not None:
                raise AttemptFailed(Failure("error", "said HTTP 200 and then an error", again=True))
            if len(held) > _MAX_HEAD_BYTES:
                raise AttemptFailed(Failure("error", "sent a megabyte without content"))
            if not data:
                break
    finally:
        now = time.monotonic()
        context.upstream_s += now - waiting
    context.first_content = now
    return held


async def _events(state: RelayState, reply: UpstreamReply, reader: Reader) -> None:
    """Most events pass from one socket to the other within the callback that brought them; what must be read, or waited
    for, comes here."""
    client, kept, limit = state.client, state.context.kept, state.limit

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
        data = await _next(state, reply, reader)
        if not data:
            break
        out = reader.feed(data)
        if out:
            await _send(state, out)
        if reader.error is not None:
            await _close_with_its_error(state)
            return
    owed = reader.end()
    state.context.finish_seen = True
    state.context.ended = True
    state.context.kept.add(owed)
    await state.client.end(owed)


async def _next(state: RelayState, reply: UpstreamReply, reader: Reader | Splicer) -> bytes:
    """The next bytes. Once the model has said that it is done, only its usage and a [DONE] can still come: a server
    that sends neither, or closes badly, does not make a whole answer a broken one."""
    limit = state.limit
    limit.phase(
        "event", min(_CLOSING_S, state.route.timeouts.idle_s) if reader.finished else state.route.timeouts.idle_s
    )
    try:
        return await reply.chunk()
    except TransportError:
        if not reader.finished:
            raise
    except asyncio.CancelledError:
        if not (reader.finished and limit.passed) or state.context.gone or limit.spent:
            raise
        limit.taken()
    finally:
        limit.pause()
    return b""


async def _send(state: RelayState, data: bytes) -> None:
    state.context.kept.add(data)
    await state.client.write(data)


async def _close_with_its_error(state: RelayState) -> None:
    """The upstream said in the stream that it failed; its words have gone out. No [DONE] follows them."""
    state.context.outcome = "upstream_error"
    state.context.ended = True
    await state.client.end()


# ── going on after a cut ──


async def go_on(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer asked afresh to what was said."""
    await _join(state, target_state, reply, align=True)


async def go_on_prefilled(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer that continues what was said."""
    await _join(state, target_state, reply, align=False)


async def _join(state: RelayState, target_state: TargetState, reply: UpstreamReply, *, align: bool) -> None:
    said, limit, idle_s = state.said, state.limit, state.route.timeouts.idle_s
    if said is None:
        raise AttemptFailed(Failure("error", "nothing was said"))
    reader = target_state.upstream.dialect.reader(
        state.call, False
    )  # whatever it speaks, here it becomes what we splice
    splicer = Splicer(said.id, said.text, align=align, asked_usage=state.call.asked_usage)
    data = b"-"
    try:
        while data and not splicer.complete:
            data = await (_next(state, reply, splicer) if splicer.finished else reply.chunk())
            out = splicer.feed(reader.feed(data) if data else reader.end())
            if reader.error is not None or splicer.error is not None:
                raise AttemptFailed(Failure("error", "broke off too"))
            if out:
                limit.pause()
                await _send(state, out)
                said.text = splicer.said
            limit.phase("event", idle_s)
        owed = splicer.end()
    except Mismatch as error:
        raise AttemptFailed(Failure("error", str(error), target_fault=False)) from error
    except Cut as error:
        raise AttemptFailed(Failure("error", "cut its stream too", "cut")) from error
    finally:
        state.context.usage = state.context.attempt_usage = reader.usage or splicer.usage
    state.context.ended = True
    await _send_last(state, owed)


async def _send_last(state: RelayState, owed: bytes) -> None:
    state.context.kept.add(owed)
    await state.client.end(owed)
