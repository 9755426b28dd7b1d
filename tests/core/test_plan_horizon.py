"""The automatic horizon of a plan: more for a smaller margin and a larger variance, none without bounds or a margin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.plan_horizon import SCORE_VARIANCE, horizon_of

CANDIDATES = (("candidate", Target("b", "new")),)
PLAN = Plan("swap", "chat", Target("a", "old"), CANDIDATES, shadow=1.0, primary="quality", margin=0.05)


def test_a_variance_that_is_not_known_is_assumed() -> None:
    assert horizon_of(PLAN) == horizon_of(PLAN, SCORE_VARIANCE)
    assert (horizon_of(PLAN, 0.02) or 0) < (horizon_of(PLAN) or 0) < (horizon_of(replace(PLAN, margin=0.02)) or 0)


def test_a_guardrail_on_failures_needs_its_own_pairs() -> None:
    """4 ln(2.5 / α) / margin."""
    assert horizon_of(replace(PLAN, guardrails=(Guardrail("error_rate", 0.001),))) == 15_649


@pytest.mark.parametrize("changes", [{"primary": None}, {"primary": "total_s"}, {"margin": 0.0}])
def test_there_is_none_without_a_primary_with_bounds_and_a_margin(changes: dict[str, object]) -> None:
    assert horizon_of(replace(PLAN, **changes)) is None  # type: ignore[arg-type]
