"""An edit changes its members and leaves every other byte alone; what lies inside a member is not looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, TooManyMembers
from gateway.proxy.request.json_members import (
    MOST_MEMBERS,
    NotAnObject,
    decoded_member,
    edited,
    items,
    leading_items,
    read_members,
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


Parts = list[tuple[str, str, Any]]


@st.composite
def objects(draw: st.DrawFn) -> Parts:
    """Members as (name, its spelling, value)."""
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5, unique_by=lambda pair: pair[0]))
    return [(name, draw(spelled(name)), value) for name, value in pairs]


def written(space: str, parts: Parts) -> bytes:
    text = [f"{spelling}{space}:{space}{json.dumps(value)}" for _, spelling, value in parts]
    return f"{space}{{{space}{f'{space},{space}'.join(text)}{space}}}{space}".encode()


@given(objects(), SPACE, st.dictionaries(NAMES, VALUES, max_size=4), st.data())
def test_any_edit_is_the_edit_of_the_object_and_nothing_else(
    parts: Parts, space: str, given_changes: dict[str, Any], data: st.DataObject
) -> None:
    """Replaced members keep their place, removed ones take their comma along, and new ones follow at the end."""
    body = written(space, parts)
    removed = {name for name in given_changes if data.draw(st.booleans())}
    changes: dict[str, Any] = {}
    for name, value in given_changes.items():
        text = json.dumps(value).encode()
        cut = data.draw(st.integers(0, len(text)))
        slices = (text[:cut], memoryview(text)[cut:])
        changes[name] = None if name in removed else data.draw(st.sampled_from([text, slices]))
    new = {name: value for name, value in given_changes.items() if name not in removed}

    found = edited(body, read_members(body), changes)

    names = [name for name, _, _ in parts]
    kept = [(name, spelling, new.get(name, value)) for name, spelling, value in parts if name not in removed]
    added = {name: value for name, value in new.items() if name not in names}
    assert json.loads(found) == {name: value for name, _, value in kept} | added
    if kept or not names:
        assert found.startswith(written(space, kept).rstrip()[:-1])
    assert found.endswith(b"}" + space.encode())
    if not added and kept:
        assert found == written(space, kept)
    if not new and not removed & set(names):
        assert found is body


@given(objects(), SPACE)
def test_every_member_is_found_with_the_bytes_of_its_value(parts: Parts, space: str) -> None:
    found = read_members(written(space, parts))
    assert [(name, bytes(value)) for name, value in found.items()] == [
        (name, json.dumps(value).encode()) for name, _, value in parts
    ]
    assert {name: decoded_member(value, name) for name, value in found.items()} == {
        name: value for name, _, value in parts
    }


@given(objects(), SPACE, VALUES, st.data())
def test_a_name_that_comes_twice_is_refused_however_it_is_spelled(
    parts: Parts, space: str, value: Any, data: st.DataObject
) -> None:
    """Servers differ in which of them they read: the other one would not have been authorized, counted or replaced."""
    name = data.draw(st.sampled_from([name for name, _, _ in parts] or ["model"]))
    twice = [*parts, (name, data.draw(spelled(name)), value)]
    if not parts:
        twice *= 2
    padding = data.draw(st.sampled_from([0, 5000]))
    with pytest.raises(BadRequest, match="more than one member") as refused:
        read_members(written(space, data.draw(st.permutations(twice))) + b" " * padding)
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rb'{"\u006dodel": "a", "x": 0.70}', rb'{"\u006dodel": "b", "x": 0.70}'),
        (rb'{"a\"model":1,"model":"a"}', rb'{"a\"model":1,"model":"b"}'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"b"}'),
        (b'{"big":12345678901234567890123,"model":{"a":[1]}}', b'{"big":12345678901234567890123,"model":"b"}'),
        (b'{"x":"\\\\","model":"a"}', b'{"x":"\\\\","model":"b"}'),
        (b" { } ", b' { "model":"b"} '),
        (b"{}", b'{"model":"b"}'),
    ],
)
def test_the_model_is_found_however_it_is_spelled(body: bytes, expected: bytes) -> None:
    assert edited(body, read_members(body), {"model": b'"b"'}) == expected


def test_an_edit_that_changes_nothing_returns_the_same_object() -> None:
    body = b'{"model":"a"}'
    assert edited(body, read_members(body), {"model": b'"a"', "x": None}) is body


def test_the_members_of_another_body_edit_nothing() -> None:
    members = read_members(b'{"aa":1,"model":"a"}')
    with pytest.raises(ValueError, match="not those of this body"):
        edited(b'{"aa":[1,2],"model":"a"}', members, {"model": b'"b"'})


@pytest.mark.parametrize(
    "body",
    [
        b"", b'\xef\xbb\xbf{"a":1}', b'{"a":1', b'{"a":"x', b'{"a":"' + b"x" * 5000, b'{"a":[1,{"b":2}',
        b'{"a"}', b'{"a":}', b"{a:1}", b'{"a":1}}', b'{"a":1} x', b'{"a":1,}', b'{"a" 1}', b'{"a":1 "b":2}',
        rb'{"\ud800":1}', b'{"a":"' + b"x" * 5000 + b'\\"', b"{", b'{"a":NaN}', b'{"a":[1,]}', b'{"a":01}',
        rb'{"a":"\ud83d"}', b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":"\xc3"}' + b" " * 5000, b'{"a":1}\x00',
    ],
    ids=lambda body: str(body[:20]),
)  # fmt: skip
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_members(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[]", "an array"),
        (b"null", "null"),
        (b"5", "a number"),
        (b"0.5", "a number"),
        (b'"x"', "a string"),
        (b"true", "a boolean"),
    ],
)
@pytest.mark.parametrize("padding", [0, 5000])
def test_another_value_is_named(body: bytes, found: str, padding: int) -> None:
    with pytest.raises(NotAnObject) as refused:
        read_members(body + b" " * padding)
    assert refused.value.found == found


@given(objects(), SPACE, st.data())
def test_a_body_cut_short_is_refused(parts: Parts, space: str, data: st.DataObject) -> None:
    body = written(space, parts).rstrip()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(ValueError, match=r"."):
        read_members(cut)


@pytest.mark.parametrize("depth", [500, 1_000_000])
def test_deep_brackets_are_refused_without_a_step_for_each(steps: Any, depth: int) -> None:
    body = b'{"a":' + b"[" * depth + b"]" * depth + b',"model":"a"}'
    with steps() as counted:
        if depth == 500:
            assert bytes(read_members(body)["model"]) == b'"a"'
        else:
            with pytest.raises(ValueError, match="nested too deeply"):
                read_members(body)
    assert counted.n < 5000


def test_ten_megabytes_cost_few_steps(steps: Any) -> None:
    image = b'[{"role":"user","content":[{"image_url":{"url":"data:image/png;base64,' + b"QUJD" * 2_500_000 + b'"}}]}]'
    body = b'{"messages":' + image + b',"model":"a","stream":true}'
    with steps() as counted:
        members = read_members(body)
        found = edited(body, members, {"model": b'"b"', "stream_options": b"{}"})
    assert counted.n < 200
    assert found == body.replace(b'"model":"a"', b'"model":"b"')[:-1] + b',"stream_options":{}}'


@pytest.mark.parametrize("value", [b"1", b'"xxxxxxxxx"'], ids=["small", "large"])
def test_there_are_at_most_a_thousand_members(value: bytes) -> None:
    def of(number: int) -> bytes:
        return b"{" + b",".join(b'"%d":%b' % (n, value) for n in range(number)) + b"}"

    assert len(read_members(of(MOST_MEMBERS))) == MOST_MEMBERS
    with pytest.raises(TooManyMembers):
        read_members(of(MOST_MEMBERS + 1))


def test_a_small_object_cannot_have_too_many_members() -> None:
    """Members are counted only in larger ones."""
    names = [chr(c) for c in range(32, 127) if chr(c) not in '"\\']
    names += [a + b for a in names for b in names]
    body = b"{" + b",".join(b'"%b":1' % name.encode() for name in names)[:4080].rpartition(b",")[0] + b"}"
    assert len(body) > 4060
    assert len(read_members(body)) < MOST_MEMBERS


def test_the_encoding_of_a_large_body_is_the_upstreams_to_judge() -> None:
    body = b'{"model":"chat","a":"' + b"x" * 16_384 + b'\xff"}'
    assert bytes(read_members(body)["a"]).endswith(b'\xff"')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_members(body.replace(b"x" * 100, b""))


@settings(max_examples=examples(60))
@given(st.lists(VALUES, max_size=4), SPACE, st.sampled_from([0, 5000, 40_000]))
def test_the_items_of_an_array_are_found(values: list[Any], space: str, padding: int) -> None:
    values = [values, "x" * padding, *values]
    array = f"[{space}{f'{space},{space}'.join(json.dumps(v) for v in values)}{space}]".encode()
    assert [json.loads(array[start:end]) for start, end, _ in leading_items(array)] == values
    assert [value for _, _, value in leading_items(array)] == values, "it is all ASCII"
    assert [json.loads(bytes(item)) for item in items(array)] == values


def test_leading_items_are_read_no_further_than_they_are_asked_for(steps: Any) -> None:
    array = b'[{"role":"system","content":"\xc3\xa4"},' + b'{"role":"user"},' * 300_000 + b"5]"
    with steps() as counted:
        found = next(leading_items(array))
    assert (array[found[0] : found[1]], found[2]["role"]) == (b'{"role":"system","content":"\xc3\xa4"}', "system")
    assert counted.n < 50


@pytest.mark.parametrize("array", [b"", b"{}", b"5", b'"[]"', b"[" * 100_000 + b"]" * 100_000])
def test_a_value_that_is_not_an_array_has_no_items(array: bytes) -> None:
    for read in (items, leading_items):
        with pytest.raises((ValueError, BadRequest), match=r"."):
            list(read(array))


def test_leading_items_have_numbers_of_any_length() -> None:
    array = b'[{"role":"user","x":%b},{"role":"user"}]' % (b"9" * 5000)
    assert [item["role"] for _, _, item in leading_items(array)] == ["user", "user"]


def test_a_leading_item_nested_too_deeply_is_not_an_empty_list() -> None:
    with pytest.raises(BadRequest, match="nested too deeply"):
        list(leading_items(b'[{"role":"user","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]"))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"1e999", "cannot be read: Number out of range"),
        (b"9" * 5000, "cannot be read: Integer value out of range"),
        (b'"\xff"', "cannot be read"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    ],
    ids=["a number", "an integer", "not UTF-8", "deep"],
)
def test_a_member_that_cannot_be_decoded_is_named(value: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=f"tools\\[0\\].container {why}") as caught:
        decoded_member(value, "tools[0].container")
    assert caught.value.param == "tools[0].container"
