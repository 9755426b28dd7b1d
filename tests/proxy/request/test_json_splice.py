"""Splicing edits one member and leaves every other byte alone."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.request.json_splice import (
    add_member,
    items,
    members,
    remove_member,
    replace_member,
    request_usage,
    scan,
    set_member,
    set_members,
)

SPACE = st.sampled_from(["", " ", "\n", "\t", "\r\n  "])
NAMES = st.one_of(st.sampled_from(["model", "stream", "messages", "", 'a"model', "\\", "mödel"]), st.text(max_size=6))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(['say "model": {', "\\", '\\"', "}", "]", '"model":1', "x" * 3000, 'y"' * 1500, "\\" * 2100]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """One of the many ways to write a JSON string."""
    if draw(st.booleans()):
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in value) + '"'


@st.composite
def objects(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    """Members as (name, its spelling, value); names may repeat."""
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    return [(name, draw(spelled(name)), value) for name, value in pairs]


def written(draw_space: Any, parts: list[tuple[str, str, Any]], skip: str | None = None) -> bytes:
    text = [f"{spelling}{draw_space}:{draw_space}{json.dumps(value)}" for n, spelling, value in parts if n != skip]
    return f"{draw_space}{{{draw_space}{f'{draw_space},{draw_space}'.join(text)}{draw_space}}}{draw_space}".encode()


@given(objects(), SPACE, NAMES, VALUES)
def test_set_member_is_the_edit_of_the_object_and_nothing_else(
    parts: list[tuple[str, str, Any]], space: str, name: str, value: Any
) -> None:
    body = written(space, parts)
    new = json.dumps(value).encode()
    quoted = json.dumps(name)[1:-1].encode()

    edited = set_member(body, name.encode() if any(n == name for n, _, _ in parts) else quoted, new)

    assert orjson.loads(edited) == orjson.loads(body) | {name: orjson.loads(new)}
    if any(n == name for n, _, _ in parts):
        assert edited == written(space, [(n, s, value if n == name else v) for n, s, v in parts])
    else:
        assert edited.startswith(body.rstrip()[:-1])


@given(objects(), SPACE, NAMES)
def test_remove_member_takes_every_duplicate_and_nothing_else(
    parts: list[tuple[str, str, Any]], space: str, name: str
) -> None:
    body = written(space, parts)
    kept = [p for p in parts if p[0] != name]
    removed = remove_member(body, name.encode())
    assert orjson.loads(removed) == {n: orjson.loads(json.dumps(v)) for n, _, v in kept}
    if kept:
        assert removed == written(space, parts, skip=name)


@given(objects(), SPACE)
def test_scan_finds_every_top_level_value(parts: list[tuple[str, str, Any]], space: str) -> None:
    body = written(space, parts)
    found = {name.decode(): orjson.loads(body[start:end]) for name, (start, end) in scan(body).items()}
    assert found == orjson.loads(body)
    assert [m.name.decode() for m in members(body)] == [n for n, _, _ in parts]


@given(objects(), SPACE, st.sampled_from(["model", "stream"]), VALUES)
def test_set_known_is_set_member_where_the_member_is_there(
    parts: list[tuple[str, str, Any]], space: str, name: str, value: Any
) -> None:
    body = written(space, [*parts, (name, json.dumps(name), 1)])
    new = json.dumps(value).encode()
    assert replace_member(body, name.encode(), new) == set_member(body, name.encode(), new)


@given(
    objects(), SPACE, st.sampled_from([None, {}, {"include_usage": False}, {"a": 1}, {"include_usage": True, "b": []}])
)
def test_ask_usage_sets_one_member_of_stream_options(
    parts: list[tuple[str, str, Any]], space: str, options: dict[str, Any] | None
) -> None:
    body = written(space, [*parts, ("stream_options", '"stream_options"', options)])
    expected = orjson.loads(body) | {"stream_options": (options or {}) | {"include_usage": True}}
    assert orjson.loads(request_usage(body)) == expected


def test_ask_usage_adds_stream_options_where_there_are_none() -> None:
    assert request_usage(b'{"model":"m"}') == b'{"model":"m","stream_options":{"include_usage":true}}'


def test_ask_usage_leaves_what_is_no_object_to_the_upstream() -> None:
    assert request_usage(b'{"stream_options": "yes"}') == b'{"stream_options": "yes"}'


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (rb'{"\u006dodel": "a", "x": 0.70}', rb'{"\u006dodel": "b", "x": 0.70}'),
        (b'{"model":"a","model":"c"}', b'{"model":"b","model":"b"}'),
        (rb'{"model":"a","\u006Dodel":"c"}', rb'{"model":"b","\u006Dodel":"b"}'),
        (rb'{"a\"model":1,"model":"a"}', rb'{"a\"model":1,"model":"b"}'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"b"}'),
        (b'{"big":12345678901234567890123,"model":{"a":[1]}}', b'{"big":12345678901234567890123,"model":"b"}'),
        (b'{"x":"\\\\","model":"a"}', b'{"x":"\\\\","model":"b"}'),
    ],
)
def test_the_model_is_found_however_it_is_spelled(body: bytes, edited: bytes) -> None:
    assert set_member(body, b"model", b'"b"') == edited
    assert replace_member(body, b"model", b'"b"') == edited


def test_an_empty_object_gets_its_first_member() -> None:
    assert set_member(b" { } ", b"a", b"1") == b' { "a":1} '
    assert add_member(b"{}", b"a", b"1") == b'{"a":1}'
    assert remove_member(b'{ "a" : 1 }', b"a") == b"{  }"


def test_an_equal_member_returns_the_same_object() -> None:
    body = b'{"model":"a"}'
    assert replace_member(body, b"model", b'"a"') is body
    assert remove_member(body, b"x") is body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'\xef\xbb\xbf{"a":1}', b'{"a":1', b'{"a":"x', b'{"a":"' + b"x" * 2000, b'{"a":[1,{"b":2}',
        b'{"a"}', b'{"a":}', b"{a:1}", b'{"a":1}}', b'{"a":1} x', b'{"a":1,}', b'{"a" 1}', b'{"a":1 "b":2}',
        rb'{"\ud800":1}', b'{"a":"' + b"x" * 2000 + b'\\"', b"{",
    ],
)  # fmt: skip
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        set_member(body, b"model", b"1")


@given(objects(), SPACE, st.data())
def test_a_body_cut_short_is_refused(parts: list[tuple[str, str, Any]], space: str, data: st.DataObject) -> None:
    body = written(space, parts).rstrip()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(ValueError, match=r"."):
        scan(cut)


def test_brackets_nested_as_deep_as_a_parser_takes_are_skipped() -> None:
    body = b'{"a":' + b"[" * 1000 + b"]" * 1000 + b',"model":"a"}'
    assert scan(body)[b"model"] == (len(body) - 4, len(body) - 1)


def test_deeper_brackets_are_refused_without_being_read(steps: Any) -> None:
    """Each level costs time: a body of brackets alone must not stop the event loop."""
    with steps() as counted, pytest.raises(ValueError, match="1024 levels"):
        scan(b'{"a":' + b"[" * 10_000_000)
    assert counted.n < 20_000


def test_ten_megabytes_of_image_cost_few_steps(steps: Any) -> None:
    """A base64 image is one long string: it is jumped over, not read."""
    image = b'[{"role":"user","content":[{"image_url":{"url":"data:image/png;base64,' + b"QUJD" * 2_500_000 + b'"}}]}]'
    body = b'{"messages":' + image + b',"model":"a","stream":true}'
    with steps() as counted:
        found = scan(body)
    assert counted.n < 500
    assert body[slice(*found[b"model"])] == b'"a"'
    assert replace_member(body, b"model", b'"b"') == body.replace(b'"model":"a"', b'"model":"b"')


@settings(max_examples=60)
@given(objects(), SPACE, st.dictionaries(st.sampled_from(["model", "stream", "a", "b"]), VALUES, max_size=3), st.data())
def test_several_members_are_set_and_removed_in_one_pass(
    parts: list[tuple[str, str, Any]], space: str, changes: dict[str, Any], data: st.DataObject
) -> None:
    removed = {name for name in changes if data.draw(st.booleans())}
    values = {n.encode(): None if n in removed else orjson.dumps(v) for n, v in changes.items()}
    body = written(space, parts)
    expected = {name: value for name, _, value in parts}
    expected = {name: value for name, value in (expected | changes).items() if name not in removed}
    found = set_members(body, values)
    assert json.loads(found) == expected
    assert set_members(body, {}) == body
    for member in members(found):
        if member.name not in values:
            assert found[member.key : member.end] in body


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=4), SPACE)
def test_the_items_of_an_array_are_found(values: list[Any], space: str) -> None:
    array = f"{space}[{space}{f'{space},{space}'.join(json.dumps(v) for v in values)}{space}]".encode()
    assert [json.loads(array[start:end]) for start, end in items(array)] == values


@pytest.mark.parametrize("array", [b"", b"{}", b"[1", b"[1,]", b"[,1]", b'["a" "b"]'])
def test_a_value_that_is_not_an_array_has_no_items(array: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        list(items(array))
