"""Tests whether an answer is the same JSON as its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.score import Score, Skipped
from gateway.scorers.json_distance import json_leaves, leaf_distance
from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden, Subject

NO_JSON = Skipped("a reference that is a JSON object or array")


@dataclass(frozen=True, slots=True)
class JsonEqual(ReferenceScorer):
    """Scores 1 if the answer has the JSON values of the reference, in any order of keys, else 0, also if it is not
    JSON.

    Numbers are compared as numbers. A Markdown fence around the answer's JSON is ignored. `detail.fields` is the share
    of fields, by path and over both, that are equal.
    """

    heavy: ClassVar[bool] = True

    partial: bool = False
    """Score the share of equal fields instead."""

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        wanted = json_leaves(subject.reference or "")
        if wanted is None:
            return NO_JSON
        found = json_leaves(subject.completion.text)
        if found is None:
            return Score(0.0, "no JSON", "the answer is not a JSON object or array", {"fields": 0.0})
        same = 1.0 - leaf_distance(found, wanted)
        differing = sorted(p for p in found.keys() | wanted.keys() if leaf_distance(_only(found, p), _only(wanted, p)))
        explanation = f"differs at {', '.join(p or 'its top' for p in differing[:5])}" if differing else None
        return Score(same if self.partial else float(not differing), None, explanation, {"fields": same})

    def golden(self) -> tuple[Golden, ...]:
        half = 0.5 if self.partial else 0.0
        return (
            golden_case("another order", '{"b": [2], "a": 1.0}', '{"a": 1, "b": [2]}', 1.0),
            golden_case("in a fence", '```json\n{"a": 1}\n```', '{"a": 1}', 1.0),
            golden_case("one value of two", '{"a": 1, "b": 3}', '{"a": 1, "b": 2}', half),
            golden_case("not JSON", "a is 1", '{"a": 1}', 0.0),
            golden_case("a reference that is not JSON", '{"a": 1}', "a is 1", None),
            golden_case("no reference", "{}", None, None),
        )


def _only(leaves: dict[str, object], path: str) -> dict[str, object]:
    return {path: leaves[path]} if path in leaves else {}
