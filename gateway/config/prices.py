"""The section `prices` of gateway.yaml. derive.prices_of combines it with the prices that ship."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.config.types import Section, number

_MIN_USD = 1e-4  # below any provider's price per million tokens; some price lists give USD per token


def _per_million(value: Any) -> Any:
    value = number(value)
    if isinstance(value, int | float) and 0 < value < _MIN_USD:
        raise ValueError(f"expected USD per million tokens; {value!r} looks like a price per token")
    return value


UsdPerMillion = Annotated[float, BeforeValidator(_per_million), Field(ge=0, le=1e6, allow_inf_nan=False)]
PricedModel = Annotated[str, Field(min_length=1, max_length=500)]


class ModelPrice(Section):
    """USD per million tokens."""

    input: UsdPerMillion
    """Input tokens."""
    output: UsdPerMillion
    """Output tokens; 0 for a model without any, such as an embedding model."""
    cached_input: UsdPerMillion | None = None
    """Input tokens read from the provider's cache. Default: as `input`."""
    reasoning: UsdPerMillion | None = None
    """Reasoning tokens. Default: as `output`."""


class PriceList(Section):
    """Your own prices. They take precedence over the built-in prices."""

    as_of: date
    """The day on which these prices were valid."""
    models: dict[PricedModel, ModelPrice] = Field({})
    """Prices by `upstream/model`, which takes precedence, or by the upstream's name for the model."""
