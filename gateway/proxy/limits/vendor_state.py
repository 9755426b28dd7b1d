"""The remainder of a vendor's limits for one model, read from the headers of its responses. Pure: times are given.

OpenAI and those that speak its API send `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, with durations such as
`6m0s` or `12ms`; Anthropic sends `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, with times of RFC
3339. The remainder grows from `remaining` to `limit` until the reset, like a token bucket; a vendor that adds all of it
at the reset answers 429 before, with the time after which it may be asked again.

However far the reset is, nobody waits longer than a minute after the report: then one attempt asks the vendor, and the
others wait for its answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

VENDOR_MEASURES = ("requests", "tokens")
_WINDOW_S = 60.0
_LONGEST_S = 86_400.0
PROBE_S = 60.0
"""Seconds after a report, or after an attempt that asks, until an attempt asks the vendor whatever its report was."""
_PARTS = re.compile(rb"(\d+(?:\.\d+)?)(ms|us|d|h|m|s)")
_UNITS_S = {b"us": 1e-6, b"ms": 1e-3, b"s": 1.0, b"m": 60.0, b"h": 3600.0, b"d": 86_400.0}
_DURATION = re.compile(rb"(?:\d+(?:\.\d+)?(?:ms|us|d|h|m|s))+")
_AMOUNT = re.compile(rb"\d{1,15}(?:\.\d{1,6})?")


@dataclass(slots=True)
class VendorLevel:
    """Remainder of one measure: the vendor's last report less the calls since."""

    left: float
    rate: float
    """Growth per second, up to `most`."""
    most: float
    at: float
    """Monotonic seconds of `left`."""
    until: float
    """Monotonic seconds after which nothing is known: the reset has passed."""
    header: str = ""
    """Header of the report."""
    reported: float = 0.0
    """The amount in that header."""

    def __str__(self) -> str:
        return f"{self.header}: {self.reported:g}, which resets {self.until - self.at:,.0f} s later"

    def now(self, at: float) -> float | None:
        """The amount left at a time; None if unknown."""
        return None if at >= self.until else min(self.most, self.left + self.rate * (at - self.at))


class VendorState:
    """The limits of one model at its vendor as one worker knows them. Headers do not include its calls in flight."""

    def __init__(self) -> None:
        self.levels: dict[str, VendorLevel] = {}
        self._in_flight = [0.0, 0.0]
        self._asked_at = -inf

    def wait_s(self, needs: Sequence[float], workers: int, at: float) -> float:
        """Seconds until an attempt of these requests and tokens may start; 0: now. workers: number that share the
        remainder."""
        short = self.short(needs, workers, at)
        return 0.0 if short is None else min(short[1], max(0.0, self._asked_at + PROBE_S - at))

    def short(self, needs: Sequence[float], workers: int, at: float) -> tuple[VendorLevel, float] | None:
        """The level that lacks the most for such an attempt, with the seconds until it has grown enough; None if all
        suffice."""
        longest: tuple[VendorLevel, float] | None = None
        for name, need in zip(VENDOR_MEASURES, needs, strict=True):
            level = self.levels.get(name)
            left = None if level is None else level.now(at)
            if level is None or left is None or not need:
                continue
            wanted = max(1.0, min(need * workers, level.most))
            if left < wanted:
                until_s = level.until - at
                wait_s = min(until_s, (wanted - left) / level.rate) if level.rate > 0 else until_s
                longest = (level, wait_s) if longest is None or wait_s > longest[1] else longest
        return longest

    def idle(self, at: float) -> bool:
        """Whether it may be forgotten: nothing is in flight, and nothing is known."""
        return not any(self._in_flight) and all(level.now(at) is None for level in self.levels.values())

    def take(self, needs: Sequence[float]) -> None:
        for i, name in enumerate(VENDOR_MEASURES):
            self._in_flight[i] += needs[i]
            if name in self.levels:
                self.levels[name].left -= needs[i]

    def begin_probe(self, at: float) -> None:
        """Notes that the attempt which begins now asks the vendor; others wait for its answer, a minute at most."""
        self._asked_at = at

    def release_probe(self) -> None:
        """Notes that the attempt which asked got no response: the next one asks."""
        self._asked_at = -inf

    def ended(self, needs: Sequence[float]) -> None:
        """Notes that the attempt has ended, or that its response has begun: the vendor has counted it."""
        for i in range(len(VENDOR_MEASURES)):
            self._in_flight[i] -= needs[i]

    def learn(self, headers: Sequence[tuple[bytes, bytes]], at: float, wall: float, *, probed: bool = False) -> None:
        """Takes over the figures of a response. wall: Unix seconds at the same moment. probed: the attempt asked; what
        its response does not report is unknown."""
        if probed:
            self.levels.clear()
        sent = {name: value for name, value in headers if b"ratelimit" in name}
        if not sent:
            return
        for i, name in enumerate(VENDOR_MEASURES):
            level = _level(sent, name.encode(), at, wall)
            if level is not None:
                level.left = max(0.0, level.left - self._in_flight[i])
                self.levels[name] = level
                self._asked_at = at


def _level(sent: Mapping[bytes, bytes], measure: bytes, at: float, wall: float) -> VendorLevel | None:
    """Level that the headers state; None if they state none."""
    ours, theirs = b"x-ratelimit-%b-" + measure, b"anthropic-ratelimit-" + measure + b"-%b"
    for form in (ours, theirs):
        remaining = _amount(sent.get(form % b"remaining"))
        if remaining is None:
            continue
        limit = _amount(sent.get(form % b"limit"))
        most = inf if limit is None else max(limit, remaining)
        reset_s = _seconds(sent.get(form % b"reset"), wall)
        lasts_s = _WINDOW_S if reset_s is None else reset_s
        rate = (most - remaining) / lasts_s if limit is not None and lasts_s > 0 else 0.0
        header = (form % b"remaining").decode()
        return VendorLevel(remaining, rate, most, at, at + lasts_s, header, remaining)
    return None


def _amount(value: bytes | None) -> float | None:
    return float(value) if value is not None and _AMOUNT.fullmatch(value) else None


def _seconds(value: bytes | None, wall: float) -> float | None:
    """Seconds from now of a duration, of a number of seconds, or of a time; None if it is none of these."""
    if value is None:
        return None
    if _DURATION.fullmatch(value):
        found = sum(float(n) * _UNITS_S[unit] for n, unit in _PARTS.findall(value))
    elif _AMOUNT.fullmatch(value):
        found = float(value)
        found = found - wall if found > wall / 2 else found
    else:
        try:
            found = datetime.fromisoformat(value.decode()).timestamp() - wall
        except (ValueError, UnicodeDecodeError):
            return None
    return min(max(found, 0.0), _LONGEST_S)
