"""The pairs that say most, side by side, with what differs marked."""

from __future__ import annotations

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import ExamplePair, Report
from gateway.evals.reports.experiment.html.differ import cut, sides
from gateway.evals.reports.experiment.html.markup import Child, Markup, tag
from gateway.evals.reports.experiment.html.parts import section

QUESTION_SHOWN = 1200  # characters


def examples(report: Report) -> Markup | None:
    if not report.examples:
        return None
    whole = tag("code", "gateway samples --id …")
    lead = "Marked is what only one of the two says. ", whole, " shows an exchange whole."
    return section("Pairs worth reading", lead, (_pair(each) for each in report.examples))


def _pair(each: ExamplePair) -> Markup:
    control, candidate = sides(each.control, each.candidate)
    return tag(
        "article",
        tag("header", tag("h3", each.why), tag("span", "control ", tag("code", each.exchange), ", candidate ",
            tag("code", each.beside), class_="ids"), _scores(each)),
        tag("div", tag("span", "Question", class_="who"), tag("p", _short(each.question), class_="said", dir="auto"),
            class_="question"),
        tag("div", _answer("Control", control), _answer("Candidate", candidate), class_="answers"),
        class_="pair",
    )  # fmt: skip


def _answer(who: str, said: Markup) -> Markup:
    return tag("div", tag("span", who, class_="who"), tag("p", said, class_="said", dir="auto"))


def _scores(each: ExamplePair) -> Markup | None:
    rows = [
        tag("li", f"{metric} ", tag("b", f"{say.number(a, 3)} → {say.number(b, 3)}")) for metric, a, b in each.scores
    ]  # fmt: skip
    if each.distance is not None:
        rows.append(tag("li", "distance ", tag("b", say.number(each.distance, 3))))
    return tag("ul", rows, class_="scores") if rows else None


def _short(question: str) -> Child:
    """Its end, where it is long: the last turn asks."""
    left_out = len(question) - QUESTION_SHOWN
    return (cut(left_out), question[left_out:]) if left_out > 0 else question
