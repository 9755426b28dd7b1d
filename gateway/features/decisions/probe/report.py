"""The result of a probe on the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Any, TypedDict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from gateway.core.decision_reads import MIN_LABEL_MASS
from gateway.features.decisions.probe.model import LEAST_CASES, ProbeResult, ReadingFigures
from gateway.reports.terminal import plain_table, safe_text
from gateway.statistics.paired import wilson

_FIGURES = ("cases", "flips", "by order", "by input", "mass", "right")


class ReadingProbeOutput(TypedDict):
    """The readings of a model name: what each did with its questions."""

    alias: str
    questions: int
    figures: list[ReadingFigures]
    unavailable: dict[str, str]
    recommended: str | None
    config: str
    """The lines for gateway.yaml; "" without a recommendation."""


def to_dict(result: ProbeResult, today: date) -> dict[str, Any]:
    """The members of ReadingProbeOutput."""
    return {
        "alias": result.alias,
        "questions": result.questions,
        "figures": [asdict(each) for each in result.figures],
        "unavailable": dict(result.unavailable),
        "recommended": result.recommended,
        "config": config_lines(result, today),
    }


def to_terminal(result: ProbeResult, today: date) -> RenderableType:
    table = plain_table(("reading", *_FIGURES, "agrees with", ""), right=_FIGURES, unbroken=("reading", *_FIGURES))
    for each in result.figures:
        table.add_row(*map(safe_text, _cells(each, each.reading == result.recommended)))
    for reading, reason in result.unavailable.items():
        table.add_row(reading, *("–" for _ in _FIGURES), "", safe_text(f"not available: {reason}"))
    return Lines(table, *(safe_text(line) for line in _advice(result)), Text(config_lines(result, today)))


def _cells(figures: ReadingFigures, recommended: bool) -> tuple[str, ...]:
    agrees = ", ".join(f"{name} {share:.0%}" for name, share in figures.agreement.items())
    verdict = f"refused: {figures.refused}" if figures.refused else "recommended" if recommended else "usable"
    return (
        figures.reading,
        str(figures.answered),
        _share(figures.flips),
        _number(figures.by_order),
        _number(figures.by_state),
        _number(figures.label_mass),
        _right(figures),
        agrees,
        verdict,
    )


def _right(figures: ReadingFigures) -> str:
    if figures.right is None:
        return "–"
    low, high = wilson(figures.right, figures.labelled, 0.05)
    return f"{figures.right / figures.labelled:.0%} ({low:.0%}–{high:.0%})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _advice(result: ProbeResult) -> Iterator[str]:
    yield ""
    if result.recommended is not None:
        yield f"{result.recommended} is recommended for {result.alias}. Below `models` in gateway.yaml:"
    elif all(each.answered < LEAST_CASES for each in result.figures):
        yield f"fewer than {LEAST_CASES} cases were answered: nothing is recommended"
    else:
        yield f"no reading of {result.alias} is more than noise: ask another model, or in other words"


def config_lines(result: ProbeResult, today: date) -> str:
    """The lines of gateway.yaml; "" without a recommendation."""
    if result.recommended is None:
        return ""
    settings = [f"reading: {result.recommended}", f"probed: {today.isoformat()}"]
    [figures] = [each for each in result.figures if each.reading == result.recommended]
    if figures.label_mass is not None and result.recommended != "native" and figures.label_mass / 10 > MIN_LABEL_MASS:
        settings.append(f"min_label_mass: {figures.label_mass / 10:.2g}")
    return f"  {result.alias}:\n    decisions: {{{', '.join(settings)}}}"
