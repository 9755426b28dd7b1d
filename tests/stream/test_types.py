"""Ids sort as the stream does, whatever shard they are of; a reply is read in every shape that redis-py gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.types import Lag, after, of_stream, order, shard_of, text

FIELDS = {b"n": b"1"}
ids = st.tuples(st.integers(0, 2**48), st.integers(0, 2**63))


@given(ids, ids, st.integers(0, 1023))
def test_order_is_that_of_time_and_number_on_every_shard(a, b, shard):
    one, other = (f"{ms}-{n}" for ms, n in (a, b))
    assert (order(one) < order(other)) == (a < b)
    assert order(f"{one}@{shard}") == order(one)
    assert (shard_of(one), shard_of(f"{one}@{shard}")) == (0, shard)
    assert order(one) < order(after(one))


@pytest.mark.parametrize(
    "reply",
    [
        [[b"key", [(b"1-0", FIELDS), (b"2-0", FIELDS)]]],
        {b"key": [(b"1-0", FIELDS), (b"2-0", FIELDS)]},
        {b"key": [[(b"1-0", FIELDS), (b"2-0", FIELDS)]]},
        [[b"key", [(b"1-0", FIELDS), (b"2-0", FIELDS), (b"3-0", None)]]],
    ],
    ids=["lists", "a dict", "a dict of lists of lists", "with one that was deleted"],
)
def test_entries_are_found_in_every_shape_of_reply(reply):
    assert of_stream(reply) == [(b"1-0", FIELDS), (b"2-0", FIELDS)]


@pytest.mark.parametrize("nothing", [None, [], {}, [[b"key", []]]])
def test_nothing_is_nothing(nothing):
    assert of_stream(nothing) == []


def test_the_lag_of_two_shards_is_summed_with_the_older_age():
    assert Lag(5, 3, 1, 2.0) + Lag(7, 1, 2, 9.0) == Lag(12, 4, 3, 9.0)


def test_text_is_text():
    assert (text(b"a"), text("a"), text(1)) == ("a", "a", "1")
