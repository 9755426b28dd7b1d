"""The part of a report that only a likelihood experiment has, as page and as lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.reports import number_format as say
from gateway.reports.charts import LikelihoodBars, likelihood_chart
from gateway.reports.model import (
    Estimate,
    LikelihoodBin,
    LikelihoodCall,
    LikelihoodFinding,
    Report,
    TokenLikelihood,
)
from gateway.reports.section import Cell, Column, Row, Table, table

# (a difference in nats from which a token has this class, the class, what it means). The sign is also in the line below
# a token, since no information may be in a colour alone.
_CLASSES = (
    (2.0, "much", "2 nats or more (a factor of 7.4)"),
    (0.5, "some", "0.5 to 2 nats (a factor of 1.6 to 7.4)"),
    (0.1, "little", "0.1 to 0.5 nats"),
)


@dataclass(frozen=True, slots=True)
class MarkedToken:
    """A token of an answer as it is shown. look: the CSS classes; "" if the engines agree on it."""

    text: str
    look: str
    title: str


def token_class(difference: float) -> str:
    """The CSS classes of a token. difference: candidate minus control, in nats."""
    size = next((name for least, name, _ in _CLASSES if abs(difference) >= least), "")
    return f"{'less' if difference < 0 else 'more'} {size}" if size else ""


def likelihood_page(report: Report) -> dict[str, Any] | None:
    """The values for the template; None means that the experiment compares answers."""
    found = report.likelihood
    if found is None:
        return None
    margin = report.primary.margin if report.primary else None
    bars = LikelihoodBars("likelihood-calls", "Calls by their difference", found.distribution, margin)
    return {
        "lead": found.estimates,
        "figures": _figures(found),
        "chart": likelihood_chart(bars),
        "distribution": _distribution(found),
        "sampled": "; ".join(f"{setting}: {say.counted(n, 'call')}" for setting, n in found.sampled),
        "refused": [f"{reason}: {say.counted(n, 'pair')}" for reason, n in found.refused],
        "legend": [*_legend("less", "less likely"), *_legend("more", "more likely")],
        "calls": [_call(each) for each in found.widest],
    }


def _legend(direction: str, words: str) -> Iterator[MarkedToken]:
    for _, name, size in _CLASSES:
        yield MarkedToken(f"{words} under the candidate by {size}", f"{direction} {name}", "")


def _rows(found: LikelihoodFinding) -> Iterator[tuple[str, str, Estimate | None, bool]]:
    yield "Served answers under the control", "nats per token", found.control, False
    yield "Served answers under the candidate", "nats per token", found.candidate, False
    yield "Difference, candidate minus control", "nats per token", found.divergence, True
    noise = f"nats per token, {say.counted(found.noise_calls, 'call')}"
    yield "Noise floor: the control against itself", noise, found.noise, True
    yield "Perplexity ratio", "exp of the difference; above 1: less likely", found.perplexity_ratio, False
    yield "Same most likely token", "share of places", found.agreement, False
    yield "The same of the control with itself", "share of places", found.noise_agreement, False


def _figures(found: LikelihoodFinding) -> Table:
    rows = [
        Row(Cell(name, note), (Cell(_value(e, signed)), Cell(_interval(e, signed))))
        for name, note, e, signed in _rows(found)
        if e is not None and e.value is not None
    ]
    return table(
        "Likelihood of the served answers", (Column("", "text"), Column("Mean"), Column("Interval")), [("", rows)]
    )


def _value(e: Estimate, signed: bool) -> str:
    return say.number(e.value, 4, signed=signed)


def _interval(e: Estimate, signed: bool) -> str:
    return "" if e.low is None and e.high is None else say.interval(e, 4, signed=signed)


def _distribution(found: LikelihoodFinding) -> Table:
    columns = (Column("Nats per token", "text"), Column("Calls"), Column("Control against itself"))
    rows = [
        Row(Cell(_edges(each)), (Cell(say.count(each.calls)), Cell(say.count(each.noise))))
        for each in found.distribution
        if each.calls or each.noise
    ]
    return table("Calls by their difference", columns, [("", rows)])


def _edges(each: LikelihoodBin) -> str:
    places = say.digits(each.high - each.low) + 1
    return f"{say.number(each.low, places, signed=True)} … {say.number(each.high, places, signed=True)}"


def _call(each: LikelihoodCall) -> dict[str, Any]:
    return {
        "id": each.exchange,
        "difference": say.number(each.difference, 4, signed=True),
        "tokens": [_marked(token) for token in each.tokens],
        "left_out": each.left_out,
        "worst": [
            {
                "before": w.before,
                "token": w.token.text,
                "instead": w.token.instead,
                "difference": say.number(w.token.difference, 2, signed=True),
            }
            for w in each.worst
        ],
    }


def _marked(token: TokenLikelihood) -> MarkedToken:
    title = f"control {token.control:.2f}, candidate {token.candidate:.2f} nats"
    return MarkedToken(token.text, token_class(token.difference), title)


def likelihood_lines(found: LikelihoodFinding | None) -> list[str]:
    """Lines for the terminal."""
    if found is None or found.divergence.value is None:
        return [f"{reason}: {say.counted(n, 'pair')}" for reason, n in found.refused] if found else []
    lines = [
        f"{name} ({note}): {_value(e, signed)} {_interval(e, signed)}".rstrip()
        for name, note, e, signed in _rows(found)
        if e is not None and e.value is not None
    ]
    lines += [found.estimates, *(f"refused, {reason}: {say.counted(n, 'pair')}" for reason, n in found.refused)]
    for call in found.widest[:3]:
        worst = "; ".join(
            f"…{w.before[-30:]}[{w.token.text}] {say.number(w.token.difference, 2, signed=True)}"
            for w in call.worst[:2]
        )
        difference = say.number(call.difference, 4, signed=True)
        lines.append(f"{call.exchange}: {difference} nats per token{f': {worst}' if worst else ''}")
    return lines
