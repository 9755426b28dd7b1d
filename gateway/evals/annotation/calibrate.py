"""`gateway judge calibrate`: how far a scorer agrees with people, and its means as they correct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.evals.annotation.agreement import Agreement, RateEstimate, agreement, between_people, share_of
from gateway.evals.annotation.correction import (
    LEAST,
    Corrected,
    JudgedSample,
    Labels,
    corrected,
    labels_needed,
    rogan_gladen,
)
from gateway.evals.annotation.label_data import LabelledItem, items_of, judged_of, labels_in, weights_of
from gateway.evals.annotation.newest import newest
from gateway.evals.experiments.report import Estimate
from gateway.evals.statistics.judge import CorrectedRate
from gateway.evals.store.labels import ScorerVersion, labelled, labelled_pairs, version_of
from gateway.evals.store.labels_sums import JudgedSums, Key, ScoreSelection, flips, judged_after, sums
from gateway.evals.store.query import Reading, reading

ALL = "all"


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """cut: the verdict from which an answer counts as called good. half_width: how narrow the corrected mean's interval
    is wanted, for "how many more labels"."""

    scorer: str
    experiment: str | None = None
    cut: float = 0.5
    half_width: float = 0.05
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class CorrectedGroup:
    """The scorer's mean over some traffic, as it stands and as people correct it. needed: labels in all for the wanted
    interval; None: no number of labels is enough, or too few to say. rogan_gladen: None: a rate is not known, or the
    scorer does no better than chance."""

    name: str
    judged: JudgedSample
    labels: int
    corrected: Corrected | None
    rogan_gladen: CorrectedRate | None
    needed: int | None


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """labels: answers that people labelled, as drawn; brought: those that no draw accounts for, which are left out;
    skipped: shown and not judged. later: judged after the last draw. people: Krippendorff's alpha among labellers."""

    asked: CalibrationOptions
    of: ScorerVersion
    labels: int
    brought: int
    skipped: int
    later: int
    labellers: tuple[str, ...]
    people: float | None
    agreement: Agreement | None
    groups: tuple[CorrectedGroup, ...]
    flip: RateEstimate | None
    first_slot: RateEstimate | None

    @property
    def too_few(self) -> bool:
        return self.labels < LEAST


def read(url: str, asked: CalibrationOptions) -> CalibrationResult:
    """From the store, as it is now. Raises NoStore, NotJudged."""
    with reading(url) as connection:
        return calibrate(connection, asked)


def calibrate(connection: Reading, asked: CalibrationOptions) -> CalibrationResult:
    """Raises NotJudged."""
    of = newest(connection, asked.scorer)
    part = ScoreSelection(experiment=asked.experiment)
    rows = labelled_pairs(connection, of) if of.subject == "pair" else labelled(connection, of)
    items = [i for i in items_of(asked.scorer, rows) if asked.experiment in (None, i.experiment)]
    cells = sums(connection, of, part, asked.cut)
    drawn = [i for i in items if i.pi > 0]
    labels = labels_in(drawn, weights_of(cells))
    swapped = flips(connection, of, part) if of.subject == "pair" else []
    last = max((r["horizon"] for r in rows), default=None)
    return CalibrationResult(
        asked,
        of,
        labels.n,
        len(items) - len(drawn),
        len({r["subject_id"] for r in rows}) - len(items_of(asked.scorer, rows)),
        0 if last is None else judged_after(connection, of, last),
        tuple(sorted({name for i in items for name in i.by})),
        between_people(i.by for i in items),
        agreement(labels, asked.cut, asked.alpha) if labels.n >= LEAST else None,
        tuple(_groups(drawn, cells, asked)),
        share_of([f for f, _ in swapped if f is not None], asked.alpha),
        share_of([s for _, s in swapped if s is not None], asked.alpha),
    )


def corrected_mean(
    connection: Reading, scorer: str, arm: str | None, experiment: str | None = None, plan: str | None = None
) -> Estimate | None:
    """A scorer's mean in one arm as people's labels correct it, in [0, 1], 1 best. arm None: everywhere. None: there
    are too few labels."""
    found = _corrected(connection, scorer, ScoreSelection(experiment, plan, arm))
    return None if found is None else Estimate(found.mean, found.low, found.high)


def corrected_difference(
    connection: Reading, scorer: str, experiment: str, plan: str | None, arms: tuple[str, str]
) -> Estimate | None:
    """The second arm's corrected mean less the first's. Labels of the two are drawn apart, so variances add up."""
    first, second = (_corrected(connection, scorer, ScoreSelection(experiment, plan, arm)) for arm in arms)
    if first is None or second is None:
        return None
    difference = second.mean - first.mean
    low = difference - ((second.mean - second.low) ** 2 + (first.high - first.mean) ** 2) ** 0.5
    high = difference + ((second.high - second.mean) ** 2 + (first.mean - first.low) ** 2) ** 0.5
    return Estimate(difference, low, high)


def _corrected(connection: Reading, scorer: str, part: ScoreSelection) -> Corrected | None:
    of = version_of(connection, scorer)
    if of is None or of.subject == "pair":
        return None
    items = items_of(scorer, labelled(connection, of))
    here = [i for i in items if part.experiment in (None, i.experiment) and part.plan in (None, i.plan)]
    cells = sums(connection, of, part, 0.5)
    return corrected(labels_in(here, weights_of(cells)), judged_of(cells))


def _groups(
    items: Sequence[LabelledItem], cells: Mapping[Key, JudgedSums], asked: CalibrationOptions
) -> list[CorrectedGroup]:
    weights = weights_of(cells)
    arms = sorted({key[2] for key in cells} - {""})
    parts = {ALL: cells, **{arm: {k: c for k, c in cells.items() if k[2] == arm} for arm in arms}}
    if set(parts[arms[0]] if len(arms) == 1 else ()) == set(cells):
        del parts[ALL]  # one arm and nothing else: the same numbers twice
    return [_group(name, labels_in(items, {k: weights[k] for k in part}), judged_of(part), asked)
            for name, part in parts.items()]  # fmt: skip


def _group(name: str, labels: Labels, judged: JudgedSample, asked: CalibrationOptions) -> CorrectedGroup:
    found = corrected(labels, judged, asked.alpha)
    needed = labels_needed(found, labels.n, asked.half_width, asked.alpha) if found is not None else None
    return CorrectedGroup(name, judged, labels.n, found, rogan_gladen(labels, judged, asked.cut, asked.alpha), needed)
