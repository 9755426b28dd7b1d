"""Calls of one target for the tests of its watch: seeded, by hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gateway.features.models.watch.hourly_calls import HourOfTarget, TargetKey, WatchedCall, hour_of_target

TARGET = TargetKey("chat", "a", "m")
FIRST = 490_000 // 24 * 24
"""An hour at which a day begins."""


def call(unit: str = "1", **fields: Any) -> WatchedCall:
    plain: dict[str, Any] = {
        **{"target": TARGET, "caller": "app", "user": None, "unit": unit, "api": "chat", "in_run": False},
        **{"input_tokens": 300, "cached_tokens": 0, "output_tokens": 60, "outcome": "ok", "finish_reason": "stop"},
        **{"opening": "Here you are.", "length": 200, "refused": False, "tool_calls": "[]", "first_token_s": 0.4},
        **{"mean_logprob": None, "weight": 1.0},
    }
    return WatchedCall(**{**plain, **fields})


def drawn(generator: np.random.Generator, n: int, longer: float = 1.0, **fields: Any) -> Iterator[WatchedCall]:
    """Calls of 30 users whose answers vary. longer: times the length."""
    for number in range(n):
        length = int(longer * 200 * np.exp(0.6 * generator.standard_normal()))
        more = {"length": length, "output_tokens": length // 4, "user": f"u{generator.integers(30)}"}
        more["scores"] = {"score judge 1.abc": (float(generator.random() < 0.9), 1.0)}
        yield call(str(number), **{**more, **fields})


def hours(seed: int, days: float, n: int = 24, **fields: Any) -> list[HourOfTarget]:
    generator = np.random.default_rng(seed)
    return [
        hour_of_target(FIRST + at, list(drawn(generator, int(n * (1.5 - (at % 24 < 8))), **fields)))
        for at in range(int(24 * days))
    ]


def shifted(made: list[HourOfTarget], by: int) -> list[HourOfTarget]:
    return [HourOfTarget(each.hour + by, *_parts(each)) for each in made]


def _parts(of: HourOfTarget) -> tuple[Any, ...]:
    return of.cells, of.series, of.sums, of.calls


def together(made: Sequence[list[HourOfTarget]]) -> list[HourOfTarget]:
    """The hours of several customers as one; all have the same series."""
    return [_joined(same) for same in zip(*made, strict=True)]


def _joined(parts: Sequence[HourOfTarget]) -> HourOfTarget:
    cells = [cell for part in parts for cell in part.cells]
    sums, calls = (np.concatenate(arrays) for arrays in zip(*((part.sums, part.calls) for part in parts), strict=True))
    return HourOfTarget(parts[0].hour, cells, parts[0].series, sums, calls)
