"""Any split of the bytes gives the same events, and never half of one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sse import Splitter, event_count, events, parse

LINES = st.sampled_from(
    [b"data: {}", b"data:x", b"event: e", b": comment", b"data: two\ndata: lines", b"id: 7", b"retry: 1"]
)
ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Whole events in one kind of line ending, perhaps with an unfinished one after them."""
    ending = draw(ENDINGS)
    blocks = draw(st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=6))
    whole = b"".join(b"\n".join(block) + b"\n\n" for block in blocks).replace(b"\n", ending)
    return whole + draw(st.sampled_from([b"", b"data: unfinish", b"data: x" + ending]))


@given(streams(), st.data())
def test_any_split_gives_the_same_bytes_and_the_same_events(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = Splitter()
    edges = [0, *cuts, len(stream)]
    blocks = [splitter.feed(stream[a:b]) for a, b in pairwise(edges)]
    assert b"".join(blocks) + splitter.tail == stream
    split = [event.data for block in blocks for event in events(block)]
    assert split == [event.data for event in events(b"".join(blocks))]
    tail = list(events(splitter.tail))
    assert split + [event.data for event in tail] == [event.data for event in events(stream)]
    assert len(tail) <= 1  # only CR CR at the very end, which may be half of a CRLF, is held back


@given(st.lists(LINES, min_size=1, max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_counted_in_either_kind_of_line_ending(lines, ending):
    whole = b"".join(line.replace(b"\n", ending) + ending * 2 for line in lines)
    assert event_count(whole) == len(lines) == len(list(events(whole)))


def test_a_piece_of_an_event_counts_as_one():
    assert event_count(b"data: unfinish") == 1


@given(streams())
def test_a_block_ends_with_a_whole_event(stream):
    splitter = Splitter()
    for at in range(len(stream)):
        block = splitter.feed(stream[at : at + 1])
        assert b"".join(event.raw for event in events(block)) == block


@pytest.mark.parametrize(
    ("raw", "data", "name"),
    [
        (b"data: x\n\n", b"x", b""),
        (b"data:x\n\n", b"x", b""),
        (b"data:  x\n\n", b" x", b""),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb", b""),
        (b"event: done\rdata: 1\r\r", b"1", b"done"),
        (b": ping\n\n", b"", b""),
        (b"data\n\n", b"", b""),
        (b"id: 1\nretry: 2\ndata: x\n\n", b"x", b""),
    ],
)
def test_fields_are_read_as_the_standard_says(raw, data, name):
    event = parse(raw)
    assert (event.data, event.name, event.raw) == (data, name, raw)


def test_an_event_that_never_ends_is_refused():
    splitter = Splitter(limit_bytes=10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        splitter.feed(b"data: much too long")
