"""Sections on a terminal: aligned, at any width, and never in control of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from gateway.core.sanitize import plain
from gateway.reports.section import Cell, Column, ReportSection, Row, table
from gateway.reports.terminal import WIDE, rendered

HOSTILE = "[bold]x[/bold]\x1b[31m"


def shown(*sections: ReportSection, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=False)
    console.print(Group(*rendered(sections)))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def section(columns: int, **more: object) -> ReportSection:
    titles = [Column(f"A long title {i}") for i in range(columns - 1)]
    rows = [Row(Cell("name", "below"), tuple(Cell("1.5", "1 … 2") for _ in titles))]
    return ReportSection("n", "Title", rows=table("c", (Column("Name", "text"), *titles), [("Group", rows)]), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("columns", "beside"), [(WIDE - 1, True), (WIDE, False)])
def test_notes_stand_below_in_wide_tables(columns: int, beside: bool) -> None:
    assert ("1.5 [1 … 2]" in shown(section(columns))) == beside


def test_groups_have_a_heading_and_titles_wrap() -> None:
    lines = [line.rstrip() for line in shown(section(3)).splitlines()]
    assert lines[1] == "Title"
    assert "Group" in lines
    assert not any("A long title 0" in line for line in lines), "a title is no wider than its cells"


def test_page_parts_are_not_on_a_terminal() -> None:
    text = shown(section(3, guide="guide", note="note", warnings=("warning",), lead="lead", items=("item",)))
    assert [word in text for word in ("guide", "note", "warning", "lead", "- item")] == [False] * 3 + [True] * 2
    assert shown(section(3, on="page")).strip() == ""


def test_a_column_may_leave_out_its_notes() -> None:
    rows = [Row(Cell("x"), (Cell("1", "secret", more="too"), Cell("2", "note", more="more")))]
    columns = (Column("N", "text"), Column("a", notes=False), Column("b"))
    text = shown(ReportSection("n", "T", rows=table("c", columns, [("", rows)])))
    assert "secret" not in text
    assert "2 [note; more]" in text


@pytest.mark.parametrize("width", [40, 200])
def test_stored_text_has_no_effect_on_the_terminal(width: int) -> None:
    rows = [Row(Cell(HOSTILE, HOSTILE), (Cell(HOSTILE, HOSTILE),))]
    data = table(HOSTILE, (Column(HOSTILE, "text"), Column(HOSTILE)), [(HOSTILE, rows)])
    text = shown(ReportSection("n", HOSTILE, lead=HOSTILE, rows=data, items=(HOSTILE,)), width=width)
    assert plain(text) == text
    assert "[bold]x[/bold]" in text.replace("\n", "")
