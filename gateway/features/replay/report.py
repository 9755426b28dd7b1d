"""A replay's result for a terminal, as JSON, and as pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from msgspec import Meta
from rich.console import Group, RenderableType
from rich.text import Text

from gateway.features.replay.replay import ReplayResult
from gateway.features.replay.results.sheet import TargetSummary
from gateway.reports import number_format as say
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
    return cast(ReplayOutput, found)


def to_terminal(result: ReplayResult) -> RenderableType:
    reports = (part for report in result.reports for part in (Text(), report_to_terminal(report, full=True)))
    return Group(safe_text(_head(result), "bold"), *rendered([targets_section(result)]), *reports)


def _head(result: ReplayResult) -> str:
    question = result.question
    repeats = f", {question.repeats} times each" if question.repeats > 1 else ""
    return f"{question.name}: {question.part} rows of {question.dataset}{repeats} (sha256 {question.dataset_hash[:16]})"


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
        yield path, to_html(result.reports[0])
        return
    files = [path.with_name(_file_name(path, i, r)) for i, r in enumerate(result.reports, 1)]
    yield path, _overview(result, files)
    yield from ((file, to_html(report)) for file, report in zip(files, result.reports, strict=True))


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
