"""Compares an answer's tool calls with those that are expected: a run's recorded ones, or those of a dataset's row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.run_steps import called
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_complete
from gateway.scoring.types import Golden, Rule, Subject

NO_EXPECTED = Skipped("expected tool calls: a recorded turn of a run, or a list of calls in the dataset's row")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ToolCallsAgree(Rule):
    """The share of calls that have an equal one on the other side: the same tool, and arguments with equal JSON values.

    The order of calls and of members does not matter, and 1 equals 1.0. An answer without calls agrees where none is
    expected. An expected call is one right step among others: compare an answer's agreement with that of another
    target, not with 1.
    """

    heavy: ClassVar[bool] = True

    async def score(self, subject: Subject) -> Score | Skipped:
        expected = subject.expected_calls if subject.expected_calls is not None else subject.reference
        wanted = None if expected is None else expected_calls(expected)
        if wanted is None:
            return NO_EXPECTED
        if skipped := require_complete(subject):
            return skipped
        made = Counter(map(_step, subject.completion.tool_calls))
        most = max(made.total(), wanted.total())
        if not most:
            return Score(1.0, "no call")
        same, missing, more = (made & wanted).total(), wanted - made, made - wanted
        why = [f"expected {_shown(missing)}"] * bool(missing) + [f"made {_shown(more)}"] * bool(more)
        label = "agrees" if same == most else "differs"
        return Score(same / most, label, "; ".join(why) or None, {"calls": float(most), "same": float(same)})

    def golden(self) -> tuple[Golden, ...]:
        rome = ToolCall("1", "weather", '{"city": "Rome", "days": 2}')
        oslo = ToolCall("2", "weather", '{"city": "Oslo", "days": 2}')
        one = '[{"name": "weather", "arguments": {"days": 2.0, "city": "Rome"}}]'
        function = {"type": "function", "function": {"name": "weather", "arguments": oslo.arguments}}
        both = orjson.dumps([function, *orjson.loads(one)]).decode()

        def case(name: str, calls: tuple[ToolCall, ...], reference: str | None, expected: float | None) -> Golden:
            return Golden(name, {}, Completion(tool_calls=calls), expected, reference=reference)

        return (
            case("the same in another notation", (rome,), one, 1.0),
            case("another order", (rome, oslo), both, 1.0),
            case("a wrong argument", (oslo,), one, 0.0),
            case("one of two", (rome,), both, 0.5),
            case("a call more", (rome, rome), one, 0.5),
            case("none where one is expected", (), one, 0.0),
            case("one where none is expected", (rome,), "[]", 0.0),
            case("none, as expected", (), "[]", 1.0),
            case("a reference in words", (rome,), "Ask for the weather.", None),
            case("no reference", (rome,), None, None),
        )


Step = tuple[str, str]
"""The tool, and its arguments in one notation."""


def expected_calls(text: str) -> Counter[Step] | None:
    """Tool calls in JSON, each {"name", "arguments"} or as OpenAI has it; None for anything else."""
    try:
        calls = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return None
    read = [called(call) for call in calls]
    return Counter(map(_step, read)) if all(call.name for call in read) else None


def _step(call: ToolCall) -> Step:
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        return call.name, call.arguments
    return call.name, orjson.dumps(_plain(arguments), option=orjson.OPT_SORT_KEYS).decode()


def _plain(value: Any) -> Any:
    """Whole numbers as integers, so that 1.0 has the notation of 1."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


def _shown(calls: Iterable[Step]) -> str:
    """The tools alone: arguments are content."""
    names = [name[:80] for name, _ in calls]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more
