"""The cost of one call for its caller, computed once, when the call has ended. Pure.

Limits and usage accounting use the same `Charge`, so that counters and ledger agree. Usage that an upstream reports
counts, for every attempt, at the price of its own target; unreported usage is charged by the table in endings.py.
Shadows, repeats and judges are calls of their own and are never charged to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Protocol

from gateway.core.exchange import Attempt, Outcome, Target, Usage
from gateway.core.prices import Prices
from gateway.proxy.limits.accounting import FREE_APIS, UNREAD_APIS
from gateway.proxy.limits.endings import UnmeteredAttempt
from gateway.proxy.request.call import Call
from gateway.proxy.request.output_limit import GENERATES

BYTES_PER_TOKEN = 4
_FILE_TOKENS = 1000  # of an image or another file within the body
_STEP_BYTES = _FILE_TOKENS * BYTES_PER_TOKEN
_PROBE_BYTES = 32
_BASE64 = (ascii_letters + digits + "+/=_%-;,\\").encode()  # with what an encoder of JSON may put between
_CLOSELY_READ_BYTES = 32 << 10  # a smaller body holds no large file


@dataclass(slots=True)  # one for each call
class Charge:
    input_tokens: int
    cached_input_tokens: int
    """A part of the input."""
    output_tokens: int
    reasoning_tokens: int
    """A part of the output."""
    usd: float | None
    """The cost in USD; None if a target that used tokens has no price, or if the answer does not show what it used."""
    estimated: bool
    """Whether some of the tokens are an estimate."""
    gpu_seconds: float = 0.0
    """GPU-seconds of the user's own engines, at their price by tokens."""
    tiered: bool = False
    """Whether the call went to the cheaper tier, because a budget was nearly used up."""


class EndedAnswer(Protocol):
    """The part of a CallContext that determines the usage."""

    attempts: list[Attempt]
    usage: Usage | None
    outcome: Outcome
    sent: bool
    unmetered: tuple[UnmeteredAttempt, ...]


def charge_of(call: Call, context: EndedAnswer, prices: Prices, most_output: int) -> Charge | None:
    """The cost of a call that has ended. None if nothing was sent to an upstream.

    most_output: the tokens that all of its answers together may have, as they were reserved.
    """
    attempts, usage = context.attempts, context.usage
    if usage is not None and context.outcome == "ok" and not attempts[1:] and call.api not in FREE_APIS:
        target = attempts[0].target
        name = f"{target.upstream}/{target.model}"
        price = prices.known[name] if name in prices.known else prices.of(target)
        usd = usage.usd
        if usd is None and price is not None:
            usd = price.cost(usage)
        return Charge(
            usage.input_tokens,
            usage.cached_input_tokens or 0,
            usage.output_tokens,
            usage.reasoning_tokens or 0,
            usd,
            False,
            prices.gpu_seconds(attempts[0].target, usage) if prices.gpu else 0.0,
        )
    if not context.sent:
        return None
    if call.api in FREE_APIS:
        return Charge(0, 0, 0, 0, 0.0, False)
    used = [(attempt.target, attempt.usage) for attempt in attempts if attempt.usage is not None]
    estimates = [(ended.target, _unreported(call, ended, most_output)) for ended in context.unmetered]
    estimates = [(target, usage) for target, usage in estimates if usage.input_tokens or usage.output_tokens]
    total = _sum([*used, *estimates], prices, estimated=bool(estimates))
    if _unread(call) and any(ended.input_estimated for ended in context.unmetered):
        total.usd = None
    return total


def _unread(call: Call) -> bool:
    """Whether the cost of an answer without usage cannot be estimated. That of a response in the background is not
    there yet."""
    return call.api in UNREAD_APIS or (call.api == "responses" and call.fields.get("background") is True)


def input_tokens_of(body: bytes) -> int:
    """The estimated input of a request: one token for each 4 bytes, and 1000 for each base64-encoded file in it.

    The body is not searched: a file that is more than 1000 tokens by its bytes contains one of the sampled positions.
    Text of few letters a token (digits, code, languages other than English) has more.
    """
    if len(body) <= _CLOSELY_READ_BYTES:
        return len(body) // BYTES_PER_TOKEN
    files = in_files = at = 0
    while at < len(body):
        if body[at : at + _PROBE_BYTES].translate(None, _BASE64):  # it has other characters
            at += _STEP_BYTES
            continue
        start = body.rfind(b";base64,", max(0, at - _STEP_BYTES - _PROBE_BYTES), at + _PROBE_BYTES)
        if start < 0 or body.find(b'"', start, at) >= 0:  # the file, if there was one, ended before
            at += _STEP_BYTES
            continue
        end = body.find(b'"', at)
        at = len(body) if end < 0 else end
        files += 1
        in_files += at - start
    return (len(body) - in_files) // BYTES_PER_TOKEN + files * _FILE_TOKENS


def _unreported(call: Call, ended: UnmeteredAttempt, most_output: int) -> Usage:
    """Return what an attempt has used beyond what its upstream reported."""
    inputs = input_tokens_of(call.body) if ended.input_estimated else 0
    reported = 0 if ended.usage is None else ended.usage.output_tokens
    return Usage(inputs, max(0, _output(call, ended, most_output) - reported))


def _output(call: Call, ended: UnmeteredAttempt, most_output: int) -> int:
    """Estimates the output that the attempt has produced. Only APIs that generate text have an output that is counted
    in tokens."""
    if call.api not in GENERATES:
        return 0
    if call.stream:
        return ended.pieces if ended.ending.stream_output == "arrived" else 0
    if ended.ending.plain_output == "reserved":
        return most_output
    return ended.answer_bytes // BYTES_PER_TOKEN


def _sum(parts: Sequence[tuple[Target, Usage]], prices: Prices, *, estimated: bool) -> Charge:
    total = Charge(0, 0, 0, 0, 0.0, estimated)
    for target, usage in parts:
        total.input_tokens += usage.input_tokens
        total.cached_input_tokens += usage.cached_input_tokens or 0
        total.output_tokens += usage.output_tokens
        total.reasoning_tokens += usage.reasoning_tokens or 0
        cost = prices.cost(target, usage)
        total.usd = None if cost is None or total.usd is None else total.usd + cost
        total.gpu_seconds += prices.gpu_seconds(target, usage)
    return total
