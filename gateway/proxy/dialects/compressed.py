"""Requests that an upstream gets compressed with zstd (`upstreams.NAME.compress`), whatever its dialect."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.errors import BadRequest
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.zstandard import zstd

_SMALLEST_BYTES = 1024  # a smaller body gains nothing
_LEVEL = 1  # 0.4 GB/s: the other calls of the process wait meanwhile
_ENCODED: tuple[bytes, bytes] = (b"content-encoding", b"zstd")
_REFUSES_ENCODING = 415


def compressed(request: UpstreamRequest) -> UpstreamRequest:
    """The request with its body compressed. Forms and forwarded requests are not compressed."""
    body = request.join()
    if not isinstance(body, bytes) or len(body) < _SMALLEST_BYTES:
        return request
    headers = [*request.headers, _ENCODED]
    return replace(
        request, body=zstd().compress(body, level=_LEVEL), headers=headers, recorded=request.recorded or body
    )


def explained(status: int, body: bytes) -> bytes:
    """The error body of an upstream that gets compressed requests; a refusal of the encoding names the setting."""
    if status != _REFUSES_ENCODING:
        return body
    text = "the upstream does not take compressed requests; remove `compress` of the upstream in gateway.yaml"
    return BadRequest(text, code="unsupported_content_encoding").body()
