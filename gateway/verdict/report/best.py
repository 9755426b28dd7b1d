"""The section on several candidates that are compared with each other: a table, and cost against quality as a chart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.reports import number_format as say
from gateway.reports.charts import IntervalScale, extent, interval_bar
from gateway.reports.model import BestOfK, Estimate, RankedCandidate, Report, negated
from gateway.reports.pareto import CostChart, PricedModel, cost_chart
from gateway.reports.section import CaptionedChart, Cell, Column, ReportSection, Row, table
from gateway.verdict.report.cells import dollars_cell, estimate_cell
from gateway.verdict.report.presentation import RANKED, TONES, titled
from gateway.verdict.sentence import SIGNS


def best_section(report: Report) -> ReportSection | None:
    """A row for each candidate, the best first, and the chart of cost and quality."""
    best = report.best
    if best is None:
        return None
    scale = IntervalScale(extent([row.difference for row in best.candidates], best.margin), best.margin)
    behind = any(row.lead is not None for row in best.candidates)
    columns = (
        Column("Candidate", "text"),
        Column("State", "text"),
        Column("Difference from the control, + is better"),
        Column("against the margin", "drawing"),
        Column(f"Difference from {best.leader}", shown=behind),
        Column("Pairs"),
        Column("Paid calls"),
        Column("USD per 1k", shown=any(row.cost_per_1k for row in best.candidates)),
    )
    rows = [_ranked(row, best, scale) for row in best.candidates]
    why = tuple(f"{row.candidate}: {row.says}" for row in best.candidates)
    guide = (
        "Every candidate is compared with the control and with every other one, each time at a one-sided error of "
        f"{best.alpha:.3g}, at every look. A candidate is dropped, and gets no more requests, once another is shown to "
        "be better, or once it is worse than the control by more than the margin or breaks a guardrail. The best is "
        "not worse by more than the margin than the control, nor than any remaining candidate. On the front is one "
        "that no other beats: none is cheaper and at least as good, or as cheap and better."
    )
    shown = table("The candidates, compared with each other", columns, [("", rows)])
    figures = tuple(_cost_chart(report))
    return ReportSection("best", "The candidates, compared", guide=guide, rows=shown, figures=figures, items=why)


def _ranked(row: RankedCandidate, best: BestOfK, scale: IntervalScale) -> Row:
    word, state = RANKED[row.state]
    places = say.digits_of(row.difference, margin=best.margin)
    behind = None if row.lead is None else negated(row.lead)
    front = "on the front" if row.on_front else ""
    cells = (
        Cell(f"{SIGNS[state]} {word}", tone=TONES[state]),
        estimate_cell(row.difference, places, signed=True),
        Cell(drawing=interval_bar(row.difference, scale, TONES[state])),
        estimate_cell(behind, places, signed=True),
        Cell(say.count(row.pairs)),
        Cell(say.count(row.paid_calls or 0)),
        replace(dollars_cell(row.cost_per_1k), more=front),
    )
    return Row(Cell(row.candidate, row.target), cells)


def _cost_chart(report: Report) -> Iterator[CaptionedChart]:
    """Cost against quality, of the models whose price and value are known."""
    best = report.best
    if best is None or report.primary is None:
        return
    rows = [row for row in best.candidates if row.cost_per_1k is not None and row.difference.value is not None]
    models = [
        PricedModel(row.candidate, row.cost_per_1k or Estimate(None), row.difference, _LOOKS[row.state], row.on_front)
        for row in rows
    ]
    if best.control_cost is not None:
        control = PricedModel("control", best.control_cost, Estimate(0.0), "control", best.control_on_front)
        models = [control, *models]
    title = f"Difference on {titled(report.primary)}, + is better"
    costs = CostChart("costs", "Cost and quality", title, tuple(models))
    chart = cost_chart(costs)
    if chart is not None:
        front = ": the line is what can be had at each cost; a large dot is on it"
        yield CaptionedChart(chart, "Cost and quality", front, costs=costs)


_LOOKS = {"best": "candidate", "compared": "candidate", "dropped": "other"}
