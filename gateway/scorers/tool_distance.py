"""The distance between two answers' tool calls, by tool and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Score, Skipped
from gateway.scorers.json_distance import json_leaves, leaf_distance
from gateway.scoring.types import DistanceScorer, GoldenPair, Pair

NO_CALLS = Skipped("a tool call in either answer")
MAX_CALLS = 64  # of each answer
NAME_WEIGHT = 0.5  # of the same tool; the rest is for its arguments


@dataclass(frozen=True, slots=True)
class ToolDistance(DistanceScorer):
    """1 − the summed similarity of matched calls, divided by the larger number of calls.

    Calls of the same tool are matched, the most similar first. A matched call counts ½ for its name and ½ for the share
    of equal arguments; an unmatched one counts 0. The order of calls does not matter, since they may run in parallel.
    """

    async def compare(self, pair: Pair) -> Score | Skipped:
        a, b = (each.completion.tool_calls[:MAX_CALLS] for each in (pair.a, pair.b))
        if not a and not b:
            return NO_CALLS
        most = max(len(a), len(b))
        return Score(max(0.0, 1 - _similarity(a, b) / most), detail={"calls": float(most)})

    def golden(self) -> tuple[GoldenPair, ...]:
        def call(name: str, arguments: str) -> ToolCall:
            return ToolCall("1", name, arguments)

        def case(name: str, a: tuple[ToolCall, ...], b: tuple[ToolCall, ...], expected: float | None) -> GoldenPair:
            return GoldenPair(name, {}, Completion(tool_calls=a), Completion(tool_calls=b), expected)

        rome, oslo = call("weather", '{"city": "Rome", "days": 2}'), call("weather", '{"city": "Oslo", "days": 2}')
        return (
            case("the same in another notation", (rome,), (call("weather", '{"days":2,"city":"Rome"}'),), 0.0),
            case("one argument of two", (rome,), (oslo,), 0.25),
            case("another tool", (rome,), (call("search", '{"city": "Rome", "days": 2}'),), 1.0),
            case("another order", (rome, oslo), (oslo, rome), 0.0),
            case("a call more", (rome,), (rome, oslo), 0.5),
            case("no call", (rome,), (), 1.0),
            case("no calls at all", (), (), None),
        )


def _similarity(a: Sequence[ToolCall], b: Sequence[ToolCall]) -> float:
    """The sum over matched calls: greedy, most similar first; ties by position, so that the result is symmetric."""
    candidates = sorted(
        ((_call_similarity(x, y), i, j) for i, x in enumerate(a) for j, y in enumerate(b) if x.name == y.name),
        key=lambda each: (-each[0], each[1] + each[2], abs(each[1] - each[2])),
    )
    total, taken_a, taken_b = 0.0, set[int](), set[int]()
    for similarity, i, j in candidates:
        if i not in taken_a and j not in taken_b:
            taken_a.add(i)
            taken_b.add(j)
            total += similarity
    return total


def _call_similarity(x: ToolCall, y: ToolCall) -> float:
    return NAME_WEIGHT + (1 - NAME_WEIGHT) * (1 - _argument_distance(x.arguments, y.arguments))


def _argument_distance(x: str, y: str) -> float:
    a, b = json_leaves(x), json_leaves(y)
    if a is None or b is None:
        return float(x.strip() != y.strip())
    return leaf_distance(a, b)
