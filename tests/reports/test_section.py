"""A section is built once, and each form shows what is for it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.reports.charts import amount_bar
from gateway.reports.html import environment
from gateway.reports.model import Estimate
from gateway.reports.section import Cell, Column, ReportSection, Row, Table, table


def one_row(*columns: Column) -> Table:
    return table("c", (Column("Name", "text"), *columns), [("", [Row(Cell("x"), (Cell("1"),) * len(columns))])])


def page_of(section: ReportSection) -> str:
    return str(environment().get_template("section.html.jinja").module.section(section))  # type: ignore[attr-defined]


def test_a_column_that_no_row_needs_is_left_out(read: Any) -> None:
    data = one_row(Column("hidden", shown=False), Column("b", "text"))
    page = read(environment().get_template("table.html.jinja").module.table(data))  # type: ignore[attr-defined]
    assert [th.text for th in page.one("thead").all("th")] == ["Name", "b"]
    assert [td.attributes["data-label"] for td in page.all("td")] == ["b"]


def test_an_empty_group_is_left_out() -> None:
    assert not table("c", (Column("a"),), [("group", [])])


def test_each_form_has_its_own_columns() -> None:
    data = one_row(Column("both"), Column("page", on="page"), Column("terminal", on="terminal"))
    assert [c.title for c in data.of_page.columns] == ["Name", "both", "page"]
    assert [c.title for c in data.of_terminal.columns] == ["Name", "both", "terminal"]


def test_a_terminal_has_no_column_of_drawings() -> None:
    bar = amount_bar(Estimate(0.5), 1.0, "")
    rows = [Row(Cell("x"), (Cell("1", drawing=bar), Cell(drawing=bar)))]
    data = table("c", (Column("Name", "text"), Column("a", "drawing"), Column("b", "drawing")), [("", rows)])
    assert [c.title for c in data.of_terminal.columns] == ["Name", "a"]
    assert len(data.of_page.columns) == 3


@pytest.mark.parametrize(
    ("section", "shown"),
    [
        (ReportSection("n", "Title", lead="l", guide="g", note="n", warnings=("w",)), False),
        (ReportSection("n", "Title", rows=table("c", (Column("a"),), [])), False),
        (ReportSection("n", "Title", parts=(ReportSection("m", "Part"),)), False),
        (ReportSection("n", "Title", parts=(ReportSection("m", "Part", items=("i",)),)), True),
        (ReportSection("n", "Title", items=("i",)), True),
        (ReportSection("n", "Title", items=("i",), on="terminal"), False),
    ],
)
def test_a_page_shows_a_section_with_content(section: ReportSection, shown: bool) -> None:
    assert ("Title" in page_of(section)) == shown


def test_a_page_has_every_part_of_a_section(read: Any) -> None:
    parts = (ReportSection("p", "Part", rows=one_row(Column("b"))),)
    section = ReportSection(
        "n", "Title", lead="lead", guide="guide", rows=one_row(Column("a")), note="note", items=("item",),
        warnings=("warning",), parts=parts,
    )  # fmt: skip
    page = read(page_of(section))
    assert (page.one("h2").text, page.one("h3").text) == ("Title", "Part")
    assert [p.text for p in page.all("p")] == ["lead", "guide", "note"]
    assert [li.text for li in page.all("li")] == ["item", "warning"]
    assert len(page.all("table")) == 2
