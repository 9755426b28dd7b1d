"""Renders the HTML reports: one self-contained file each, which loads nothing and runs no script.

The pages' texts come from models, clients and configuration. Jinja escapes every one of them, and control characters
and marks that reorder text are removed first. Only the programs that write pages import this module.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Literal

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.core.sanitize import plain
from gateway.features import FEATURES
from gateway.reports.terms import TERMS

_OF_REPORTS = ("gateway.reports", "gateway.verdict.report")
_CODE = re.compile(r"`([^`\n]+)`")


def render(template: str, **values: Any) -> str:
    """The page that templates/`template` makes of the values. The style sheet's digest is in the page's policy.

    With the digest instead of 'unsafe-inline', not even a style attribute that came from the store would be applied.
    """
    style = style_sheet("shared") + style_sheet("page") + style_sheet("parts")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    css = Markup(style)  # noqa: S704 - a file of this package
    return environment().get_template(template).render(style=css, style_digest=digest, **values)


def style_sheet(name: Literal["shared", "page", "parts"]) -> str:
    """The style of all pages, of a report's page, or of the parts of reports, which the console shows, too."""
    return files(__package__).joinpath("templates", f"{name}.css").read_text(encoding="utf-8")


def templates(*packages: str) -> ChoiceLoader:
    """The templates of these packages, of the reports, and of every feature that has some."""
    of_features = (f"gateway.features.{feature.name}" for feature in FEATURES if feature.templates)
    return ChoiceLoader([PackageLoader(name) for name in (*packages, *_OF_REPORTS, *of_features)])


@cache
def environment() -> Environment:
    """Jinja's environment of the reports. One for all of them: it compiles each template once."""
    made = Environment(
        loader=templates(),
        autoescape=True,
        finalize=_without_control_characters,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["terms"] = TERMS
    made.filters["prose"] = prose
    return made


def prose(text: str, shown: Callable[[str], str] = plain) -> Markup:
    """A sentence for a page: what a terminal shows in back-ticks is code there. shown: treats control characters."""
    safe = str(escape(text if isinstance(text, Markup) else shown(text)))
    return Markup(_CODE.sub(r"<code>\1</code>", safe))  # noqa: S704 - escaped above


def _without_control_characters(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
