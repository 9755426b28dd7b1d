"""The series of a watch, with the smallest change of each that is one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from gateway.statistics.adjusted_means import SeriesTerms

CALL_SERIES = (
    "failures",
    "refusals",
    "invalid tool calls",
    "length",
    "tokens",
    "first token",
    "cached share",
    "log-probability",
    "prompt length",
)
SILENT = frozenset({"prompt length"})
"""Series that do not ring: they say what else changed when another one does."""
SCORE = "score "
"""Begins the series of a scorer; its version and config end it, so that a new version has its own baseline."""
RATES = frozenset({"failures", "refusals", "invalid tool calls"})
LOGARITHMS = frozenset({"length", "tokens", "first token"})
_UNBOUNDED = LOGARITHMS | SILENT | {"log-probability"}
Direction = Literal["down", "up"]
FLOOR_RATE = 0.005
FLOOR_SD = 0.1
_LEAST_SD, _LEAST_SD_LOGARITHM = 0.02, 0.2


def terms_of(series: Sequence[str]) -> SeriesTerms:
    rate = np.array([name in RATES for name in series])
    logarithm = np.array([name in LOGARITHMS for name in series])
    bounded = np.array([name not in _UNBOUNDED for name in series])
    least = np.where(rate, 0.0, np.where(logarithm, _LEAST_SD_LOGARITHM, _LEAST_SD))
    floor = np.where(rate, FLOOR_RATE, 0.0)
    return SeriesTerms(floor, np.where(rate, 0.0, FLOOR_SD), least, bounded, rate)


def score_series(scorer: str, version: str, config_hash: str) -> str:
    return f"{SCORE}{scorer} {version}.{config_hash[:6]}"


def scorer_of(series: str) -> str | None:
    """The scorer of a series; None if it is none of a scorer."""
    return series.removeprefix(SCORE).rpartition(" ")[0] if series.startswith(SCORE) else None


def name_of(series: str) -> str:
    """The series in a sentence."""
    scorer = scorer_of(series)
    return f"the score of {scorer}" if scorer is not None else _NAMES[series]


_NAMES = {
    "failures": "the share of failed calls",
    "refusals": "the share of refusals",
    "invalid tool calls": "the share of invalid tool calls",
    "length": "the length of answers",
    "tokens": "the output tokens of answers",
    "first token": "the time to the first token",
    "cached share": "the cached share of the input",
    "log-probability": "the mean log-probability",
    "prompt length": "the length of prompts",
}
