"""Prices that ship are dated, sourced, and plausible."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.core.price_list import LISTED, ListedPrice, listed
from gateway.core.providers import VENDORS


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.models[0])
def test_every_price_says_where_and_when_it_was_read(row: ListedPrice) -> None:
    assert row.source.startswith("https://")
    assert date(2026, 1, 1) <= row.seen
    vendor = VENDORS[row.kind]
    assert vendor.base_url
    assert not vendor.local, "a local engine has no price but the one its owner gives"


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.models[0])
def test_a_discount_is_one(row: ListedPrice) -> None:
    assert row.price.input > 0
    assert row.price.cached_input is None or 0 < row.price.cached_input < row.price.input


def test_no_model_stands_twice() -> None:
    names = [(row.kind, model) for row in LISTED for model in row.models]
    assert len(names) == len(set(names))
    assert sum(len(listed(kind)) for kind in {row.kind for row in LISTED}) == len(names)
    assert listed("vllm") == {}
