"""Handling of a good reply: held until complete, passed through, streamed, or joined to a stream that was cut.

Each function sends the client its reply, or raises AttemptFailed or a TransportError, which the relay handles.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial

from gateway.core.errors import TransportError
from gateway.core.sse import event_count
from gateway.proxy.dialects.bedrock_client import header_usage
from gateway.proxy.dialects.event_frames import frame_count
from gateway.proxy.dialects.event_reader import TranslatingReader
from gateway.proxy.dialects.plain_answer import AnswerTail, tail_usage
from gateway.proxy.dialects.types import Cut, ErrorSource, OversizedEvent, Reader, UnreadableEngine
from gateway.proxy.http.client.transport import UpstreamReply
from gateway.proxy.relay.continuation import Mismatch, Splicer, continuable, first_id
from gateway.proxy.relay.deadlines import Deadlines
from gateway.proxy.relay.failures import AttemptFailed, Failure, of_declined, of_transport, of_unreadable_engine
from gateway.proxy.relay.response_head import start_response
from gateway.proxy.relay.state import RelayState, ResponseBytes, SentText
from gateway.proxy.request.header_rules import STREAM_TYPES, for_client
from gateway.proxy.request.vendor_paths import BEDROCK_APIS, FRAMED_APIS
from gateway.proxy.routing.learned_routes import ServedRoute
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import ClientConnection

_MAX_HELD_BYTES = 64 << 20  # a larger JSON answer is refused rather than held
_BYTES = ("embeddings", "pooling")
"""vLLM answers these in bytes on request (`encoding_format`), with their usage in a header."""
_CLOSING_S = 1.0  # from the model's last content to the end of the stream
_MAX_HEAD_BYTES = 1 << 20  # of a stream's complete events without content: comments, pings and heads


def relay(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> Awaitable[None]:
    """Sends an ordinary reply. Status 200 alone does not mean success: the body may be an error, or end too soon."""
    call = state.call
    if call.stream and is_event_stream(reply):
        return _stream(state, target_state, reply)
    if call.api in _BYTES and not is_json(reply):
        return _pass_bytes(state, target_state, reply)
    # A form may ask for a stream in a field that came after its model, so that call.stream missed it.
    if state.held and (call.upload is None or not is_event_stream(reply)):
        return _held(state, target_state, reply)
    return _pass_through(state, target_state, reply)


async def read(reply: UpstreamReply, limit_bytes: int) -> bytes | None:
    """The complete body; None if it is larger than the limit."""
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


def is_event_stream(reply: UpstreamReply) -> bool:
    return any(n == b"content-type" and v.startswith(STREAM_TYPES) for n, v in reply.headers)


def is_json(reply: UpstreamReply) -> bool:
    return any(n == b"content-type" and b"json" in v for n, v in reply.headers)


def content_length(reply: UpstreamReply) -> int | None:
    """The content-length header; None if there is none."""
    return next((int(value) for name, value in reply.headers if name == b"content-length" and value.isdigit()), None)


async def _held(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """One JSON object: sent once it is complete and has been read as an answer."""
    context, body, now = state.context, reply.complete_body(), time.monotonic()
    if body is None:
        waiting = now
        body = await read(reply, _MAX_HELD_BYTES)
        now = time.monotonic()
        state.upstream_s += now - waiting
    if body is None:
        raise AttemptFailed(Failure("error", f"answered with more than {_MAX_HELD_BYTES >> 20} MB"))
    try:
        dialect = state.dialect or target_state.upstream.dialect.by_api[state.call.api]
        answer, usage, error_source, questions = dialect.answer(state.call, body)
    except UnreadableEngine as error:
        raise AttemptFailed(of_unreadable_engine(error, state.call, len(body))) from error
    except ValueError as error:
        _check_encoding(reply, len(body))
        text = target_state.upstream.mask.text(f"returned HTTP {reply.status} without an answer: {error}")
        raise AttemptFailed(Failure("error", text, retryable=True, answer_bytes=len(body))) from error
    if usage is None and state.call.api == "invoke_model":
        usage = header_usage(reply.headers)
    context.usage = state.attempt_usage = usage
    if questions:
        context.notes.questions = questions
    if target_state.reports_load:
        _record_load(target_state, reply)
    if error_source is not None:
        answer = target_state.upstream.mask(answer)
        _note_error(state, error_source)
    choice = state.route.choice
    if choice is not None and choice.cascade is not None and target_state.target == choice.target:
        _accept(state, choice.cascade, answer)
    status = reply.status
    if state.route.refusal_fails and state.call.api == "systemone":
        status, answer = _with_refusals(state, status, answer)
    state.answer = answer
    if context.response.enabled:
        context.response.relayed(answer)
    state.deadlines.pause()
    headers = for_client(reply.headers, bedrock=state.call.api in BEDROCK_APIS)
    start_response(state, target_state, status, headers, now, len(answer))
    context.ended = True
    await state.client.end(answer)


def _with_refusals(state: RelayState, status: int, answer: bytes) -> tuple[int, bytes]:
    """The status and body for a client that wants an error where a question has no answer."""
    from gateway.proxy.dialects.translated_decisions import refused_questions

    error = refused_questions(answer)
    if error is None:
        return status, answer
    _note_error(state, "request")
    state.context.status = 422
    return 422, error


def _accept(state: RelayState, cascade: ServedRoute, answer: bytes) -> None:
    """Notes whether a cascade accepts the first target's answer. Raises AttemptFailed where it does not."""
    if (source := state.context.notes.error_source) is not None:
        state.context.notes.error_source, state.context.outcome = None, "ok"
        text, fault = "reported a failed answer in HTTP 200", source == "target"
        raise AttemptFailed(Failure("error", text, target_fault=fault, answer_bytes=len(answer)))
    decided = cascade.decided(state.call, answer)
    state.route.settle_on(decided)
    if not decided.moved:
        reported, state.context.usage = state.context.usage is not None, None
        raise AttemptFailed(of_declined(None if reported else len(answer)))


def _check_encoding(reply: UpstreamReply, answer_bytes: int | None = None) -> None:
    """Raises AttemptFailed for a compressed body: it was asked for identity, and would be compressed again.

    answer_bytes: of a body that is complete."""
    encoding = dict(reply.headers).get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"", b"identity"):
        name = encoding[:50].decode("latin-1")
        text = f"compressed its answer ({name}), although the gateway asked for content-encoding identity"
        raise AttemptFailed(Failure("error", text, answer_bytes=answer_bytes))


async def _pass_through(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Audio, images and files, forwarded as they arrive. After the head, a failure can only cut the response."""
    client, context, deadlines = state.client, state.context, state.deadlines
    _check_encoding(reply)
    tail = AnswerTail() if is_json(reply) or is_event_stream(reply) else None
    data = await reply.chunk()
    start_response(
        state, target_state, reply.status, for_client(reply.headers), time.monotonic(), content_length(reply)
    )
    while data:
        context.response.relayed(data)
        if tail is not None:
            tail.add(data)
        deadlines.pause()
        await client.write(data)
        deadlines.start_phase("event", state.route.timeouts.idle_s)
        data = await reply.chunk()
    if tail is not None:
        context.usage = state.attempt_usage = tail.usage()
    context.ended = True
    await client.end()


async def _pass_bytes(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Vectors in bytes, whose usage is in a header. An empty or other body is not an answer."""
    fields = dict(reply.headers)
    if not fields.get(b"content-type", b"").startswith((b"application/octet-stream", b"multipart/")):
        await _held(state, target_state, reply)
        return
    state.context.usage = state.attempt_usage = tail_usage(fields.get(b"metadata", b""))
    await _pass_through(state, target_state, reply)


def _record_load(target_state: TargetState, reply: UpstreamReply) -> None:
    for name, value in reply.headers:
        if name == b"endpoint-load-metrics":
            target_state.record_load_report(value)


async def _stream(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    keep_text = state.route.on_cut == "continue" and continuable(state.call)
    reader = target_state.upstream.dialect.reader(state.call, keep_text)
    try:
        head = await _to_first_content(state, target_state, reply, reader)
        state.sent = SentText(target_state, reader, first_id(head))
        headers = for_client(reply.headers, bedrock=state.call.api in BEDROCK_APIS)
        start_response(state, target_state, reply.status, headers, time.monotonic())
        del headers
        await _send(state, head)
        del head  # the stream would hold it to its end, and the reply its headers
        reply.headers.clear()
        if reader.error is None:
            await _events(state, target_state, reply, reader)
        else:
            await _end_after_error(state, reader)
    except OversizedEvent as error:  # the answer's size says nothing about the target
        raise AttemptFailed(Failure("error", str(error), "cut", target_fault=False)) from error
    except Cut as error:
        _check_encoding(reply)
        raise AttemptFailed(Failure("error", "cut its stream", "cut", retryable=True)) from error
    except TransportError as error:
        raise AttemptFailed(of_transport(error)) from error
    finally:
        state.context.usage = state.attempt_usage = reader.usage


async def _to_first_content(
    state: RelayState, target_state: TargetState, reply: UpstreamReply, reader: Reader
) -> bytes:
    """Reads up to the first content. The bytes are held, because until then another target can still be attempted."""
    context = state.context
    waiting = time.monotonic()
    pieces, size = list[bytes](), 0
    try:
        while not (reader.first_content or reader.complete):
            data = await (_next(state, reply, reader) if reader.finished else reply.chunk())
            piece = reader.feed(data) if data else reader.end()
            pieces.append(piece)
            size += len(piece)
            if reader.error is not None and reader.error_source == "target":
                text = f"returned HTTP 200 and then an error: {target_state.upstream.mask.text(reader.error)[:200]}"
                raise AttemptFailed(Failure("error", text, retryable=True))
            if size > _MAX_HEAD_BYTES and not (reader.first_content or reader.complete):
                raise AttemptFailed(Failure("error", "sent a megabyte without content"))
            if not data:
                break
    finally:
        now = time.monotonic()
        state.upstream_s += now - waiting
    context.first_content = now
    held = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return held if reader.error is None else target_state.upstream.mask(held)


async def _events(state: RelayState, target_state: TargetState, reply: UpstreamReply, reader: Reader) -> None:
    """The rest of a stream.

    Most events pass from one socket to the other within the callback that received them; this coroutine handles those
    that must be parsed, or for which the client's connection must be waited for.
    """
    context = state.context
    if isinstance(reader, TranslatingReader):
        reply.sink = partial(_translate_on, state, state.client, reader, context.response, state.deadlines)
    else:
        reply.sink = partial(_pass_on, state, state.client, reader, context.response, state.deadlines)
    while not reader.complete:
        data = await _next(state, reply, reader)
        if not data:
            break
        out = reader.feed(data)
        if reader.error is not None:
            out = target_state.upstream.mask(out)
        if out:
            await _send(state, out)
        if reader.error is not None:
            await _end_after_error(state, reader)
            return
    last = reader.end()
    context.ended = True
    context.response.relayed(last)
    await state.client.end(last)


def _pass_on(
    state: RelayState,
    client: ClientConnection,
    reader: Reader,
    response: ResponseBytes,
    deadlines: Deadlines,
    data: bytes,
) -> bool:
    """Whether these bytes could be sent on at once."""
    if not (client.writable and (number := reader.passes(data))):
        return False
    if response.enabled:
        response.relayed(data)
    client.write_nowait(data)
    state.pieces += number
    deadlines.resume()
    return True


def _translate_on(
    state: RelayState,
    client: ClientConnection,
    reader: TranslatingReader,
    response: ResponseBytes,
    deadlines: Deadlines,
    data: bytes,
) -> bool:
    """Whether these bytes could be sent on at once, translated."""
    if not (client.writable and (out := reader.translated(data))):
        return False
    if response.enabled:
        response.relayed(out)
    client.write_nowait(out)
    state.pieces += 1
    deadlines.resume()
    return True


async def _next(state: RelayState, reply: UpstreamReply, reader: Reader | Splicer) -> bytes:
    """The next bytes; b"" at the end.

    Once the model has finished, only usage and [DONE] can follow: a server that sends neither, or closes the connection
    badly, does not turn a complete answer into a broken one.
    """
    deadlines = state.deadlines
    idle_s = state.route.timeouts.idle_s
    deadlines.start_phase("event", min(_CLOSING_S, idle_s) if reader.finished else idle_s)
    try:
        return await reply.chunk()
    except TransportError:
        if not reader.finished:
            raise
    except asyncio.CancelledError:
        if not (reader.finished and deadlines.fired) or state.context.client_gone or deadlines.expired:
            raise
        deadlines.take_error()
    finally:
        deadlines.pause()
    return b""


async def _send(state: RelayState, data: bytes) -> None:
    state.context.response.relayed(data)
    state.pieces += event_count(data) if state.call.api not in FRAMED_APIS else frame_count(data)
    await state.client.write(data)


def _note_error(state: RelayState, source: ErrorSource) -> None:
    state.context.outcome = "upstream_error"
    state.context.notes.error_source = source


async def _end_after_error(state: RelayState, reader: Reader) -> None:
    """The upstream's error event has been passed on; no [DONE] follows it."""
    _note_error(state, reader.error_source)
    state.context.ended = True
    await state.client.end()


async def continue_aligned(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer that repeats the text already sent."""
    await _join(state, target_state, reply, align=True)


async def continue_prefilled(state: RelayState, target_state: TargetState, reply: UpstreamReply) -> None:
    """Joins an answer that continues after the text already sent."""
    await _join(state, target_state, reply, align=False)


async def _join(state: RelayState, target_state: TargetState, reply: UpstreamReply, *, align: bool) -> None:
    sent, deadlines, idle_s = state.sent, state.deadlines, state.route.timeouts.idle_s
    if sent is None:
        raise AttemptFailed(Failure("error", "has no stream to continue"))
    reader = target_state.upstream.dialect.reader(state.call, False)  # translates any dialect into what Splicer reads
    splicer = Splicer(sent.id, sent.text, align=align, asked_usage=state.call.asked_usage)
    data, delivered = b"-", splicer.length
    try:
        while data and not splicer.complete:
            data = await (_next(state, reply, splicer) if splicer.finished else reply.chunk())
            out = splicer.feed(reader.feed(data) if data else reader.end())
            if reader.error is not None or splicer.error is not None:
                raise AttemptFailed(Failure("error", "broke off too"))
            if out:
                deadlines.pause()
                await _send(state, out)
                delivered = splicer.length
            deadlines.start_phase("event", idle_s)
        last = splicer.end()
    except Mismatch as error:
        raise AttemptFailed(Failure("error", str(error), target_fault=False)) from error
    except Cut as error:
        raise AttemptFailed(Failure("error", "cut its stream too", "cut")) from error
    finally:
        sent.text = splicer.text[:delivered]
        state.context.usage = state.attempt_usage = reader.usage or splicer.usage
    state.context.ended = True
    state.context.response.relayed(last)
    await state.client.end(last)
