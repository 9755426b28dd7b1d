"""Which answer a person labels next, and with which probability that answer came to be labelled. Pure.

Every judged item has a position u in [0, 1) that never changes: one hash, in a domain of the scorer's own. People label
the items in the order of their keys u / r, where r is the relative rate at which items of this kind are to be drawn.
With each label, the threshold is stored: the smallest key among the items that have not been seen. Everything below
the threshold has been seen. So an item was seen exactly when its key was below a threshold that was stored while the
item existed, and its probability of that, given the others, is r times the threshold. Labelling may stop and continue
at any time, and new answers may arrive in between.

Source: Rosén, "On sampling with probability proportional to size", J. Statist. Plann. Inference 62, 1997 (order
sampling); Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007 (the next key as the threshold).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.randomization import draw
from gateway.statistics.domains import Floats

EVERYTHING = 1e300  # the threshold when every item has been seen
_CALLED_GOOD = 0.5  # the scorer's verdict from which an item counts as called good


@dataclass(frozen=True, slots=True)
class LabelCandidate:
    """A judged item."""

    id: str
    judged: float
    """The scorer's verdict in [0, 1], 1 best."""
    created: float
    """When it was scored, Unix seconds."""
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class SamplingDesign:
    """How one label's item was drawn."""

    pool: str
    """The experiment that was drawn from; "": all traffic."""
    favour: float
    """How many times as often items are drawn that the scorer calls bad."""
    threshold: float | None
    """See the module's docstring. None: not drawn in order."""
    share: float | None
    """The share of the items in a simple random sample that was drawn elsewhere. None: drawn in order."""
    horizon: float
    """The creation time of the newest item there was, Unix seconds."""


@dataclass(frozen=True, slots=True)
class ItemArrays:
    """Judged items as arrays of shape (n,)."""

    u: Floats
    judged: Floats
    created: Floats
    experiment: Sequence[str]

    @classmethod
    def of(cls, scorer: str, candidates: Sequence[LabelCandidate]) -> ItemArrays:
        return cls(
            np.array([position(scorer, c.id) for c in candidates], dtype=np.float64),
            np.array([c.judged for c in candidates], dtype=np.float64),
            np.array([c.created for c in candidates], dtype=np.float64),
            [c.experiment for c in candidates],
        )


def position(scorer: str, subject_id: str) -> float:
    """u of the module's docstring."""
    return draw(f"label:{scorer}", subject_id)


def rate(judged: float, favour: float) -> float:
    """r of the module's docstring, in (0, 1]; 1 for the items that are drawn most."""
    return min(1.0, favour) if judged < _CALLED_GOOD else min(1.0, 1.0 / favour)


def in_order(scorer: str, candidates: Iterable[LabelCandidate], favour: float) -> list[tuple[float, LabelCandidate]]:
    """The items with their keys, smallest key first."""
    keyed = [(position(scorer, c.id) / rate(c.judged, favour), c) for c in candidates]
    return sorted(keyed, key=lambda pair: (pair[0], pair[1].id))


def threshold(ordered: Iterable[tuple[float, LabelCandidate]], seen: Collection[str]) -> float:
    """The smallest key among the items that have not been seen."""
    return next((key for key, candidate in ordered if candidate.id not in seen), EVERYTHING)


def probabilities(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """Each item's probability of having been seen; 0: these designs cannot have drawn it.

    The two kinds of draw are independent: in order by u, and the simple random samples that were drawn elsewhere.
    """
    ordered: dict[tuple[str, float], list[SamplingDesign]] = {}
    unsampled = np.ones(items.u.size)
    for design in designs:
        if design.threshold is not None:
            ordered.setdefault((design.pool, design.favour), []).append(design)
        if design.share is not None:
            unsampled[_in_pool(items, design.pool) & (items.created <= design.horizon)] *= 1.0 - design.share
    by_order = np.zeros(items.u.size)
    for (pool, favour), group in ordered.items():
        reached = _reached(items.created, group) * _rates(items.judged, favour)
        by_order = np.maximum(by_order, np.where(_in_pool(items, pool), np.minimum(1.0, reached), 0.0))
    return np.asarray(by_order + (1.0 - by_order) * (1.0 - unsampled), dtype=np.float64)


def seen_in_order(items: ItemArrays, designs: Iterable[SamplingDesign]) -> Floats:
    """The probabilities of the ordered draws alone: an item whose u is below was drawn, others were imported."""
    return probabilities(items, [d for d in designs if d.threshold is not None and d.share is None])


def _reached(created: Floats, group: Sequence[SamplingDesign]) -> Floats:
    """The highest threshold that was stored while each item existed."""
    by_horizon = sorted(group, key=lambda d: d.horizon)
    horizons = np.array([d.horizon for d in by_horizon])
    highest = np.maximum.accumulate(np.array([d.threshold for d in by_horizon], dtype=np.float64)[::-1])[::-1]
    at = np.searchsorted(horizons, created, side="left")
    return np.append(highest, 0.0)[at]


def _rates(judged: Floats, favour: float) -> Floats:
    return np.where(judged < _CALLED_GOOD, min(1.0, favour), min(1.0, 1.0 / favour))


def _in_pool(items: ItemArrays, pool: str) -> NDArray[np.bool_]:
    return np.array([pool in ("", each) for each in items.experiment], dtype=np.bool_)
