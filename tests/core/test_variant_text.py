"""A variant's text tells it from every other one, is short, and shows no long or private value."""

from __future__ import annotations

import json
import re

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.variant_text import variant_text

NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.text(max_size=30), st.lists(st.text(max_size=3)))
CHANGES = st.tuples(
    st.dictionaries(NAMES, VALUES, max_size=12),
    st.one_of(st.none(), st.text(min_size=1)),
    st.dictionaries(NAMES, st.text(max_size=5), max_size=2),
)


def test_short_values_are_shown_and_long_ones_digested() -> None:
    text = variant_text({"top_p": 0.5, "temperature": 0, "stop": None, "effort": "low", "a": [1]}, "Be brief.", {})
    assert re.fullmatch(
        r"a=#\w{8},effort=low,stop=null,temperature=0,top_p=0\.5,system=#\w{8}", text
    ), text  # fmt: skip
    assert variant_text({}, None, {}) == ""
    assert "secret" not in variant_text({}, None, {"X-Tenant": "secret"})
    assert variant_text({}, None, {"X-Tenant": "a"}) == variant_text({}, None, {"x-tenant": "a"})


@pytest.mark.parametrize(("one", "other"), [("0", 0), ("null", None), ("true", True), ("[1]", [1]), ("", None)])
def test_a_text_is_another_value_than_what_it_reads_as(one: object, other: object) -> None:
    assert variant_text({"x": one}, None, {}) != variant_text({"x": other}, None, {})


@settings(max_examples=examples(60))
@given(CHANGES, CHANGES)
def test_different_changes_have_different_short_ascii_texts(one: tuple, other: tuple) -> None:
    first, second = variant_text(*one), variant_text(*other)
    assert max(len(first), len(second)) <= 100
    assert (first + second).isascii()
    assert not {"\n", "\r", " ", '"'} & set(first)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (first == second) == same
