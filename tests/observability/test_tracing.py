"""Ids of spans: from the exchange's own, or below the client's; and what happens without the extra."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import new_id
from gateway.observability.tracing import ids_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_without_a_traceparent_ids_come_from_the_exchange() -> None:
    ids = ids_of("01890a5d-ac96-774b-bcce-b302099a8057", None, 1.0)
    assert ids.traceparent == b"00-01890a5dac96774bbcceb302099a8057-bcceb302099a8057-01"
    assert ids.parent == 0


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("03", True)])
def test_a_clients_trace_continues_and_it_says_whether_it_is_kept(flags: str, sampled: bool) -> None:
    ids = ids_of(new_id(), f"00-{TRACE}-{SPAN}-{flags}".encode(), 0.0 if sampled else 1.0)
    assert (f"{ids.trace:032x}", f"{ids.parent:016x}", ids.sampled) == (TRACE, SPAN, sampled)
    assert ids.traceparent.startswith(f"00-{TRACE}-".encode())
    assert SPAN.encode() not in ids.traceparent


@given(st.one_of(st.binary(max_size=80), st.sampled_from([b"", f"00-{'0' * 32}-{SPAN}-01".encode(), b"00-x-y-01"])))
def test_an_invalid_traceparent_is_ignored(given_: bytes) -> None:
    name = new_id()
    assert ids_of(name, given_, 1.0) == ids_of(name, None, 1.0)


def test_the_share_that_is_traced_is_the_one_asked_for() -> None:
    kept = sum(ids_of(new_id(), None, 0.25).sampled for _ in range(4000))
    assert 0.25 * 4000 - 130 < kept < 0.25 * 4000 + 130  # 4.7 standard errors
    assert not any(ids_of(new_id(), None, 0.0).sampled for _ in range(100))
    assert all(ids_of(new_id(), None, 1.0).sampled for _ in range(100))
