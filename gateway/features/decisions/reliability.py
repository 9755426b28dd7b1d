"""How true a scorer's probability is, as it gives it and by the map in force. Pure."""

from __future__ import annotations

from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import MapInForce, ProbabilityTruth, Reliability
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
    return Reliability(_truth(calls.sample()) if calls.n >= LEAST else None, mapped)


def _truth(sample: LabelledProbabilities) -> ProbabilityTruth:
    (said, _), (rate, _) = sample.mean(sample.p), sample.mean(sample.y)
    parts = brier_parts(sample), calibration_error(sample), reliability_bins(sample)
    return ProbabilityTruth(sample.n, said, rate, mean_bias(sample), *parts)
