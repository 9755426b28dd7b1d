"""Tags that calls give themselves: of listed keys only, and never more combinations than may be kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.proxy.request.call import Caller
from gateway.proxy.request.tags import MOST_TAGS, TagReader

KEYS = ("feature", "env")


def tags(header: bytes | None = None, metadata: Any = None, most: int = 100) -> tuple[str, ...]:
    headers = {} if header is None else {b"x-gateway-tags": header}
    return TagReader(KEYS, most).of(headers, {} if metadata is None else {"metadata": metadata})


GIVEN: list[tuple[bytes | None, Any, tuple[str, ...]]] = [
    (b"feature=search", None, ("feature=search",)),
    (b" feature=search , env=prod ", None, ("env=prod", "feature=search")),
    (b"other=x,feature=search", None, ("feature=search",)),
    (b"feature=a,feature=b", None, ("feature=b",)),
    (None, {"tags": {"feature": "search", "env": "prod", "x": "y"}}, ("env=prod", "feature=search")),
    (None, {"tags": ["feature=search", "env=prod"]}, ("env=prod", "feature=search")),
    (None, {"tags": "feature=search, env=prod"}, ("env=prod", "feature=search")),
    (b"env=dev", {"tags": {"feature": "search", "env": "prod"}}, ("env=dev", "feature=search")),
    (None, {"tags": {"feature": 7, "env": "has blanks"}}, ()),
    (None, {"tags": 7}, ()),
    (None, {"tags": ["feature", None, {"env": "x"}]}, ()),
    (None, "text", ()),
    (None, None, ()),
]


@pytest.mark.parametrize(("header", "metadata", "expected"), GIVEN, ids=range(len(GIVEN)))
def test_tags_come_from_the_header_and_from_metadata(header: Any, metadata: Any, expected: tuple[str, ...]) -> None:
    assert tags(header, metadata) == expected


NONE = [b"", b",", b"feature", b"feature=", b"feature=a b", b"feature=\xff", b"feature=" + b"x" * 65]


@pytest.mark.parametrize("header", [*NONE, b",".join(b"k%d=v" % n for n in range(MOST_TAGS + 1))])
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(BadRequest, match="x-gateway-tags: expected at most 8 tags as key=value"):
        tags(header)


def test_beyond_the_bound_values_are_other() -> None:
    reader = TagReader(KEYS, 2)
    found = [reader.of({b"x-gateway-tags": b"feature=f%d" % n}, {}) for n in (1, 2, 3, 1)]
    assert found == [("feature=f1",), ("feature=f2",), ("feature=other",), ("feature=f1",)]


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_callers_with_equal_tags_are_one(values: list[int]) -> None:
    reader, caller = TagReader(KEYS, 5), Caller("web", tags=("own",))
    made = {id(reader.tagged(caller, {b"x-gateway-tags": b"feature=f%d" % value}, {})) for value in values}
    assert len(made) <= 6, "five combinations, and other"
    assert reader.tagged(caller, {}, {}) is caller
