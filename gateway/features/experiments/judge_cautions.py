"""Cautions about judges as the primary metric of experiments: before one starts, and in its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.config.config import Config
from gateway.core.errors import CannotRun
from gateway.core.plan import Plan
from gateway.features.experiments.judge_margin import judge_margin, margin_sentence
from gateway.features.labels.calibration import CalibrationOptions, CalibrationResult, calibrate, read
from gateway.features.labels.rows import kind_of, version_of
from gateway.scoring.registry import BuiltScorers
from gateway.store.query import Reading


def judge_cautions(config: Config, built: BuiltScorers, store: str, experiment: str | None = None) -> list[str]:
    """Of the enabled experiments whose primary is a judge, or of one. store: its URL; there may be none yet."""
    found = []
    for name, section in config.experiments.items():
        registered = built.all().get(section.primary or "")
        chosen = section.enabled if experiment is None else name == experiment
        if chosen and section.primary and registered is not None and registered.scorer.kind == "llm":
            texts = _cautions(section.primary, section.margin, store)
            found += [f"experiments.{name}.primary: {text}" for text in texts]
    return found


def plan_judge_cautions(connection: Reading, plan: Plan) -> tuple[str, ...]:
    """The same of a plan that may start, from its store alone: none where the store has no score of its judge."""
    return judges_cautions(connection, (plan.primary,), plan.margin) if plan.primary else ()


def judges_cautions(connection: Reading, scorers: Iterable[str], margin: float) -> tuple[str, ...]:
    """The same of each of these scorers that is a judge, if it is the primary of an experiment with this margin."""
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
    """Why people's labels do not support a judge, and what the margin of its scores is as people judge."""
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
