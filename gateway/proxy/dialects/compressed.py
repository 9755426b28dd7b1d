"""Requests that an upstream gets compressed (`upstreams.NAME.compress`), whatever its dialect."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable
from dataclasses import replace

from gateway.core.errors import BadRequest, GatewayError
from gateway.proxy.dialects.types import Dialect, PlainReply, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SMALLEST_BYTES = 1024  # a smaller body gains nothing
_LEVEL = 1  # 0.4 GB/s: the other calls of the process wait meanwhile
_ENCODED: tuple[bytes, bytes] = (b"content-encoding", b"zstd")
_REFUSES_ENCODING = 415


class CompressedRequests:
    """A dialect whose requests are compressed with zstd. Forms, and what is forwarded as it is, are not."""

    def __init__(self, inner: Dialect) -> None:
        self.origin = inner.origin
        self._inner = inner

    def request(self, call: Call, model: str) -> UpstreamRequest:
        request = self._inner.request(call, model)
        body = request.join()
        if not isinstance(body, bytes) or len(body) < _SMALLEST_BYTES:
            return request
        headers = [*request.headers, _ENCODED]
        return replace(
            request, body=zstd.compress(body, level=_LEVEL), headers=headers, recorded=request.recorded or body
        )

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return self._inner.reader(call, keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        return self._inner.answer(call, body)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        if status == _REFUSES_ENCODING:
            text = "the upstream does not take compressed requests; remove `compress` of the upstream in gateway.yaml"
            body = BadRequest(text, code="unsupported_content_encoding").body()
        return self._inner.error(call, status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return self._inner.broken(call, error)

    def raw(
        self,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | AsyncIterable[bytes],
        length: int | None = None,
    ) -> UpstreamRequest:
        return self._inner.raw(method, path, headers, body, length)
