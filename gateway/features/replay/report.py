"""A replay's result for a terminal, as JSON, and as pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

from msgspec import Meta
from rich.console import Group, RenderableType
from rich.text import Text

from gateway.features.replay.replay import ReplayResult
from gateway.features.replay.results.parting import RunParting
from gateway.features.replay.results.sheet import TargetSummary
from gateway.features.replay.run_turns import RunsReplayed
from gateway.reports import number_format as say
from gateway.reports.charts import amount_bar
from gateway.reports.html import render
from gateway.reports.model import Estimate, Report
from gateway.reports.output_schema import Schema, schema_of
from gateway.reports.section import Cell, Column, ReportSection, Row, table
from gateway.reports.terminal import rendered, safe_text
from gateway.verdict.report.as_json import SCHEMA_ID, report_schema
from gateway.verdict.report.as_json import to_dict as report_dict
from gateway.verdict.report.html import to_html
from gateway.verdict.report.terminal import to_terminal as report_to_terminal

_NUMBERS = ("asked", "failed", "USD per 1k", "p50, s", "p95, s", "tokens out")


class ReplayedDatasetOutput(TypedDict):
    name: str
    sha256: str
    rows: int
    """Rows that were sent."""
    of: int
    """Rows of the dataset."""


class ReplayOutput(TypedDict):
    """A dataset sent to several targets, and how their answers compare."""

    replay: str
    design: str
    """The hash of the design."""
    dataset: ReplayedDatasetOutput
    repeats: int
    targets: list[TargetSummary]
    reports: list[Annotated[Any, Meta(extra_json_schema={"$ref": SCHEMA_ID})]]
    """A report of each target against the first, as `gateway report --json` prints it."""
    runs: NotRequired[RunsReplayed]
    """The calls of a replay with `--runs`, and how far its targets part; it decides nothing. No other replay has it."""


def output_schema() -> Schema:
    """The schema of ReplayOutput, with that of reports, which it refers to."""
    return schema_of(ReplayOutput, Report=report_schema())


def to_dict(result: ReplayResult) -> ReplayOutput:
    """Deterministic but for its times: the same answers give the same numbers."""
    question = result.question
    found = {
        "replay": question.name,
        "design": question.design,
        "dataset": {
            "name": question.dataset,
            "sha256": question.dataset_hash,
            "rows": question.rows,
            "of": question.of,
        },
        "repeats": question.repeats,
        "targets": [asdict(each) for each in result.targets],
        "reports": [report_dict(r) for r in result.reports],
    }
    if result.runs is not None:
        found["runs"] = asdict(result.runs)
    return cast(ReplayOutput, found)


def to_terminal(result: ReplayResult) -> RenderableType:
    reports = (
        part
        for report in result.reports
        for part in (Text(), report_to_terminal(report, full=True, more=runs_sections(result, report.candidate)))
    )
    return Group(safe_text(_head(result), "bold"), *rendered([targets_section(result)]), *reports)


def _head(result: ReplayResult) -> str:
    question = result.question
    repeats = f", {question.repeats} times each" if question.repeats > 1 else ""
    return f"{question.name}: {question.part} rows of {question.dataset}{repeats} (sha256 {question.dataset_hash[:16]})"


def runs_sections(result: ReplayResult, candidate: str) -> list[ReportSection]:
    """How far a candidate and the control part on the turns of recorded runs; empty for another replay."""
    partings = result.runs.partings if result.runs is not None else ()
    return [_parting_section(each, result.targets[0].target) for each in partings if each.target == candidate]


def _parting_section(parting: RunParting, control: str) -> ReportSection:
    columns = (
        Column("Turn", "text"),
        Column("Runs"),
        Column(f"{parting.target} from {control}"),
        Column("", "drawing", on="page"),
        Column(f"{control} from itself"),
        Column("", "drawing", on="page"),
    )
    turns = [_turn_row(t.turn, t.runs, t.candidate, t.itself) for t in parting.by_turn]
    whole = _turn_row("all turns", parting.runs, parting.candidate, parting.itself)
    return ReportSection(
        "parting",
        "How far they part, turn by turn",
        guide=(
            "The share of turns with another step: another tool, other arguments, or a call where the other answers. "
            f"{control} from itself: its answers now against those that were recorded. Intervals are over runs. "
            "Another step is not a worse one: this decides nothing."
        ),
        rows=table("How far they part", columns, [("", [whole]), ("By turn", turns)]),
        items=(_parting_sentence(parting, control),),
    )


def _turn_row(name: str, runs: int, candidate: Estimate, itself: Estimate) -> Row:
    bars = (amount_bar(candidate, 1.0, "candidate"), amount_bar(itself, 1.0, "control"))
    cells = (_over(candidate), Cell(drawing=bars[0]), _over(itself), Cell(drawing=bars[1]))
    return Row(Cell(name), (Cell(say.count(runs)), *cells))


def _parting_sentence(parting: RunParting, control: str) -> str:
    if parting.difference.value is None:
        return f"How far {control} parts from itself is not known: it served none of the recorded turns."
    found = parting.difference
    return (
        f"{parting.target} parts from {control} more often than {control} from itself by {say.with_sign(found.value)} "
        f"of the turns ({say.interval(found, 3)}). This decides nothing."
    )


def targets_section(result: ReplayResult) -> ReportSection:
    columns = (Column("Target", "text"), *(Column(title) for title in _titles(result)))
    rows = [Row(Cell(each.target), tuple(_cells(result, each))) for each in result.targets]
    guide = "Each target on its own: the value, and its interval below it."
    return ReportSection("targets", "The targets", guide=guide, rows=table("The targets", columns, [("", rows)]))


def _titles(result: ReplayResult) -> list[str]:
    return [*(m.name for m in result.question.metrics), *_NUMBERS]


def _cells(result: ReplayResult, each: TargetSummary) -> Iterator[Cell]:
    """A cell for each title."""
    yield from (_over(each.means.get(m.name, Estimate(None))) for m in result.question.metrics)
    yield Cell(say.count(each.asked))
    yield Cell(say.count(each.failed))
    cost = each.cost_per_1k or Estimate(None)
    bounds = "" if cost.low is None else f"{say.dollars(cost.low)} … {say.dollars(cost.high)}"
    yield Cell(say.dollars(cost.value), bounds)
    yield _over(each.p50)
    yield _over(each.p95)
    yield Cell(say.number(each.output_tokens, 0))


def _over(e: Estimate) -> Cell:
    """The value with its interval below it."""
    places = say.digits_of(e)
    known = e.low is not None or e.high is not None
    return Cell(say.number(e.value, places), say.interval(e, places, signed=False) if known else "")


def pages(result: ReplayResult, path: Path) -> Iterator[tuple[Path, str]]:
    """(path, HTML). With two targets the comparison's report; otherwise an overview, and each report next to it."""
    if len(result.reports) == 1:
        yield path, to_html(result.reports[0], more=runs_sections(result, result.reports[0].candidate))
        return
    files = [path.with_name(_file_name(path, i, r)) for i, r in enumerate(result.reports, 1)]
    yield path, _overview(result, files)
    for file, report in zip(files, result.reports, strict=True):
        yield file, to_html(report, more=runs_sections(result, report.candidate))


def _file_name(path: Path, number: int, report: Report) -> str:
    return f"{path.stem}-{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', report.candidate)}{path.suffix}"


def _overview(result: ReplayResult, files: list[Path]) -> str:
    return render(
        "replay.html.jinja",
        title=result.question.name,
        heading=_head(result),
        sections=[targets_section(result)],
        links=[(file.name, report.sentence) for file, report in zip(files, result.reports, strict=True)],
    )
