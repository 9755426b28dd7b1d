"""Untrusted schemas open no connection and no file, and cannot explode; harmless ones are applied correctly."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scoring.json_schema import (
    DEPTH,
    MAX_WORK,
    PATTERNS,
    POINTERS,
    REMOTE,
    SMALL_PATTERN,
    WORK,
    SchemaCache,
    SchemaTooSlow,
    UnboundedSchema,
    find_references,
    measure,
    offline_validator,
    visits_by_depth,
)


def refusal_of(call, *arguments):
    with pytest.raises(UnboundedSchema) as caught:
        call(*arguments)
    return caught.value.need


def nested(levels, leaf, key="properties"):
    for _ in range(levels):
        leaf = {key: {"a": leaf}} if key == "properties" else {key: leaf}
    return leaf


def counted(schema):
    return visits_by_depth(schema, find_references(schema), SMALL_PATTERN)


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
def test_schemas_beyond_the_bounds_are_refused(schema, expected):
    assert refusal_of(find_references, schema) == expected


def test_references_are_listed_once_and_properties_ignored():
    schema = {"$id": "http://localhost/me", "properties": {"$ref": {"$ref": "#/$defs/a"}, "b": {"$ref": "#/$defs/a"}}}
    assert find_references(schema) == ["#/$defs/a"]
    assert find_references(True) == []


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
    assert refusal_of(counted, schema) == expected


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


def test_one_self_reference_grows_with_the_answers_depth():
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    table = counted(tree)
    assert table[0] < table[10] < table[60] < 1000


def test_two_self_references_double_and_are_cut_off():
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
    found = measure(answer)
    assert found[0] <= levels
    assert found[1] <= size


def test_an_answer_too_deep_is_refused():
    answer = []
    for _ in range(100):
        answer = [answer]
    assert refusal_of(measure, answer) == "an answer of at most 64 levels"


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


def check(schema, answer, schemas=None):
    return (schemas or SchemaCache()).compile(schema).mistake(answer, len(json.dumps(answer)))


def need(schema, answer=None):
    with pytest.raises(UnboundedSchema) as caught:
        check(schema, answer)
    return caught.value.need


@pytest.fixture
def listening():
    """A local server that must receive no connection."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "URL"},
        {"$id": "URL", "$ref": "other.json"},
        {"$id": "URL", "properties": {"a": {"$ref": "/b.json#/c"}}},
        {"$defs": {"a": {"$id": "URL", "$ref": "b.json"}}, "$ref": "#/$defs/a"},
        {"$schema": "URL", "type": "string"},
        {"$dynamicRef": "URL"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"$ref": "URL"}}},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": "URL"},
        {"const": {"$ref": "URL"}},
    ],
)
def test_no_schema_opens_a_connection(listening, schema):
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/schema.json"
    schema = json.loads(json.dumps(schema).replace("URL", url))
    assert need(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "file:///etc/hostname"},
        {"$id": "file:///etc/x", "$ref": "hostname"},
        {"$ref": "/etc/hostname"},
        {"allOf": [{"$ref": "file:///dev/zero"}]},
    ],
)
def test_no_schema_opens_a_file(schema):
    assert need(schema) == REMOTE


def test_the_validator_itself_follows_no_reference(listening):
    """Should find_references ever miss one, the retriever still refuses it."""
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/schema.json"
    for reference in (url, "file:///etc/hostname"):
        with pytest.raises((ValueError, jsonschema_rs.ReferencingError), match="remote references are refused"):
            offline_validator({"$ref": reference})


BOMBS = {
    "ten megabytes": ({"enum": ["x" * 100] * 100_000}, "x"),
    "300 KB": ({"enum": ["x" * 100] * 3_000}, "x"),
    "deep": (json.loads('{"not":' * 500 + "{}" + "}" * 500), 1),
    "deep lists": (json.loads('{"enum":' + "[" * 200 + "]" * 200 + "}"), 1),
    "twice itself": (
        {"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
        json.loads('{"a":' * 40 + "1" + "}" * 40),
    ),
    "doubling definitions": (
        {
            "$ref": "#/$defs/a0",
            "$defs": {f"a{i}": {"oneOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {}},
        },
        {},
    ),
    "itself, forever": ({"anyOf": [{"$ref": "#"}]}, {}),
    "a pattern that explodes": ({"pattern": "^(?=a)(a|a)*(a|aa)+b\\1$"}, "a" * 50_000),
    "a pattern that is large": ({"pattern": "([a-z]{1,900}x?){1,50}y"}, "a" * 100_000),
    "many patterns": ({"patternProperties": {f"^(?=a)(a|a)*{i}$": True for i in range(3000)}}, {"a" * 40: 1}),
    "long text, look-around": ({"pattern": "(?=.*a.*b.*c.*d)z"}, "a" * 150_000),
    "unevaluated, nested": (
        json.loads('{"anyOf":[' * 20 + "{}" + '],"unevaluatedProperties":false}' * 20),
        {f"k{i}": i for i in range(50)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_time(name):
    schema, answer = BOMBS[name]
    began = time.thread_time()
    assert need(schema, answer)
    assert time.thread_time() - began < 3


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 5000 + "!"),  # explodes elsewhere; linear here
        ({"anyOf": [{"pattern": f"(a|aa)+{i}$"} for i in range(5)]}, "a" * 1000),
        ({"items": {"enum": [f"x{i}" for i in range(2000)]}}, ["y"] * 300),
    ],
)
def test_a_schema_that_only_looks_like_a_bomb_is_used(schema, answer):
    began = time.thread_time()
    assert check(schema, answer)
    assert time.thread_time() - began < 3


NODE = {"type": "object", "properties": {"value": {"type": "number"}, "next": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    ("schema", "right", "wrong", "where"),
    [
        ({"type": "string"}, "a", 1, 'at /: 1 is not of type "string"'),
        ({"items": {"type": "integer"}}, [1, 2], [1, "x"], 'at /1: "x" is not of type "integer"'),
        ({"format": "date"}, "2024-02-29", "2023-02-29", 'at /: "2023-02-29" is not a "date"'),
        ({"pattern": "^(?!x)a+$"}, "aa", "xa", 'at /: "xa" does not match "^(?!x)a+$"'),
        ({"pattern": r"^\p{Lu}\w*$"}, "Äa", "äa", 'at /: "äa" does not match "^\\p{Lu}\\w*$"'),
        ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, {"next": {"value": 1}}, {"next": {"value": "x"}}, None),
        (True, {}, None, None),
        (False, None, {}, "at /: False schema does not allow {}"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "minimum": 1}, 1, 0, None),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "http://x/"}, {"$ref": 1}, None),
    ],
)
def test_a_harmless_schema_judges_and_says_where(schema, right, wrong, where):
    if right is not None:
        assert check(schema, right) is None
    if wrong is not None:
        message = check(schema, wrong)
        assert message
        assert where is None or message == where


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("string", "a schema that is an object"),
        ([], "a schema that is an object"),
        (None, "a schema that is an object"),
        ({"type": "strin"}, "a schema that compiles"),
        ({"pattern": "("}, "a schema that compiles"),
        ({"$schema": "http://localhost/none"}, "a schema that compiles"),
        ({"$ref": "#/nowhere"}, "a schema that holds what it refers to (#/nowhere)"),
        ({"const": 2**70}, DEPTH),
    ],
)
def test_an_invalid_schema_is_named(schema, message):
    assert need(schema).startswith(message)


def test_a_mistake_is_one_short_line():
    assert len(check({"maxLength": 3}, "x\n" * 10_000)) < 500


def test_the_latest_used_are_kept():
    schemas = SchemaCache(max_size=2)
    a, b, c = ({"const": i} for i in range(3))
    first = schemas.compile(a)
    schemas.compile(b)
    assert schemas.find(a) is first
    schemas.compile(c)
    assert schemas.find(a) is first
    assert schemas.find(b) is None
    assert schemas.compile(dict(a)) is first


def test_a_refusal_is_remembered_too():
    schemas = SchemaCache()
    for get in (schemas.compile, schemas.find):
        with pytest.raises(UnboundedSchema):
            get({"$ref": "http://localhost/"})


def test_only_quick_comparisons_are_immediate():
    compiled = SchemaCache().compile({"items": {"type": "integer"}})
    assert compiled.mistake([1], 3, immediate=True) is None
    assert compiled.mistake(["x"], 5, immediate=True)
    with pytest.raises(SchemaTooSlow):
        compiled.mistake(["x"], 20_000, immediate=True)
    with pytest.raises(SchemaTooSlow):
        compiled.mistake([1], 10_000_000, immediate=True)


def test_several_threads_may_use_one_schema():
    schemas = SchemaCache()
    with ThreadPoolExecutor(8) as pool:
        message = list(pool.map(lambda i: check({"maximum": i % 5}, 3, schemas), range(400)))
    assert [s is None for s in message] == [i % 5 >= 3 for i in range(400)]


def test_work_that_the_size_of_an_answer_makes_is_refused():
    schema = {"items": {"allOf": [{"minimum": i} for i in range(500)]}}
    assert check(schema, [1000] * 100) is None
    assert need(schema, [1000] * 10_000) == WORK
