"""What one call costs its caller, computed once, when the call has ended. Pure.

Limits and usage accounting use the same `Charge`, so that counters and ledger agree.

- Every attempt that reported its usage counts, at the price of its own target; so does a failed one.
- An attempt that was answered with HTTP 2xx and reported no usage, or that was in progress when the client left,
  counts its input, estimated at one token for each 4 bytes of the request body.
- The output of a stream that did not end, or that reported no usage, is estimated at one token for each piece in which
  it arrived; that of a plain answer without usage, at one token for each 4 bytes.
- Shadows, repeats and judges are calls of their own and are never charged to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.exchange import Attempt, Outcome, Target, Usage
from gateway.core.prices import Prices
from gateway.proxy.request.call import Call

BYTES_PER_TOKEN = 4
_FILE_TOKENS = 1000  # of an image or another file within the body
_CLOSELY_READ_BYTES = 32 << 10  # a smaller body holds no large file
_UNFINISHED: frozenset[Outcome] = frozenset({"client_gone", "cut", "timeout"})
_BROKEN_OFF = frozenset({"client gone", "gateway stopped"})
_TEXT = frozenset({"chat", "completions", "responses", "messages"})
FREE_APIS = frozenset({"count_tokens", "input_tokens", "tokenize", "detokenize"})  # they run no model


@dataclass(slots=True)  # one for each call; never assigned to once it is returned
class Charge:
    """What one call costs."""

    input_tokens: int
    cached_input_tokens: int
    """A part of the input."""
    output_tokens: int
    reasoning_tokens: int
    """A part of the output."""
    usd: float | None
    """None: a target that used tokens has no price."""
    estimated: bool
    """Some of the tokens are an estimate."""


class EndedAnswer(Protocol):
    """The part of a CallContext that says what was used."""

    attempts: list[Attempt]
    usage: Usage | None
    outcome: Outcome
    client_gone: bool
    first_bytes: bytes
    sent: bool
    pieces: int


def charge_of(call: Call, context: EndedAnswer, prices: Prices) -> Charge | None:
    """The cost of a call that has ended. None: nothing was sent to an upstream."""
    attempts, usage = context.attempts, context.usage
    if usage is not None and context.outcome == "ok" and not attempts[1:] and call.api not in FREE_APIS:
        target = attempts[0].target
        name = f"{target.upstream}/{target.model}"
        price = prices.known[name] if name in prices.known else prices.of(target)
        return Charge(
            usage.input_tokens,
            usage.cached_input_tokens or 0,
            usage.output_tokens,
            usage.reasoning_tokens or 0,
            None if price is None else price.cost(usage),
            False,
        )
    if not context.sent:
        return None
    if call.api in FREE_APIS:
        return Charge(0, 0, 0, 0, 0.0, False)
    used = _reported(attempts)
    estimates = _estimates(call, context, used)
    return _sum([*used, *estimates], prices, estimated=bool(estimates))


def input_tokens_of(body: bytes) -> int:
    """The estimated input of a request: one token for each 4 bytes, and 1000 for each base64-encoded file in it.

    Text of few letters a token (digits, code, languages other than English) has more.
    """
    if len(body) <= _CLOSELY_READ_BYTES:
        return len(body) // BYTES_PER_TOKEN
    files = at = in_files = 0
    while (start := body.find(b";base64,", at)) >= 0:
        end = body.find(b'"', start)
        at = len(body) if end < 0 else end
        files += 1
        in_files += at - start
    return (len(body) - in_files) // BYTES_PER_TOKEN + files * _FILE_TOKENS


def _reported(attempts: Sequence[Attempt]) -> list[tuple[Target, Usage]]:
    return [(attempt.target, attempt.usage) for attempt in attempts if attempt.usage is not None]


def _estimates(call: Call, context: EndedAnswer, used: list[tuple[Target, Usage]]) -> list[tuple[Target, Usage]]:
    """What attempts have used beyond what they reported."""
    found = [(a.target, Usage(input_tokens_of(call.body), 0)) for a in context.attempts if _unmetered(a)]
    unfinished = context.client_gone or context.outcome in _UNFINISHED
    if call.api in _TEXT and (found or unfinished):
        output = _produced(call, context) - sum(usage.output_tokens for _, usage in used)
        if output > 0:
            found.append((context.attempts[-1].target, Usage(0, output)))
    return found


def _unmetered(attempt: Attempt) -> bool:
    if attempt.status is None:
        return attempt.failure in _BROKEN_OFF
    return attempt.usage is None and 200 <= attempt.status < 300


def _produced(call: Call, context: EndedAnswer) -> int:
    return context.pieces if call.stream else len(context.first_bytes) // BYTES_PER_TOKEN


def _sum(parts: Sequence[tuple[Target, Usage]], prices: Prices, *, estimated: bool) -> Charge:
    total = Charge(0, 0, 0, 0, 0.0, estimated)
    for target, usage in parts:
        total.input_tokens += usage.input_tokens
        total.cached_input_tokens += usage.cached_input_tokens or 0
        total.output_tokens += usage.output_tokens
        total.reasoning_tokens += usage.reasoning_tokens or 0
        cost = prices.cost(target, usage)
        total.usd = None if cost is None or total.usd is None else total.usd + cost
    return total
