"""A comparison of two judges on the terminal and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal, TypedDict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.sanitize import plain
from gateway.features.labels.judge_comparison.model import (
    TRUE_DIFFERENCE,
    AnyLook,
    JudgeComparison,
    JudgeFigures,
    TargetShift,
)

_STYLES = {"replace": "bold green", "keep": "bold red", "undecided": "bold yellow"}


class JudgeComparisonOutput(TypedDict):
    """Whether the second judge may replace the first. Intervals are valid at every look."""

    conclusion: Literal["replace", "keep", "undecided"]
    reasons: list[str]
    answers: int
    """Answers that both judges scored."""
    labels: int
    """Those that people labelled, drawn by a design."""
    labels_of: str
    """The scorer under whose name people labelled."""
    labels_needed: int | None
    """Labels in total that are likely to decide."""
    margin: float
    shift: float
    alpha: float
    first: JudgeFigures
    second: JudgeFigures
    loss_difference: AnyLook | None
    """The second judge's mean squared distance to people, less the first's."""
    shifts: list[TargetShift]
    """Each target against all others, where at least two have 30 answers."""


def to_dict(result: JudgeComparison) -> dict[str, Any]:
    """The members of JudgeComparisonOutput."""
    options, members = result.options, asdict(result)
    del members["options"]
    return {**members, "margin": options.margin, "shift": options.shift, "alpha": options.alpha}


def to_terminal(result: JudgeComparison) -> RenderableType:
    return Lines(*_lines(result))


def _lines(result: JudgeComparison) -> Iterator[RenderableType]:
    yield Text(_headline(result), _STYLES[result.conclusion])
    yield from (Text(plain(f"  {reason}")) for reason in result.reasons)
    if result.labels_needed is not None:
        command = f"`gateway label next --scorer {plain(result.labels_of)}`"
        yield Text(f"  about {result.labels_needed} labels in total are likely to decide: {command}", "yellow")
    yield Text()
    yield Text(
        f"{result.answers} answers scored by both; {result.labels} of them labelled for {plain(result.labels_of)}",
        "dim",
    )
    yield _figures(result)
    if result.loss_difference is not None:
        yield Text(f"loss of the second less the first: {_any_look(result.loss_difference)}, margin {_margin(result)}")
    if result.shifts:
        yield Text()
        yield _shifts(result)


def _headline(result: JudgeComparison) -> str:
    first, second = plain(result.first.name), plain(result.second.name)
    price = _price_change(result)
    return {
        "replace": f"replace: {second} may stand in for {first}{price}",
        "keep": f"keep: {second} may not stand in for {first}",
        "undecided": f"undecided: {second} may or may not stand in for {first}",
    }[result.conclusion]


def _price_change(result: JudgeComparison) -> str:
    before, after = result.first.price.usd_per_1k, result.second.price.usd_per_1k
    if not before or after is None:
        return ""
    change = after / before - 1.0
    return (
        f", {abs(change):.0%} {'cheaper' if change < 0 else 'more expensive'}"
        if abs(change) >= 0.005
        else ", at its price"
    )


def _margin(result: JudgeComparison) -> str:
    return f"{result.options.margin:g}"


def _figures(result: JudgeComparison) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("")
    for judge in (result.first, result.second):
        shown.add_column(plain(judge.name))
    for name, cells in _rows((result.first, result.second)):
        shown.add_row(name, *cells)
    return shown


def _rows(judges: tuple[JudgeFigures, JudgeFigures]) -> Iterator[tuple[str, list[str]]]:
    yield "loss: mean squared distance to people", [_any_look(judge.loss) for judge in judges]
    yield "bias: its mean less people's", [_any_look(judge.bias) for judge in judges]
    yield "right, cut at one half", [_percent(judge.right) for judge in judges]
    yield f"pairs to find a difference of {TRUE_DIFFERENCE:g}", [_whole(judge.pairs) for judge in judges]
    yield "dollars for 1 000 scores", [_dollars(judge.price.usd_per_1k) for judge in judges]
    yield "seconds for a score", [_seconds(judge.price.seconds) for judge in judges]


def _shifts(result: JudgeComparison) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("target against the others", "answers", "second less first", "second less people"):
        shown.add_column(name, justify="right" if name == "answers" else "left")
    for shift in result.shifts:
        shown.add_row(plain(shift.target), f"{shift.answers}", _any_look(shift.shift), _any_look(shift.error))
    return shown


def _any_look(mean: AnyLook | None) -> str:
    return "–" if mean is None else f"{mean.value:.3f} ({mean.low:.3f} … {mean.high:.3f})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _whole(n: int | None) -> str:
    return "–" if n is None else f"{n}"


def _dollars(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:.4g}"


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g}"
