"""A report as an HTML page: its sections, and the verdict and the examples, for templates/experiment.html.jinja."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.guards import guard_in
from gateway.reports import number_format as say
from gateway.reports.html import render
from gateway.reports.model import ExamplePair, Report
from gateway.reports.section import ReportSection
from gateway.reports.text_diff import Segment, omission, side_by_side
from gateway.verdict.report.likelihood import likelihood_page
from gateway.verdict.report.presentation import (
    IN_SEGMENT,
    TONES,
    arms_compared,
    except_lines,
    latency_compared,
    pairs_drawn,
    saving_of,
    sentence_of,
    titled,
)
from gateway.verdict.report.sections import sections_of
from gateway.verdict.sentence import best_about, hours_left

QUESTION_CHARACTERS = 1200
FIRST = ("declared", "course", "ramp", "best", "candidates", "next", "gates", "metrics")
"""Sections that are open at first, in this order; the others are folded."""


def to_html(report: Report, candidates: Sequence[Report] = (), more: Sequence[ReportSection] = ()) -> str:
    """candidates: the reports of all candidates of the experiment, this one included, for a table side by side. more:
    sections after those of the report."""
    return render("experiment.html.jinja", **page_values(report, candidates, more))


def page_values(
    report: Report, candidates: Sequence[Report] = (), more: Sequence[ReportSection] = ()
) -> dict[str, Any]:
    """The values of experiment.html.jinja, which the console's page has, too."""
    sections = [*sections_of(report, candidates), *more]
    return {
        "title": f"{report.experiment}: {sentence_of(report).badge.partition(' ')[2].lower()}",
        "report": report,
        **_header(report),
        "sections": sorted((s for s in sections if s.name in FIRST), key=lambda s: FIRST.index(s.name)),
        "others": [section for section in sections if section.name not in FIRST],
        "likelihood": likelihood_page(report),
        "examples": _groups(report.examples),
        "segment_examples": _groups(report.declared.examples) if report.declared else [],
        "regressions": ", ".join(f"{group} {n}" for group, n in report.regressions),
        "created": say.when(report.created),
        "versions": ", ".join(f"{name} {version}" for name, version in report.versions),
    }


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the large numbers at the top."""

    name: str
    figure: str
    details: str
    term: str = ""
    """A key of terms.TERMS, whose meaning is offered next to the name."""


def _header(report: Report) -> dict[str, Any]:
    sentence, best = sentence_of(report), best_about(report.best, report.candidate)
    period = f", from {say.when(report.first)} to {say.when(report.last)}" if report.first is not None else ""
    left = _left_tile(report)
    tiles = (
        _difference_tile(report),
        left,
        _pairs_tile(report),
        _price_tile(report),
        _cost_tile(report),
        _latency_tile(report),
    )
    return {
        "tone": TONES[sentence.state],
        "sentence": sentence,
        "details": (best.sentence if best else report.sentence).replace(" … ", "\u00a0…\u00a0"),
        "reasons": [*report.reasons, *except_lines(report)],
        "cautions": report.cautions,
        "span": f"{say.counted(report.pairs, report.primary.counts if report.primary else 'pair')}{period}",
        "tiles": [tile for tile in tiles if tile],
    }


def _left_tile(report: Report) -> Tile | None:
    p = report.progress
    if p is None or not p.open:
        return None
    if (hours := hours_left(p)) is not None:
        return Tile("Still to go", say.span(hours / 24.0), f"of traffic; for {p.waits_for}")
    word = "pair" if report.primary is None else report.primary.counts
    figure = "unknown" if p.pairs is None and p.requests is None else say.work(p.pairs, p.requests, word)
    days = "" if p.days is None else f"{say.span(p.days)} at this pace; "
    return Tile("Still to go", figure, f"{days}for {p.waits_for}")


def _difference_tile(report: Report) -> Tile | None:
    if (c := report.primary) is None or c.difference.value is None:
        return None
    places = say.digits_of(c.difference, margin=c.margin)
    margin = f"; margin {c.margin:g}" if c.margin else ""
    value = say.number(c.difference.value, places, signed=True)
    return Tile(f"Difference on {titled(c)}, + is better", value, f"{say.interval(c.difference, places)}{margin}")


def _pairs_tile(report: Report) -> Tile:
    c, withheld = report.primary, pairs_drawn(report) - report.pairs
    fewer = c is not None and c.effective_n != c.pairs
    effective = [f"count as {say.count(c.effective_n)} independent ones"] if c is not None and fewer else []
    lacking = [f"{say.count(withheld)} more without a comparison"] if withheld else []
    term = "effective" if fewer else "withheld" if withheld else ""
    return Tile("Pairs", say.count(report.pairs), "; ".join([*effective, *lacking]), term)


def _price_tile(report: Report) -> Tile | None:
    """Calls that were paid for the evidence alone: those of the arms that served no client."""
    paid = [arm for arm in report.arms if arm.asked > arm.served and guard_in(arm.target) is None]
    calls = sum(arm.asked - arm.served for arm in paid)
    costs = [
        (arm.asked - arm.served) * arm.cost_per_1k.value / 1000
        for arm in paid
        if arm.cost_per_1k is not None and arm.cost_per_1k.value is not None
    ]
    if not calls or report.likelihood is not None:
        return None
    return Tile("Price so far", say.counted(calls, "call"), say.dollars(sum(costs)) if costs else "no price is known")


def _cost_tile(report: Report) -> Tile | None:
    both = arms_compared(report)
    if both is None or report.likelihood is not None or guard_in(both[1].target):
        return None
    before, after = (arm.cost_per_1k for arm in both)
    if not before or not after or not before.value or after.value is None:
        return None
    saved = saving_of(report) if report.verdict == "ship_except" else None
    was, becomes = (before.value, after.value) if saved is None else (saved.before, saved.after)
    kept = "" if saved is None else "; the excepted segments stay"
    return Tile("Cost per 1k requests", say.change(was, becomes), f"{say.dollars(was)} → {say.dollars(becomes)}{kept}")


def _latency_tile(report: Report) -> Tile | None:
    if (both := latency_compared(report)) is None:
        return None
    (before, after), arm = (each.p95.value for each in both), both[0].arm
    if before is None or after is None:
        return None
    places = say.digits(max(abs(after - before), 0.1))
    details = f"{say.number(before, places)} s ({arm}) → {say.number(after, places)} s"
    return Tile("Time by which 95 % are answered", f"{say.number(after - before, places, signed=True)} s", details)


def _groups(examples: Sequence[ExamplePair]) -> list[dict[str, Any]]:
    """The pairs under a title: regressions by what went wrong, then the others."""
    titles = [each.group if each.group.startswith(IN_SEGMENT) else _title(each) for each in examples]
    return [
        {"title": title, "pairs": [_example(e) for e, of in zip(examples, titles, strict=True) if of == title]}
        for title in dict.fromkeys(titles)
    ]


def _title(each: ExamplePair) -> str:
    return f"Regressions: {each.group}" if each.regression else "Other pairs"


def _example(each: ExamplePair) -> dict[str, Any]:
    control, candidate = side_by_side(each.control, each.candidate)
    scores = [(metric, f"{say.number(a, 3)} → {say.number(b, 3)}") for metric, a, b in each.scores]
    if each.distance is not None:
        scores.append(("distance", say.number(each.distance, 3)))
    return {
        "reason": each.why,
        "control_id": each.exchange,
        "candidate_id": each.beside,
        "question": _end_of(each.question),
        "reference": _end_of(each.reference) if each.reference else [],
        "control": control,
        "candidate": candidate,
        "scores": scores,
    }


def _end_of(question: str) -> list[Segment]:
    """The end of a long question: the last turn is the question."""
    left_out = len(question) - QUESTION_CHARACTERS
    return [omission(left_out), Segment(question[left_out:])] if left_out > 0 else [Segment(question)]
