"""A report on the terminal: the verdict, then its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.reports import number_format as say
from gateway.reports.model import Estimate, Report, State
from gateway.reports.section import ReportSection
from gateway.reports.terminal import rendered, safe_text
from gateway.verdict.report.presentation import (
    badge,
    best_lines,
    comparisons,
    declared_lines,
    except_lines,
    figures,
    finding,
    finding_state,
    headline,
    next_lines,
    override_lines,
    people_line,
    ramp_line,
    responses_line,
    saving,
    segment_lines,
    sentence_of,
    sharing,
    titled,
)
from gateway.verdict.report.sections import sections_of
from gateway.verdict.sentence import ENDED, SIGNS

LINES = 15  # of the short form
_STYLES: dict[State, str] = {1: "green", 0: "yellow", -1: "red"}


def to_terminal(report: Report, *, full: bool = False, more: Sequence[ReportSection] = ()) -> RenderableType:
    """The verdict and the remaining work until it, in at most LINES lines of a wide terminal. full: all the evidence,
    and the other sections."""
    return Group(*(_parts(report, more) if full else _short(report)))


def _short(report: Report) -> Iterator[RenderableType]:
    style = _STYLES[badge(report)[1]]
    yield safe_text(headline(report), f"bold {style}")
    yield safe_text(sentence_of(report).action)
    yield safe_text(_head(report), "dim")
    segments = [safe_text(line, "dim") for line in segment_lines(report)]
    ranked = [safe_text(line, _STYLES[state]) for line, state in best_lines(report.best)]
    declared = [safe_text(line) for line in declared_lines(report.declared)]
    first = [*_ramped(report), *ranked, *_cautions(report), *_figures(report), *declared]
    lines = [*first, *_next(report), *_deciding(report), *segments]
    yield from lines[: LINES - 4]
    yield safe_text(f"gateway report {report.experiment} --full shows all the evidence, --html FILE a page", "dim")


def _cautions(report: Report) -> Iterator[Text]:
    yield from (safe_text(f"! {caution}", "yellow") for caution in report.cautions)


def _ramped(report: Report) -> Iterator[Text]:
    line = ramp_line(report)
    if line is not None:
        yield safe_text(line)
    if report.best is None and report.ramp is not None and report.ramp.state in ENDED:
        yield safe_text(f"Verdict on the pairs: {report.sentence}")
    yield from (safe_text(f"! {each}", "yellow") for each in override_lines(report))


def _figures(report: Report) -> Iterator[Text]:
    yield safe_text("; ".join(f"{name}: {figure}" for name, figure in figures(report)))
    yield from (safe_text(text, "dim") for text in _notes(report))


def _notes(report: Report) -> Iterator[str]:
    """Notes on deciding metrics: as people judge, number of ratings, saving by adjusting, shares of candidates."""
    rated = (responses_line(c) for c in comparisons(report) if c.role != "other")
    people = (people_line(c) for c in comparisons(report) if c.role != "other")
    yield from (text for text in (*people, *rated, saving(report.primary), sharing(report.family)) if text)


def _next(report: Report) -> Iterator[Text]:
    """Lines on open conditions and the settings that would shorten them, while there is no verdict."""
    if report.verdict == "hold" and report.progress is not None and report.progress.sentence:
        yield safe_text(report.progress.sentence)
    yield from (safe_text(line) for line in next_lines(report) if report.verdict == "hold")
    yield from map(safe_text, except_lines(report))


def _deciding(report: Report) -> Iterator[Text]:
    """Yields what went wrong, then a line for each red gate and each decided metric with a margin."""
    if report.regressions:
        groups = ", ".join(f"{group} {n}" for group, n in report.regressions)
        yield safe_text(f"Where the candidate is worse: {groups}")
    left = {each.name for each in report.progress.open} if report.progress else set()
    for gate in report.gates:
        if gate.state < 0 or (gate.state == 0 and gate.name not in left):
            yield safe_text(f"{SIGNS[gate.state]} gate {gate.name}: {gate.says}", _STYLES[gate.state])
    for c in comparisons(report):
        if c.role != "other" and c.metric not in left:
            state = finding_state(c)
            places = say.digits_of(c.difference, margin=c.margin)
            difference = _inline(c.difference, places)
            yield safe_text(f"{SIGNS[state]} {c.role} {titled(c)}: {difference}; {finding(c)}", _STYLES[state])


def _parts(report: Report, more: Sequence[ReportSection]) -> Iterator[RenderableType]:
    style = _STYLES[badge(report)[1]]
    yield safe_text(headline(report), f"bold {style}")
    yield from (safe_text(line, _STYLES[state]) for line, state in best_lines(report.best))
    for reason in report.reasons:
        yield safe_text(f"  {reason}", style)
    yield safe_text(sentence_of(report).action)
    yield safe_text(report.sentence)
    yield from _cautions(report)
    yield from _ramped(report)
    yield safe_text(_head(report), "dim")
    yield from map(safe_text, _notes(report))
    yield from _next(report)
    yield from rendered([*sections_of(report), *more])
    versions = "".join(f", {name} {version}" for name, version in report.versions)
    yield safe_text(f"\nplan {report.plan}{versions}", "dim")
    yield safe_text(report.command, "dim")


def _head(report: Report) -> str:
    span = f", {say.when(report.first)} to {say.when(report.last)}" if report.first is not None else ""
    return f"{report.experiment}, candidate {report.candidate}: {sentence_of(report).settings}{span}"


def _inline(e: Estimate, places: int) -> str:
    value = say.number(e.value, places, signed=True)
    return value if e.low is None and e.high is None else f"{value} [{say.interval(e, places, signed=True)}]"
