"""A request is put together from its delta and its base, byte for byte, or not at all."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import orjson
import pytest
from fixtures.run_histories import body, growing, histories, message
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import DELTA, Exchange, Fields, Target, from_fields
from gateway.core.request_delta import BaseReference, RequestOutline, as_delta


def call(n: int, request: bytes) -> Exchange:
    return Exchange(
        id=f"id-{n}", received=1.0, caller="web", api="chat", alias="chat", target=Target("u", "m"), stream=False,
        request=request, response=b"answer", status=200, outcome="ok", total_s=1.0, unit="x", u=0.5, pi=1.0,
        stratum="default", incarnation="i", seq=n, run="r", run_source="x-gateway-run",
    )  # fmt: skip


def delta(before: bytes, after: bytes) -> Fields:
    return as_delta(call(2, after).to_fields(), RequestOutline.of("id-2", after), RequestOutline.of("id-1", before))


@given(histories(), st.integers(0, 6), st.integers(0, 6))
def test_a_delta_on_its_base_is_the_request(requests: list[bytes], first: int, second: int) -> None:
    before, after = requests[first % len(requests)], requests[second % len(requests)]
    fields = delta(before, after)
    if fields[b"kind"] == DELTA:
        fields = BaseReference.read(fields).apply(fields, before)
    assert from_fields(fields) == call(2, after)


def test_a_delta_has_the_new_bytes_and_little_else() -> None:
    requests = growing(50, 1_000_000)
    deltas = [delta(*pair) for pair in pairwise(requests)]
    appended = sum(len(fields[b"head"]) + len(fields[b"req"]) for fields in deltas)
    heads = 49 * len(call(2, b"").to_fields()[b"head"])
    assert appended - heads < 1.05 * (len(requests[-1]) - len(requests[0]))
    assert appended < 0.05 * sum(map(len, requests))


def test_moved_items_are_found() -> None:
    messages = [message("user", 4_000, n) for n in range(30)]
    fields = delta(body(messages), body([messages[0], *messages[20:], messages[3], message("user", 50, 99)]))
    assert fields[b"kind"] == DELTA
    assert len(fields[b"req"]) < 1_500


def test_a_request_with_nothing_in_common_is_sent_whole() -> None:
    after = b'{"model":"chat","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 9_000)
    assert delta(body([message("user", 9_000, 1)]), after) == call(2, after).to_fields()


def test_another_base_is_refused() -> None:
    _, before, after = growing(3, 60_000)
    fields = delta(before, after)
    base = BaseReference.read(fields)
    with pytest.raises(ValueError, match=f"the request of id-1 has 2 bytes, expected {len(before)}"):
        base.apply(fields, b"{}")
    changed = before.replace(b"the", b"teh")
    with pytest.raises(ValueError, match="has other bytes than those that were referred to"):
        base.apply(fields, changed)


def test_without_its_base_a_call_reads_as_cut() -> None:
    """A reader of the stream that knows nothing of bases sees no half of a request."""
    _, before, after = growing(3, 60_000)
    assert from_fields(delta(before, after)) == replace(call(2, after), request=b"{}", truncated=True)


@pytest.mark.parametrize("note", [None, [], {"id": "x"}, {"id": "x", "bytes": "y", "crc": 1, "parts": []}])
def test_a_delta_without_a_reference_is_an_error(note: object) -> None:
    fields = {b"kind": DELTA, b"head": orjson.dumps({"id": "id-2", "base": note}), b"req": b"", b"res": b""}
    with pytest.raises(ValueError, match="not a delta"):
        BaseReference.read(fields)
