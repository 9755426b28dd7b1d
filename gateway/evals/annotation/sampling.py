"""Which answer a person sees next, and with which probability it came to be seen. Pure.

Every judged item has a place u in [0, 1) that never changes (one hash, in a domain of the scorer's own), and people see
the items in the order of their keys u / r, where r is how often items of this kind are to be drawn. After each verdict
the smallest key among the items that nobody has seen is noted, the threshold: everything below it has been seen. So an
item was seen exactly when its key was below a threshold noted while it was there, and its probability of that, given
the others, is r times the threshold. Labelling may stop and go on at any time, and new answers may come in between.

Source: Rosén, "On sampling with probability proportional to size", J. Statist. Plann. Inference 62, 1997 (order
sampling); Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007 (the next key as the threshold).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.randomization import draw
from gateway.evals.statistics.domains import Floats

EVERYTHING = 1e300  # the threshold when nothing unseen is left
HALF = 0.5


@dataclass(frozen=True, slots=True)
class LabelCandidate:
    """A judged item. judged: the scorer's verdict in [0, 1], 1 best. created: when it was scored, Unix seconds."""

    id: str
    judged: float
    created: float
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class SamplingDesign:
    """How one label came to be given. pool: the experiment that was drawn from; "": everything. favour: how much more
    often an item is drawn that the scorer calls bad. threshold: as above; None: not drawn in order. share: of the
    items, all equally likely, where somebody else drew them; None: not so. horizon: the newest item's time."""

    pool: str
    favour: float
    threshold: float | None
    share: float | None
    horizon: float


@dataclass(frozen=True, slots=True)
class ItemArrays:
    """Where judged items stand, as arrays of shape (n,)."""

    u: Floats
    judged: Floats
    created: Floats
    experiment: Sequence[str]

    @classmethod
    def of(cls, scorer: str, candidates: Sequence[LabelCandidate]) -> ItemArrays:
        return cls(
            np.array([place(scorer, c.id) for c in candidates], dtype=np.float64),
            np.array([c.judged for c in candidates], dtype=np.float64),
            np.array([c.created for c in candidates], dtype=np.float64),
            [c.experiment for c in candidates],
        )


def place(scorer: str, subject_id: str) -> float:
    return draw(f"label:{scorer}", subject_id)


def rate(judged: float, favour: float) -> float:
    """r, at most 1: how often such an item is drawn, against those that are drawn most."""
    return min(1.0, favour) if judged < HALF else min(1.0, 1.0 / favour)


def in_order(scorer: str, candidates: Iterable[LabelCandidate], favour: float) -> list[tuple[float, LabelCandidate]]:
    """The items with their keys, smallest first."""
    keyed = [(place(scorer, c.id) / rate(c.judged, favour), c) for c in candidates]
    return sorted(keyed, key=lambda pair: (pair[0], pair[1].id))


def threshold(ordered: Iterable[tuple[float, LabelCandidate]], seen: Collection[str]) -> float:
    """The smallest key among the items that nobody has seen."""
    return next((key for key, candidate in ordered if candidate.id not in seen), EVERYTHING)


def probabilities(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """Of each item, the probability with which it came to be seen; 0: it cannot have been, by any of these designs.

    Draws of two kinds are independent: in order by u, and the shares of those that others drew.
    """
    ordered: dict[tuple[str, float], list[SamplingDesign]] = {}
    left = np.ones(items.u.size)
    for design in designs:
        if design.threshold is not None:
            ordered.setdefault((design.pool, design.favour), []).append(design)
        if design.share is not None:
            left[_within(items, design.pool) & (items.created <= design.horizon)] *= 1.0 - design.share
    by_order = np.zeros(items.u.size)
    for (pool, favour), group in ordered.items():
        reached = _reached(items.created, group) * _rates(items.judged, favour)
        by_order = np.maximum(by_order, np.where(_within(items, pool), np.minimum(1.0, reached), 0.0))
    return np.asarray(by_order + (1.0 - by_order) * (1.0 - left), dtype=np.float64)


def seen_in_order(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """The probabilities by order alone: an item with u below it was drawn; others were brought by somebody."""
    return probabilities(items, [d for d in designs if d.threshold is not None and d.share is None])


def _reached(created: Floats, group: Sequence[SamplingDesign]) -> Floats:
    """The highest threshold that was noted while each item was there."""
    by_horizon = sorted(group, key=lambda d: d.horizon)
    horizons = np.array([d.horizon for d in by_horizon])
    highest = np.maximum.accumulate(np.array([d.threshold for d in by_horizon], dtype=np.float64)[::-1])[::-1]
    at = np.searchsorted(horizons, created, side="left")
    return np.append(highest, 0.0)[at]


def _rates(judged: Floats, favour: float) -> Floats:
    return np.where(judged < HALF, min(1.0, favour), min(1.0, 1.0 / favour))


def _within(items: ItemArrays, pool: str) -> NDArray[np.bool_]:
    return np.array([pool in ("", each) for each in items.experiment], dtype=np.bool_)
