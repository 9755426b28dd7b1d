"""How true a scorer's probability is, as it gives it and by the map in force. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import MapInForce, ProbabilityTruth, Reliability, SegmentTruth
from gateway.statistics.calibration import (
    LEAST,
    LabelledProbabilities,
    brier_parts,
    calibration_error,
    mean_bias,
    reliability_bins,
)

BINS_FROM = 200
"""Labels from which on people may read the bins; fewer show noise."""


def reliability(calls: LabelledCalls, in_force: MapInForce) -> Reliability:
    later = calls.part(calls.at > in_force.horizon)
    mapped = None
    if in_force.labels and later.n >= LEAST:
        mapped = _truth(LabelledProbabilities.of(in_force.map(later.p), later.y, later.weight, later.units))
    return Reliability(_truth(calls.sample()) if calls.n >= LEAST else None, mapped, segments(calls))


def segments(calls: LabelledCalls, alpha: float = 0.05) -> tuple[SegmentTruth, ...]:
    """The bias by model name and by target, where there are at least two of a kind."""
    found: list[tuple[Literal["model name", "target"], str, LabelledCalls]] = []
    kinds: tuple[Literal["model name", "target"], ...] = ("model name", "target")
    for at, kind in enumerate(kinds):
        names = sorted({segment[at] for segment in calls.segments})
        if len(names) > 1:
            parts = ((name, _segment(calls, at, name)) for name in names)
            found += [(kind, name, part) for name, part in parts if part.n >= LEAST]
    return tuple(_segment_truth(kind, name, part, alpha / len(found)) for kind, name, part in found)


def _segment(calls: LabelledCalls, at: int, name: str) -> LabelledCalls:
    return calls.part(np.array([segment[at] == name for segment in calls.segments], dtype=np.bool_))


def _segment_truth(kind: Literal["model name", "target"], name: str, part: LabelledCalls, alpha: float) -> SegmentTruth:
    sample = part.sample()
    (said, _), (rate, _) = sample.mean(sample.p), sample.mean(sample.y)
    return SegmentTruth(kind, name, said, rate, mean_bias(sample, alpha))


def _truth(sample: LabelledProbabilities) -> ProbabilityTruth:
    (said, _), (rate, _) = sample.mean(sample.p), sample.mean(sample.y)
    parts = brier_parts(sample), calibration_error(sample), reliability_bins(sample)
    return ProbabilityTruth(sample.n, said, rate, mean_bias(sample), *parts)
