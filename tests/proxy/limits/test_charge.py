"""What a call costs its caller, however it ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.prices import Price, Prices
from gateway.proxy.limits.charge import Charge, charge_of, input_tokens_of
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call, Caller

NEAR, FAR, FREE = Target("near", "m"), Target("far", "m"), Target("none", "m")
PRICES = Prices({"near/m": Price(1.0, 2.0, cached_input=0.5), "far/m": Price(10.0, 20.0)})
CALL = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"x" * 400)
STREAM = replace(CALL, stream=True)
U = 1e-6


def ended(*attempts: Attempt, outcome: Any = "ok", **fields: Any) -> CallContext:
    given = {"sent": bool(attempts), **fields}
    context = CallContext(HeldBytes(False, 0), outcome, attempts=list(attempts), **given)
    context.usage = fields.get("usage", attempts[-1].usage if attempts else None)
    return context


def answered(target: Target = NEAR, usage: Usage | None = None, status: int | None = 200) -> Attempt:
    return Attempt(target, status, None, 0.1, usage)


def failed(target: Target, status: int | None, usage: Usage | None = None) -> Attempt:
    return Attempt(target, status, "failed", 0.1, usage)


GONE = Attempt(NEAR, None, "client gone", 0.1)

CASES: list[tuple[str, Call, CallContext, Charge | None]] = [
    ("one answer", CALL, ended(answered(usage=Usage(10, 5))), Charge(10, 0, 5, 0, 20 * U, False)),
    ("parts", CALL, ended(answered(usage=Usage(10, 5, 4, 3))), Charge(10, 4, 5, 3, 18 * U, False)),
    ("no price", CALL, ended(answered(FREE, Usage(10, 5))), Charge(10, 0, 5, 0, None, False)),
    ("nothing was tried", CALL, ended(outcome="upstream_error"), None),
    ("nothing was sent", CALL, ended(failed(NEAR, None), sent=False, outcome="upstream_error"), None),
    ("refused", CALL, ended(failed(NEAR, 400), outcome="upstream_error"), Charge(0, 0, 0, 0, 0.0, False)),
    ("timed out", CALL, ended(failed(NEAR, None), outcome="timeout"), Charge(0, 0, 0, 0, 0.0, False)),
    ("a fallback answered", CALL, ended(failed(NEAR, 503), answered(FAR, Usage(10, 5))),
     Charge(10, 0, 5, 0, 200 * U, False)),
    ("both billed", CALL, ended(failed(NEAR, 200, Usage(10, 0)), answered(FAR, Usage(10, 5))),
     Charge(20, 0, 5, 0, 210 * U, False)),
    ("one of both has no price", CALL, ended(failed(FREE, 200, Usage(10, 0)), answered(FAR, Usage(10, 5))),
     Charge(20, 0, 5, 0, None, False)),
    ("no usage", CALL, ended(answered(), first_bytes=b"y" * 80), Charge(100, 0, 20, 0, 140 * U, True)),
    ("a stream without usage", STREAM, ended(answered(), first_bytes=b"y" * 80, pieces=7),
     Charge(100, 0, 7, 0, 114 * U, True)),
    ("gone before the answer", CALL, ended(GONE, outcome="client_gone", client_gone=True),
     Charge(100, 0, 0, 0, 100 * U, True)),
    ("gone within the stream", STREAM, ended(replace(GONE, status=200), outcome="client_gone", pieces=30),
     Charge(100, 0, 30, 0, 160 * U, True)),
    ("gone, input reported", STREAM,
     ended(replace(GONE, status=200, usage=Usage(50, 1)), outcome="client_gone", pieces=30),
     Charge(50, 0, 30, 0, 110 * U, True)),
    ("cut", STREAM, ended(failed(NEAR, 200), outcome="cut", pieces=30), Charge(100, 0, 30, 0, 160 * U, True)),
    ("cut and continued", STREAM, ended(failed(NEAR, 200), answered(FAR, Usage(100, 20)), pieces=30, spliced=True),
     Charge(200, 0, 30, 0, (100 + 1000 + 400 + 200) * U, True)),
    ("embeddings without usage", replace(CALL, api="embeddings"), ended(answered(), first_bytes=b"y" * 9000),
     Charge(100, 0, 0, 0, 100 * U, True)),
    ("no model ran", replace(CALL, api="count_tokens"), ended(answered(usage=Usage(10, 0))),
     Charge(0, 0, 0, 0, 0.0, False)),
]  # fmt: skip


@pytest.mark.parametrize(("call", "context", "charge"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_call_is_charged_for_what_was_used(call: Call, context: CallContext, charge: Charge | None) -> None:
    found = charge_of(call, context, PRICES)
    if charge is None or found is None or charge.usd is None:
        assert found == charge
    else:
        assert found == replace(charge, usd=pytest.approx(charge.usd))


def test_the_second_call_of_a_target_costs_as_much_as_the_first() -> None:
    """The price is remembered between them, under the target's name."""
    prices = Prices({"m": Price(1.0, 1.0)})
    charges = [charge_of(CALL, ended(answered(usage=Usage(10, 5))), prices) for _ in range(2)]
    assert charges == [Charge(10, 0, 5, 0, pytest.approx(15 * U), False)] * 2


def test_a_file_in_the_request_is_not_counted_by_its_bytes() -> None:
    picture = b'{"url":"data:image/png;base64,' + b"A" * 4_000_000 + b'"}'
    assert input_tokens_of(b"x" * 4000) == 1000
    assert 2000 <= input_tokens_of(picture + b"x" * 4000 + picture) < 3100
    assert input_tokens_of(picture[:-2]) < 1100  # without its end
    assert input_tokens_of(b"x" * 400_000) == 100_000
