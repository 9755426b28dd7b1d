"""Uploads: a multipart form that is forwarded while it arrives, and spooled so that an attempt can be repeated.

No target can be chosen before the form's `model` field has arrived: until then the form is only spooled, in memory or
in a temporary file.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Any

from gateway.core.errors import BadRequest, Overloaded
from gateway.proxy.request.multipart import AmbiguousForm, FormField, FormFieldReader, boundary_of
from gateway.proxy.types import ClientGone, HttpRequest, PausableDeadline, Receive, too_large

_IN_MEMORY_BYTES = 1 << 20  # of one upload; a larger one moves to a file
_PIECE_BYTES = 1 << 18
_MAX_VALUE_BYTES = 1024  # of a field that is read here


class Spool:
    """Bytes that are appended, and read at any offset. Disk access runs in a thread, one operation at a time.

    Cancelling a waiting call loses nothing: the appended bytes are written then or by the next call, which also raises
    the error if that fails.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by close()
        self._unwritten: deque[tuple[int, bytes]] = deque()
        self._busy: asyncio.Future[Any] | None = None

    @property
    def on_disk(self) -> bool:
        return self.size > _IN_MEMORY_BYTES

    async def add(self, data: bytes) -> None:
        """Raises Overloaded if the disk is full."""
        self._unwritten.append((self.size, data))
        self.size += len(data)
        await self._run(self._flush)

    async def read(self, at: int, end: int) -> bytes:
        data: bytes = await self._run(self._read, at, end - at)
        return data

    def close(self) -> None:
        """Closes without waiting: a large file, or one with a write in progress, is closed in a thread."""
        if not self.on_disk:
            self._file.close()
        elif self._busy is None or self._busy.done():
            asyncio.get_running_loop().run_in_executor(None, self._file.close)
        else:
            self._busy.add_done_callback(lambda done: self.close())

    async def _run(self, act: Callable[..., Any], *arguments: Any) -> Any:
        if not self.on_disk:
            return act(*arguments)
        try:
            while (busy := self._busy) is not None:
                await asyncio.wait([busy])  # not `await busy`: that would cancel it together with this call
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
    """One form: the part that has arrived, and the rest, which is read from the client at the upstream's pace."""

    def __init__(self, receive: Receive, length: int | None, limit_bytes: int, boundary: bytes) -> None:
        self.length = length  # the client's content-length; None if it sent none
        self.alias = ""  # the field `model`
        self.stream = False  # the field `stream`, if it came before `model`
        self.complete = False
        self.last_received = 0.0  # monotonic time at which the client last sent something
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._spool = Spool()
        self._boundary = boundary
        self._fields = FormFieldReader(boundary, counted=b"model")
        self._known: dict[bytes, FormField] = {}  # `model` and `stream`; of duplicates the first
        self._error: Exception | None = None  # why no more can be read; raised again by later reads
        self._deadline: PausableDeadline | None = None
        self._on_complete: Callable[[], None] | None = None

    async def to_model(self, default: str | None = None) -> None:
        """Reads until the model is known. default: of a form that names none; None means that such a form is refused.

        Raises BadRequest, TooLarge and ClientGone.
        """
        while b"model" not in self._known and not self.complete:
            await self._more()
        self.alias = (await self._value(b"model"))[:256].decode("utf-8", "replace")
        self.stream = (await self._value(b"stream")).lower() == b"true"
        if default is not None and not self._fields.count:
            self.alias = default
        if not self.alias:
            text = "the form has no field `model`: audio must name it; for other forms `defaults` in gateway.yaml may"
            raise BadRequest(text, param="model", code="missing_required_parameter")

    async def to_end(self) -> None:
        """Reads the rest. Raises BadRequest, TooLarge and ClientGone."""
        while not self.complete:
            await self._more()

    def when_complete(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when the form is complete; at once if it is."""
        if self.complete:
            callback()
        else:
            self._on_complete = callback

    @contextmanager
    def pausing(self, deadline: PausableDeadline) -> Iterator[None]:
        """Pauses the deadline while the gateway waits for the client: its slowness is not the upstream's fault."""
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = None

    def with_model(self, model: str) -> SplicedUpload:
        """The form with `model` in place of the model that the client named, or as a first field of a form without."""
        field = self._known.get(b"model")
        if field is None:
            head = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
            return SplicedUpload(self, 0, 0, head % (self._boundary, model.encode()))
        if model == self.alias:
            return SplicedUpload(self, 0, 0, b"")
        return SplicedUpload(self, field.start, field.end, model.encode())

    @property
    def size(self) -> int | None:
        """The size of the form in bytes: exact once it is complete, before that the client's content-length, if it sent
        one."""
        return self._spool.size if self.complete else self.length

    async def pieces(self, start: int, end: int, value: bytes) -> AsyncIterator[bytes]:
        """The form from its beginning, with `value` in place of the bytes from `start` to `end`.

        Reads on from the client where the spool ends. Only one iterator may be active at a time.
        """
        at = 0
        while at < start:
            yield await self._spool.read(at, at := min(at + _PIECE_BYTES, start))
        if value:
            yield value
        at = end
        while True:
            if at < self._spool.size:
                yield await self._spool.read(at, at := min(at + _PIECE_BYTES, self._spool.size))
            elif self.complete:
                return
            elif data := await self._more():
                at += len(data)
                yield data

    def close(self) -> None:
        self._on_complete = None
        self._error = self._error or ClientGone()
        self._spool.close()

    async def _value(self, name: bytes) -> bytes:
        field = self._known.get(name)
        if field is None:
            return b""
        return (await self._spool.read(field.start, min(field.end, field.start + _MAX_VALUE_BYTES))).strip()

    async def _more(self) -> bytes:
        """The next piece from the client, spooled. Once it has failed, it always fails: no piece may be missing."""
        if self._error is not None:
            raise self._error
        if self._deadline is not None:
            self._deadline.pause()
        message = await self._receive()
        self.last_received = time.monotonic()
        if self._deadline is not None:
            self._deadline.resume()
        try:
            data = self._read(message)
        except Exception as error:
            self._error = error
            raise
        if data:
            await self._spool.add(data)
        return data

    def _read(self, message: Any) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone  # an ordinary end would make half a file look complete
        data: bytes = message.get("body", b"")
        if self._spool.size + len(data) > self._limit_bytes:
            raise too_large(self._limit_bytes)
        complete = not message.get("more_body", False)
        try:
            for field in self._fields.feed(data):
                if field.name in (b"model", b"stream"):
                    self._known.setdefault(field.name, field)
            if complete:
                self._fields.end()
        except AmbiguousForm as error:  # an upstream might read a model that was not authorized
            raise BadRequest(str(error)) from None
        if self._fields.count > 1:
            raise BadRequest("the form has more than one field `model`", param="model")
        self.complete = complete
        if self.complete and self._on_complete is not None:
            self._on_complete()
        return data


class SplicedUpload:
    """An upload with another model; can be iterated once per attempt. length: in bytes; None if not known yet."""

    def __init__(self, upload: Upload, start: int, end: int, value: bytes) -> None:
        self._upload = upload
        self._splice = (start, end, value)
        self.length = None if upload.size is None else upload.size - (end - start) + len(value)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._upload.pieces(*self._splice)


async def begin_upload(
    receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int, default: str | None = None
) -> Upload:
    """Reads a form up to its model; the caller closes it. default: the model of a form that names none.

    Raises BadRequest, TooLarge and ClientGone.
    """
    given = headers.get(b"content-length", b"")
    length = int(given) if given.isdigit() and b"transfer-encoding" not in headers else None
    if length is not None and length > limit_bytes:
        raise too_large(limit_bytes)
    try:
        boundary = boundary_of(headers.get(b"content-type", b""))
    except AmbiguousForm as error:
        raise BadRequest(str(error)) from None
    upload = Upload(receive, length, limit_bytes, boundary)
    try:
        await upload.to_model(default)
    except BaseException:
        upload.close()
        raise
    return upload


class UploadRequest:
    """The request of a form that is still arriving. Until it is complete, its reader sees the client leave."""

    def __init__(self, request: HttpRequest, upload: Upload) -> None:
        self.method, self.path, self.query = request.method, request.path, request.query
        self.headers, self.fields, self.peer = request.headers, request.fields, request.peer
        self.holder, self.task = request.holder, request.task
        self.receive = request.receive
        self._request = request
        self._upload = upload

    async def body(self, limit_bytes: int) -> bytes:
        """The body, always empty: the form is read through its Upload."""
        return b""

    def hold(self, size: int) -> None:
        self._request.hold(size)

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        self._upload.when_complete(partial(self._request.watch, on_client_gone))

    def unwatch(self) -> None:
        """Ends the watch and closes the form."""
        self._request.unwatch()
        self._upload.close()
