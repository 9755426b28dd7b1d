"""One HTTP/1.1 connection to an upstream, and the reply it carries. pool.py decides which connection is free.

A connection carries one request at a time and outlives many; an Http1Reply belongs to one request, so holding it too
long cannot disturb the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.core.errors import BadResponse, BodyCut, ConnectionLost
from gateway.proxy.http.client.framing import MAX_HEAD_BYTES, MAX_HEADERS, check_size, framed, read_framing
from gateway.proxy.http.client.transport import Slices
from gateway.proxy.http.write_batching import WriteBatcher, WriteQueue
from gateway.proxy.types import Headers

HIGH_WATER = 256 * 1024  # buffered body bytes; above, the socket is not read
COPY_LIMIT = 64 * 1024  # up to here, one write of joined bytes is cheaper than two writes


class ConnectionOwner(Protocol):
    """The pool: takes a connection back after a complete reply, and is notified when it opens and closes."""

    @property
    def outbox(self) -> WriteBatcher: ...
    @property
    def busy(self) -> int:
        """The number of connections that carry a request."""
        ...

    def opened(self, connection: UpstreamConnection) -> None: ...
    def give_back(self, connection: UpstreamConnection) -> None: ...
    def forget(self, connection: UpstreamConnection) -> None: ...
    def closed(self, connection: UpstreamConnection) -> None: ...


class Http1Reply:
    """A reply as it arrives; see UpstreamReply. `status` is 0 until its head has arrived."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_connection",
        "_read_started",
        "_size",
        "_waiter",
        "error",
        "headers",
        "sink",
        "stale",
        "status",
    )

    def __init__(self, connection: UpstreamConnection) -> None:
        self.status = 0
        self.headers: Headers = []
        self.error: Exception | None = None
        self.sink: Callable[[bytes], bool] | None = None
        self.stale = False  # a reused connection was already dead: not one byte arrived
        self._connection = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._complete = self._read_started = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """A task waits for the head or for the next bytes, and has not been woken."""
        return self._waiter is not None

    async def chunk(self) -> bytes:
        self._read_started = True
        while not self._chunks and not self._complete and self.error is None:
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            except BaseException:
                self.close()
                raise
        if chunks := self._chunks:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            if self._size > HIGH_WATER:
                self._connection.resume(self)
            self._size = 0
            return body
        if self.error is not None:
            raise self.error
        return b""

    def complete_body(self) -> bytes | None:
        if self._read_started or not self._complete:
            return None
        self._read_started = True
        chunks, self._chunks, self._size = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def head(self) -> None:
        """Waits until the head has arrived, or can no longer arrive; then `status` is 0 and `error` is the reason."""
        # A reply without a head is not closed by its holder, so a cancelled wait closes the socket itself.
        if not self.status and self.error is None:
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if not self._complete and self.error is None:
            self._chunks.clear()
            self._connection.abort()
            self.fail(BodyCut("the reply was closed before its end"))

    def fail(self, error: Exception) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class UpstreamConnection(asyncio.Protocol):
    """One socket. create_connection builds it, `send` starts a request on it, and the event loop calls the rest."""

    def __init__(self, owner: ConnectionOwner, loop: asyncio.AbstractEventLoop, idle_s: float) -> None:
        self.loop = loop
        self.dead = False
        self.requests = 0  # sent so far
        self.idle_s = idle_s  # how long it may be idle, as the peer last announced
        self.idle_until = 0.0
        self._owner = owner
        self._default_idle_s = idle_s
        self._transport: asyncio.Transport
        self._out: WriteQueue
        self._body: list[bytes] = []  # of the reply, from the current read
        self.on_body: Callable[[bytes], None] = self._body.append  # the parser calls it without a frame of ours
        self._parser = HttpResponseParser(self)
        self._reply: Http1Reply | None = None
        self._bodiless = False  # the request is a HEAD
        self._keep_alive = False  # the peer accepts another request
        self._until_close = False  # the body ends with the connection
        self._non_body_bytes = 0  # since the last body byte: heads, chunk extensions, trailers
        self._upload: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def send(
        self,
        method: bytes,
        head: bytes,
        body: bytes | Slices | AsyncIterable[bytes],
        length: int | None = None,
        *,
        unbatched: bool = False,
    ) -> Http1Reply:
        """Writes the request and returns its reply. Never waits; on a dead connection the reply has failed.

        unbatched: not batched with the writes of other connections. Batched, many streams would start in step, and
        their events would keep arriving in bursts.
        """
        self._reply = reply = Http1Reply(self)
        self.requests += 1
        self._bodiless = method == b"HEAD"
        self._keep_alive = self._until_close = False
        self._non_body_bytes = 0
        if self.dead:
            self._end(reply, None)
        elif type(body) is bytes and len(body) <= COPY_LIMIT:
            self._out.put(head + body, 0 if unbatched else self._owner.busy)
        elif isinstance(body, bytes):
            self._transport.writelines([head, body])
        elif isinstance(body, tuple):
            self._transport.writelines([head, *body])
        else:
            self._transport.write(head)
            self._upload = self.loop.create_task(self._send_parts(reply, framed(body, length)))
        return reply

    def abort(self) -> None:
        """Closes the socket immediately."""
        self._reply = None
        self.mark_dead()
        self._out.drop()
        self._transport.abort()

    def abort_reply(self) -> None:
        """Aborts, and fails the reply, because a task may be waiting for it."""
        reply = self._reply
        self.abort()
        if reply is not None:
            reply.fail(
                BodyCut("the transport was closed") if reply.status else ConnectionLost("the transport was closed")
            )

    def mark_dead(self) -> None:
        """Removes the connection from the pool's count; once."""
        if self.dead:
            return
        self.dead = True
        self._owner.forget(self)
        if self._upload is not None:
            self._upload.cancel()

    def resume(self, reply: Http1Reply) -> None:
        if self._reply is reply:
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._out = WriteQueue(self._owner.outbox, self._transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            # A reply without a request (such as a 408 before an idle close): what follows it cannot be trusted.
            self.abort()
            return
        if not reply.status:
            self._non_body_bytes += len(data)
        begun = reply.status
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._keep_alive = False
            if not reply._complete:
                reply._chunks += self._body
                self._refuse(reply, error)
                return
        if self._body:
            if self._body_taken(reply):
                return
        elif begun and not reply._complete:
            self._non_body_bytes += len(data)
        if reply._complete:
            self._settle(reply)
        elif self._non_body_bytes > MAX_HEAD_BYTES:
            self._refuse(reply, BadResponse(f"over {MAX_HEAD_BYTES} bytes without a byte of body"))
            return
        if reply.status:
            reply._wake()

    def _body_taken(self, reply: Http1Reply) -> bool:
        """Hands the body's bytes of one read to the reply's sink, or holds them. True if the sink has taken them."""
        body = self._body
        data = b"".join(body)  # a single piece itself, which is not copied
        del body[:]
        self._non_body_bytes = 0
        sink = reply.sink
        if sink is not None and reply._waiter is not None and not reply._complete and sink(data):
            return True
        size = reply._size
        reply._chunks.append(data)
        reply._size += len(data)
        if size <= HIGH_WATER < reply._size and not reply._complete:
            self._transport.pause_reading()
        return False

    def eof_received(self) -> None:
        reply = self._reply
        # asyncio would first try to send what is buffered, to a peer that may never read it.
        self.abort()
        if reply is not None:
            self._end(reply, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.mark_dead()
        self._out.drop()
        self._owner.closed(self)
        if self._reply is not None:
            self._end(self._reply, exc)

    def pause_writing(self) -> None:
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply._complete:
            raise BadResponse("bytes after the end of the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        reply = self._reply
        if reply is not None and not reply.status:  # after the head these are trailers
            reply.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        reply, status = self._reply, self._parser.get_status_code()
        if reply is None:
            raise BadResponse("a reply without a request")
        if reply.headers[MAX_HEADERS:] or self._non_body_bytes > MAX_HEAD_BYTES:
            check_size(reply.headers, self._non_body_bytes)
        if status < 200:
            if status == 101:
                raise BadResponse("101 switches to a protocol that was not requested")
            reply.headers = []
            return
        self._until_close, idle_s = read_framing(reply.headers, status)
        self.idle_s = self._default_idle_s if idle_s is None else idle_s
        self._keep_alive = self._parser.should_keep_alive()
        reply.status = status
        if self._bodiless:
            # The parser does not know that the reply to a HEAD has no body, so parsing and the connection end here.
            reply._complete = True
            raise BadResponse("no body follows")

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is not None and reply.status:
            reply._complete = True

    def _settle(self, reply: Http1Reply) -> None:
        """The reply is complete: returns the connection to its pool, unless bytes are left in either direction."""
        if reply._size > HIGH_WATER:
            # A paused TLS transport still delivers what it had decrypted, so the reply can end while reading is paused.
            self._transport.resume_reading()
        sent = not (self._out.waiting or self._transport.get_write_buffer_size())
        if self._keep_alive and self._upload is None and sent:
            self._reply = None
            self._owner.give_back(self)
        else:
            self.abort()

    def _refuse(self, reply: Http1Reply, error: Exception) -> None:
        self.abort()
        cause = error if isinstance(error, BadResponse) else error.__context__
        reply.fail(cause if isinstance(cause, BadResponse) else BadResponse(f"not HTTP/1.1: {error}"))

    def _end(self, reply: Http1Reply, error: Exception | None) -> None:
        """The connection ended during a reply."""
        self._reply = None
        why = f": {error}" if error else ""
        if not reply.status:
            reply.stale = self.requests > 1 and not self._non_body_bytes
            reply.fail(ConnectionLost(f"the connection ended before a response head{why}"))
        elif self._until_close and error is None:
            reply._complete = True
            reply._wake()
        else:
            reply.fail(BodyCut(f"the connection ended before the body did{why}"))

    async def _send_parts(self, reply: Http1Reply, parts: AsyncIterable[list[bytes]]) -> None:
        try:
            async for lines in parts:
                self._transport.writelines(lines)
                if self._drained is not None:
                    await self._drained
        except Exception as error:
            # An exception of the caller's stream belongs to the caller: send() or chunk() raises it there.
            self._upload = None  # first, because abort() would cancel this task
            self.abort()
            reply.fail(error)
        self._upload = None
