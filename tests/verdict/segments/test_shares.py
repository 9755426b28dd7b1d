"""Shares of the traffic that declared segments have, and what it adds to shadow small ones more often."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.segments import OTHER, SegmentDesign
from gateway.verdict.segments.shares import added_share, declared_shares

DESIGN = SegmentDesign(("tag.product",), 0.15, 0.05, values=(("tag.product", ("chat", "code")),))
SHARES = {"tag.product": {"chat": 0.7, "code": 0.1, "mail": 0.2}}


def test_other_has_the_calls_of_no_declared_value() -> None:
    found = declared_shares(DESIGN, SHARES)
    known = {("tag.product", "chat"): 0.7, ("tag.product", "code"): 0.1, ("tag.product", OTHER): pytest.approx(0.2)}
    assert found == known


def test_a_small_segment_adds_as_much_as_it_is_drawn_again(simulation: Any) -> None:
    often = replace(DESIGN, more=(("tag.product", "code", 3.0),))
    plan = simulation.a_plan(segments=often, shadow=0.1)
    assert added_share(plan, SHARES) == pytest.approx(0.2)
    assert added_share(replace(plan, shadow=0.5), SHARES) == pytest.approx(0.1), "every call of it is drawn already"
    assert added_share(plan, None) == 0.0, "before there is traffic"
