from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.scorers import ScorerConfig


def test_keys_that_are_not_common_are_the_scorers_options() -> None:
    section = ScorerConfig.model_validate(
        {"use": "judge", "share": 0.05, "budget_usd": 5, "model": "referee", "scale": [1, 5]}
    )
    assert (section.share, section.budget_usd) == (0.05, 5.0)
    assert section.options == {"model": "referee", "scale": [1, 5]}


@pytest.mark.parametrize(
    "section", [{"share": 2}, {"deadline_s": 0}, {"concurrency": 0}, {"budget_usd": -1}, {"memory_mb": 1}]
)
def test_limits_out_of_range_are_refused(section: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ScorerConfig.model_validate(section)
