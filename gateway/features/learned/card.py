"""The card of a model: the accuracy of its predictions of exchanges that it had not seen, and the resulting saving.
Pure.

It is shown next to every number that the model affects. As JSON it is the column `card` of `predictor_models`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.features.learned.inclusion import inclusion, scale_for
from gateway.statistics.control_variate import variance_ratio
from gateway.store.guided_means import harmful

Floats = NDArray[np.float64]
Card = Mapping[str, Any]
_DECILES = 10
_SHIFTED = 0.2  # of a PSI: by custom, a population that has changed
_SHOWN = 3  # features with the largest PSI


@dataclass(frozen=True)
class CardEvidence:
    """The newest judged exchanges, predicted by a model that had seen only earlier ones. Arrays of n rows."""

    h: Floats
    """Verdicts in [0, 1], 1 best."""
    g: Floats
    residual: Floats
    """Expected squared errors."""
    pi: Floats
    """The probabilities with which they were judged."""
    mean: float
    """The mean of the verdicts before them: the prediction without a model."""
    x: NDArray[np.float32]
    """Features of the rows, shape (n, k)."""
    before: NDArray[np.float32]
    """The features of what the model was fitted on, shape (m, k)."""


def card_of(of: CardEvidence, names: Sequence[str], share: float, pi_min: float) -> dict[str, Any]:
    """Makes the card. names: of the k features. share, pi_min: of the design, see inclusion.py. Fields:

    held_out: n. mae, mae_of_mean: mean absolute errors of g and of "always the mean", weighted by 1 / π. auc: the
    probability that a good answer has the higher g, ties half; good: h ≥ auc_cut, 0.5 or the median; None if all are
    good, or none is. reliability: (mean g, mean h, n) by decile of g; slope: of h on g, 1 is calibrated.
    variance_ratio, …_low, …_high, weight: see statistics.control_variate.variance_ratio. psi: by feature, see psi.
    """
    calls = 1.0 / of.pi
    pi = inclusion(of.residual, scale_for(of.residual, share, pi_min), pi_min)
    saved = variance_ratio(of.h, of.g, pi, calls) if len(of.h) > 1 else None
    auc, cut = _auc(of.h, of.g, calls)
    reliability, slope = _calibration(of.h, of.g, calls)
    return {
        "held_out": len(of.h),
        "mae": float(np.average(np.abs(of.h - of.g), weights=calls)),
        "mae_of_mean": float(np.average(np.abs(of.h - of.mean), weights=calls)),
        "auc": auc,
        "auc_cut": cut,
        "reliability": reliability,
        "slope": slope,
        "variance_ratio": None if saved is None else saved.ratio,
        "variance_ratio_low": None if saved is None else saved.low,
        "variance_ratio_high": None if saved is None else saved.high,
        "weight": None if saved is None else saved.weight,
        "psi": {name: psi(of.before[:, i], of.x[:, i]) for i, name in enumerate(names)},
    }


def card_lines(card: Card, now: float | None = None) -> list[str]:
    """The card in plain words. now: Unix seconds; None: the present."""
    if not card.get("held_out"):
        return ["predictor: no model yet; every exchange is judged with the same probability"]
    head = f"predictor: n {card['held_out']}"
    if (at := card.get("trained_to")) is not None:
        age_s = max(0.0, (time.time() if now is None else now) - at)
        head += f", trained on answers until {age_s / 3600:.1f} h ago"
    head += f"; mean error {card['mae']:.3f}, always the mean {card['mae_of_mean']:.3f}"
    if card.get("auc") is not None:
        head += f"; AUC {card['auc']:.2f} (always the mean: 0.50)"
    lines = [head]
    if card.get("variance_ratio") is not None:
        slope = "–" if card.get("slope") is None else f"{card['slope']:.2f}"
        lines.append(
            f"variance {card['variance_ratio']:.2f} ({card['variance_ratio_low']:.2f} to "
            f"{card['variance_ratio_high']:.2f}) of that without a predictor, weight {card['weight']:.2f}, "
            f"calibration slope {slope}"
        )
    if harmful(card):
        lines.append(
            "off: it costs precision, so its predictions are not used and all exchanges have the same probability"
        )
    shifted = sorted(((v, name) for name, v in card.get("psi", {}).items() if v > _SHIFTED), reverse=True)
    if shifted:
        shown = ", ".join(f"{name} {value:.2f}" for value, name in shifted[:_SHOWN])
        lines.append(f"features that have changed (PSI above {_SHIFTED:g}): {shown}")
    return lines


def _auc(h: Floats, g: Floats, calls: Floats) -> tuple[float | None, float]:
    """Weighted; the pairs of one good and one poor answer, by the midranks of g."""
    cut = 0.5
    if not _both(h >= cut):
        cut = float(np.median(h))
    good = h >= cut if _both(h >= cut) else h > cut
    if not _both(good):
        return None, cut
    values, place = np.unique(g, return_inverse=True)
    poor = np.bincount(place, calls * ~good, values.size)
    below = np.cumsum(poor) - poor / 2.0
    return float((calls * good) @ below[place] / ((calls * good).sum() * poor.sum())), cut


def _both(good: NDArray[np.bool_]) -> bool:
    return bool(good.any() and not good.all())


def _calibration(h: Floats, g: Floats, calls: Floats) -> tuple[list[tuple[float, float, int]], float | None]:
    parts = [p for p in np.array_split(np.argsort(g, kind="stable"), _DECILES) if p.size]
    rows = [
        (float(np.average(g[p], weights=calls[p])), float(np.average(h[p], weights=calls[p])), int(p.size))
        for p in parts
    ]
    around = g - np.average(g, weights=calls)
    spread = float(calls @ around**2)
    return rows, float(calls @ (around * h)) / spread if spread > 1e-12 else None


def psi(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Population stability index over the deciles of `before`: Σ (q − p) ln(q / p), shares of now and before.

    Half an observation is added to each bin, so that an empty one is finite. Values that are not finite have a bin of
    their own. 0.0 if either is empty. Source: Siddiqi 2006, "Credit Risk Scorecards", chapter 10.
    """
    if not len(before) or not len(now):
        return 0.0
    finite = before[np.isfinite(before)]
    edges = np.unique(np.quantile(finite, np.arange(1, _DECILES) / _DECILES)) if finite.size else np.zeros(0)
    p, q = (_shares(values, edges) for values in (before, now))
    return math.fsum((q - p) * np.log(q / p))


def _shares(values: NDArray[Any], edges: NDArray[Any]) -> Floats:
    place = np.where(np.isfinite(values), np.searchsorted(edges, values, side="left"), edges.size + 1)
    counts = np.bincount(place, minlength=edges.size + 2) + 0.5
    return np.asarray(counts / counts.sum(), dtype=np.float64)
