"""Calibration of a scorer: its agreement with people, and its means, corrected by their labels.

Used by `gateway judge calibrate`, by reports of experiments, and for the gauges. report.py shows the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.features.labels.agreement import Agreement, RateEstimate, agreement, between_people, share_of
from gateway.features.labels.correction import (
    MIN_LABELS,
    Corrected,
    JudgedSample,
    LabelledItem,
    Labels,
    StoredLabel,
    at_any_look,
    call_weights,
    corrected,
    judged_sample,
    labelled_items,
    labels_in,
    labels_needed,
    rogan_gladen,
)
from gateway.features.labels.desk import newest_version
from gateway.features.labels.rows import (
    JudgedSums,
    ScorerVersion,
    ScoreSelection,
    TrafficKey,
    judged_after,
    judged_sums,
    labels_with_pair_scores,
    labels_with_scores,
    order_flips,
    version_of,
)
from gateway.observability.eval_metrics import CorrectedFigures
from gateway.reports.model import Estimate
from gateway.scoring.registry import RegisteredScorer
from gateway.statistics.control_variate import ControlledEstimate, StageSums
from gateway.statistics.judge_rates import CorrectedRate
from gateway.store.guided_means import guided_unit_mean, recorded_mean, target_names, unit_sums
from gateway.store.predictions import cards
from gateway.store.query import Reading, reading
from gateway.store.snapshot import CellKey, ScoreCell

ALL = "all"
_GAUGE_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    scorer: str
    experiment: str | None = None
    cut: float = 0.5
    """The verdict from which the scorer calls an answer good."""
    half_width: float = 0.05
    """The wanted half width of the corrected mean's interval, for the number of labels still needed."""
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class CorrectedGroup:
    """The scorer's mean over some traffic, as it is and as people correct it."""

    name: str
    judged: JudgedSample
    labels: int
    corrected: Corrected | None
    rogan_gladen: CorrectedRate | None
    """The corrected rate; None if an error rate is unknown, or the scorer is not better than chance."""
    needed: int | None
    """The total number of labels for the wanted interval. None if no number is enough, or there are too few to tell."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    options: CalibrationOptions
    scorer: ScorerVersion
    labels: int
    """Labelled answers with a known drawing probability."""
    imported: int
    """Labelled answers that no design accounts for; they are left out."""
    skipped: int
    """Answers that were shown and not labelled."""
    judged_since: int
    """Answers that the scorer judged after the last draw."""
    labellers: tuple[str, ...]
    people: float | None
    """Krippendorff's alpha among the labellers."""
    agreement: Agreement | None
    groups: tuple[CorrectedGroup, ...]
    flip: RateEstimate | None
    first_slot: RateEstimate | None
    predictor: Mapping[str, Any] | None = None
    """The card of the model that selects what the scorer sees; None if there is none."""
    recorded: ControlledEstimate | None = None
    """The scorer's mean over every exchange that the model drew for it, in [0, 1]; None if there is none."""

    @property
    def too_few(self) -> bool:
        return self.labels < MIN_LABELS


def read(url: str, options: CalibrationOptions) -> CalibrationResult:
    """The calibration from the store as it is now. Raises CannotRun."""
    with reading(url) as connection:
        return calibrate(connection, options)


def calibrate(connection: Reading, options: CalibrationOptions) -> CalibrationResult:
    """Raises CannotRun if the scorer has scored nothing."""
    version = newest_version(connection, options.scorer)
    selection = ScoreSelection(experiment=options.experiment)
    read_labels = labels_with_pair_scores if version.subject == "pair" else labels_with_scores
    rows = read_labels(connection, version)
    everywhere = labelled_items(options.scorer, rows)
    items = [i for i in everywhere if options.experiment in (None, i.experiment)]
    cells = judged_sums(connection, version, selection, options.cut)
    drawn = [i for i in items if i.pi > 0]
    labels = labels_in(drawn, call_weights(cells))
    orders = order_flips(connection, version, selection) if version.subject == "pair" else []
    last = max((r["horizon"] for r in rows), default=None)
    return CalibrationResult(
        options=options,
        scorer=version,
        labels=labels.n,
        imported=len(items) - len(drawn),
        skipped=len({r["subject_id"] for r in rows}) - len(everywhere),
        judged_since=0 if last is None else judged_after(connection, version, last),
        labellers=tuple(sorted({name for i in items for name in i.by})),
        people=between_people(i.by for i in items),
        agreement=agreement(labels, options.cut, options.alpha) if labels.n >= MIN_LABELS else None,
        groups=tuple(_groups(drawn, cells, options)),
        flip=share_of([f for f, _ in orders if f is not None], options.alpha),
        first_slot=share_of([s for _, s in orders if s is not None], options.alpha),
        recorded=recorded_mean(connection, (version.scorer, version.version, version.config_hash)),
        predictor=next((card for t, card in cards(connection).items() if t in target_names(options.scorer)), None),
    )


def _groups(
    items: Sequence[LabelledItem], cells: Mapping[TrafficKey, JudgedSums], options: CalibrationOptions
) -> list[CorrectedGroup]:
    """Groups the traffic: all of it, and each arm; if everything belongs to one arm, that arm alone."""
    weights = call_weights(cells)
    arms = sorted({key[2] for key in cells} - {""})
    by_name = {ALL: cells, **{arm: {k: c for k, c in cells.items() if k[2] == arm} for arm in arms}}
    if len(arms) == 1 and set(by_name[arms[0]]) == set(cells):
        del by_name[ALL]
    return [
        _group(name, labels_in(items, {k: weights[k] for k in part}), judged_sample(part), options)
        for name, part in by_name.items()
    ]


def _group(name: str, labels: Labels, judged: JudgedSample, options: CalibrationOptions) -> CorrectedGroup:
    estimate = corrected(labels, judged, options.alpha)
    needed = labels_needed(estimate, labels.n, options.half_width, options.alpha) if estimate is not None else None
    rate = rogan_gladen(labels, judged, options.cut, options.alpha)
    return CorrectedGroup(name, judged, labels.n, estimate, rate, needed)


def corrected_difference(
    connection: Reading, scorer: str, experiment: str, plan: str | None, arms: tuple[str, str]
) -> Estimate | None:
    """The second arm's corrected mean minus the first's; None if there are too few labels.

    The two are drawn independently, so variances add up.
    """
    first, second = (_corrected(connection, scorer, ScoreSelection(experiment, plan, arm)) for arm in arms)
    if first is None or second is None:
        return None
    difference = second.mean - first.mean
    low = difference - ((second.mean - second.low) ** 2 + (first.high - first.mean) ** 2) ** 0.5
    high = difference + ((second.high - second.mean) ** 2 + (first.mean - first.low) ** 2) ** 0.5
    return Estimate(difference, low, high)


def _corrected(connection: Reading, scorer: str, selection: ScoreSelection) -> Corrected | None:
    version = version_of(connection, scorer)
    if version is None or version.subject == "pair":
        return None
    items = [
        item
        for item in labelled_items(scorer, labels_with_scores(connection, version))
        if selection.experiment in (None, item.experiment) and selection.plan in (None, item.plan)
    ]
    cells = judged_sums(connection, version, selection, 0.5)
    return corrected(labels_in(items, call_weights(cells)), judged_sample(cells))


def corrected_figures(
    scorers: Mapping[str, RegisteredScorer],
    cells: Iterable[ScoreCell],
    labelled: Sequence[StoredLabel],
    guided: Mapping[CellKey, StageSums] | None = None,
) -> tuple[CorrectedFigures, ...]:
    """The corrected means of the running versions of scorers, by model and arm, on [0, 1], 1 best.

    A group with too few labels is left out. guided: see store.snapshot.StoreSnapshot.
    """
    cells = tuple(cells)
    by_scorer: dict[str, list[StoredLabel]] = {}
    for row in labelled:
        registered = scorers.get(row["scorer"])
        if registered is not None and _runs(registered, row["version"], row["config_hash"]):
            by_scorer.setdefault(row["scorer"], []).append(row)
    return tuple(
        figures
        for name, rows in sorted(by_scorer.items())
        for figures in _scorer_figures(scorers[name], rows, _running_cells(scorers[name], name, cells), guided or {})
    )


def _scorer_figures(
    registered: RegisteredScorer,
    rows: Sequence[StoredLabel],
    cells: Mapping[TrafficKey, ScoreCell],
    guided: Mapping[CellKey, StageSums],
) -> list[CorrectedFigures]:
    scorer = registered.scorer.name
    sums = {key: _unit_sums(registered, cell, guided.get(cell.key)) for key, cell in cells.items()}
    items = [
        i if cells[i.key].key in guided else replace(i, v=1.0) for i in labelled_items(scorer, rows) if i.key in cells
    ]
    weights = call_weights(sums)
    figures = []
    for model, arm in sorted({key[1:3] for key in sums}):
        here = {key: each for key, each in sums.items() if key[1:3] == (model, arm)}
        labels = labels_in(items, {key: weights[key] for key in here})
        judged = _controlled(registered, [cells[key] for key in here], guided, judged_sample(here))
        mean = corrected(labels, judged, _GAUGE_ALPHA)
        if mean is not None:
            low, high = at_any_look(mean, labels, _GAUGE_ALPHA)
            figures.append(CorrectedFigures(scorer, model, arm, mean.mean, low, high, labels.n))
    return figures


def _running_cells(registered: RegisteredScorer, name: str, cells: Iterable[ScoreCell]) -> dict[TrafficKey, ScoreCell]:
    """Cells of the running version; empty if the scorer has no bounds."""
    low, high = registered.scorer.bounds
    if low is None or high is None or low == high:
        return {}
    return {
        (cell.key.alias, cell.key.model, cell.key.arm, cell.key.stratum): cell
        for cell in cells
        if cell.key.scorer == name and _runs(registered, cell.key.version, cell.key.config_hash)
    }


def _unit_sums(registered: RegisteredScorer, cell: ScoreCell, guided: StageSums | None) -> JudgedSums:
    """The sums of the scorer's values mapped to [0, 1], 1 best."""
    low, high = (end or 0.0 for end in registered.scorer.bounds)  # both are known: see _running_cells
    plain = _on_unit(cell, low, high, inverted=registered.scorer.direction == "minimise")
    return plain if guided is None else _weighted(plain, guided)


def _weighted(plain: JudgedSums, guided: StageSums) -> JudgedSums:
    """The sums with each answer weighted by 1 / π. Only the squares of value / π are known; they are scaled by the
    ratio of the weights, which suffices for their only use, the scorer's weight in the estimate."""
    weight, squares = float(guided.sums[1]), float(guided.products[1, 1])
    scale = weight / squares if squares > 0 else 0.0
    answered = max(weight, guided.n - float(guided.sums[2]) - guided.failed)
    return replace(
        plain,
        total=float(guided.sums[0]),
        squares=scale * float(guided.products[0, 0]),
        weights=(weight, answered, squares),
    )


def _controlled(
    registered: RegisteredScorer, cells: Sequence[ScoreCell], guided: Mapping[CellKey, StageSums], judged: JudgedSample
) -> JudgedSample:
    """The sample with the mean that the predictions make more precise, where a predictor guides the scorer."""
    scorer = registered.scorer
    found = guided_unit_mean(cells, guided, scorer.bounds, scorer.direction)
    if found is None or found.mean is None:
        return judged
    return replace(judged, mean=found.mean, se=found.se)


def _on_unit(cell: ScoreCell, low: float, high: float, *, inverted: bool) -> JudgedSums:
    n = cell.n["scored"]
    total, squares = unit_sums(cell, low, high, inverted=inverted)
    responded = n + cell.n["not_applicable"]
    return JudgedSums(n, responded, sum(cell.n.values()), total, squares, 0, cell.inverse_pi, cell.population)


def _runs(registered: RegisteredScorer, version: str, config_hash: str) -> bool:
    return (version, config_hash) == (registered.scorer.version, registered.config_hash)
