"""Whether an answer is empty: HTTP 200 and nothing in it that a reader could use. Pure.

A reasoning model that spends its tokens on thinking returns such an answer. Scorers of text do not apply to it, so it
would leave a comparison without a trace; experiments count it as failed unless their plan allows it.
"""

from __future__ import annotations

from gateway.core.completion import Completion
from gateway.core.exchange import Exchange
from gateway.core.json_values import parse_object
from gateway.core.output_tokens import OUTPUT_LIMITS

_APIS = frozenset({"chat", "completions", "responses", "messages"})
_ONE = 1  # token: a prompt that is sent to warm a cache or to read its log-probabilities asks for no more


def is_empty(exchange: Exchange, answer: Completion) -> bool | None:
    """Whether a complete answer holds nothing.

    Reasoning alone is empty. Audio, an image, a refusal, tool calls, and any answer of at most one token that was asked
    for are not. None: unknown, since only metadata was recorded or the record was cut.
    """
    if answer.text and not answer.text.isspace():  # nearly every answer: it decides without reading the request
        return False
    if exchange.outcome != "ok" or exchange.status >= 400 or exchange.api not in _APIS or exchange.likelihood:
        return False
    if answer.tool_calls or answer.refusal or answer.other or answer.finish_reason == "refusal":
        return False
    if exchange.truncated or exchange.request in (b"", b"{}"):
        return None
    return not _asks_for_nothing(exchange.request)


def _asks_for_nothing(request: bytes) -> bool:
    fields = parse_object(request) or {}
    limits = [fields[name] for name in OUTPUT_LIMITS if isinstance(fields.get(name), int | float)]
    return bool(limits) and min(limits) <= _ONE
