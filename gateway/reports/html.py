"""Renders the HTML reports: one self-contained file each, which loads nothing and runs no script.

The pages' texts come from models, clients and configuration. Jinja escapes every one of them, and control characters
and marks that reorder text are removed first. Only the programs that write pages import this module.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway.core.sanitize import plain
from gateway.features import FEATURES
from gateway.reports.charts import Drawing


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    kind: str = "number"
    """The CSS class: number, text, drawing or forest."""
    shown: bool = True
    """False: no row has anything for this column, so it is left out."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str = ""
    note: str = ""
    """Set smaller, below the text."""
    tone: str = ""
    """good, open or bad; "": no colour."""
    drawing: Drawing | None = None
    """Stands before the text."""

    @property
    def blank(self) -> bool:
        return not self.text and self.drawing is None


@dataclass(frozen=True, slots=True)
class Row:
    name: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table for table.html.jinja. Each row of it becomes a card on a phone."""

    caption: str
    columns: tuple[Column, ...]
    """The first one is the column of the rows' names."""
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    """(heading, rows); the heading "" is not shown."""

    def __bool__(self) -> bool:
        return bool(self.groups)


def table(caption: str, columns: Sequence[Column], groups: Iterable[tuple[str, Sequence[Row]]]) -> Table:
    """The table without columns that are not shown and without empty groups."""
    visible = [i for i, column in enumerate(columns[1:]) if column.shown]
    kept = (
        (heading, tuple(Row(row.name, tuple(row.cells[i] for i in visible)) for row in rows))
        for heading, rows in groups
        if rows
    )
    return Table(caption, (columns[0], *(columns[i + 1] for i in visible)), tuple(kept))


def render(template: str, **values: Any) -> str:
    """The page that templates/`template` makes of the values. The style sheet's digest stands in the page's policy.

    With the digest instead of 'unsafe-inline', not even a style attribute that came from the store would be applied.
    """
    style = _template("page.css") + parts_css()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    css = Markup(style)  # noqa: S704 - a file of this package
    return environment().get_template(template).render(style=css, style_digest=digest, **values)


def parts_css() -> str:
    """The style of what reports consist of, without that of the page around them; the console serves it, too."""
    return _template("parts.css")


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def templates(*packages: str) -> ChoiceLoader:
    """The templates of these packages and of every feature that has some."""
    of_features = (f"gateway.features.{feature.name}" for feature in FEATURES if feature.templates)
    return ChoiceLoader([PackageLoader(name) for name in (*packages, *of_features)])


def environment() -> Environment:
    return Environment(
        loader=templates("gateway.reports"),
        autoescape=True,
        finalize=_without_control_characters,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_control_characters(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
