"""The address of one upstream, and what every request to it carries. Pure.

The dialects of Anthropic, Gemini and Bedrock share it.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from gateway.config.upstreams import Upstream
from gateway.proxy.dialects.openai import fixed_headers, split_base_url
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

_OTHERS = (b"openai-", b"anthropic-")


class UpstreamAddress:
    def __init__(self, upstream: Upstream, credential: tuple[bytes, bytes] | None) -> None:
        """credential: the header with the upstream's key; None if it has none, or `auth` adds one."""
        self.origin, self._prefix = split_base_url(upstream.url)
        self._fixed = fixed_headers(upstream, credential)
        self.fixed_names = frozenset(name for name, _ in self._fixed)
        """Names of the headers that every request to it has."""

    def request(self, call: Call, model: str, path: bytes, body: bytes) -> UpstreamRequest:
        """A translated request. The record has the client's own, with the model of the target."""
        kept = without_other_vendors(call.headers)
        recorded = call.body_with({"model": orjson.dumps(model)})
        return self.raw(UpstreamRequest(b"POST", "", path, kept, body, stream=call.stream, recorded=recorded))

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        """Same as in Dialect."""
        out = [h for h in request.headers if h[0] not in self.fixed_names] + self._fixed
        if request.body and not any(name == b"content-type" for name, _ in out):
            out.append((b"content-type", b"application/json"))
        return replace(request, origin=self.origin, path=self._prefix + request.path, headers=out)


def bearer(key: str | None) -> tuple[bytes, bytes] | None:
    """The header that carries a key as a bearer token."""
    return (b"authorization", b"Bearer " + key.encode()) if key else None


def without_other_vendors(headers: Headers) -> Headers:
    """A client's headers without those that are part of OpenAI's or Anthropic's API."""
    return [header for header in headers if not header[0].startswith(_OTHERS)]
