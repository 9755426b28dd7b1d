"""Bodies are cut so that those of one run have most chunks in common."""

from __future__ import annotations

import orjson
from fixtures.run_histories import body, growing, histories, message
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content_chunks import DIGEST_BYTES, MOST_BYTES, digest, split


@given(st.one_of(st.binary(max_size=20_000), histories().map(lambda bodies: bodies[-1])))
def test_the_chunks_in_order_are_the_body(whole: bytes) -> None:
    chunks, rest = split(whole)
    assert b"".join(chunks) + rest == whole
    assert all(chunks)


def test_a_call_has_the_chunks_of_the_call_before() -> None:
    before, after = growing(50, 1_000_000)[-2:]
    known, (chunks, rest) = set(split(before)[0]), split(after)
    assert sum(len(c) for c in chunks if c not in known) + len(rest) < 2 * (len(after) - len(before))


def test_an_edit_leaves_the_chunks_behind_it() -> None:
    messages = [message("user", size, n) for n, size in enumerate([700, 300, 5_000, 200] * 40)]
    before = split(body(messages))[0]
    messages[3] = message("user", 450, 999)
    after = split(body(messages))[0]
    assert len(set(before) - set(after)) <= 3


def test_small_messages_end_chunks_too() -> None:
    messages = [message("user", 150, n) for n in range(1_000)]
    chunks, _ = split(body(messages))
    assert max(map(len, chunks)) < MOST_BYTES + 1_000
    again, _ = split(body([message("user", 90, 5_000), *messages]))
    assert len(set(chunks) & set(again)) > 0.8 * len(chunks)


def test_one_large_text_is_one_chunk() -> None:
    whole = orjson.dumps({"messages": [{"role": "user", "content": "x" * 500_000}], "stream": True})
    chunks, rest = split(whole)
    assert (len(chunks), rest) == (1, b'],"stream":true}')


def test_a_digest_tells_chunks_apart() -> None:
    assert len(digest(b"")) == DIGEST_BYTES
    assert digest(b"a") != digest(b"b")
