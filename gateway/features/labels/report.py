"""The result of `gateway judge calibrate` on the terminal and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NotRequired, TypedDict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.features.decisions.model import ProbabilityTruth, Reliability
from gateway.features.decisions.report import calibration_lines
from gateway.features.labels.agreement import Agreement, RateEstimate
from gateway.features.labels.calibration import CalibrationResult, CorrectedGroup
from gateway.features.labels.correction import MIN_LABELS
from gateway.features.learned.card import card_lines
from gateway.statistics.control_variate import ControlledEstimate

ONE_LABELLER = 50
"""Labels from which on an error of the one person who gave them matters more than their number."""
PEOPLE_ERR = 0.05
_LOW_KAPPA = 0.4  # an upper bound below this is too little agreement to rely on the scorer's own mean


class CalibrationOutput(TypedDict):
    """Agreement of a scorer with people, and its means corrected by their labels."""

    scorer: str
    version: str
    config_hash: str
    subject: str
    """Kind of what is labelled: `exchange` or `pair`."""
    experiment: str | None
    cut: float
    """The verdict from which the scorer calls an answer good."""
    alpha: float
    labels: int
    """Labelled answers with a known drawing probability."""
    brought: int
    """Labelled answers that no design accounts for; they are left out."""
    skipped: int
    """Answers that were shown and not labelled."""
    judged_since: int
    """Answers that the scorer judged after the last draw."""
    labellers: list[str]
    krippendorff_alpha: float | None
    """Agreement among the labellers."""
    agreement: Agreement | None
    """The judge's agreement with the labels; None if there are too few."""
    flip_rate: RateEstimate | None
    """The share of pairs in which the winner changed with the order."""
    first_slot_rate: RateEstimate | None
    groups: list[CorrectedGroup]
    """The scorer's mean over some traffic, as it is and as people correct it."""
    if_people_err: float | None
    """The corrected mean of the first group if the one labeller is wrong in 5 % of the answers."""
    recorded: ControlledEstimate | None
    """The mean over every exchange that a model drew for the scorer."""
    predictor: dict[str, Any] | None
    """The card of the model that decides what the scorer sees."""
    probability: NotRequired[ProbabilityTruth | None]
    """The score as the probability that people call an answer good; None below 30 labels. With `--probability`."""
    mapped_probability: NotRequired[ProbabilityTruth | None]
    """The same by the map that labels gave, on labels that it has not seen; None without one. With `--probability`."""


def to_dict(result: CalibrationResult, truth: Reliability | None = None) -> dict[str, Any]:
    """The members of CalibrationOutput. truth: of the score as a probability."""
    options, scorer = result.options, result.scorer
    of_probability = {} if truth is None else {"probability": truth.raw, "mapped_probability": truth.mapped}
    return {
        "scorer": scorer.scorer,
        "version": scorer.version,
        "config_hash": scorer.config_hash,
        "subject": scorer.subject,
        "experiment": options.experiment,
        "cut": options.cut,
        "alpha": options.alpha,
        "labels": result.labels,
        "brought": result.imported,
        "skipped": result.skipped,
        "judged_since": result.judged_since,
        "labellers": list(result.labellers),
        "krippendorff_alpha": result.people,
        "agreement": asdict(result.agreement) if result.agreement else None,
        "flip_rate": asdict(result.flip) if result.flip else None,
        "first_slot_rate": asdict(result.first_slot) if result.first_slot else None,
        "groups": [asdict(group) for group in result.groups],
        "if_people_err": if_people_err(result),
        "recorded": asdict(result.recorded) if result.recorded else None,
        "predictor": result.predictor,
        **{name: asdict(of) if of else None for name, of in of_probability.items()},
    }


def if_people_err(result: CalibrationResult) -> float | None:
    """The corrected mean of the first group if the one labeller is wrong in PEOPLE_ERR of the answers, good and bad
    alike: (m - e) / (1 - 2 e), as Rogan & Gladen have it. None if there are few labels, several labellers, or no mean.
    """
    means = [group.corrected.mean for group in result.groups if group.corrected is not None]
    if result.labels < ONE_LABELLER or len(result.labellers) != 1 or not means:
        return None
    return min(1.0, max(0.0, (means[0] - PEOPLE_ERR) / (1.0 - 2.0 * PEOPLE_ERR)))


def to_terminal(result: CalibrationResult, truth: Reliability | None = None) -> RenderableType:
    """truth: of the score as a probability."""
    of_probability = [] if truth is None else [Text(line) for line in calibration_lines(truth)]
    return Lines(*_lines(result), *of_probability)


def _lines(result: CalibrationResult) -> Iterator[RenderableType]:
    s = result.scorer
    yield Text(plain(f"{s.scorer}  version {s.version}, config {s.config_hash}, judges each {s.subject}"), "bold")
    yield Text(_counts(result))
    if result.too_few:
        hint = f"`gateway label next --scorer {plain(s.scorer)}` takes more"
        yield Text(f"{result.labels} of at least {MIN_LABELS} labels with a known probability; {hint}", "yellow")
    yield Text()
    yield _rates(result)
    if result.agreement is not None:
        t = result.agreement.table
        good = f"good by people: {t.hit} called good, {t.miss} bad"
        yield Text(f"{good}; bad: {t.correct_rejection} called bad, {t.false_alarm} good")
    yield Text()
    yield _means(result)
    yield from _hints(result)
    if result.recorded is not None and result.recorded.mean is not None:
        yield Text(_recorded(result.recorded))
    if result.predictor is not None:
        yield from (Text(plain(line), "dim") for line in card_lines(result.predictor))


def _recorded(of: ControlledEstimate) -> str:
    looks = f"{_interval(of.fixed_low, of.fixed_high)} for one look, {_interval(of.low, of.high)} at any time"
    weight = of.weights[0] if of.weights else 0.0
    return (
        f"all {of.n} recorded, with predictions (weight {weight:.2f}): {of.mean:.3f}, {looks}; "
        f"as precise as {of.effective_n:.0f} answers judged without them"
    )


def _counts(result: CalibrationResult) -> str:
    by = f" by {plain(', '.join(result.labellers))}" if result.labellers else ""
    counts = [f"{result.labels} labels{by}"]
    counts += [f"{result.imported} with an unknown probability left out"] if result.imported else []
    counts += [f"{result.skipped} skipped"] if result.skipped else []
    if result.judged_since and result.labels:
        counts.append(f"{result.judged_since} answers judged since the last draw")
    return "; ".join(counts)


def _rates(result: CalibrationResult) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("name")
    shown.add_column("value", justify="right")
    shown.add_column(f"{100 * (1 - result.options.alpha):g} % interval")
    shown.add_column("effective n", justify="right")
    agreed = result.agreement
    rows = [
        ("Cohen's kappa with people", agreed.kappa if agreed else None),
        ("TPR: good answers called good", agreed.tpr if agreed else None),
        ("TNR: bad answers called bad", agreed.tnr if agreed else None),
    ]
    if result.scorer.subject == "pair":
        rows += [("slot-1 rate (½: no bias)", result.first_slot), ("flip rate between orders", result.flip)]
    for name, rate in rows:
        shown.add_row(name, *_rate_cells(rate))
    if result.people is not None:
        shown.add_row("people among themselves (alpha)", f"{result.people:.3f}", "", "")
    return shown


def _rate_cells(rate: RateEstimate | None) -> tuple[str, str, str]:
    return ("–", "", "") if rate is None else (f"{rate.value:.3f}", _interval(rate.low, rate.high), f"{rate.n}")


def _means(result: CalibrationResult) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("mean of", "judged", "labels", "as judged", "corrected (PPI++)", "", "Rogan–Gladen", ""):
        shown.add_column(name, justify="left" if name in ("mean of", "") else "right")
    for group in result.groups:
        shown.add_row(plain(group.name), *_mean_cells(group))
    return shown


def _mean_cells(group: CorrectedGroup) -> tuple[str, ...]:
    c, r = group.corrected, group.rogan_gladen
    corrected = (f"{c.mean:.3f}", _interval(c.low, c.high)) if c else ("–", "")
    rogan_gladen = (f"{r.rate:.3f}", _interval(r.low, r.high)) if r else ("–", "")
    judged = f"{group.judged.mean:.3f}" if group.judged.n else "–"
    return f"{group.judged.n}", f"{group.labels}", judged, *corrected, *rogan_gladen


def _hints(result: CalibrationResult) -> Iterator[RenderableType]:
    width = f"± {result.options.half_width:g}"
    for group in result.groups:
        if group.corrected is None:
            continue
        if group.needed is None:
            yield Text(f"{plain(group.name)}: too few answers are judged for {width}, with any number of labels", "dim")
        elif group.needed > group.labels:
            yield Text(f"{plain(group.name)}: about {group.needed} labels in total give {width}", "dim")
    if (moved := if_people_err(result)) is not None:
        yield Text(
            f"{plain(result.labellers[0])} gave every label, so it is unknown how often people are wrong: if it is "
            f"{PEOPLE_ERR:.0%} of the answers, the corrected mean is {moved:.3f}. A second person's labels of the same "
            f"answers measure it: `gateway label next --scorer {plain(result.scorer.scorer)}`",
            "yellow",
        )
    kappa = result.agreement.kappa if result.agreement else None
    if kappa is not None and kappa.high < _LOW_KAPPA:
        yield Text("The scorer agrees little with people: rely on the corrected mean, not on its own.", "yellow")


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} … {high:.3f}"
