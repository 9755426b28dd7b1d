"""Findings of `gateway check`: only of models that retire soon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fixtures.retirements import config_of

from gateway.features.retirement.check import findings
from gateway.scoring.registry import BuiltScorers
from gateway.store.location import default_url


@pytest.mark.parametrize(("days", "cautions"), [(None, 0), (41, 1), (4_000, 0)])
def test_only_a_model_that_retires_soon_is_a_caution(days: int | None, cautions: int, tmp_path: Path) -> None:
    target = {"upstream": "openai", "model": "unlisted"}
    if days is not None:
        target["retires"] = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
    config = config_of(models={"chat": {"targets": [target]}})
    result = findings(config, BuiltScorers({}, {}), default_url(tmp_path))
    assert (len(result.cautions), result.refusals) == (cautions, ())
