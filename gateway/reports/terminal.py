"""Renders the sections of a report on a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence

from rich import table as rich_table
from rich.console import RenderableType
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.reports import number_format as say
from gateway.reports.charts import Trail
from gateway.reports.model import IntervalTrail
from gateway.reports.pareto import in_characters
from gateway.reports.section import Cell, Column, ReportSection, Table

TONES = {"good": "green", "open": "yellow", "bad": "red"}
WIDE = 6  # columns from which on notes are below their texts, and not behind them
_COLUMNS, _ROWS = 60, 9  # of the drawing; with an odd number, one row is at zero
_SETTLED = 0.1  # an interval from before this share of the pairs may leave the drawing


def safe_text(text: str, style: str = "") -> Text:
    """Text without rich's markup and without control characters, since names come from requests and answers."""
    return Text(plain(text), style)


def plain_table(
    titles: Sequence[str], *, right: Collection[str] = (), unbroken: Collection[str] = ()
) -> rich_table.Table:
    """An empty table without lines. right: titles of figures. unbroken: titles of columns that are never wrapped."""
    shown = rich_table.Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(title, justify="right" if title in right else "left", no_wrap=title in unbroken)
    return shown


def rendered(sections: Iterable[ReportSection]) -> Iterator[RenderableType]:
    """The sections that a terminal shows, each below its title."""
    for section in sections:
        content = list(_content(section)) if section.on != "page" else []
        if content:
            yield safe_text(f"\n{section.title}", "bold")
            yield from content


def _content(section: ReportSection) -> Iterator[RenderableType]:
    if not section:
        return
    if section.lead:
        yield safe_text(section.lead, "dim")
    for figure in section.figures:
        if figure.trail is not None and not figure.trail.small:
            yield from drawn(figure.trail)
        if figure.costs is not None:
            yield from map(safe_text, in_characters(figure.costs))
    if section.rows and section.look == "shares":
        yield safe_text(
            ", ".join(f"{row.name.text} {row.cells[0].text} ({row.cells[1].text})" for row in section.rows.rows)
        )
    elif section.rows:
        yield shown_table(section.rows, titles=section.look != "list")
    for part in section.parts:
        yield safe_text(part.title, "dim")
        yield from _content(part)
    yield from (safe_text(f"- {item}") for item in section.items)


def shown_table(of: Table, *, titles: bool) -> RenderableType:
    """Renders a table. titles: the columns have a head."""
    data = of.of_terminal
    shown = rich_table.Table(box=None, pad_edge=False, header_style="dim", show_header=titles)
    wide = len(data.columns) >= WIDE
    lines = [
        [_lines(cell, column, wide) for cell, column in zip((row.name, *row.cells), data.columns, strict=True)]
        for row in data.rows
    ]
    for i, column in enumerate(data.columns):
        if column.kind == "text":
            shown.add_column(safe_text(column.title), overflow="fold")
        else:
            shown.add_column(_narrow(column.title, [cells[i] for cells in lines]), justify="right", no_wrap=True)
    at = 0
    for heading, rows in data.groups:
        if heading:
            shown.add_row(safe_text(heading, "dim"))
        for cells in lines[at : at + len(rows)]:
            shown.add_row(*cells)
        at += len(rows)
    return shown


def _lines(cell: Cell, column: Column, wide: bool) -> Text:
    text = say.NONE if cell.blank and column.kind == "number" else cell.text
    notes = [note for note in (cell.note, cell.more) if note and column.notes]
    if wide or column.kind == "text":
        return Text("\n".join(map(plain, (text, *notes))), TONES.get(cell.tone, ""))
    return safe_text(f"{text} [{'; '.join(notes)}]" if notes else text, TONES.get(cell.tone, ""))


def _narrow(title: str, cells: Sequence[Text]) -> Text:
    """The title in lines that are no longer than the cells below it, so that wide titles do not make a wide table."""
    longest = max((len(line) for cell in cells for line in cell.plain.split("\n")), default=0)
    width = max(longest, *map(len, title.split()))
    return Text("\n".join(textwrap.wrap(plain(title), width)))


def drawn(of: Trail) -> Iterator[Text]:
    """The course of a difference and its interval in characters, with a key; nothing before the first point."""
    rows = list(_drawing(of.trail, of.margin or 0.0))
    if not rows:
        return
    yield from rows
    yield safe_text(f"{'':>9}█ difference  ░ its interval at every look  ╌ margin", "dim")
    if of.final is not None:
        final = say.interval(of.final, say.digits_of(of.final, margin=of.margin))
        yield safe_text(f"{'':>9}at the end the interval that decides: {final}", "dim")


def _drawing(trail: IntervalTrail, margin: float) -> Iterator[Text]:
    points = say.thinned([p for p in trail.points if not any(map(math.isnan, p))], _COLUMNS)
    if not points:
        return
    settled = [p for p in points if p[0] >= _SETTLED * points[-1][0]]
    extent = max([abs(v) for p in settled for v in p[1:] if math.isfinite(v)] + [1.3 * margin]) or 1.0
    half, places = extent / _ROWS, say.digits(margin or extent)
    for row in range(_ROWS):
        middle = extent - (2 * row + 1) * half
        line = Text(f"{say.number(middle, places, signed=True):>8} ", "dim")
        yield line.append_tokens(_mark(p, middle, half, margin) for p in points)
    yield safe_text(f"{'':>9}1 {say.count(points[-1][0]):>{max(1, len(points) - 2)}} pairs", "dim")


def _mark(point: tuple[int, float, float, float], middle: float, half: float, margin: float) -> tuple[str, str]:
    """The character in a cell of the drawing, and its style."""
    _, value, low, high = point
    if abs(value - middle) <= half:
        return "█", "cyan"
    if low - half <= middle <= high + half:
        return "░", "cyan"
    if margin and abs(middle + margin) <= half:
        return "╌", "red"
    return ("─", "dim") if abs(middle) <= half else (" ", "")
