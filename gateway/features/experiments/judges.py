"""Judges as the metrics of an experiment: cautions, and differences as people judge, from their labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.config.config import Config
from gateway.core.chunked import chunked
from gateway.core.errors import CannotRun
from gateway.core.plan import CONTROL, REPEAT, Plan, StoredPlan
from gateway.features.experiments.advance import joined_pairs
from gateway.features.labels.calibration import (
    CalibrationOptions,
    CalibrationResult,
    calibrate,
    corrected_difference,
    read,
)
from gateway.features.labels.correction import MIN_LABELS, LabelledItem, labelled_items
from gateway.features.labels.paired_difference import JudgedAnswer, JudgedPairs, peoples_difference
from gateway.features.labels.rows import ScorerVersion, kind_of, labels_with_pair_scores, labels_with_scores, version_of
from gateway.reports.model import CorrectedBasis, Estimate
from gateway.scoring.registry import BuiltScorers
from gateway.store.pairs import pairs_joined
from gateway.store.query import Reading
from gateway.verdict.judge_margin import difference_by_rates, judge_margin, margin_sentence
from gateway.verdict.metrics import ArmObservation, Metric, PairValue, pair_value
from gateway.verdict.sequences.difference import DifferenceSequence


def judge_cautions(config: Config, built: BuiltScorers, store: str, experiment: str | None = None) -> list[str]:
    """Cautions about the enabled experiments whose primary is a judge, or about one. store: URL; it may not exist."""
    found = []
    for name, section in config.experiments.items():
        registered = built.all().get(section.primary or "")
        chosen = section.enabled if experiment is None else name == experiment
        if chosen and section.primary and registered is not None and registered.scorer.kind == "llm":
            texts = _cautions(section.primary, section.margin, store)
            found += [f"experiments.{name}.primary: {text}" for text in texts]
    return found


def plan_judge_cautions(connection: Reading, plan: Plan) -> tuple[str, ...]:
    """Cautions about a plan before it starts, from its store alone: none if the store has no score of its judge."""
    return cautions_by_judge(connection, (plan.primary,), plan.margin) if plan.primary else ()


def cautions_by_judge(connection: Reading, scorers: Iterable[str], margin: float) -> tuple[str, ...]:
    """Cautions about each judge among these scorers as the primary of an experiment with this margin."""
    found: list[str] = []
    for scorer in scorers:
        version = version_of(connection, scorer)
        if version is not None and kind_of(connection, version) == "llm":  # else no scorer, or without a score yet
            found += calibration_cautions(scorer, calibrate(connection, CalibrationOptions(scorer)), margin)
    return tuple(found)


def _cautions(judge: str, margin: float, store: str) -> list[str]:
    try:
        return list(calibration_cautions(judge, read(store, CalibrationOptions(judge)), margin))
    except CannotRun:  # no store yet, or none that has a score of this judge
        return [_uncalibrated(judge, 0)]


def calibration_cautions(judge: str, calibration: CalibrationResult, margin: float) -> Iterator[str]:
    """Cautions where people's labels do not support a judge, and the margin of its scores on the scale of people's
    labels."""
    if calibration.agreement is None:
        yield _uncalibrated(judge, calibration.labels)
        return
    kappa = calibration.agreement.kappa
    if kappa is None or kappa.low <= 0:
        known = "is undefined" if kappa is None else f"is {kappa.value:.2f} ({kappa.low:.2f} … {kappa.high:.2f})"
        yield (
            f"The judge {judge} decides, and its agreement with people is not shown to be better than chance: "
            f"Cohen's kappa {known}."
        )
    rates = calibration.agreement.accuracy
    if rates is not None and margin > 0 and calibration.scorer.subject != "pair":
        yield margin_sentence(judge, judge_margin(rates, margin), calibration.labels)


def _uncalibrated(judge: str, labels: int) -> str:
    label = f"label some answers: gateway label next --scorer {judge}"
    return f"The judge {judge} decides and is not calibrated ({labels} labels); {label}."


_CHUNK = 500  # pairs that are read at once


@dataclass(frozen=True, slots=True)
class AsPeopleJudge:
    """A difference as people judge: the candidate's mean minus the control's, 1 best."""

    difference: Estimate
    basis: CorrectedBasis


@dataclass(frozen=True, slots=True)
class ComparedScorer:
    """A scorer's metric in one plan. sequence: its differences in pairs; None means that the arms' answers are
    compared.
    """

    plan: StoredPlan
    candidate: str
    scorer: str
    identity: str | None
    sequence: DifferenceSequence | None


def as_people_judge(connection: Reading, of: ComparedScorer) -> AsPeopleJudge | None:
    """Corrects by the pairs' labels; with too few, by the judge's error rates on other answers. For arms that
    answer different requests: from each arm's labels. None if the metric is not a score, or has too few labels."""
    version = version_of(connection, of.scorer)
    if version is None:
        return None
    if of.sequence is None:
        return _from_arms(connection, of, version)
    if of.identity != f"{version.version} {version.config_hash}" or not of.sequence.bounded or of.sequence.test:
        return None
    if of.sequence.has_few_units:
        return None
    items = _labelled(connection, version)
    return _from_pairs(connection, of, items, of.sequence) or _by_rates(connection, of, items, of.sequence)


def _labelled(connection: Reading, version: ScorerVersion) -> list[LabelledItem]:
    """The answers (or pairs, of a pairwise judge) that were drawn for people, with their verdicts."""
    read = labels_with_pair_scores if version.subject == "pair" else labels_with_scores
    return [item for item in labelled_items(version.scorer, read(connection, version)) if item.pi > 0]


def _from_arms(connection: Reading, of: ComparedScorer, version: ScorerVersion) -> AsPeopleJudge | None:
    plan, arms = of.plan, (CONTROL, of.candidate)
    found = corrected_difference(connection, of.scorer, plan.plan.name, plan.hash, arms)
    if found is None:
        return None
    ours = [item.key[2] for item in _labelled(connection, version) if item.plan == plan.hash]
    return AsPeopleJudge(found, CorrectedBasis("arms", "one", (ours.count(arms[0]), ours.count(arms[1]))))


def _from_pairs(
    connection: Reading, of: ComparedScorer, items: Iterable[LabelledItem], sequence: DifferenceSequence
) -> AsPeopleJudge | None:
    ours = {item.id: item for item in items if item.plan == of.plan.hash}
    if len(ours) < MIN_LABELS:
        return None
    pairs = JudgedPairs.of(_judged_pairs(connection, of, ours, _metric(of, sequence.preference)))
    found = peoples_difference(pairs, sequence.rule.alpha, sequence.inflation)
    if found is None:
        return None
    estimate = Estimate(found.value, found.low, found.high)
    if sequence.preference:  # the share of wins is labelled, and the difference of the wins is shown
        estimate = Estimate(*(min(1.0, max(-1.0, 2 * end - 1)) for end in (found.value, found.low, found.high)))
    return AsPeopleJudge(estimate, CorrectedBasis("pairs", "every", pairs.labels, pairs.both))


def _judged_pairs(
    connection: Reading, of: ComparedScorer, labelled: Mapping[str, LabelledItem], metric: Metric
) -> Iterator[tuple[JudgedAnswer, JudgedAnswer, str]]:
    """The pairs that have a value, as the plan's sequence takes them."""
    plan = of.plan.plan
    taken: set[str] = set()
    for chunk in chunked(pairs_joined(connection, of.plan.hash), _CHUNK):
        for joined in joined_pairs(connection, plan, chunk):
            value = pair_value(plan, metric, joined, of.candidate)
            again = joined.cluster is not None and joined.cluster in taken
            if not isinstance(value, PairValue) or (again and plan.rules < 2):
                continue
            taken |= {joined.cluster} if joined.cluster is not None else set()
            base = joined.arms[REPEAT] if metric.against == "repeat" else joined.control
            ends = _answers((base, joined.arms[of.candidate]), value, labelled, metric.source == "preference")
            yield *ends, f"\0{joined.id}" if joined.cluster is None else joined.cluster


def _metric(of: ComparedScorer, preference: bool) -> Metric:
    if preference:
        return Metric(of.scorer, "preference", str(of.identity))
    return Metric(of.scorer, "score", str(of.identity), "repeat" if of.plan.plan.compare == "repeat" else "control")


def _answers(
    seen: tuple[ArmObservation, ArmObservation],
    value: PairValue,
    labelled: Mapping[str, LabelledItem],
    preference: bool,
) -> tuple[JudgedAnswer, JudgedAnswer]:
    """The judged answers. A preference is the candidate's share of the win, and its label that of the candidate's
    answer.
    """
    base, that = seen
    if preference:
        return JudgedAnswer(0.0, exact=True), _answer(that, value.b, labelled, base.failed or that.failed)
    return _answer(base, value.a, labelled, base.failed), _answer(that, value.b, labelled, that.failed)


def _answer(of: ArmObservation, f: float, labelled: Mapping[str, LabelledItem], failed: bool) -> JudgedAnswer:
    """One judged answer; one that failed has the verdict 0 without a label."""
    item = labelled.get(of.exchange or "")
    if item is None or failed:
        return JudgedAnswer(f, exact=failed)
    return JudgedAnswer(f, item.y, item.pi)


def _by_rates(
    connection: Reading, of: ComparedScorer, items: Iterable[LabelledItem], sequence: DifferenceSequence
) -> AsPeopleJudge | None:
    """Corrects a yes-or-no judge only: the size of another score says nothing about its error rates."""
    items = list(items)
    if len(items) < MIN_LABELS or sequence.preference or not sequence.n or any(i.f not in (0.0, 1.0) for i in items):
        return None
    agreement = calibrate(connection, CalibrationOptions(of.scorer)).agreement
    if agreement is None or agreement.accuracy is None:
        return None
    alpha = sequence.rule.alpha
    found = difference_by_rates(agreement.accuracy, sequence.moments.mean, sequence.standard_error, alpha)
    basis = CorrectedBasis("error_rates", "one", (0, 0), elsewhere=len(items))
    return None if found is None else AsPeopleJudge(found, basis)
