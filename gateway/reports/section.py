"""A report as a list of sections, built once and rendered by the terminal, the HTML page and the console. Pure.

A new row or section is added where the list is built (`report` of a feature). The renderers,
terminal.py and templates/section.html.jinja, know no section by its content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.reports.charts import Chart, Drawing, Trail
from gateway.reports.pareto import CostChart

Surface = Literal["everywhere", "page", "terminal"]
"""Forms that show something. "page": the HTML report and the console."""


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    kind: str = "number"
    """The CSS class: number, text, drawing or forest."""
    shown: bool = True
    """Whether any row has content for this column; without any, it is left out."""
    on: Surface = "everywhere"
    term: str = ""
    """A key of terms.TERMS, whose meaning a page offers next to the title."""
    notes: bool = True
    """Whether a terminal, which is narrow, shows the notes of this column."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str = ""
    note: str = ""
    """Set smaller, below the text."""
    tone: str = ""
    """The colour: good, open, bad or none ("")."""
    drawing: Drawing | None = None
    """The drawing before the text."""
    more: str = ""
    """A second note, below the first."""
    term: str = ""
    """A key of terms.TERMS, whose plain name a page shows instead of the text."""

    @property
    def blank(self) -> bool:
        return not self.text and self.drawing is None


@dataclass(frozen=True, slots=True)
class Row:
    name: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Each row of it becomes a card on a phone."""

    caption: str
    columns: tuple[Column, ...]
    """The first one is the column of the rows' names."""
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    """(heading, rows); the heading "" is not shown."""

    def __bool__(self) -> bool:
        return bool(self.groups)

    @property
    def rows(self) -> list[Row]:
        return [row for _, rows in self.groups for row in rows]

    @property
    def of_page(self) -> Table:
        """The table without the columns that only a terminal shows."""
        return table(self.caption, [replace(c, shown=c.on != "terminal") for c in self.columns], self.groups)

    @property
    def of_terminal(self) -> Table:
        """The table without the columns that only a page shows, and without those that only have drawings."""
        texts = [any(cell.text for cell in column) for column in zip(*(row.cells for row in self.rows), strict=True)]
        shown = [c.on != "page" and text for c, text in zip(self.columns[1:], texts, strict=False)]
        columns = [replace(c, shown=s) for c, s in zip(self.columns[1:], shown, strict=False)]
        return table(self.caption, [self.columns[0], *columns], self.groups)


def table(caption: str, columns: Sequence[Column], groups: Iterable[tuple[str, Sequence[Row]]]) -> Table:
    """The table without columns that are not shown and without empty groups."""
    visible = [i for i, column in enumerate(columns[1:]) if column.shown]
    kept = (
        (heading, tuple(Row(row.name, tuple(row.cells[i] for i in visible)) for row in rows))
        for heading, rows in groups
        if rows
    )
    return Table(caption, (columns[0], *(columns[i + 1] for i in visible)), tuple(kept))


@dataclass(frozen=True, slots=True)
class CaptionedChart:
    chart: Chart
    title: str = ""
    finding: str = ""
    trail: Trail | None = None
    """The course that the chart shows, which a terminal draws in characters."""
    costs: CostChart | None = None
    """The costs that the chart shows, in the same order. Without either, a terminal leaves the chart out."""

    @property
    def small(self) -> bool:
        return self.trail is not None and self.trail.small


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One part of a report. A section without content is not shown."""

    name: str
    """Name of the section in code: "gates"."""
    title: str
    lead: str = ""
    guide: str = ""
    """Explanation of how to read it; on pages."""
    rows: Table | None = None
    look: Literal["table", "narrow", "list", "shares"] = "table"
    """Layout of the rows on pages: a table, a narrow one, a list, or the legend of `shares`."""
    figures: tuple[CaptionedChart, ...] = ()
    shares: Drawing | None = None
    """A bar of parts of a whole."""
    note: str = ""
    """Set below the rows; on pages."""
    items: tuple[str, ...] = ()
    """Sentences below the rows."""
    warnings: tuple[str, ...] = ()
    """Sentences in a frame; on pages, since a terminal has them above all sections."""
    parts: tuple[ReportSection, ...] = ()
    on: Surface = "everywhere"
    term: str = ""
    """A key of terms.TERMS, whose meaning a page offers next to the title."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.figures or self.items or any(self.parts))
