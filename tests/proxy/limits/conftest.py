"""A gateway whose one key has limits, and so have its person, its team and its organization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.fake import FakeUpstream

PRICES = {"as_of": "2026-11-01", "models": {"model-u0": {"input": 1.0, "output": 10.0}}}


@pytest.fixture
def limited(configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Callable[..., dict[str, Any]]:
    """A config in which key `tester`, person `ann`, team `search` and organization `acme` have these limits; further
    sections as in `configured`. A million input tokens cost 1 $, a million output tokens 10 $."""

    def make(
        key: Any = None,
        team: Any = None,
        organization: Any = None,
        person: Any = None,
        upstreams: tuple[FakeUpstream, ...] = (),
        prices: Any = PRICES,
        **sections: Any,
    ) -> dict[str, Any]:
        config = configured(*(upstreams or (upstream,)), **sections)
        config["keys"][0] |= {"limits": key or {}, "team": "search"}
        config["teams"] = {"search": {"limits": team or {}, "organization": "acme"}}
        config["organizations"] = {"acme": {"limits": organization or {}}}
        if person is not None:
            config["keys"][0]["person"] = "ann"
            config["people"] = {"ann": {"limits": person}}
        return config if prices is None else {**config, "prices": prices}

    return make
