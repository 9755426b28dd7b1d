"""Builds the dialect of an upstream from its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, get_args

from gateway.config.upstreams import Upstream
from gateway.core.errors import GatewayError
from gateway.core.providers import CHATS, IN_BLOCKS, DialectName
from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.dialects.azure import Azure
from gateway.proxy.dialects.bedrock_anthropic import BedrockAnthropic
from gateway.proxy.dialects.bedrock_client import BedrockClient
from gateway.proxy.dialects.bedrock_converse import BedrockConverse
from gateway.proxy.dialects.compressed import compressed, explained
from gateway.proxy.dialects.gemini import Gemini
from gateway.proxy.dialects.gemini_client import GeminiClient
from gateway.proxy.dialects.messages import Messages
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.responses import RESPONSES_APIS, ResponsesAsChat
from gateway.proxy.dialects.types import (
    ClientDialect,
    DecisionDialect,
    Dialect,
    PlainReply,
    Reader,
    UpstreamDialect,
)
from gateway.proxy.dialects.vertex_anthropic import VertexAnthropic
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import DECISION_APIS, Api, Call
from gateway.proxy.request.vendor_paths import BEDROCK_APIS, GEMINI_APIS

if TYPE_CHECKING:
    from gateway.core.decision_reads import ReadSettings

_ANTHROPIC_APIS: tuple[Api, ...] = ("messages", "count_tokens")
_DECISIONS: Mapping[str, Api] = {"openai": "decisions", "systemone": "systemone"}
"""The API whose requests an upstream takes as they are, by its format of decisions."""


class _ByApi(dict[str, ClientDialect]):
    """Dialects by API. Those for decisions in another format are made with the first call that needs one, and their
    modules imported then: most gateways serve none."""

    def __init__(self, known: Mapping[str, ClientDialect], upstream: Upstream, native: Dialect) -> None:
        super().__init__(known)
        self._upstream = upstream
        self._native = native
        format = upstream.decision_format
        if format is not None and upstream.provider.dialect in CHATS:
            for api in DECISION_APIS - {_DECISIONS.get(format, "")}:
                del self[api]

    def __missing__(self, api: str) -> ClientDialect:
        from gateway.proxy.dialects.translated_decisions import TranslatedDecisions

        made = self[api] = TranslatedDecisions(self._upstream, self._native)
        return made


class DialectByApi:
    """An upstream that speaks one API, for the clients of several; the API of the call decides."""

    def __init__(self, upstream: Upstream, native: Dialect, translated: Mapping[str, ClientDialect]) -> None:
        """translated: by the APIs that the upstream does not have."""
        compresses = upstream.compress is not None
        self.origin = native.origin
        self._upstream = upstream
        self._emulated: dict[ReadSettings, ClientDialect] = {}
        self._native = native
        self._compresses = compresses
        self._decider: DecisionDialect | None = None
        self._deciders: dict[ReadSettings, DecisionDialect] = {}
        self._by_api = _ByApi({**dict.fromkeys(get_args(Api), native), **translated}, upstream, native)
        self.by_api: Mapping[str, ClientDialect] = dict.fromkeys(get_args(Api), self) if compresses else self._by_api

    def emulated(self, settings: ReadSettings) -> ClientDialect:
        """Made with the first call that needs it, and its module imported then."""
        made = self._emulated.get(settings)
        if made is None:
            from gateway.proxy.dialects.emulated_decisions import EmulatedDecisions

            made = self._emulated[settings] = EmulatedDecisions(self._upstream, self.by_api["chat"], settings)
        return made

    def request(self, call: Call, model: str) -> UpstreamRequest:
        request = self._by_api[call.api].request(call, model)
        return compressed(request) if self._compresses else request

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return self._by_api[call.api].reader(call, keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        return self._by_api[call.api].answer(call, body)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return self._by_api[call.api].error(call, status, explained(status, body) if self._compresses else body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return self._by_api[call.api].broken(call, error)

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        return self._native.raw(request)

    def decider(self, reads: ReadSettings | None = None) -> DecisionDialect:
        if reads is not None:
            return self._read_decider(reads)
        if self._decider is None:
            from gateway.proxy.dialects.translated_decisions import TranslatedDecisions

            self._decider = TranslatedDecisions(self._upstream, self._native)
        return self._decider

    def _read_decider(self, reads: ReadSettings) -> DecisionDialect:
        made = self._deciders.get(reads)
        if made is None:
            from gateway.proxy.dialects.read_decisions import ReadDecisions

            made = self._deciders[reads] = ReadDecisions(self._upstream, self.by_api["chat"], reads)
        return made


_NATIVE: dict[DialectName, Callable[[Upstream], Dialect]] = {
    "openai": OpenAI,
    "azure": Azure,
    "anthropic": Anthropic,
    "vertex_anthropic": VertexAnthropic,
    "bedrock_anthropic": BedrockAnthropic,
    "bedrock_converse": BedrockConverse,
    "gemini": Gemini,
}


_BEDROCK: tuple[tuple[Api, ...], Callable[[Dialect], ClientDialect]] = (BEDROCK_APIS, BedrockClient)
_VENDOR_CLIENTS: Mapping[DialectName, tuple[tuple[Api, ...], Callable[[Dialect], ClientDialect]]] = {
    "gemini": (GEMINI_APIS, GeminiClient),
    "bedrock_anthropic": _BEDROCK,
    "bedrock_converse": _BEDROCK,
}
"""The vendors' own APIs that upstreams of a dialect have, with the dialect of their clients."""


def build_dialect(upstream: Upstream) -> UpstreamDialect:
    dialect = upstream.provider.dialect
    native = _NATIVE[dialect](upstream)
    translated: dict[str, ClientDialect] = {}
    if dialect not in IN_BLOCKS:
        translated |= dict.fromkeys(_ANTHROPIC_APIS, Messages(upstream, native))
    if dialect in _VENDOR_CLIENTS:
        apis, client = _VENDOR_CLIENTS[dialect]
        translated |= dict.fromkeys(apis, client(native))
    if upstream.translates_responses or dialect not in CHATS:
        translated |= dict.fromkeys(RESPONSES_APIS, ResponsesAsChat(upstream, native))
    return DialectByApi(upstream, native, translated)
