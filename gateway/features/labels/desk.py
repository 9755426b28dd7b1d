"""`gateway label`: which item a labeller gets next, and the label that each verdict becomes in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from gateway.config.decided_questions import DECIDED, DecidedQuestion
from gateway.config.scorers import ScorerConfig
from gateway.core.decided import AskedQuestion
from gateway.core.errors import CannotRun
from gateway.core.json_values import as_object
from gateway.features.labels import blind
from gateway.features.labels.blind import (
    BlindItem,
    Form,
    LabelVerdict,
    SheetRow,
    blind_sheet,
    parse_pick,
    parse_verdict,
    read,
    sheet,
    shown_swapped,
)
from gateway.features.labels.correction import CALLED_GOOD, LabelCandidate, SamplingDesign, in_order, threshold
from gateway.features.labels.rows import (
    ON_REQUESTS,
    Label,
    ScorerVersion,
    delete_label,
    guard_of,
    guards_seen,
    labels_of,
    newest_labels,
    scored_items,
    scorers_seen,
    scores_by_label,
    version_of,
)
from gateway.features.labels.rows import save_labels as store_labels
from gateway.store.query import Reading, full_exchange, reading, writing


@dataclass(frozen=True, slots=True)
class LabelRequest:
    scorer: str
    labeller: str
    experiment: str = ""
    """The experiment to draw from; "": all traffic."""
    favour: float | None = None
    """Factor by which items that the scorer calls bad are drawn more often. None: 1, or for a guard the factor with
    which about half of the labels are of calls with a hit, or nearly one."""
    again: bool = False
    """Draw only items that others have labelled, to measure the agreement between people."""
    imported: bool = False
    """Draw from imported calls, whose labels correct no mean."""
    question: AskedQuestion | None = None
    """The question of a decision whose options people pick; None where they judge answers."""


@dataclass(frozen=True, slots=True)
class DrawnItem:
    blind: BlindItem
    design: SamplingDesign
    """The design of the draw; if others have labelled the item, that of the first label."""


class Desk:
    """The items that a scorer had judged when the desk was opened, in the order in which people label them.

    clock: Unix time in seconds. Raises CannotRun, and ValueError for a favour that is not positive.
    """

    def __init__(self, connection: Reading, request: LabelRequest, clock: Callable[[], float] = time.time) -> None:
        if request.favour is not None and not request.favour > 0:
            raise ValueError(f"favour is {request.favour!r}, expected more than 0")
        self.request = request
        self.scorer: ScorerVersion = newest_version(connection, request.scorer)
        self._clock = clock
        rows = scored_items(connection, self.scorer, request.experiment, imported=request.imported)
        candidates = [LabelCandidate(r["id"], r["judged"], r["created"], r["experiment"]) for r in rows]
        self._favour = request.favour or _usual_favour(request.scorer, candidates)
        self._ordered = in_order(request.scorer, candidates, self._favour)
        self._horizon = max((c.created for c in candidates), default=0.0)
        self._designs: dict[str, SamplingDesign] = {}
        self._labelled_here: set[str] = set()
        for label in labels_of(connection, request.scorer):
            self._mark_seen(label)

    @property
    def judged(self) -> int:
        return len(self._ordered)

    @property
    def left(self) -> int:
        """The number of items that this labeller can still get."""
        return sum(1 for _, c in self._ordered if self._open(c))

    def next(self, connection: Reading) -> DrawnItem | None:
        """The next item; None if none is left. An item whose text retention has deleted is skipped."""
        for _, candidate in self._ordered:
            if not self._open(candidate):
                continue
            item = self._blind(connection, candidate.id)
            if item is not None:
                return DrawnItem(item, self._designs.get(candidate.id) or self._design_with(candidate.id))
            self._labelled_here.add(candidate.id)
        return None

    def sheet(self, connection: Reading, count: int) -> list[BlindItem]:
        """The next `count` items. They do not count as seen before their labels are imported."""
        items = (self._blind(connection, c.id) for _, c in self._ordered if self._open(c))
        return list(islice((item for item in items if item is not None), count))

    def read_verdict(self, text: str, item: BlindItem, *, swapped: bool) -> LabelVerdict:
        """The verdict in a line of input. swapped: the pair's second answer was shown first. Raises ValueError."""
        if item.options:
            return parse_pick(text, item)
        return parse_verdict(text, self.scorer.subject, swapped=swapped)

    def read_column(self, connection: Reading, subject_id: str, text: str) -> LabelVerdict:
        """The verdict in a sheet, about the item as it shows it. Raises ValueError."""
        item = self._blind(connection, subject_id) if self.request.question is not None else None
        if item is not None and item.options:
            return parse_pick(text, item)
        return parse_verdict(text, self.scorer.subject, swapped=shown_swapped(self.request.scorer, subject_id))

    def label(self, drawn: DrawnItem, verdict: LabelVerdict) -> Label:
        """The label to be saved. From here on the item counts as seen."""
        label = self._label(drawn.blind.id, verdict, drawn.design)
        self._mark_seen(label)
        return label

    def withdraw(self, label: Label) -> None:
        """Takes back a label of this desk: its item is open again, and is drawn next."""
        self._labelled_here.discard(label.subject_id)
        if not self.request.again:
            self._designs.pop(label.subject_id, None)

    def imported(self, rows: Sequence[SheetRow], share: float | None) -> list[Label]:
        """The labels of a sheet. share: its rows are a simple random sample of this share of everything judged; None if
        they were drawn in order, up to the first gap."""
        new = {row.id for row in rows}
        reached = None if share is not None else threshold(self._ordered, {*self._designs, *new})
        design = SamplingDesign(self.request.experiment, self._favour, reached, share, self._horizon)
        labels = [self._label(r.id, r.verdict, self._designs.get(r.id) or design, r.labeller) for r in rows]
        for label in labels:
            self._mark_seen(label)
        return labels

    def past_gap(self, ids: Collection[str]) -> int:
        """Number of these behind an item that nobody has labelled, which no draw in order can have reached."""
        reached = threshold(self._ordered, {*self._designs, *ids})
        return sum(key >= reached for key, candidate in self._ordered if candidate.id in ids)

    def knows(self, subject_id: str) -> bool:
        """Whether the scorer has judged this exchange or pair."""
        return any(c.id == subject_id for _, c in self._ordered)

    def _open(self, candidate: LabelCandidate) -> bool:
        if candidate.id in self._labelled_here:
            return False
        return (candidate.id in self._designs) == self.request.again

    def _design_with(self, subject_id: str) -> SamplingDesign:
        reached = threshold(self._ordered, {*self._designs, subject_id})
        return SamplingDesign(self.request.experiment, self._favour, reached, None, self._horizon)

    def _blind(self, connection: Reading, subject_id: str) -> BlindItem | None:
        found = full_exchange(connection, subject_id)
        if found is None:
            return None
        if guard_of(self.request.scorer) is not None and self.scorer.version == ON_REQUESTS:
            return blind.of_request(found)
        if self.scorer.subject == "exchange":
            picked = None if self.request.question is None else blind.of_decision(found, self.request.question)
            return picked or blind.of_exchange(found)
        served = full_exchange(connection, found["pair"]) if found["pair"] else None
        return None if served is None else blind.of_pair(self.request.scorer, served, found)

    def _label(self, subject_id: str, verdict: LabelVerdict, design: SamplingDesign, labeller: str = "") -> Label:
        return _made(self.scorer, subject_id, labeller or self.request.labeller, verdict, design, self._clock())

    def _mark_seen(self, label: Label) -> None:
        if (label.version, label.config_hash) != (self.scorer.version, self.scorer.config_hash):
            return  # an older version of the scorer judged another population
        design = SamplingDesign(label.pool, label.favour, label.threshold, label.share, label.horizon)
        self._designs.setdefault(label.subject_id, design)
        if label.labeller == self.request.labeller:
            self._labelled_here.add(label.subject_id)


_MOST_FAVOUR = 100.0


def _usual_favour(scorer: str, candidates: Sequence[LabelCandidate]) -> float:
    if guard_of(scorer) is None:
        return 1.0
    called = sum(c.judged < CALLED_GOOD for c in candidates)
    return float(min(_MOST_FAVOUR, max(1, (len(candidates) - called) // max(1, called))))


def criterion_of(name: str, scorer: ScorerConfig | None) -> str | None:
    """The criterion by which a scorer judges, or the question that labels of a guard answer; None if its configuration
    has none."""
    if (guard := guard_of(name)) is not None:
        return f"may this pass the guard {guard}? g: yes, it is fine; b: no, a hit would be right"
    if scorer is None:
        return None
    if (scorer.use or name) == DECIDED:
        asked = as_object(scorer.options.get("question"))
        question = next((asked[kind] for kind in ("predicate", "choice", "score") if asked.get(kind)), None)
        picked = picked_question(name, scorer) is not None
        return f"{'which is right' if picked else 'is this answer right'}? {question}"
    criterion = scorer.options.get("criterion")
    return criterion if isinstance(criterion, str) else None


def picked_question(name: str, scorer: ScorerConfig | None) -> AskedQuestion | None:
    """The question whose options people pick, of a scorer that reads a decision's choice or score; else None."""
    if scorer is None or (scorer.use or name) != DECIDED:
        return None
    try:
        question = DecidedQuestion.model_validate(scorer.options.get("question")).asked
    except ValidationError:
        return None
    return question if blind.can_be_picked(question) else None


def newest_version(connection: Reading, scorer: str) -> ScorerVersion:
    """The version of the scorer that scored last. Raises CannotRun if it has scored nothing."""
    version = version_of(connection, scorer)
    if version is not None:
        return version
    if (guard := guard_of(scorer)) is not None:
        known = guards_seen(connection)
        hint = f"these have: {', '.join(known)}" if known else "configure it in `guards`, and run `gateway evaluate`"
        raise CannotRun(f'guard "{guard}" has decided on no recorded call; {hint}')
    others = ", ".join(scorers_seen(connection))
    hint = f"these scorers have: {others}" if others else "run `gateway evaluate` to score the recorded calls"
    raise CannotRun(f'scorer "{scorer}" has scored nothing yet; {hint}')


def label_by_hand(scorer: ScorerVersion, subject_id: str, labeller: str, verdict: LabelVerdict, at: float) -> Label:
    """A label for an exchange that a person has chosen by hand. It was not drawn, so it has no inclusion probability of
    its own, and counts in rates only once the labelling in order has passed it. at: Unix seconds."""
    return _made(scorer, subject_id, labeller, verdict, SamplingDesign("", 1.0, None, None, at), at)


def _made(
    scorer: ScorerVersion, subject_id: str, labeller: str, verdict: LabelVerdict, design: SamplingDesign, at: float
) -> Label:
    return Label(
        scorer=scorer.scorer,
        subject=scorer.subject,
        subject_id=subject_id,
        labeller=labeller,
        value=verdict.value,
        label=verdict.label,
        comment=verdict.comment,
        version=scorer.version,
        config_hash=scorer.config_hash,
        **asdict(design),
        at=at,
    )


def open_desk(url: str, request: LabelRequest) -> Desk:
    """Raises StoreUnavailable, CannotRun, ValueError."""
    with reading(url) as connection:
        return Desk(connection, request)


def next_item(url: str, desk: Desk) -> DrawnItem | None:
    """The desk's next item, in a transaction of its own: a person thinks for minutes before giving a verdict."""
    with reading(url) as connection:
        return desk.next(connection)


def save_labels(url: str, labels: Sequence[Label]) -> None:
    """Saves all of them or none."""
    with writing(url) as connection:
        store_labels(connection, labels)


def undo_label(url: str, desk: Desk, label: Label) -> None:
    """Deletes a label that this desk has given."""
    with writing(url) as connection:
        delete_label(connection, label)
    desk.withdraw(label)


class ImportedLabels(NamedTuple):
    """Content of a sheet, as far as it was read."""

    labels: list[Label]
    past_gap: int
    """Labels that correct no mean: an item before them in the order of the draw has no label."""


def import_labels(url: str, path: Path, request: LabelRequest, share: float | None) -> ImportedLabels:
    """Saves the labels of a sheet, all or none. share: see Desk.imported.

    Raises CannotRun (StoreUnavailable among others), and ValueError for a share outside (0, 1].
    """
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share is {share!r}, expected a number above 0, at most 1")
    desk = open_desk(url, request)
    with reading(url) as connection:
        rows = read(path, partial(desk.read_column, connection), desk.knows)
    labels = desk.imported(rows, share)
    save_labels(url, labels)
    return ImportedLabels(labels, 0 if share is not None else desk.past_gap({row.id for row in rows}))


def export_blind_sheet(url: str, request: LabelRequest, count: int, form: Form) -> str:
    """The next items as a sheet to be filled in."""
    with reading(url) as connection:
        return blind_sheet(Desk(connection, request).sheet(connection, count), form)


def export_labels(url: str, scorer: str | None, form: Form) -> str:
    """Exports all labels, newest first, each with the scorer's own verdict."""
    with reading(url) as connection:
        labels = newest_labels(connection, scorer)
        verdicts = scores_by_label(connection, labels)
    rows = [{"id": each.subject_id, **asdict(each), "judged": verdicts.get(each.id)} for each in labels]
    for row in rows:
        del row["subject_id"]
    return sheet(rows, form)
