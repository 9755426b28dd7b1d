"""JSON as guards read it: what a client may read, and what a guard refuses."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxy.guards.judged_json import (
    NestedTooDeeply,
    RepeatedMember,
    judged_object,
    judged_value,
    readable,
    unambiguous_object,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'{"a": NaN}', {"a": pytest.approx(float("nan"), nan_ok=True)}),
        (b'{"a": "\\ud800"}', {"a": "\ufffd"}),
        (b"[1]", None),
        (b"{", None),
    ],
)
def test_an_object_is_read_as_a_client_may_read_it(data: bytes, expected: Any) -> None:
    assert judged_object(data) == expected


def test_a_value_of_any_kind_is_judged() -> None:
    assert [judged_value(data) for data in (b'"text"', b"[1]", b"{")] == ["text", [1], None]


def test_two_members_of_one_name_are_named() -> None:
    with pytest.raises(RepeatedMember) as error:
        unambiguous_object(b'{"a": {"b": 1, "b": 2}}')
    assert error.value.name == "b"


def test_more_levels_than_the_parser_has_are_refused() -> None:
    with pytest.raises(NestedTooDeeply):
        unambiguous_object(b'{"a":' * 100_000)
    assert unambiguous_object(b'{"a": "\\ud800"}') == {"a": "\ufffd"}


def test_half_a_surrogate_pair_leaves_no_part_out() -> None:
    assert readable(b'{"a": 1}', stream=False) == b'{"a": 1}'
    assert judged_object(readable(b'{"a": "\\ud800b"}', stream=False)) == {"a": "\ufffdb"}
    event = readable(b'data: {"a": "\\ud800b"}\n\n', stream=True)
    assert judged_object(event.removeprefix(b"data: ")) == {"a": "\ufffdb"}
