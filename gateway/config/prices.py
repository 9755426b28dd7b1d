"""The section `prices` of gateway.yaml, and the prices in force: its own before those that ship."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.config.types import Section, number
from gateway.core.price_list import listed
from gateway.core.prices import Price, Prices

if TYPE_CHECKING:
    from gateway.config.loading import Config

_LEAST = 1e-4  # no vendor asks so little for a million tokens; some lists give prices by the token


def _by_the_million(value: Any) -> Any:
    value = number(value)
    if isinstance(value, int | float) and 0 < value < _LEAST:
        raise ValueError(f"expected USD per million tokens; {value!r} looks like a price of one token")
    return value


Usd = Annotated[float, BeforeValidator(_by_the_million), Field(ge=0, le=1e6, allow_inf_nan=False)]
ModelName = Annotated[str, Field(min_length=1, max_length=500)]


class ModelPrice(Section):
    """USD per million tokens. input, output: read and written. cached_input: None: as input. reasoning: None: as
    output. A model without output tokens (embeddings) says `output: 0`."""

    input: Usd
    output: Usd
    cached_input: Usd | None = None
    reasoning: Usd | None = None


class PriceList(Section):
    """models: by "upstream/model", which wins, or by the model's name at its upstream. as_of: when they were true."""

    as_of: date
    models: dict[ModelName, ModelPrice] = Field({})


def prices_of(config: Config) -> Prices:
    """What gateway.yaml gives; and, for upstreams at their vendor's own address, the prices that ship."""
    given = config.prices.models if config.prices else {}
    own_address = {
        name: listed(upstream.kind)
        for name, upstream in config.upstreams.items()
        if upstream.vendor.base_url and upstream.url == upstream.vendor.base_url and not upstream.vendor.local
    }
    return Prices(
        {name: Price(p.input, p.output, p.cached_input, p.reasoning) for name, p in given.items()},
        {name: prices for name, prices in own_address.items() if prices},
    )
