"""An imported config sends the shares of calls that LiteLLM's own router sends: fixtures/litellm_shares.json has what
that drew (tests/real/test_litellm.py draws again)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fixtures.litellm_draws import differing, gateway_draws

SHARES = json.loads((Path(__file__).parents[2] / "fixtures" / "litellm_shares.json").read_text())


@pytest.mark.parametrize("case", SHARES["cases"], ids=[case["name"] for case in SHARES["cases"]])
def test_an_import_keeps_the_shares_of_litellms_router(case: dict[str, Any]) -> None:
    """Within three standard errors of the difference of two proportions; where one draws none, the other draws none."""
    n = SHARES["draws"]
    ours = gateway_draws(case, n, random.Random(case["name"]))
    assert sum(ours) == sum(case["drawn"]) == n
    assert differing(ours, case["drawn"], n, 3.0) == []
