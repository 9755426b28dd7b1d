"""Request bodies that a client has compressed: gzip, zstd, and br where the extra `brotli` is installed.

A body is decompressed as it arrives, in small steps, so that a small body which would become a large one is refused
before it is one. It may become no larger than a plain one, and no larger than MOST_RATIO times the received bytes; its
size counts in `limits.inflight_mb` at each step. A decompressor's own memory is its window, of at most 8 MB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from types import MappingProxyType
from typing import Any, Protocol

from gateway.core.errors import BadRequest
from gateway.proxy.request.zstandard import zstd
from gateway.proxy.types import ClientGone, HttpRequest, too_large

MOST_RATIO = 200
"""Decompressed bytes for each byte that has arrived. Text that a person or a model wrote has less than 30."""
FREE_BYTES = 64 * 1024
"""Decompressed bytes of which the ratio is not looked at."""
MOST_FRAMES = 64
"""Gzip members or zstd frames of one body: each costs time, and may hold nothing."""
WINDOW_LOG = 23  # 8 MB
_STEP_BYTES = 128 * 1024  # decompressed at once
_COUNTED_BYTES = 64 * 1024
_GZIP_BITS = 31
_BROTLI_16_MB = 0x0F  # the low 4 bits
_BROTLI_LARGE = 0x11  # the low 7 bits: a "large window", which is no part of the RFC


class Decoder(Protocol):
    """Decompresses one body."""

    more: bool
    """Whether a further call may return bytes without further input."""
    complete: bool
    """Whether the body may end here."""

    def decode(self, data: bytes, most: int) -> bytes:
        """Decompresses at most about this number of bytes. Raises ValueError or EOFError for data that is not
        of this encoding."""
        ...


class _Framed:
    """Decompressor of gzip and zstd: a sequence of frames, each read by an object of its own."""

    def __init__(self, begin: Callable[[], Any], error: type[Exception]) -> None:
        """begin: makes the object that reads the next frame. error: what it raises for other data."""
        self.more = False
        self.complete = False
        self._begin = begin
        self._error = error
        self._frame = begin()
        self._frames = 1
        self._rest = b""  # input that was not used yet

    def decode(self, data: bytes, most: int) -> bytes:
        data = self._rest + data if self._rest else data
        if self._frame.eof:
            if not data:
                return b""
            self._next_frame()
        out = self._decompress(data, most)
        self._rest = self._frame.unused_data if self._frame.eof else getattr(self._frame, "unconsumed_tail", b"")
        self.more = bool(self._rest) or (len(out) >= most and not self._frame.eof)
        self.complete = self._frame.eof and not self._rest
        return out

    def _decompress(self, data: bytes, most: int) -> bytes:
        try:
            out: bytes = self._frame.decompress(data, most)
        except self._error as error:
            raise ValueError(str(error)) from None
        return out

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > MOST_FRAMES:
            raise ValueError(f"it has more than {MOST_FRAMES} frames")
        self._frame = self._begin()


class _Brotli:
    """Decompressor of br: one stream."""

    def __init__(self) -> None:
        import brotli  # an extra

        self.more = False
        self.complete = False
        self._begun = False
        self._stream = brotli.Decompressor()
        self._waiting: list[bytes] = []
        self._error: type[Exception] = brotli.error

    def decode(self, data: bytes, most: int) -> bytes:
        if data and not self._begun:
            self._begun = True
            _check_window(data[0])
        if data:
            self._waiting.append(data)
        given = self._waiting.pop(0) if self._waiting and self._stream.can_accept_more_data() else b""
        try:
            out: bytes = self._stream.process(given, output_buffer_limit=most)
        except self._error as error:
            raise ValueError(str(error)) from None
        self.complete = self._stream.is_finished() and not self._waiting
        self.more = not self.complete and (bool(out or self._waiting) or not self._stream.can_accept_more_data())
        return out


def _check_window(first: int) -> None:
    """first: the first byte of a brotli stream, which says how large its window is (RFC 7932, section 9.1)."""
    if first & 0x0F == _BROTLI_16_MB or first & 0x7F == _BROTLI_LARGE:
        raise ValueError("its window is larger than 8 MB")


def _gzip() -> Decoder:
    return _Framed(partial(zlib.decompressobj, _GZIP_BITS), zlib.error)


def _zstd() -> Decoder:
    options = {zstd().DecompressionParameter.window_log_max: WINDOW_LOG}
    return _Framed(partial(zstd().ZstdDecompressor, options=options), zstd().ZstdError)


_DECODERS: Mapping[str, Callable[[], Decoder]] = MappingProxyType({
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
    **({"br": _Brotli} if find_spec("brotli") is not None else {}),
})  # fmt: skip


def encoding_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The encoding of a request's body that can be decompressed; None if it has none, or one that is not known here.

    Raises BadRequest for a body that is encoded more than once.
    """
    given = b",".join(value for name, value in headers if name == b"content-encoding").decode("latin-1")
    names = [name for name in (part.strip().lower() for part in given.split(",")) if name not in ("", "identity")]
    if len(names) > 1:
        raise _invalid(f"it is encoded more than once ({', '.join(names)[:100]}); send it with one content-encoding")
    return names[0] if names and names[0] in _DECODERS else None


def _invalid(why: str) -> BadRequest:
    return BadRequest(f"the request body cannot be decompressed: {why}", code="invalid_compressed_body", retry=False)


class Decompression:
    """One body, decompressed as it arrives."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        """limit_bytes: of the body, compressed and not."""
        self._encoding = encoding
        self._limit_bytes = limit_bytes
        self._decoder = _DECODERS[encoding]()
        self._received = 0
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that this piece completes, in steps. Raises BadRequest and TooLarge before more is decompressed."""
        self._received += len(data)
        if self._received > self._limit_bytes:
            raise too_large(self._limit_bytes)
        more = bool(data)
        while more:
            piece = self._step(data)
            data, more = b"", self._decoder.more
            if piece:
                yield piece

    def _step(self, data: bytes) -> bytes:
        allowed = FREE_BYTES + MOST_RATIO * self._received
        most = min(_STEP_BYTES, min(allowed, self._limit_bytes) - self._size + 1)
        try:
            piece = self._decoder.decode(data, most)
        except (ValueError, EOFError) as error:
            raise _invalid(f"it is not {self._encoding}: {str(error)[:200]}") from None
        self._size += len(piece)
        if self._size > self._limit_bytes:
            raise too_large(self._limit_bytes)
        if self._size > allowed:
            raise _invalid(f"it would become more than {MOST_RATIO} times as large; send it without content-encoding")
        return piece

    def end(self) -> None:
        """Raises BadRequest if the body ends too soon."""
        if not self._decoder.complete:
            raise _invalid(f"it ends before its {self._encoding} data does" if self._received else "it is empty")


async def decompressed_body(request: HttpRequest, limit_bytes: int) -> bytes:
    """The body of a request with a content-encoding. A body of an unknown encoding is read as it is.

    Raises BadRequest, TooLarge, Overloaded and ClientGone.
    """
    encoding = encoding_of(request.headers)
    if encoding is None:
        return await request.body(limit_bytes)
    length = request.fields.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit_bytes:
        raise too_large(limit_bytes)
    decompression, body, counted, more = Decompression(encoding, limit_bytes), BytesIO(), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        for piece in decompression.feed(message.get("body", b"")):
            body.write(piece)
            if body.tell() - counted > _COUNTED_BYTES:
                request.hold(body.tell() - counted)
                counted = body.tell()
                await asyncio.sleep(0)  # a large body must not keep the other calls waiting
        more = message.get("more_body", False)
    decompression.end()
    return body.getvalue()
