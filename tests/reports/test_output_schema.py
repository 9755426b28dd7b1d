"""Schemas from types: complete, closed, with what the source says of each member."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, NotRequired, TypedDict

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.reports.model import Estimate, SegmentDifference
from gateway.reports.output_schema import schema_of


@dataclass(frozen=True)
class Leaf:
    name: str
    value: float | None = None
    parts: tuple[int, ...] = ()


class Tree(TypedDict):
    kind: Literal["oak", "ash"]
    leaves: list[Leaf]
    height: NotRequired[float]


def valid(schema: dict[str, Any], value: Any) -> bool:
    return bool(jsonschema_rs.validator_for(schema).is_valid(json.loads(json.dumps(value))))


@settings(max_examples=25, deadline=None)
@given(st.builds(Leaf, st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False)))
def test_every_value_of_a_dataclass_conforms(leaf: Leaf) -> None:
    assert valid(schema_of(Leaf), asdict(leaf))


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"height": 3.5}, True),
        ({"height": None}, False),
        ({"kind": "elm"}, False),
        ({"age": 3}, False),
        ({"leaves": [{"name": "a", "value": 1.0}]}, False),
        ({"leaves": [{"name": "a", "value": 1.0, "parts": [1], "more": 0}]}, False),
    ],
)
def test_an_object_has_the_members_of_its_type_and_no_others(change: dict[str, Any], allowed: bool) -> None:
    """A dataclass is printed whole: its members with defaults are required too."""
    tree = {"kind": "oak", "leaves": [{"name": "a", "value": None, "parts": []}]} | change
    assert valid(schema_of(Tree), tree) is allowed


def test_members_have_what_the_source_says_of_them_in_words_of_json() -> None:
    of = schema_of(Estimate)["properties"]
    assert "description" not in of["value"] or "None" not in of["value"]["description"]
    found = schema_of(SegmentDifference)["properties"]
    assert found["property"]["description"] == "caller, alias, api, stream, prompt, language, tools, metadata.KEY"
    assert found["difference"]["$ref"] == "#/$defs/Estimate"


def test_a_list_of_a_type_refers_to_it() -> None:
    assert valid(schema_of(list[Leaf]), [asdict(Leaf("a", 1.0, (1, 2)))])
    assert not valid(schema_of(list[Leaf]), [{}])
