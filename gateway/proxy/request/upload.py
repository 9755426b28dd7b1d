"""A form on its way from a client to an upstream: passed on while it comes, and kept, so that it can be asked again.

Until the form's model is known nobody can be asked: what has come by then waits here, in memory or in a file.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import Any

from gateway.core.errors import BadRequest, Overloaded, TooLarge
from gateway.proxy.request.multipart import FormField, FormFieldReader
from gateway.proxy.types import ClientGone, PausableDeadline, Receive

_IN_MEMORY = 1 << 20  # bytes of one upload; beyond, all of it lies in a file
_PIECE = 1 << 18
_MAX_VALUE = 1024  # of the fields that are read here


def too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"the request body is above the limit of {limit_bytes / 1e6:g} MB (limits.max_body_mb)", retry=False
    )


class Spool:
    """Bytes that are added at the end and read anywhere. What waits for a disk does so in a thread, one at a time.

    A cancelled wait loses nothing: what was added is written, now or by whoever comes next, who also learns of failure.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._unwritten: deque[tuple[int, bytes]] = deque()
        self._busy: asyncio.Future[Any] | None = None

    @property
    def on_disk(self) -> bool:
        return self.size > _IN_MEMORY

    async def add(self, data: bytes) -> None:
        """Raises Overloaded when there is no room."""
        self._unwritten.append((self.size, data))
        self.size += len(data)
        await self._do(self._flush)

    async def read(self, at: int, end: int) -> bytes:
        data: bytes = await self._do(self._read, at, end - at)
        return data

    def close(self) -> None:
        """Never waits: freeing a large file takes a while, and so does a write that is under way."""
        if not self.on_disk:
            self._file.close()
        elif self._busy is None or self._busy.done():
            asyncio.get_running_loop().run_in_executor(None, self._file.close)
        else:
            self._busy.add_done_callback(lambda done: self.close())

    async def _do(self, act: Callable[..., Any], *arguments: Any) -> Any:
        if not self.on_disk:
            return act(*arguments)
        try:
            while (busy := self._busy) is not None:
                await asyncio.wait([busy])  # awaiting it itself would cancel it with us
                busy.result()
                self._busy = None if self._busy is busy else self._busy
            self._busy = busy = asyncio.get_running_loop().run_in_executor(None, act, *arguments)
            await asyncio.wait([busy])
            return busy.result()
        except OSError as error:
            raise Overloaded(f"the upload could not be kept: {error.strerror}", retry_after_s=5) from error

    def _flush(self) -> None:
        while self._unwritten:
            at, data = self._unwritten.popleft()
            self._file.seek(at)
            self._file.write(data)

    def _read(self, at: int, size: int) -> bytes:
        self._flush()
        self._file.seek(at)
        return self._file.read(size)


class Upload:
    """One form: what has come of it, and the rest, which is read from the client as an upstream takes it.

    length: the client's content-length; None: it sent none. alias, stream: what the form's fields say; `stream` only
    as far as the form had come when its model was known. whole: its end has come. heard: monotonic time at which the
    client last sent something.
    """

    def __init__(self, receive: Receive, length: int | None, limit_bytes: int) -> None:
        self.length = length
        self.alias = ""
        self.stream = False
        self.whole = False
        self.heard = 0.0
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._spool = Spool()
        self._fields = FormFieldReader(counted=b"model")
        self._known: dict[bytes, FormField] = {}  # of `model` and `stream`, the first
        self._broken: Exception | None = None  # why no more can be read
        self._limit: PausableDeadline | None = None
        self._then: Callable[[], None] | None = None

    async def to_model(self) -> None:
        """Reads until the model is known. Raises BadRequest, TooLarge and ClientGone."""
        while b"model" not in self._known and not self.whole:
            await self._more()
        self.alias = (await self._value(b"model"))[:256].decode("utf-8", "replace")
        self.stream = (await self._value(b"stream")).lower() == b"true"
        if not self.alias:
            raise BadRequest("the form has no field `model`", param="model", code="missing_required_parameter")

    def when_whole(self, then: Callable[[], None]) -> None:
        """Calls it once no more is read from the client, which may be now."""
        if self.whole:
            then()
        else:
            self._then = then

    @contextmanager
    def pausing(self, limit: PausableDeadline) -> Iterator[None]:
        """Pauses the deadline whenever the client is waited for: its slowness is not the upstream's."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = None

    def naming(self, model: str) -> SplicedUpload:
        """The form with that model in place of the client's."""
        field = self._known[b"model"]
        if model == self.alias:
            return SplicedUpload(self, 0, 0, b"")
        return SplicedUpload(self, field.start, field.end, model.encode())

    @property
    def size(self) -> int | None:
        """Of the form, when its end has come; else what the client said, which may be nothing."""
        return self._spool.size if self.whole else self.length

    async def pieces(self, start: int, end: int, value: bytes) -> AsyncIterator[bytes]:
        """All of it from its beginning, with that value from `start` to `end`. Reads on from the client.

        One at a time: who asks anew has given up the one before.
        """
        at = 0
        while at < start:
            yield await self._spool.read(at, at := min(at + _PIECE, start))
        if value:
            yield value
        at = end
        while True:
            if at < self._spool.size:
                yield await self._spool.read(at, at := min(at + _PIECE, self._spool.size))
            elif self.whole:
                return
            elif data := await self._more():
                at += len(data)
                yield data

    def close(self) -> None:
        self._then = None
        self._broken = self._broken or ClientGone()
        self._spool.close()

    async def _value(self, name: bytes) -> bytes:
        field = self._known.get(name)
        if field is None:
            return b""
        return (await self._spool.read(field.start, min(field.end, field.start + _MAX_VALUE))).strip()

    async def _more(self) -> bytes:
        """The next piece from the client, kept. What went wrong once goes wrong again: nothing may be left out."""
        if self._broken is not None:
            raise self._broken
        if self._limit is not None:
            self._limit.pause()
        message = await self._receive()
        self.heard = time.monotonic()
        if self._limit is not None:
            self._limit.resume()
        try:
            data = self._read(message)
        except Exception as error:
            self._broken = error
            raise
        if data:
            await self._spool.add(data)
        return data

    def _read(self, message: Any) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone  # an end here would make half a file look whole
        data: bytes = message.get("body", b"")
        if self._spool.size + len(data) > self._limit_bytes:
            raise too_large(self._limit_bytes)
        for field in self._fields.feed(data):
            if field.name in (b"model", b"stream"):
                self._known.setdefault(field.name, field)
        if self._fields.count > 1:  # an upstream might take the second, which nobody has checked
            raise BadRequest("the form has more than one field `model`", param="model")
        self.whole = not message.get("more_body", False)
        if self.whole and self._then is not None:
            self._then()
        return data


class SplicedUpload:
    """An upload with another model, as often as it is asked for. length: None where nobody knows it yet."""

    def __init__(self, upload: Upload, start: int, end: int, value: bytes) -> None:
        self._upload = upload
        self._splice = (start, end, value)
        self.length = None if upload.size is None else upload.size - (end - start) + len(value)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._upload.pieces(*self._splice)


async def begin_upload(receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int) -> Upload:
    """A form, read until its model is known; to be closed. Raises BadRequest, TooLarge and ClientGone."""
    given = headers.get(b"content-length", b"")
    length = int(given) if given.isdigit() and b"transfer-encoding" not in headers else None
    if length is not None and length > limit_bytes:
        raise too_large(limit_bytes)
    upload = Upload(receive, length, limit_bytes)
    try:
        await upload.to_model()
    except BaseException:
        upload.close()
        raise
    return upload
