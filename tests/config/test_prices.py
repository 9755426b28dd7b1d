from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.prices import ModelPrice, PriceList


def test_prices_are_given_by_model_with_their_date() -> None:
    section = PriceList.model_validate({"as_of": "2026-11-01", "models": {"a/m": {"input": 1, "output": 2}}})
    assert section.as_of == date(2026, 11, 1)
    assert section.models == {"a/m": ModelPrice(input=1, output=2)}


@pytest.mark.parametrize(
    ("section", "at", "expected"),
    [
        ({"models": {}}, "as_of", "Field required"),
        ({"as_of": "soon"}, "as_of", "valid date"),
        ({"models": {"a": {"input": 1}}}, "models.a.output", "Field required"),
        ({"models": {"a": {"input": -1, "output": 1}}}, "models.a.input", "greater than or equal to 0"),
        ({"models": {"a": {"input": float("nan"), "output": 1}}}, "models.a.input", "greater than or equal to 0"),
        ({"models": {"a": {"input": "1", "output": 1}}}, "models.a.input", "expected a number, got '1'"),
        ({"models": {"a": {"input": 1, "output": 2.5e-6}}}, "models.a.output", "looks like a price per token"),
        ({"models": {"a": {"input": 1, "output": 1, "ouput": 1}}}, "models.a.ouput", "Extra inputs"),
    ],
)
def test_prices_that_cannot_be_right_are_refused(section: dict[str, Any], at: str, expected: str) -> None:
    given = section if at == "as_of" else {"as_of": "2026-11-01", **section}
    with pytest.raises(ValidationError) as caught:
        PriceList.model_validate(given)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == at
    assert expected in error["msg"]
