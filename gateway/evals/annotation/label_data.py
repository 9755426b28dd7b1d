"""From what the store holds of a scorer to the numbers that its calibration is made of. Pure.

A kind of traffic (alias, model, arm, stratum) has one weight: the calls there were, over those the scorer answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.evals.annotation.correction import JudgedSample, Labels
from gateway.evals.annotation.sampling import ItemArrays, LabelCandidate, SamplingDesign, probabilities, seen_in_order
from gateway.evals.store.labels_sums import JudgedSums, Key

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """A labelled answer. y: the mean of what people said of it; f: the scorer's verdict. pi: probability of having been
    drawn, once judged; 0.0: it was not drawn by any design, somebody brought it."""

    id: str
    y: float
    f: float
    key: Key
    experiment: str
    plan: str | None
    pi: float
    by: Mapping[str, float]  # labeller → value


def designs_of(rows: Iterable[Found]) -> list[SamplingDesign]:
    """How the labels of one version came about; each way once."""
    return sorted(
        {SamplingDesign(r["pool"], r["favour"], r["threshold"], r["share"], r["horizon"]) for r in rows},
        key=lambda d: d.horizon,
    )


def items_of(scorer: str, rows: Sequence[Found]) -> list[LabelledItem]:
    """rows: of one version of one scorer, skipped ones included: they, too, were drawn."""
    by_id: dict[str, list[Found]] = {}
    for row in rows:
        by_id.setdefault(row["subject_id"], []).append(row)
    one = [group[0] for group in by_id.values()]
    drawn = _drawn(scorer, one, designs_of(rows), {i for i, g in by_id.items() if any(r["share"] for r in g)})
    found = []
    for first, pi in zip(one, drawn, strict=True):
        by = {r["labeller"]: r["value"] for r in by_id[first["subject_id"]] if r["value"] is not None}
        if by:
            key = (first["alias"], first["model"], first["arm"], first["stratum"])
            y = sum(by.values()) / len(by)
            found.append(
                LabelledItem(
                    first["subject_id"], y, first["judged"], key, first["experiment"], first["plan"], float(pi), by
                )
            )
    return found


def _drawn(scorer: str, rows: Sequence[Found], designs: Sequence[SamplingDesign], brought: set[str]) -> Any:
    candidates = [LabelCandidate(r["subject_id"], r["judged"], r["created"], r["experiment"]) for r in rows]
    items = ItemArrays.of(scorer, candidates)
    known = (items.u < seen_in_order(items, designs)) | np.array([c.id in brought for c in candidates], dtype=np.bool_)
    return np.where(known, probabilities(items, designs), 0.0)


def judged_of(cells: Mapping[Key, JudgedSums]) -> JudgedSample:
    """All kinds of traffic together, each with its weight."""
    weights = weights_of(cells)
    known = [(weights[key], cell) for key, cell in cells.items() if cell.scored and weights[key] > 0]
    weight = sum(w * c.scored for w, c in known)
    if weight == 0:
        return JudgedSample(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    mean = sum(w * c.total for w, c in known) / weight
    squares = sum(w * c.squares for w, c in known) / weight
    return JudgedSample(
        sum(c.scored for _, c in known),
        weight,
        mean,
        max(0.0, squares - mean * mean),
        sum(w * c.good for w, c in known) / weight,
        weight**2 / sum(w * w * c.scored for w, c in known),
    )


def weights_of(cells: Mapping[Key, JudgedSums]) -> dict[Key, float]:
    """Calls for each judged answer: N_h / n_h with n_h = scored + not applicable; nominal ones (1 / pi) while no Tally
    has come for any."""
    counted = any(cell.population for cell in cells.values())
    sizes = {k: max(c.population, c.asked) if counted else c.inverse_pi for k, c in cells.items()}
    return {k: sizes[k] / c.responded if c.responded else 0.0 for k, c in cells.items()}


def labels_in(items: Iterable[LabelledItem], weights: Mapping[Key, float]) -> Labels:
    """The labelled answers that were drawn, of these kinds of traffic."""
    these = [i for i in items if i.pi > 0 and weights.get(i.key, 0.0) > 0]
    return Labels.of([i.y for i in these], [i.f for i in these], [weights[i.key] for i in these], [i.pi for i in these])
