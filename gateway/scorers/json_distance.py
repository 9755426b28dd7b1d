"""The share of JSON fields in which two answers differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scoring.types import DistanceScorer, GoldenPair, Pair

NO_JSON = Skipped("an answer in JSON")
MAX_LEAVES = 10_000  # of each answer
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class JsonDistance(DistanceScorer):
    """The share of fields, by path and over both answers, that do not have the same value in both.

    A field is a value that is not an object or array (or is an empty one); numbers are compared as numbers. An answer
    that is not JSON has distance 1 from one that is. A Markdown fence around the JSON is ignored.
    """

    async def compare(self, pair: Pair) -> Score | Skipped:
        a, b = (json_leaves(each.completion.text) for each in (pair.a, pair.b))
        if a is None or b is None:
            return NO_JSON if a is None and b is None else Score(1.0, "one is not JSON")
        return Score(leaf_distance(a, b), detail={"fields": float(len(a.keys() | b.keys()))})

    def golden(self) -> tuple[GoldenPair, ...]:
        def case(name: str, a: str, b: str, expected: float | None) -> GoldenPair:
            return GoldenPair(name, {}, Completion(a), Completion(b), expected)

        return (
            case("the same in another order", '{"a": 1, "b": [2, 3]}', '{"b": [2, 3], "a": 1.0}', 0.0),
            case("one field of three", '{"a": 1, "b": [2, 3]}', '{"a": 1, "b": [2, 4]}', 1 / 3),
            case("a field more", '{"a": 1}', '{"a": 1, "b": 2}', 0.5),
            case("1 is not true", "[1]", "[true]", 1.0),
            case("in a fence", '```json\n{"a": 1}\n```', '{"a": 1}', 0.0),
            case("one is not JSON", '{"a": 1}', "It is 1.", 1.0),
            case("neither is JSON", "one", "two", None),
        )


def json_leaves(text: str) -> dict[str, Any] | None:
    """Path → value, for at most MAX_LEAVES fields; None if the text is not a JSON object or array."""
    try:
        value = orjson.loads(_unfenced(text))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    if not isinstance(value, dict | list):
        return None
    found: dict[str, Any] = {}
    for path, leaf in _leaves(value, ""):
        found[path] = leaf
        if len(found) == MAX_LEAVES:
            break
    return found


def leaf_distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The share of all paths whose values differ; 0 when neither has a path."""
    paths = a.keys() | b.keys()
    same = sum(1 for path in a.keys() & b.keys() if _same(a[path], b[path]))
    return 1 - same / len(paths) if paths else 0.0


def _leaves(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth < _MAX_DEPTH and isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{orjson.dumps(key).decode()}", depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]", depth + 1)
    else:
        yield path, value


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _unfenced(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```"):
        return stripped[3:-3].removeprefix("json")
    return stripped
