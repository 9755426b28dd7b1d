"""A calibration for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.evals.annotation.agreement import RateEstimate
from gateway.evals.annotation.calibrate import CalibrationResult, CorrectedGroup
from gateway.evals.annotation.correction import LEAST

_NO_LABELS = "`gateway label next --scorer {scorer}` takes them"


def to_dict(found: CalibrationResult) -> dict[str, Any]:
    """Every number of the page, by the names of this package's own words."""
    asked, of = found.asked, found.of
    return {
        "scorer": of.scorer,
        "version": of.version,
        "config_hash": of.config_hash,
        "subject": of.subject,
        "experiment": asked.experiment,
        "cut": asked.cut,
        "alpha": asked.alpha,
        "labels": found.labels,
        "brought": found.brought,
        "skipped": found.skipped,
        "judged_since": found.later,
        "labellers": list(found.labellers),
        "krippendorff_alpha": found.people,
        "agreement": asdict(found.agreement) if found.agreement else None,
        "flip_rate": asdict(found.flip) if found.flip else None,
        "first_slot_rate": asdict(found.first_slot) if found.first_slot else None,
        "groups": [asdict(group) for group in found.groups],
    }


def page(found: CalibrationResult) -> RenderableType:
    return Lines(*_lines(found))


def _lines(found: CalibrationResult) -> Iterator[RenderableType]:
    of = found.of
    yield Text(plain(f"{of.scorer}  version {of.version}, config {of.config_hash}, judges each {of.subject}"), "bold")
    yield Text(_counted(found))
    if found.too_few:
        why = f"{found.labels} of at least {LEAST} labels drawn with known probability; {_NO_LABELS}"
        yield Text(why.format(scorer=plain(of.scorer)), "yellow")
    yield Text()
    yield _rates(found)
    if found.agreement is not None:
        t = found.agreement.table
        yield Text(f"good by people: {t.hit} called good, {t.miss} bad; bad: {t.correct_rejection} called bad, "
                   f"{t.false_alarm} good")  # fmt: skip
    yield Text()
    yield _means(found)
    yield from _hints(found)


def _counted(found: CalibrationResult) -> str:
    who = f" by {plain(', '.join(found.labellers))}" if found.labellers else ""
    said = [f"{found.labels} labels{who}"]
    said += [f"{found.brought} of unknown draw left out"] if found.brought else []
    said += [f"{found.skipped} skipped"] if found.skipped else []
    said += [f"{found.later} answers judged since the last draw"] if found.later and found.labels else []
    return "; ".join(said)


def _rates(found: CalibrationResult) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    level = f"{100 * (1 - found.asked.alpha):g} % interval"
    for name, how in (("", "left"), ("value", "right"), (level, "left"), ("n", "right")):
        drawn.add_column(name, justify=how)  # type: ignore[arg-type]
    agreed = found.agreement
    people = RateEstimate(found.people, found.people, found.people, 0) if found.people is not None else None
    rows = [
        ("Cohen's kappa with people", agreed.kappa if agreed else None),
        ("TPR: good answers called good", agreed.tpr if agreed else None),
        ("TNR: bad answers called bad", agreed.tnr if agreed else None),
    ]
    if found.of.subject == "pair":
        rows += [("slot-1 rate (½: no bias)", found.first_slot), ("flip rate between orders", found.flip)]
    for name, rate in rows:
        drawn.add_row(name, *_cells(rate))
    if people is not None:
        drawn.add_row("people among themselves (alpha)", f"{people.value:.3f}", "", "")
    return drawn


def _cells(rate: RateEstimate | None) -> tuple[str, str, str]:
    return ("–", "", "") if rate is None else (f"{rate.value:.3f}", _interval(rate.low, rate.high), f"{rate.n}")


def _means(found: CalibrationResult) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("mean of", "judged", "labels", "as judged", "corrected (PPI++)", "", "Rogan–Gladen", ""):
        drawn.add_column(name, justify="left" if name in ("mean of", "") else "right")
    for group in found.groups:
        drawn.add_row(plain(group.name), *_mean(group))
    return drawn


def _mean(group: CorrectedGroup) -> tuple[str, ...]:
    c, r = group.corrected, group.rogan_gladen
    corrected = (f"{c.mean:.3f}", _interval(c.low, c.high)) if c else ("–", "")
    rogan = (f"{r.rate:.3f}", _interval(r.low, r.high)) if r else ("–", "")
    judged = f"{group.judged.mean:.3f}" if group.judged.n else "–"
    return f"{group.judged.n}", f"{group.labels}", judged, *corrected, *rogan


def _hints(found: CalibrationResult) -> Iterator[RenderableType]:
    for group in found.groups:
        if group.corrected is None:
            continue
        half = found.asked.half_width
        if group.needed is None:
            yield Text(f"{plain(group.name)}: no number of labels gives ± {half:g}: too little was judged", "dim")
        elif group.needed > group.labels:
            yield Text(f"{plain(group.name)}: about {group.needed} labels in all give ± {half:g}", "dim")
    agreed = found.agreement
    if agreed is not None and agreed.kappa is not None and agreed.kappa.high < 0.4:
        yield Text("The scorer agrees little with people: read the corrected mean, not its own.", "yellow")


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} … {high:.3f}"
