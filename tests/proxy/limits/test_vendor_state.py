"""The remainder in a vendor's headers, and the time that an attempt waits for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.limits.vendor_state import VendorState

pytestmark = pytest.mark.quick
WALL = 1_795_945_764.0  # 2026-11-29T09:49:24Z


def openai(
    remaining: str, limit: str = "500", reset: str = "60s", measure: str = "requests"
) -> list[tuple[bytes, bytes]]:
    values = {"limit": limit, "remaining": remaining, "reset": reset}
    return [(f"x-ratelimit-{name}-{measure}".encode(), value.encode()) for name, value in values.items() if value]


def learned(headers: list[tuple[bytes, bytes]], at: float = 100.0) -> VendorState:
    state = VendorState()
    state.learn(headers, at, WALL)
    return state


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("12ms", 0.012), ("1s", 1), ("6m0s", 360), ("1h2m3.5s", 3723.5), ("30", 30), ("0.5", 0.5), ("1795945824", 60)],
)
def test_resets_are_read_as_vendors_write_them(reset: str, seconds: float) -> None:
    level = learned(openai("0", reset=reset)).levels["requests"]
    assert level.until - level.at == pytest.approx(seconds)


def test_anthropics_headers_are_read_too() -> None:
    sent = {"limit": "4000", "remaining": "0", "reset": "2026-11-29T09:50:24Z"}
    headers = [(f"anthropic-ratelimit-tokens-{name}".encode(), value.encode()) for name, value in sent.items()]
    state = learned(headers)
    assert state.wait_s((1, 1000), 1, 100.0) == pytest.approx(15.0), "a quarter of what comes back within a minute"
    assert state.wait_s((1, 0), 1, 100.0) == 0.0


@pytest.mark.parametrize(
    "headers",
    [[], openai("many"), openai("-1"), openai("", "500"), [(b"x-ratelimit-remaining-requests", b"\xff")]],
)
def test_headers_that_cannot_be_read_change_nothing(headers: list[tuple[bytes, bytes]]) -> None:
    assert learned(headers).levels == {}


def test_the_remainder_grows_until_the_reset() -> None:
    state = learned(openai("0", "60", "60s"))
    assert state.wait_s((1, 0), 1, 100.0) == pytest.approx(1.0)
    assert state.wait_s((1, 0), 1, 101.5) == 0.0
    state.take((1, 0))
    assert state.wait_s((1, 0), 1, 101.5) > 0.4
    assert state.wait_s((1, 0), 1, 160.0) == 0.0, "after the reset nothing is known"


def test_workers_share_the_remainder() -> None:
    state = learned(openai("3", "60", "60s"))
    assert state.wait_s((1, 0), 3, 100.0) == 0.0
    assert state.wait_s((1, 0), 6, 100.0) == pytest.approx(3 / (57 / 60)), "57 of 60 come back in a minute"


def test_without_a_limit_an_empty_level_waits_for_the_reset() -> None:
    state = learned(openai("0", "", "20s"))
    assert state.wait_s((1, 0), 1, 100.0) == pytest.approx(20.0)
    assert learned(openai("0", "", "")).wait_s((1, 0), 1, 100.0) == pytest.approx(60.0)


def test_a_request_larger_than_the_limit_waits_for_all_of_it() -> None:
    state = learned(openai("0", "1000", "60s", "tokens"))
    assert state.wait_s((1, 5000), 1, 100.0) == pytest.approx(60.0)
    assert state.wait_s((1, 5000), 1, 160.0) == 0.0


def test_calls_in_flight_are_not_part_of_what_a_header_says() -> None:
    state = learned(openai("10", "10", "60s"))
    for _ in range(4):
        state.take((1, 0))
    state.ended((1, 0))
    state.learn(openai("9", "10", "6s"), 101.0, WALL)
    assert state.levels["requests"].left == 6.0


@given(value=st.binary(max_size=40), name=st.sampled_from(["limit", "remaining", "reset"]))
def test_no_header_value_breaks_the_state(value: bytes, name: str) -> None:
    headers = [*openai("5"), (f"x-ratelimit-{name}-requests".encode(), value)]
    state = learned(headers)
    assert 0.0 <= state.wait_s((1, 1), 2, 100.0) <= 60.0


def test_after_a_minute_one_attempt_asks_whatever_the_reset() -> None:
    state = learned(openai("0", "500", "8h"))
    assert state.wait_s((1, 0), 4, 100.0) == 60.0
    assert state.wait_s((1, 0), 4, 160.0) == 0.0
    state.begin_probe(160.0)
    state.take((1, 0))
    assert state.wait_s((1, 0), 4, 160.0) == 60.0, "the others wait for its answer"
    state.learn(openai("0", "500", "7h59m"), 161.0, WALL, probed=True)
    assert state.wait_s((1, 0), 4, 200.0) == 21.0


def test_an_attempt_that_asks_and_gets_no_report_opens_the_model() -> None:
    state = learned(openai("0", "500", "8h"))
    state.begin_probe(160.0)
    state.learn([], 161.0, WALL, probed=True)
    assert state.wait_s((1, 0), 4, 161.0) == 0.0


def test_an_attempt_that_asks_in_vain_lets_the_next_one_ask() -> None:
    state = learned(openai("0", "500", "8h"))
    state.begin_probe(160.0)
    state.release_probe()
    assert state.wait_s((1, 0), 4, 161.0) == 0.0
