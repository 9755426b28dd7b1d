"""What a provider's cache of prompts saves, and what it costs when calls that share a prompt miss it. Pure.

Providers keep the beginning of a prompt for some minutes, at the server that read it. A session whose calls go to
several targets, and a prompt whose beginning differs with each call, pay the full price instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median_low

from gateway.core.exchange import Target
from gateway.core.prices import Price
from gateway.features.models.rows import SessionCall

KEPT_S = 300.0
"""Seconds for which a provider keeps a prompt's beginning, at the least that providers promise."""
LEAST_CALLS = 20
LEAST_SHARE = 0.1
"""Share of a session's later calls that go to another target, from which it is a caution."""
_MILLION = 1e6


def cached_price(price: Price) -> float:
    return price.input if price.cached_input is None else price.cached_input


def saved_usd(price: Price | None, cached_tokens: float) -> float | None:
    """Dollars that cached tokens cost less than others would."""
    return None if price is None else cached_tokens * (price.input - cached_price(price)) / _MILLION


@dataclass(frozen=True, slots=True)
class SpreadSessions:
    """The calls of one alias that follow a call of the same session within KEPT_S, and went to another target."""

    alias: str
    calls: int
    moved: int
    hit_rate_stayed: float | None
    """Cached tokens of the calls that stayed, as a share of those that the call before had sent."""
    hit_rate_moved: float
    lost_tokens: float
    """Tokens that would have been cached at the rate of the calls that stayed, weighted by 1/π."""
    lost_usd: float | None
    """Price of those tokens; None if a price is missing."""
    at_most: bool
    """Whether too few calls stayed to know their rate, so that all of the prompt before counts as cached."""


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    possible: float = 0.0
    cached: float = 0.0

    @property
    def rate(self) -> float | None:
        return self.cached / self.possible if self.possible else None


@dataclass(frozen=True, slots=True)
class _Follower:
    """A call with the tokens that the call before it had sent already."""

    call: SessionCall
    possible: int
    moved: bool


@dataclass(frozen=True, slots=True)
class CachedRun:
    """The cache of the recorded calls of one run."""

    run_id: str
    alias: str
    calls: int
    input_tokens: int
    cached_tokens: int
    hit_rate: float
    """Cached tokens as a share of those that the calls before had sent, within KEPT_S."""


def coldest_runs(calls: Iterable[SessionCall], most: int) -> list[CachedRun]:
    """The runs that repeated the most tokens without a hit. calls: of each session together, in their order."""
    found: list[tuple[float, CachedRun]] = []
    runs = groupby((call for call in calls if call.is_run), key=lambda call: (call.session, call.alias))
    for (run_id, alias), of_run in runs:
        members = list(of_run)
        followers = list(_followers(members))
        possible = sum(follower.possible for follower in followers)
        hits = sum(follower.call.cached_tokens for follower in followers)
        if possible:
            tokens = sum(call.input_tokens for call in members)
            cached = sum(call.cached_tokens for call in members)
            run = CachedRun(run_id, alias, len(members), tokens, cached, hits / possible)
            found.append((possible - hits, run))
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])[:most]]


def spread_sessions(calls: Iterable[SessionCall], price_of: Callable[[Target], Price | None]) -> list[SpreadSessions]:
    """One for each alias whose sessions are spread over targets. calls: of each session together, in their order."""
    by_alias: dict[str, list[_Follower]] = {}
    for (_, alias), session in groupby(calls, key=lambda call: (call.session, call.alias)):
        by_alias.setdefault(alias, []).extend(_followers(session))
    found = (_spread(alias, followers, price_of) for alias, followers in sorted(by_alias.items()))
    return [spread for spread in found if spread.moved >= max(LEAST_CALLS, LEAST_SHARE * spread.calls)]


def _followers(session: Iterable[SessionCall]) -> Iterator[_Follower]:
    for earlier, later in pairwise(session):
        if later.received - earlier.received <= KEPT_S:
            moved = (earlier.upstream, earlier.model) != (later.upstream, later.model)
            yield _Follower(later, min(earlier.input_tokens, later.input_tokens), moved)


def _spread(alias: str, followers: Sequence[_Follower], price_of: Callable[[Target], Price | None]) -> SpreadSessions:
    moved = [follower for follower in followers if follower.moved]
    stayed_sums = _sums([follower for follower in followers if not follower.moved])
    few = stayed_sums.calls < LEAST_CALLS
    expected = 1.0 if few else stayed_sums.rate or 0.0
    tokens, usd = 0.0, 0.0
    unpriced = False
    for follower in moved:
        call = follower.call
        lost = call.weight * (expected * follower.possible - call.cached_tokens)
        dollars = saved_usd(price_of(Target(call.upstream, call.model)), lost)
        tokens, usd, unpriced = tokens + lost, usd + (dollars or 0.0), unpriced or dollars is None
    return SpreadSessions(
        alias=alias,
        calls=len(followers),
        moved=len(moved),
        hit_rate_stayed=None if few else stayed_sums.rate,
        hit_rate_moved=_sums(moved).rate or 0.0,
        lost_tokens=max(0.0, tokens),
        lost_usd=None if unpriced else max(0.0, usd),
        at_most=few,
    )


def _sums(followers: Sequence[_Follower]) -> _Sums:
    sums = _Sums()
    for follower in followers:
        sums.calls += 1
        sums.possible += follower.call.weight * follower.possible
        sums.cached += follower.call.weight * follower.call.cached_tokens
    return sums


LEAST_REPEATED = 2048
"""Bytes that two prompts must share after their first difference, for it to cost a cache."""
EARLY = 4096
"""A cache of prompts begins at about 1 024 tokens: a difference before this byte leaves nothing cached."""
_LEAST_PAIRS = 10
_MOST_PAIRS = 200
_MESSAGES = re.compile(rb'"(?:messages|input|system|instructions|prompt)"\s*:')
_PROBE, _REACH = 64, 512
_CHANGED = 0.8


@dataclass(frozen=True, slots=True)
class ChangingPrefix:
    """Prompts of one alias and caller that differ early, and are equal after that."""

    alias: str
    caller: str
    pairs: int
    """Pairs of prompts that follow each other."""
    byte: int
    """The median place of the first differing byte, counted from the beginning of the prompt in the body."""


def changing_prefix(alias: str, caller: str, bodies: Sequence[bytes]) -> ChangingPrefix | None:
    """Compares each prompt with the previous one. bodies: JSON of requests, in their order."""
    prompts = [prompt for prompt in map(_prompt, bodies[-_MOST_PAIRS:]) if len(prompt) > LEAST_REPEATED]
    pairs = list(pairwise(prompts))
    places = [first_difference(*pair) for pair in pairs]
    early = [
        place
        for place, pair in zip(places, pairs, strict=True)
        if place is not None and place < EARLY and repeated_after(*pair, place) >= LEAST_REPEATED
    ]
    if len(pairs) < _LEAST_PAIRS or len(early) < _CHANGED * len(pairs):
        return None
    return ChangingPrefix(alias, caller, len(pairs), median_low(early))


def _prompt(body: bytes) -> bytes:
    """The body from the member that begins the prompt."""
    begin = _MESSAGES.search(body)
    return b"" if begin is None else body[begin.start() :]


def first_difference(one: bytes, other: bytes) -> int | None:
    """The place of the first byte that differs; None if one begins with the other."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def repeated_after(one: bytes, other: bytes, place: int) -> int:
    """Bytes that are equal again soon after a difference, which may have another length in the two."""
    for skipped in range(0, _REACH, _PROBE // 2):
        begin = place + skipped
        probe = one[begin : begin + _PROBE]
        at = other.find(probe, place, place + 2 * _REACH) if len(probe) == _PROBE else -1
        if at >= 0:
            length = min(len(one) - begin, len(other) - at)
            equal = first_difference(one[begin : begin + length], other[at : at + length])
            return length if equal is None else equal
    return 0
