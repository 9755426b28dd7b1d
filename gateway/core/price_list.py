"""List prices of providers' models, for models that have no price of the user's own in gateway.yaml.

The data is list_prices.json, which tests/fixtures/list_prices.py writes from the package genai-prices (MIT). The table
has plain prices only: no batches, priority tiers, or surcharges for long prompts. Writing to Anthropic's cache costs
more than plain input, which the usage that crosses the gateway does not show. Providers change prices without notice:
to count money exactly, give the prices of your own contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import orjson

from gateway.core.prices import Price


def listed(kind: str) -> Mapping[str, Price]:
    """The prices of one kind of upstream by the exact name of the model; {} for a kind without list prices.

    Reads the file at every call: only when a config is read.
    """
    table = orjson.loads(files("gateway.core").joinpath("list_prices.json").read_bytes())
    return {model: Price(*price) for model, price in table["prices"].get(kind, {}).items()}
