"""Builds the dialect of an upstream from its kind."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable

from gateway.config.upstreams import Upstream
from gateway.core.errors import GatewayError
from gateway.core.providers import DialectName
from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.dialects.azure import Azure
from gateway.proxy.dialects.messages import Messages
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.types import Dialect, PlainReply, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

_ANTHROPIC_APIS = ("messages", "count_tokens")


class DualDialect:
    """An upstream that speaks OpenAI's API, for OpenAI's and Anthropic's clients; the API of the call decides."""

    def __init__(self, upstream: Upstream, native: OpenAI) -> None:
        self.origin = native.origin
        self._native = native
        self._messages = Messages(upstream, native)

    def request(self, call: Call, model: str) -> UpstreamRequest:
        dialect = self._messages if call.api in _ANTHROPIC_APIS else self._native
        return dialect.request(call, model)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        dialect = self._messages if call.api in _ANTHROPIC_APIS else self._native
        return dialect.reader(call, keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        dialect = self._messages if call.api in _ANTHROPIC_APIS else self._native
        return dialect.answer(call, body)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        dialect = self._messages if call.api in _ANTHROPIC_APIS else self._native
        return dialect.error(call, status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        dialect = self._messages if call.api in _ANTHROPIC_APIS else self._native
        return dialect.broken(call, error)

    def raw(
        self,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | AsyncIterable[bytes],
        length: int | None = None,
    ) -> UpstreamRequest:
        return self._native.raw(method, path, headers, body, length)


_DIALECTS: dict[DialectName, Callable[[Upstream], Dialect]] = {
    "openai": lambda upstream: DualDialect(upstream, OpenAI(upstream)),
    "azure": lambda upstream: DualDialect(upstream, Azure(upstream)),
    "anthropic": Anthropic,
}


def build_dialect(upstream: Upstream) -> Dialect:
    """The dialect of this upstream, built from its config."""
    return _DIALECTS[upstream.provider.dialect](upstream)
