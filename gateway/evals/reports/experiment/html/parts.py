"""What every section of the page is made of: a heading, a table whose rows are cards on a phone, an arm's colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.evals.experiments.report import State
from gateway.evals.reports.experiment.html.markup import Child, Markup, tag

TONES: dict[State, str] = {1: "good", 0: "open", -1: "bad"}


def section(title: str, lead: Child, *children: Child) -> Markup:
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, *children)


def toned(mood: State, *children: Child) -> Markup:
    return tag("span", *children, class_=f"tone {TONES[mood]}")


@dataclass(frozen=True, slots=True)
class Column:
    """show: left out where no row has anything to say in it."""

    title: str
    kind: str = "number"  # number, text, drawing, forest
    show: bool = True


Row = tuple[Child, Sequence[Child]]  # its name, and one cell for each further column


def table(caption: str, columns: Sequence[Column], groups: Iterable[tuple[str | None, Sequence[Row]]]) -> Markup:
    """columns: the first is of the names. groups: their heading, None for none, and their rows."""
    head = tag("tr", (_title(column) for column in columns if column.show), role="row")
    return tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", head, role="rowgroup"),
        (_group(heading, rows, columns) for heading, rows in groups if rows),
        role="table",  # display: block, on a phone, would take the role away
    )


def _title(column: Column) -> Markup:
    look = None if column.kind == "number" else column.kind
    return tag("th", column.title, scope="col", role="columnheader", class_=look)


def _group(heading: str | None, rows: Sequence[Row], columns: Sequence[Column]) -> Markup:
    shown = sum(c.show for c in columns)
    over = tag("tr", tag("th", heading, scope="rowgroup", colspan=shown, role="rowheader"), role="row")
    drawn = [_row(name, cells, columns) for name, cells in rows]
    return tag("tbody", over if heading else None, drawn, role="rowgroup", class_="group" if heading else None)


def _row(name: Child, cells: Sequence[Child], columns: Sequence[Column]) -> Markup:
    drawn = [
        tag("td", cell, role="cell", data_label=c.title, class_=c.kind if cell else f"{c.kind} blank")
        for c, cell in zip(columns[1:], cells, strict=True)
        if c.show
    ]
    return tag("tr", tag("th", name, scope="row", role="rowheader"), drawn, role="row")
