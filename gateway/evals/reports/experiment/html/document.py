"""The whole page: one file that needs nothing else, runs no script, and loads nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import Report
from gateway.evals.reports.experiment.html import summary, tables
from gateway.evals.reports.experiment.html.examples import examples
from gateway.evals.reports.experiment.html.markup import Child, Markup, tag
from gateway.evals.reports.experiment.html.parts import section

_SECTIONS = (
    summary.verdict, summary.course, summary.gates, tables.metrics, summary.wins, tables.likeness,
    tables.strengths, tables.strata, tables.latency,
    tables.arms, examples, tables.withheld,
)  # fmt: skip


def html(report: Report) -> str:
    title = f"{report.experiment}: {say.VERDICTS[report.verdict].lower()}"
    return document(title, (make(report) for make in _SECTIONS), limits(report), about(report))


def document(title: str, *sections: Child) -> str:
    """A page of its own around any sections."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    # The style's digest instead of 'unsafe-inline': a text from the store could not even bring a style of its own.
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", *sections))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def limits(report: Report) -> Markup | None:
    if not report.limits:
        return None
    return section("Limits", None, tag("ul", (tag("li", each) for each in report.limits), class_="limits"))


def about(report: Report) -> Markup:
    return section(
        "How this was decided",
        None,
        _facts([("plan", report.plan), *report.design]),
        tag("p", "To make this page again:"),
        tag("pre", tag("code", report.command)),
        tag("footer", f"Made {say.when(report.created)}. ", ", ".join(f"{name} {v}" for name, v in report.versions)),
    )


def _facts(facts: Iterable[tuple[str, str]]) -> Markup:
    return tag("dl", ((tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")
