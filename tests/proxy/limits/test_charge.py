"""The cost of a call for its caller, for every ending."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.prices import Price, Prices
from gateway.proxy.limits.charge import Charge, charge_of, input_tokens_of
from gateway.proxy.limits.endings import (
    ANSWERED,
    BROKEN_OFF,
    CLIENT_DEADLINE,
    CLIENT_LEFT,
    STOPPED,
    TIMED_OUT,
    UNREADABLE,
    AttemptEnding,
    UnmeteredAttempt,
)
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call, Caller

NEAR, FAR, FREE = Target("near", "m"), Target("far", "m"), Target("none", "m")
PRICES = Prices({"near/m": Price(1.0, 2.0, cached_input=0.5), "far/m": Price(10.0, 20.0)})
CALL = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"x" * 400)
STREAM = replace(CALL, stream=True)
U = 1e-6


MOST = 50
"""Output tokens that were reserved for the call."""


def ended(*attempts: Attempt, outcome: Any = "ok", unmetered: Any = (), **fields: Any) -> CallContext:
    given = {"sent": bool(attempts), **fields}
    context = CallContext(HeldBytes(False, 0), outcome, attempts=list(attempts), unmetered=tuple(unmetered), **given)
    context.usage = fields.get("usage", attempts[-1].usage if attempts else None)
    return context


def answered(target: Target = NEAR, usage: Usage | None = None, status: int | None = 200) -> Attempt:
    return Attempt(target, status, None, 0.1, usage)


def failed(target: Target, status: int | None, usage: Usage | None = None) -> Attempt:
    return Attempt(target, status, "failed", 0.1, usage)


def left(ending: AttemptEnding, call: Call = CALL, **known: Any) -> tuple[Call, CallContext]:
    """A call whose only attempt ended so. known: what is known of it beyond its ending."""
    gone = Attempt(NEAR, None, "ended", 0.1, known.get("usage"))
    attempt = UnmeteredAttempt(NEAR, ending, known.pop("usage", None), **known)
    return call, ended(gone, outcome=ending.outcome, unmetered=[attempt])


def without_usage(target: Target, pieces: int = 0, answer_bytes: int = 0) -> UnmeteredAttempt:
    return UnmeteredAttempt(target, ANSWERED, None, pieces, answer_bytes)


CASES: list[tuple[str, Call, CallContext, Charge | None]] = [
    ("one answer", CALL, ended(answered(usage=Usage(10, 5))), Charge(10, 0, 5, 0, 20 * U, False)),
    ("parts", CALL, ended(answered(usage=Usage(10, 5, 4, 3))), Charge(10, 4, 5, 3, 18 * U, False)),
    ("no price", CALL, ended(answered(FREE, Usage(10, 5))), Charge(10, 0, 5, 0, None, False)),
    ("nothing was tried", CALL, ended(outcome="upstream_error"), None),
    ("nothing was sent", CALL, ended(failed(NEAR, None), sent=False, outcome="upstream_error"), None),
    ("refused", CALL, ended(failed(NEAR, 400), outcome="upstream_error"), Charge(0, 0, 0, 0, 0.0, False)),
    ("timed out", *left(TIMED_OUT), Charge(100, 0, MOST, 0, 200 * U, True)),
    ("broken off", *left(BROKEN_OFF), Charge(100, 0, MOST, 0, 200 * U, True)),
    ("stopped", *left(STOPPED), Charge(100, 0, MOST, 0, 200 * U, True)),
    ("its own deadline", *left(CLIENT_DEADLINE), Charge(100, 0, MOST, 0, 200 * U, True)),
    ("its own deadline within the stream", *left(CLIENT_DEADLINE, STREAM, pieces=7),
     Charge(100, 0, 7, 0, 114 * U, True)),
    ("a fallback answered", CALL, ended(failed(NEAR, 503), answered(FAR, Usage(10, 5))),
     Charge(10, 0, 5, 0, 200 * U, False)),
    ("a fallback answered after a timeout", CALL,
     ended(failed(NEAR, None), answered(FAR, Usage(10, 5)), unmetered=[UnmeteredAttempt(NEAR, TIMED_OUT, None)]),
     Charge(110, 0, MOST + 5, 0, (100 + 2 * MOST + 200) * U, True)),
    ("both billed", CALL, ended(failed(NEAR, 200, Usage(10, 0)), answered(FAR, Usage(10, 5))),
     Charge(20, 0, 5, 0, 210 * U, False)),
    ("one of both has no price", CALL, ended(failed(FREE, 200, Usage(10, 0)), answered(FAR, Usage(10, 5))),
     Charge(20, 0, 5, 0, None, False)),
    ("no usage", CALL, ended(answered(), unmetered=[without_usage(NEAR, answer_bytes=80)]),
     Charge(100, 0, 20, 0, 140 * U, True)),
    ("a stream without usage", STREAM, ended(answered(), unmetered=[without_usage(NEAR, 7, 80)]),
     Charge(100, 0, 7, 0, 114 * U, True)),
    ("a page of a proxy instead of an answer", *left(UNREADABLE, answer_bytes=80),
     Charge(100, 0, 20, 0, 140 * U, True)),
    ("gone before the answer", *left(CLIENT_LEFT), Charge(100, 0, MOST, 0, 200 * U, True)),
    ("gone within the stream", *left(CLIENT_LEFT, STREAM, pieces=30), Charge(100, 0, 30, 0, 160 * U, True)),
    ("gone, input reported", *left(CLIENT_LEFT, STREAM, usage=Usage(50, 1), pieces=30),
     Charge(50, 0, 30, 0, 110 * U, True)),
    ("gone, all reported", *left(CLIENT_LEFT, STREAM, usage=Usage(50, 40), pieces=30),
     Charge(50, 0, 40, 0, 130 * U, False)),
    ("cut", *left(BROKEN_OFF, STREAM, pieces=30), Charge(100, 0, 30, 0, 160 * U, True)),
    ("cut and continued", STREAM,
     ended(failed(NEAR, 200), answered(FAR, Usage(100, 20)), spliced=True,
           unmetered=[UnmeteredAttempt(NEAR, BROKEN_OFF, None, 10)]),
     Charge(200, 0, 30, 0, (100 + 20 + 1000 + 400) * U, True)),
    ("embeddings without usage", replace(CALL, api="embeddings"),
     ended(answered(), unmetered=[without_usage(NEAR, answer_bytes=9000)]), Charge(100, 0, 0, 0, 100 * U, True)),
    ("embeddings that nobody waited for", *left(CLIENT_LEFT, replace(CALL, api="embeddings")),
     Charge(100, 0, 0, 0, 100 * U, True)),
    ("no model ran", replace(CALL, api="count_tokens"), ended(answered(usage=Usage(10, 0))),
     Charge(0, 0, 0, 0, 0.0, False)),
]  # fmt: skip


@pytest.mark.parametrize(("call", "context", "charge"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_call_is_charged_for_its_usage(call: Call, context: CallContext, charge: Charge | None) -> None:
    found = charge_of(call, context, PRICES, MOST)
    if charge is None or found is None or charge.usd is None:
        assert found == charge
    else:
        assert found == replace(charge, usd=pytest.approx(charge.usd))


def test_the_second_call_of_a_target_costs_as_much_as_the_first() -> None:
    """The price is remembered between them, under the target's name."""
    prices = Prices({"m": Price(1.0, 1.0)})
    charges = [charge_of(CALL, ended(answered(usage=Usage(10, 5))), prices, MOST) for _ in range(2)]
    assert charges == [Charge(10, 0, 5, 0, pytest.approx(15 * U), False)] * 2


ON_GPU = Prices({"m": Price(1.0, 2.0)}, gpu={"near/m": Price(100.0, 2000.0), "far/m": Price(7.0, 70.0)})


@pytest.mark.parametrize(
    ("call", "context", "gpu_seconds"),
    [
        (CALL, ended(answered(usage=Usage(10, 5))), (1000 + 10_000) * U),
        (CALL, ended(answered(FREE, Usage(10, 5))), 0.0),
        (CALL, ended(failed(NEAR, 200, Usage(10, 0)), answered(FAR, Usage(10, 5))), (1000 + 70 + 350) * U),
        (*left(TIMED_OUT), (100 * 100 + MOST * 2000) * U),
        (*left(CLIENT_LEFT, STREAM, pieces=30), (100 * 100 + 30 * 2000) * U),
    ],
    ids=["one answer", "no engine of one's own", "two attempts", "timed out", "the client left"],
)
def test_a_call_is_charged_for_the_gpu_seconds_of_its_tokens(
    call: Call, context: CallContext, gpu_seconds: float
) -> None:
    found = charge_of(call, context, ON_GPU, MOST)
    assert found is not None
    assert found.gpu_seconds == pytest.approx(gpu_seconds)


def test_a_file_in_the_request_is_not_counted_by_its_bytes() -> None:
    picture = b'{"url":"data:image/png;base64,' + b"A" * 4_000_000 + b'"}'
    assert input_tokens_of(b"x" * 4000) == 1000
    assert 2000 <= input_tokens_of(picture + b"x" * 4000 + picture) < 3100
    assert input_tokens_of(picture[:-2]) < 1100  # without its end
    assert input_tokens_of(b"x" * 400_000) == 100_000


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 60_000)), min_size=1, max_size=12),
    st.sampled_from([b"QUJD", b"Q\\/JD", b"-_9="]),
)
def test_each_file_counts_wherever_it_stands(parts: list[tuple[int, int]], letters: bytes) -> None:
    """A file below 4 KB may count by its bytes, which are fewer tokens."""
    text, body = 0, b"text " * 8000
    for before, size in parts:
        data = (letters * size)[:size]
        body += b'"' + b"some words " * (before // 11) + b"data:image/png;base64," + data + b'"}'
        text += before // 11 * 11 + 24
    tokens = [min(1000, size // 4) for _, size in parts]
    found = input_tokens_of(body) - (40_000 + text) // 4
    assert sum(t for t in tokens if t == 1000) - 2 * len(parts) <= found <= 1000 * len(parts) + 2 * len(parts)


def test_a_text_behind_a_small_file_is_not_a_file() -> None:
    body = b'{"a":"data:x;base64,QUJD","b":"' + b"A" * 400_000 + b'"}'
    assert input_tokens_of(body) == len(body) // 4


def test_the_estimate_looks_at_places_and_searches_nothing(steps: Any) -> None:
    for body in (b"a" * 4_000_000, b"some text; " * 400_000, (b'"data:x;base64,' + b"A" * 100_000 + b'",') * 40):
        with steps() as counted:
            input_tokens_of(body)
        assert counted.n < 20_000
