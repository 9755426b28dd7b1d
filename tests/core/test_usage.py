"""Usage cells and sums, and their form in a tally."""

from __future__ import annotations

import orjson
import pytest

from gateway.core.exchange import Tally
from gateway.core.usage import NANO, UsageCell, UsageCount, UsageSums, nano_usd, usage_count, utc_day

CELL = UsageCell("2026-11-26", "k1", "web", "search", "acme", "a b", "chat", "openai", "gpt-x", "", "", "")


def test_sums_add_up_member_by_member() -> None:
    assert UsageSums(1, 2, 3, 4, 5, 6, 7, 8).plus(UsageSums(10, 10, 10, 10, 10, 10, 10, 10)) == UsageSums(
        11, 12, 13, 14, 15, 16, 17, 18
    )


def test_money_is_counted_in_nano_dollars() -> None:
    """The cheapest cached token of the list prices costs at least one."""
    assert nano_usd(0.1) + nano_usd(0.2) == nano_usd(0.3) == 3 * NANO // 10
    assert nano_usd(0.001 / 1e6) == 1


def test_members_that_a_newer_gateway_appends_are_left_out() -> None:
    value = {"cell": [*CELL, "more"], "sums": [*UsageSums(calls=1), 5]}
    assert usage_count(value) == UsageCount(CELL, UsageSums(calls=1))
    with pytest.raises(TypeError):
        usage_count({"cell": ["2026-11-26"], "sums": [1]})


def test_a_cell_takes_little_of_a_tally() -> None:
    one = Tally("g", 1.0, 0, usage=(UsageCount(CELL, UsageSums(*range(1000, 1008))),))
    head = one.to_fields()[b"head"]
    assert len(head) - len(Tally("g", 1.0, 0).to_fields()[b"head"]) < 200
    assert orjson.loads(head)["usage"][0]["cell"] == list(CELL)


@pytest.mark.parametrize(("now", "day"), [(0, "1970-01-01"), (1795651199.9, "2026-11-25"), (1795651200, "2026-11-26")])
def test_a_day_is_utc(now: float, day: str) -> None:
    assert utc_day(now) == day
