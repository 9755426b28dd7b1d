"""What a labeller sees, without any hint at who gave the answer, and the verdicts a labeller may type. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from gateway.core.conversation import turns
from gateway.core.randomization import draw
from gateway.core.sanitize import plain
from gateway.features.labels.rows import Subject
from gateway.store.query import Found, right_answer

NO_TEXT = "(no text)"
HELP: dict[Subject, str] = {
    "exchange": "g good · b bad · 0 … 1 between · s skip · q stop; a comment may follow",
    "pair": "1 the first is better · 2 the second · t a tie · s skip · q stop; a comment may follow",
}
_GOOD = {"g": 1.0, "good": 1.0, "y": 1.0, "yes": 1.0, "b": 0.0, "bad": 0.0, "n": 0.0, "no": 0.0}
_BETTER = {"1": 0.0, "first": 0.0, "2": 1.0, "second": 1.0, "t": 0.5, "tie": 0.5, "neither": 0.5, "both": 0.5}
_SKIP, _STOP = ("s", "skip"), ("q", "quit", "stop")


@dataclass(frozen=True, slots=True)
class BlindItem:
    """A question with its answer, or with the two answers of a pair."""

    id: str
    question: tuple[tuple[str, str], ...]
    """(role, text) of each turn before the answer."""
    answers: tuple[str, ...]
    """One, or a pair's two in the order in which they are shown."""
    swapped: bool = False
    """The pair's second answer is shown first."""
    reference: str = ""
    """The right answer; "": none is known."""


@dataclass(frozen=True, slots=True)
class LabelVerdict:
    value: float | None
    """In [0, 1], 1 best; for a pair, the preference for its second answer. None: skipped."""
    label: str | None = None
    comment: str | None = None
    stop: bool = False
    """The labeller wants to stop; there is no verdict."""


def of_exchange(exchange: Found) -> BlindItem:
    return BlindItem(
        exchange["id"], tuple(turns(exchange["request"])), (answer_text(exchange),), False, right_answer(exchange) or ""
    )


def of_pair(scorer: str, served: Found, other: Found) -> BlindItem:
    """The pair of a served exchange and the one that has its second answer, whose id is the pair's."""
    swapped = shown_swapped(scorer, other["id"])
    answers = (answer_text(served), answer_text(other))
    shown = answers[::-1] if swapped else answers
    return BlindItem(other["id"], tuple(turns(served["request"])), shown, swapped, right_answer(served) or "")


def shown_swapped(scorer: str, pair_id: str) -> bool:
    """Whether the pair's second answer is shown first. The order is a hash of the id: every labeller sees the same
    one, and a verdict in a returned sheet keeps its meaning."""
    return draw(f"label-order:{scorer}", pair_id) < 0.5


def answer_text(exchange: Found) -> str:
    """The answer as a judge model is shown it: text, refusal and tool calls."""
    calls = [f"[calls {c['name']} with {c['arguments']}]" for c in _tool_calls(exchange["tool_calls"])]
    return "\n".join(part for part in (exchange["text"], exchange["refusal"], *calls) if part) or NO_TEXT


def question_text(item: BlindItem) -> str:
    return "\n\n".join(f"[{role}]\n{text}" for role, text in item.question)


def to_terminal(item: BlindItem, criterion: str | None) -> RenderableType:
    """criterion: what the scorer judges by; None: its configuration has none."""
    return Group(*_lines(item, criterion))


def _lines(item: BlindItem, criterion: str | None) -> Iterator[RenderableType]:
    for role, text in item.question:
        yield Text(f"\n{plain(role)}", "bold cyan")
        yield Text(plain(text))
    for number, text in enumerate(item.answers, 1):
        yield Text("\nanswer" if len(item.answers) == 1 else f"\nanswer {number}", "bold green")
        yield Text(plain(text))
    if item.reference:
        yield Text("\nright answer", "bold magenta")
        yield Text(plain(item.reference))
    if criterion:
        yield Text(f"\ncriterion: {plain(criterion)}", "bold")


def _tool_calls(column: Any) -> list[Any]:
    return list(orjson.loads(column)) if column else []


def parse_verdict(text: str, subject: Subject, *, swapped: bool = False) -> LabelVerdict:
    """The verdict in a line of input. swapped: the pair's second answer was shown first.

    Raises ValueError if the text is not a verdict.
    """
    word, _, rest = text.strip().partition(" ")
    key, comment = word.lower().rstrip(",;:"), rest.strip() or None
    if key in _STOP:
        return LabelVerdict(None, stop=True)
    if key in _SKIP:
        return LabelVerdict(None, None, comment)
    if subject == "pair":
        return _preference(key, comment, swapped, text)
    value = _GOOD[key] if key in _GOOD else _number(key, text)
    return LabelVerdict(value, "good" if value == 1.0 else "bad" if value == 0.0 else None, comment)


def _preference(key: str, comment: str | None, swapped: bool, text: str) -> LabelVerdict:
    if key not in _BETTER:
        raise ValueError(f"{text.strip()!r} is not a verdict; expected {HELP['pair']}")
    for_second_shown = _BETTER[key]
    value = 1.0 - for_second_shown if swapped else for_second_shown
    return LabelVerdict(value, "tie" if value == 0.5 else "b" if value == 1.0 else "a", comment)


def _number(key: str, text: str) -> float:
    try:
        value = float(key)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text.strip()!r} is not a verdict; expected {HELP['exchange']}")
    return value
