"""Objectives of money."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config.scorers import ScorerConfig
from gateway.core.errors import ConfigError
from gateway.scorers.cost import UNKNOWN, Cost
from gateway.scoring.registry import build


@pytest.mark.parametrize(
    ("cost_usd", "value", "why"),
    [(0.0, 1.0, None), (0.01, 1.0, None), (0.0101, 0.0, "cost 0.0101 USD, expected at most 0.01")],
)
def test_an_exchange_is_within_its_money_or_not(ask, subject, cost_usd, value, why):
    got = ask(Cost("cost", max_usd=0.01), replace(subject("yes"), cost_usd=cost_usd))
    assert (got.value, got.explanation, got.detail) == (value, why, {"cost_usd": cost_usd})


def test_an_unknown_cost_is_not_applicable(ask, subject):
    assert ask(Cost("cost", max_usd=0.01), subject("yes")) == UNKNOWN


def test_an_objective_without_a_value_is_not_checked():
    with pytest.raises(ConfigError, match=r"scorers\.cost\.max_usd: missing"):
        build({"cost": ScorerConfig()})
    assert build({"cost": ScorerConfig.model_validate({"max_usd": 0.5})})["cost"].scorer == Cost("cost", 0.5)
