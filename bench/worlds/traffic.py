"""Calls of made-up traffic, in order: what both arms score and fail, and whose calls they are. No rule of the product.

A world draws its calls from a generator of random numbers, a mean difference in margins and a number of calls. Scores
are in [0, 1]: the control's and the candidate's are placed around 0.5, so that their difference is the one drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MARGIN, DEVIATION, RAIL = 0.05, 0.3, 0.02
START = 900.0 * 2_000_000  # Unix seconds, at the beginning of a quarter of an hour
Values = NDArray[np.float64]
Indices = NDArray[np.int64]
Lack = Literal["", "timeout", "not_applicable"]
"""Reason why an answer has no score, or "" if it has one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that both arms answer. score: of each arm; again: of the control's repeat."""

    at: float
    a: float
    b: float
    again: float
    user: str | None = None
    key: str | None = None
    conversation: str | None = None
    prompt: str | None = None
    a_failed: bool = False
    b_failed: bool = False
    again_failed: bool = False
    a_lacks: Lack = ""
    b_lacks: Lack = ""


Draw = Callable[[np.random.Generator, float, Values], Iterator[Call]]
"""(rng, mean difference in margins, times of the calls in Unix seconds) → the calls."""
Owners = Callable[[np.random.Generator, int], Sequence[str | None]]
"""(rng, calls) → the owner of each call."""


def evenly(calls: int, apart_s: float) -> Values:
    """Times of calls that come at a steady pace."""
    return START + apart_s * np.arange(calls)


def scored(difference: Values) -> tuple[Values, Values]:
    """(the control's scores, the candidate's) with these differences."""
    clipped = np.clip(difference, -1, 1)
    return (1 - clipped) / 2, (1 + clipped) / 2


def repeated(rng: np.random.Generator, mean: float, calls: int) -> Values:
    """Scores of the control's repeats: as the control's own, on average."""
    return scored(rng.normal(mean * MARGIN, DEVIATION, calls))[0]


def independent(deviation: float = DEVIATION) -> Draw:
    def draw(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        a, b = scored(rng.normal(mean * MARGIN, deviation, len(at)))
        for values in zip(at.tolist(), a.tolist(), b.tolist(), repeated(rng, mean, len(at)).tolist(), strict=True):
            yield Call(*values)

    return draw


@dataclass(frozen=True, slots=True)
class Owned:
    """Calls whose differences are alike within their owner. icc: the correlation within one owner."""

    owners: Owners
    icc: float
    kind: Literal["user", "key", "prompt", "conversation"] = "user"
    named: bool = True

    def __call__(self, rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        names = self.owners(rng, len(at))
        shared = dict[str | None, float]()
        own = rng.normal(mean * MARGIN, DEVIATION * math.sqrt(1 - self.icc), len(at))
        again = repeated(rng, mean, len(at))
        for i, name in enumerate(names):
            if name not in shared:
                shared[name] = rng.normal(0, DEVIATION * math.sqrt(self.icc))
            a, b = scored(np.asarray(own[i] + shared[name]))
            call = Call(float(at[i]), float(a), float(b), float(again[i]))
            yield _owned(call, self.kind, name) if self.named else call


@dataclass(frozen=True, slots=True)
class TheseUsers:
    """Calls of users who are all there are: their own differences, weighted by their shares, have the mean that is
    drawn for. weights: of each user, in any unit."""

    weights: Sequence[float]
    icc: float

    def __call__(self, rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        share = np.asarray(self.weights) / sum(self.weights)
        level = rng.normal(0.0, DEVIATION * math.sqrt(self.icc), len(share))
        users = rng.choice(len(share), len(at), p=share)
        own = rng.normal(mean * MARGIN, DEVIATION * math.sqrt(1 - self.icc), len(at))
        a, b = scored(own + (level - float(share @ level))[users])
        again = repeated(rng, mean, len(at))
        for i, user in enumerate(users.tolist()):
            yield Call(float(at[i]), float(a[i]), float(b[i]), float(again[i]), f"u{user}", "web")


def _owned(call: Call, kind: Literal["user", "key", "prompt", "conversation"], name: str | None) -> Call:
    user, key, prompt, conversation = (name if kind == k else None for k in ("user", "key", "prompt", "conversation"))
    return Call(call.at, call.a, call.b, call.again, user, key or "web", conversation, prompt)


def shares(weights: Sequence[float]) -> Owners:
    """Each call belongs to one of a few owners, with these probabilities."""
    total = sum(weights)

    def draw(rng: np.random.Generator, calls: int) -> Sequence[str | None]:
        return [f"u{i}" for i in rng.choice(len(weights), calls, p=[w / total for w in weights])]

    return draw


def a_few_calls(calls_each: int, at_once: int = 10) -> Owners:
    """Owners who make this many calls and do not come back; a few are there at any time."""

    def draw(rng: np.random.Generator, calls: int) -> Sequence[str | None]:
        lanes = rng.integers(0, at_once, calls)
        offsets, turns, names = rng.integers(0, calls_each, at_once), [0] * at_once, []
        for lane in lanes.tolist():
            names.append(f"u{lane + at_once * ((turns[lane] + int(offsets[lane])) // calls_each)}")
            turns[lane] += 1
        return names

    return draw


def drifting(memory_s: float, deviation: float = DEVIATION, share: float = 0.05) -> Draw:
    """The quality of the candidate moves as a first-order autoregression. share: of the variance that moves."""

    def draw(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        own = rng.normal(mean * MARGIN, deviation * math.sqrt(1 - share), len(at))
        keep, again = np.exp(-np.diff(at, prepend=at[0]) / memory_s), repeated(rng, mean, len(at))
        level = rng.normal(0, deviation * math.sqrt(share))
        for i, moment in enumerate(at.tolist()):
            noise = deviation * math.sqrt(share * (1 - float(keep[i]) ** 2))
            level = float(keep[i]) * level + rng.normal(0, noise)
            a, b = scored(np.asarray(own[i] + level))
            yield Call(moment, float(a), float(b), float(again[i]), key="web")

    return draw


def over_time(effect: Callable[[Values], Values], period_s: float) -> Draw:
    """effect: periods since the start → margins that are added to the mean."""

    def draw(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        moved = mean + effect((at - START) / period_s)
        a, b = scored(rng.normal(moved * MARGIN, DEVIATION))
        again = repeated(rng, mean, len(at))
        for values in zip(at.tolist(), a.tolist(), b.tolist(), again.tolist(), strict=True):
            yield Call(*values)

    return draw


def failing(rate: float, length: int = 1, rail: float = RAIL) -> Draw:
    """Both arms fail in this share of the calls; the candidate in as many guardrail margins more as `mean` says.

    length: the candidate's failures come in runs of this many calls. The quality is the same.
    """

    def draw(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        n = len(at)
        a, b = scored(rng.normal(0, DEVIATION, n))
        candidate = _runs(rng, max(0.0, rate - mean * rail), length, n)
        control, repeat, again = rng.random(n) < rate, rng.random(n) < rate, repeated(rng, 0.0, n)
        for i in np.flatnonzero(~control).tolist():  # a pair exists only where the served answer did not fail
            yield Call(
                float(at[i]), float(a[i]), float(b[i]), float(again[i]),
                b_failed=bool(candidate[i]), again_failed=bool(repeat[i]),
            )  # fmt: skip

    return draw


def _runs(rng: np.random.Generator, share: float, length: int, calls: int) -> NDArray[np.bool_]:
    begins = np.where(rng.random(calls) < share / length, np.arange(calls), -length - calls)
    return np.asarray(np.arange(calls) - np.maximum.accumulate(begins) < length)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Calls of another world whose scores are missing at random. a, b: (share of the calls, reason), by arm."""

    inner: Draw
    a: tuple[float, Lack]
    b: tuple[float, Lack]
    where_bad: bool = False
    """The candidate's missing scores are those of its worst answers."""

    def __call__(self, rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
        for call in self.inner(rng, mean, at):
            a = self.a[1] if rng.random() < self.a[0] else ""
            b = self.b[1] if self._lacks(rng, call) else ""
            yield Call(call.at, call.a, call.b, call.again, call.user, call.key, a_lacks=a, b_lacks=b)

    def _lacks(self, rng: np.random.Generator, call: Call) -> bool:
        if not self.where_bad:
            return bool(rng.random() < self.b[0])
        worst = 0.5 - 0.5 * DEVIATION * 1.645  # a twentieth of the answers of an equal candidate are below it
        return call.b < worst and bool(rng.random() < 20 * self.b[0])
