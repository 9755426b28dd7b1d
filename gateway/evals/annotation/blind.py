"""What a person is shown: a question and its answer, or two answers, and nothing that says who gave them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from gateway.core.randomization import draw
from gateway.core.sanitize import plain
from gateway.evals.reports.samples import turns
from gateway.evals.store.query import Found

NOTHING = "(no text)"


@dataclass(frozen=True, slots=True)
class BlindItem:
    """asked: who said what before the answer. answers: one, or a pair's two as they are shown; turned: its second
    answer stands first."""

    id: str
    asked: tuple[tuple[str, str], ...]
    answers: tuple[str, ...]
    turned: bool = False


def of_exchange(found: Found) -> BlindItem:
    return BlindItem(found["id"], tuple(turns(found["request"])), (said(found),))


def of_pair(scorer: str, served: Found, other: Found) -> BlindItem:
    """other: the pair's second answer, whose id is the pair's. The order is drawn by hash: every labeller sees the
    same, and a sheet that comes back means what it meant."""
    turned = draw(f"label-order:{scorer}", other["id"]) < 0.5
    answers = (said(other), said(served)) if turned else (said(served), said(other))
    return BlindItem(other["id"], tuple(turns(served["request"])), answers, turned)


def said(found: Found) -> str:
    """What the model said in the end, as a judge is shown it."""
    calls = [f"[calls {c['name']} with {c['arguments']}]" for c in _calls(found["tool_calls"])]
    return "\n".join(part for part in (found["text"], found["refusal"], *calls) if part) or NOTHING


def question(blind: BlindItem) -> str:
    """All that was said before the answer, as one text."""
    return "\n\n".join(f"[{who}]\n{text}" for who, text in blind.asked)


def page(blind: BlindItem, criterion: str | None) -> RenderableType:
    """criterion: what the scorer judges by; None: it does not say."""
    return Group(*_lines(blind, criterion))


def _lines(blind: BlindItem, criterion: str | None) -> Iterator[RenderableType]:
    for who, text in blind.asked:
        yield Text(f"\n{plain(who)}", "bold cyan")
        yield Text(plain(text))
    for number, text in enumerate(blind.answers, 1):
        yield Text("\nanswer" if len(blind.answers) == 1 else f"\nanswer {number}", "bold green")
        yield Text(plain(text))
    if criterion:
        yield Text(f"\ncriterion: {plain(criterion)}", "bold")


def _calls(column: Any) -> list[Any]:
    return list(orjson.loads(column)) if column else []
