"""The section `store`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.store import StoreConfig

pytestmark = pytest.mark.quick


def test_without_values_nothing_is_deleted() -> None:
    assert StoreConfig().model_dump() == {"url": None, "keep_days": None, "max_gb": None}


@pytest.mark.parametrize("values", [{"keep_days": 0.5}, {"max_gb": 0}, {"max_gb": -1}, {"keep_hours": 3}])
def test_values_out_of_bounds_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StoreConfig.model_validate(values)
