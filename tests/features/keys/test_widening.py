"""Which changes of a key let it do more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.keys import KeyRecord
from gateway.features.keys.widening import widened

KEY = KeyRecord(
    "key_1", "web", (), {"usd_per_day": 5.0, "requests_per_minute": 60}, "search", ("chat", "code"), ("sample",),
    expires=100.0, networks=("10.0.0.0/8", "fd00::/8"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tags": ("a",)}, ()),
        ({"models": ("chat",)}, ()),
        ({"models": ()}, ()),
        ({"models": None}, ("models",)),
        ({"models": ("chat", "code", "big")}, ("models",)),
        ({"networks": ("10.1.0.0/16",)}, ()),
        ({"networks": None}, ("networks",)),
        ({"networks": ("0.0.0.0/0",)}, ("networks",)),
        ({"networks": ("10.0.0.0/8", "192.168.0.0/16")}, ("networks",)),
        ({"limits": {"usd_per_day": 1.0, "requests_per_minute": 60, "tokens_per_day": 9}}, ()),
        ({"limits": {"usd_per_day": 6.0, "requests_per_minute": 60}}, ("limits",)),
        ({"limits": {"usd_per_day": 5.0}}, ("limits",)),
        ({"limits": {}}, ("limits",)),
        ({"allow": ()}, ()),
        ({"allow": ("sample", "target")}, ("allow",)),
        ({"expires": 99.0}, ()),
        ({"expires": None}, ("expires",)),
        ({"expires": 101.0}, ("expires",)),
        ({"disabled": True}, ()),
        ({"team": None}, ("team",)),
    ],
    ids=str,
)
def test_what_widens_a_key(change: dict[str, Any], names: tuple[str, ...]) -> None:
    assert widened(KEY, replace(KEY, **change)) == names


def test_a_key_that_is_enabled_again_may_do_more() -> None:
    off = replace(KEY, disabled=True)
    assert widened(off, KEY) == ("disabled",)
    assert widened(replace(KEY, networks=None, models=None, limits={}), KEY) == ()
