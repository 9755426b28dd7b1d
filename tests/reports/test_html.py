"""Any text stays text on the page, and the templates are in the package."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from gateway.core.sanitize import plain
from gateway.reports.charts import shape
from gateway.reports.html import environment, render
from gateway.reports.section import Cell, Column, ReportSection, Row, table

ANYTHING = st.text(st.characters(codec=None) | st.sampled_from("<>&\"'=/\\\x00\x1b\ud800\u202e{}%#"), max_size=60)


def one_row(text: str, note: str = "", columns: tuple[Column, ...] = (Column("a"), Column("b"))):
    return table("c", columns, [("", [Row(Cell("name"), (Cell(text, note),) * (len(columns) - 1))])])


@settings(max_examples=25)  # each compiles the page's templates
@given(ANYTHING, ANYTHING, ANYTHING)
def test_any_text_is_the_same_text_in_the_parsed_page(read, text, name, title):
    data = one_row(text, name, (Column("a"), Column(title)))
    sections = [ReportSection("targets", text, lead=name, rows=data)]
    page = read(render("replay.html.jinja", title=title, heading=text, sections=sections, links=[(name, text)]))
    assert page.one("h1").text == plain(text)
    assert page.one("h2").text == plain(text)
    assert page.one("title").text == plain(title)
    assert page.one("a").text == plain(text)
    assert page.one("a").attributes == {"href": plain(name)}
    assert page.one("td").attributes["data-label"] == plain(title)
    assert page.one("td").text == plain(text) + plain(name)
    assert page.one("td").all() == page.one("td").all("small")


@settings(max_examples=25)
@given(ANYTHING, ANYTHING)
def test_a_shape_cannot_carry_markup(read, text, value):
    drawn = environment().get_template("chart.html.jinja").module.shapes([shape("text", text, look=plain(value))])
    assert read(drawn).one("text").text == plain(text)
    assert read(drawn).one("text").attributes == {"class": plain(value)}


def test_an_empty_cell_is_marked_so_that_phones_hide_it(read):
    page = read(environment().get_template("table.html.jinja").module.table(one_row("")))
    assert page.one("td").attributes["class"] == "number blank"


def test_a_value_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError, match="heading"):
        render("replay.html.jinja", title="t", sections=[], links=[])


def test_the_templates_are_files_of_the_package():
    found = {f.name for f in files("gateway.reports").joinpath("templates").iterdir()}
    assert found >= {"page.html.jinja", "shared.css", "page.css", "parts.css"}
    for package, template in (("verdict.report", "experiment.html.jinja"), ("features.replay", "replay.html.jinja")):
        assert files(f"gateway.{package}").joinpath("templates", template).is_file()
        assert environment().get_template(template)
