"""The range of a candidate's cost whose shadows never have the served cache."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Usage
from gateway.core.prices import Price
from gateway.verdict.cached_cost import BILLED_CALLS, ArmBill, cache_caution

HALF = Price(1.0, 4.0, 0.5)
TENTH = Price(0.8, 2.0, 0.08)


def bill(price: Price, cached: int, calls: int = 1000) -> ArmBill:
    """Calls of 2 000 input tokens and 100 output tokens at a price."""
    usage = Usage(2000, 100, cached)
    return ArmBill(calls, 2000 * calls, cached * calls, price.cost(usage) * calls)


def sentence(*of: object) -> str:
    [text] = cache_caution(*of)  # type: ignore[arg-type]
    return text.replace("\u202f", " ")


def test_arms_with_alike_caches_have_no_caution() -> None:
    assert list(cache_caution(bill(HALF, 1240), bill(TENTH, 1200), TENTH)) == []
    assert list(cache_caution(None, bill(TENTH, 0), TENTH)) == []
    assert list(cache_caution(bill(HALF, 1240), None, TENTH)) == []
    assert list(cache_caution(ArmBill(0, 0, 0, 0.0), ArmBill(0, 0, 0, 0.0))) == []


def test_another_cached_share_is_priced_as_those_calls() -> None:
    for cached in (0, 300, 2000):
        again = bill(TENTH, 500).with_cached_share(cached / 2000, TENTH)
        assert again.usd == pytest.approx(bill(TENTH, cached).usd)
        assert again.cached_tokens == bill(TENTH, cached).cached_tokens


def test_the_range_goes_from_the_served_cache_to_none() -> None:
    """The control costs 0.00178 $ a call; the candidate 0.00090 $ with 62 % cached, and 0.00180 $ with nothing."""
    text = sentence(bill(HALF, 1240), bill(TENTH, 0), TENTH)
    assert text.startswith("62.0 % of the control's input is cached, and 0 % of the candidate's: ")
    assert "costs 49 % less a call if as much of its input is cached, and 1 % more if nothing is." in text


def test_a_price_without_a_discount_has_one_cost() -> None:
    text = sentence(bill(HALF, 1240), bill(Price(0.8, 2.0), 0), Price(0.8, 2.0))
    assert "no discount for cached input: served, it costs 1 % more a call." in text


def test_an_unknown_price_says_who_will_know() -> None:
    assert sentence(bill(HALF, 1240), bill(TENTH, 0)).endswith("which the ramp's arm is billed.")


def test_the_ramps_bill_replaces_the_range() -> None:
    text = sentence(bill(HALF, 1240), bill(TENTH, 0), TENTH, bill(TENTH, 1000, BILLED_CALLS))
    assert "was billed 39 % less a call, with 50.0 % of the input cached." in text
    assert text.endswith("other hours and other requests may explain a part of the difference.")
    few = sentence(bill(HALF, 1240), bill(TENTH, 0), TENTH, bill(TENTH, 1000, BILLED_CALLS - 1))
    assert "if nothing is" in few


def test_a_control_that_costs_nothing_has_no_percentage() -> None:
    free = Price(0.0, 0.0, 0.0)
    assert "costs $0.00091 a call if as much" in sentence(bill(free, 1240), bill(TENTH, 0), TENTH)
