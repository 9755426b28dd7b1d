"""Builds the dialect of an upstream from its kind."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from typing import get_args

from gateway.config.upstreams import Upstream
from gateway.core.errors import GatewayError
from gateway.core.providers import DialectName
from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.dialects.azure import Azure
from gateway.proxy.dialects.compressed import CompressedRequests
from gateway.proxy.dialects.messages import Messages
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.responses import RESPONSES_APIS, ResponsesAsChat
from gateway.proxy.dialects.types import ClientDialect, Dialect, PlainReply, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Api, Call
from gateway.proxy.types import Headers

_ANTHROPIC_APIS: tuple[Api, ...] = ("messages", "count_tokens")


class DialectByApi:
    """An upstream that speaks one API, for the clients of several; the API of the call decides."""

    def __init__(self, native: Dialect, translated: Mapping[str, ClientDialect]) -> None:
        """translated: by the APIs that the upstream does not have."""
        self.origin = native.origin
        self._native = native
        self._by_api: dict[str, ClientDialect] = {**dict.fromkeys(get_args(Api), native), **translated}

    def request(self, call: Call, model: str) -> UpstreamRequest:
        return self._by_api[call.api].request(call, model)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return self._by_api[call.api].reader(call, keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        return self._by_api[call.api].answer(call, body)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return self._by_api[call.api].error(call, status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return self._by_api[call.api].broken(call, error)

    def raw(
        self,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | AsyncIterable[bytes],
        length: int | None = None,
    ) -> UpstreamRequest:
        return self._native.raw(method, path, headers, body, length)


def _openais(upstream: Upstream, native: OpenAI) -> Dialect:
    translated: dict[str, ClientDialect] = dict.fromkeys(_ANTHROPIC_APIS, Messages(upstream, native))
    if upstream.translates_responses:
        translated |= dict.fromkeys(RESPONSES_APIS, ResponsesAsChat(upstream, native))
    return DialectByApi(native, translated)


def _anthropics(upstream: Upstream) -> Dialect:
    native = Anthropic(upstream)
    return DialectByApi(native, dict.fromkeys(RESPONSES_APIS, ResponsesAsChat(upstream, native)))


_DIALECTS: dict[DialectName, Callable[[Upstream], Dialect]] = {
    "openai": lambda upstream: _openais(upstream, OpenAI(upstream)),
    "azure": lambda upstream: _openais(upstream, Azure(upstream)),
    "anthropic": _anthropics,
}


def build_dialect(upstream: Upstream) -> Dialect:
    """The dialect of this upstream, built from its config."""
    dialect = _DIALECTS[upstream.provider.dialect](upstream)
    return dialect if upstream.compress is None else CompressedRequests(dialect)
