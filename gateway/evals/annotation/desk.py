"""A labeller's desk: what lies on it next, and what becomes of each verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.evals.annotation import blind
from gateway.evals.annotation.blind import BlindItem
from gateway.evals.annotation.newest import newest
from gateway.evals.annotation.sampling import LabelCandidate, SamplingDesign, in_order, threshold
from gateway.evals.annotation.verdict_words import LabelVerdict
from gateway.evals.store.labels import Label, ScorerVersion, judged, labels_of
from gateway.evals.store.query import Reading, whole


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """experiment: to draw from; "": everything. favour: how much more often to draw what the scorer calls bad. again:
    what others have labelled already, to see how far people agree."""

    scorer: str
    labeller: str
    experiment: str = ""
    favour: float = 1.0
    again: bool = False


@dataclass(frozen=True, slots=True)
class DrawnItem:
    """An item for this labeller. design: how it came about; of the first label, where others gave one."""

    blind: BlindItem
    design: SamplingDesign


class Desk:
    """What a scorer had judged when it was made, in the order in which people see it. clock: Unix time in seconds.

    Raises NotJudged, and ValueError for a favour that is not positive.
    """

    def __init__(self, connection: Reading, wish: LabelRequest, clock: Callable[[], float] = time.time) -> None:
        if not wish.favour > 0:
            raise ValueError(f"favour is {wish.favour!r}, expected more than 0")
        self.wish = wish
        self.of: ScorerVersion = newest(connection, wish.scorer)
        self._clock = clock
        rows = judged(connection, self.of, wish.experiment)
        found = [LabelCandidate(r["id"], r["judged"], r["created"], r["experiment"]) for r in rows]
        self._ordered = in_order(wish.scorer, found, wish.favour)
        self._horizon = max((c.created for c in found), default=0.0)
        self._designs: dict[str, SamplingDesign] = {}
        self._mine: set[str] = set()
        for label in labels_of(connection, wish.scorer):
            self._note(label)

    @property
    def judged(self) -> int:
        return len(self._ordered)

    @property
    def left(self) -> int:
        """Items that this labeller may still be shown."""
        return sum(1 for _, c in self._ordered if self._open(c))

    def next(self, connection: Reading) -> DrawnItem | None:
        """None: nothing is left. What the store no longer holds whole (retention) is passed over."""
        for _, candidate in self._ordered:
            if not self._open(candidate):
                continue
            shown = self._shown(connection, candidate.id)
            if shown is not None:
                return DrawnItem(shown, self._designs.get(candidate.id) or self._design_with(candidate.id))
            self._mine.add(candidate.id)
        return None

    def sheet(self, connection: Reading, count: int) -> list[BlindItem]:
        """The next so many, for a sheet; nothing is noted before it comes back."""
        shown = (self._shown(connection, c.id) for _, c in self._ordered if self._open(c))
        found: list[BlindItem] = []
        for each in shown:
            if len(found) == count:
                break
            if each is not None:
                found.append(each)
        return found

    def label(self, drawn: DrawnItem, said: LabelVerdict) -> Label:
        """What is to be saved of a verdict; from here on the item counts as seen."""
        made = self._label(drawn.blind.id, said, drawn.design)
        self._note(made)
        return made

    def brought(self, given: Sequence[tuple[str, LabelVerdict, str]], share: float | None) -> list[Label]:
        """Labels of a sheet: (id, verdict, labeller) each. share: they are a plain random part of all that was judged,
        drawn by somebody else; None: in order, as far as the sheet was filled without gaps."""
        new = {i for i, _, _ in given}
        reached = None if share is not None else threshold(self._ordered, {*self._designs, *new})
        design = SamplingDesign(self.wish.experiment, self.wish.favour, reached, share, self._horizon)
        made = [self._label(i, said, self._designs.get(i) or design, by) for i, said, by in given]
        for label in made:
            self._note(label)
        return made

    def knows(self, subject_id: str) -> bool:
        """Whether the scorer has judged it."""
        return any(c.id == subject_id for _, c in self._ordered)

    def _open(self, candidate: LabelCandidate) -> bool:
        if candidate.id in self._mine:
            return False
        return (candidate.id in self._designs) == self.wish.again

    def _design_with(self, subject_id: str) -> SamplingDesign:
        reached = threshold(self._ordered, {*self._designs, subject_id})
        return SamplingDesign(self.wish.experiment, self.wish.favour, reached, None, self._horizon)

    def _shown(self, connection: Reading, subject_id: str) -> BlindItem | None:
        found = whole(connection, subject_id)
        if found is None or self.of.subject == "exchange":
            return None if found is None else blind.of_exchange(found)
        served = whole(connection, found["pair"]) if found["pair"] else None
        return None if served is None else blind.of_pair(self.wish.scorer, served, found)

    def _label(self, subject_id: str, said: LabelVerdict, design: SamplingDesign, by: str = "") -> Label:
        of, d = self.of, design
        return Label(
            of.scorer, of.subject, subject_id, by or self.wish.labeller, said.value, said.label, said.comment,
            of.version, of.config_hash, d.pool, d.favour, d.threshold, d.share, d.horizon, self._clock(),
        )  # fmt: skip

    def _note(self, label: Any) -> None:
        if (label.version, label.config_hash) != (self.of.version, self.of.config_hash):
            return  # an older version judged another population
        design = SamplingDesign(label.pool, label.favour, label.threshold, label.share, label.horizon)
        self._designs.setdefault(label.subject_id, design)
        if label.labeller == self.wish.labeller:
            self._mine.add(label.subject_id)
