"""What a schema costs is known before it is used, and what cannot be known is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.scoring.schema_cost import (
    DEPTH,
    MAX_WORK,
    PATTERNS,
    POINTERS,
    REMOTE,
    WORK,
    UnboundedSchema,
    inspect,
    size_of,
    visits,
)


def need(call, *arguments):
    with pytest.raises(UnboundedSchema) as caught:
        call(*arguments)
    return caught.value.need


def nested(levels, leaf, key="properties"):
    for _ in range(levels):
        leaf = {key: {"a": leaf}} if key == "properties" else {key: leaf}
    return leaf


def counted(schema):
    return visits(schema, inspect(schema))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$ref": "http://localhost/a.json"}, REMOTE),
        ({"$ref": "file:///etc/hostname"}, REMOTE),
        ({"properties": {"a": {"items": [{"$ref": "other.json#/a"}]}}}, REMOTE),
        ({"$dynamicRef": "http://localhost/a.json"}, REMOTE),
        ({"$dynamicRef": "#a"}, POINTERS),
        ({"$recursiveRef": "#"}, POINTERS),
        ({"$defs": {"a": {"$id": "http://localhost/a.json"}}}, POINTERS),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "not": {"id": "b"}}, POINTERS),
        (nested(33, True), DEPTH),
        (nested(10_000, True, "not"), DEPTH),
        ({"allOf": [{"pattern": "a"}] * 101}, PATTERNS),
        ({"patternProperties": {str(i): True for i in range(101)}}, PATTERNS),
    ],
)
def test_what_leaves_the_schema_or_its_bounds_is_refused(schema, expected):
    assert need(inspect, schema) == expected


def test_references_are_listed_once_and_names_of_properties_are_none():
    schema = {"$id": "http://localhost/me", "properties": {"$ref": {"$ref": "#/$defs/a"}, "b": {"$ref": "#/$defs/a"}}}
    assert inspect(schema) == ["#/$defs/a"]
    assert inspect(True) == []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$ref": "#/$defs/a"}, "a schema that holds what it refers to (#/$defs/a)"),
        ({"$ref": "#anchor"}, POINTERS),
        ({"$ref": "#"}, WORK),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, WORK),
    ],
)
def test_references_must_lead_somewhere(schema, expected):
    assert need(counted, schema) == expected


def test_pointers_are_unescaped():
    schema = {"$defs": {"a/b~c d": {"prefixItems": [{}]}}, "$ref": "#/$defs/a~1b~0c%20d/prefixItems/0"}
    assert counted(schema)[-1] == 2


@pytest.mark.parametrize(
    ("schema", "most"),
    [
        (True, 1),
        ({}, 1),
        ({"properties": {"a": {}, "b": {}}}, 2),  # each value is looked at by one of them
        ({"allOf": [{}, {}, {}]}, 4),
        ({"anyOf": [{"allOf": [{}, {}]}, {}]}, 5),
        ({"anyOf": [{}, {}], "unevaluatedProperties": {}}, 6),
        ({"properties": {"a": {}}, "patternProperties": {"a": {}}, "additionalProperties": {}}, 104),
        ({"multipleOf": 3}, 31),
        ({"enum": list(range(80))}, 11),
    ],
)
def test_visits_add_up_along_one_path(schema, most):
    assert counted(schema)[-1] == most


def test_a_schema_that_refers_to_itself_once_grows_with_the_depth_of_the_answer():
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    table = counted(tree)
    assert table[0] < table[10] < table[60] < 1000


def test_a_schema_that_refers_to_itself_twice_at_once_doubles_and_is_cut_off():
    bomb = {"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#", "title": "again"}]}}}
    table = counted(bomb)
    assert table[12] > 2**12
    assert table[-1] > MAX_WORK
    assert len(table) < 25


def test_definitions_that_double_are_counted_without_being_walked():
    defs = {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(15)}
    bomb = {"$ref": "#/$defs/a0", "$defs": {**defs, "a15": {}}}
    assert counted(bomb)[-1] > 2**15


@pytest.mark.parametrize(
    ("answer", "levels", "size"),
    [
        (1, 1, 2),
        ([], 2, 2),
        ({"a": [1, 2, {"b": None}]}, 5, 8),
        ("x" * 160, 1, 12),
        (["x" * 160, {"y" * 32: "z" * 32}], 3, 19),
    ],
)
def test_an_answer_is_measured(answer, levels, size):
    found = size_of(answer)
    assert found[0] <= levels
    assert found[1] <= size


def test_an_answer_too_deep_is_refused():
    answer = []
    for _ in range(100):
        answer = [answer]
    assert need(size_of, answer) == "an answer of at most 64 levels"


KEYWORDS = ["properties", "items", "anyOf", "allOf", "not", "$ref", "patternProperties", "required", "$defs", "a", "if"]
SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["#", "#/$defs/a", "#/properties", "#/a/0", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
    max_leaves=25,
)


@given(SCHEMAS)
def test_any_json_is_counted_or_refused(schema):
    try:
        table = counted(schema)
    except UnboundedSchema:
        return
    assert all(n >= 1 for n in table)
    assert table == sorted(table)
