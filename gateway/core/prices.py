"""Prices of tokens for each model, and the cost of an exchange by the model that answered. Pure.

A model without a price has no known cost: None, never 0. config/derive.py builds Prices from a gateway.yaml, and takes
the list prices for models that it does not name. Their data is list_prices.json, which tests/fixtures/list_prices.py
writes from the package genai-prices (MIT). The table has plain prices only: no batches, priority tiers, or surcharges
for long prompts. Writing to Anthropic's cache costs more than plain input, which the usage that the gateway sees does
not show. Providers change prices without notice: to count money exactly, give the prices of your own contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from typing import Any

import orjson

from gateway.core.exchange import Attempt, Target, Usage

_MILLION = 1e6
MOST_USD = 1e5
"""Highest price per million tokens of a list; more is a price in another unit."""
_DATED = re.compile(r"-(?:20\d\d-\d\d-\d\d|20\d{6})$")  # gpt-x-2025-04-14, claude-x-20251001


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float
    cached_input: float | None = None  # a part of the input; None: priced as input
    reasoning: float | None = None  # a part of the output; None: priced as output

    def cost(self, usage: Usage) -> float:
        """USD for these tokens."""
        inputs = usage.input_tokens
        if usage.cached_input_tokens:
            cached = min(usage.cached_input_tokens, inputs)
            total = (inputs - cached) * self.input + usage.output_tokens * self.output
            total += cached * (self.input if self.cached_input is None else self.cached_input)
        else:
            total = inputs * self.input + usage.output_tokens * self.output
        if self.reasoning is not None:
            thought = min(usage.reasoning_tokens or 0, usage.output_tokens)
            total += thought * (self.reasoning - self.output)
        return total / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices in force: the user's own, and the list prices that ship with the gateway."""

    given: Mapping[str, Price] = field(default_factory=dict)
    """The user's, by "upstream/model" or "model"."""
    listed: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)
    """List prices by upstream and model, for upstreams at the provider's own URL."""
    gpu: Mapping[str, Price] = field(default_factory=dict)
    """GPU-seconds per million tokens of the user's own engines, by "upstream/model" or "model"."""
    engines: frozenset[str] = frozenset()
    """The upstreams that run on the user's own machines, whose GPU-seconds are unknown where `gpu` has no price."""
    known: dict[str, Price | None] = field(default_factory=dict, compare=False, repr=False)
    """The answers of `of` so far, by "upstream/model": for the hot path."""

    def of(self, target: Target) -> Price | None:
        """The price of a target; None if none is known.

        The user's price wins over a listed one, and "upstream/model" over "model". A dated name (gpt-x-2025-04-14)
        without a price of its own has the price of the undated name.
        """
        name = str(target)
        if name not in self.known:
            undated = Target(target.upstream, _DATED.sub("", target.model))
            self.known[name] = self._named(target) or self._named(undated)
        return self.known[name]

    def gpu_of(self, target: Target) -> Price | None:
        """The price of a target in GPU-seconds; None if it has none."""
        return self.gpu.get(f"{target.upstream}/{target.model}") or self.gpu.get(target.model)

    def gpu_seconds(self, target: Target, usage: Usage | None) -> float:
        """GPU-seconds of the user's own engines; 0.0 of a target without such a price."""
        price = self.gpu_of(target) if self.gpu and usage is not None else None
        return 0.0 if price is None or usage is None else price.cost(usage)

    def lacks_gpu(self, target: Target) -> bool:
        """Whether a target uses GPU-seconds of the user's own, and nobody knows how many."""
        return target.upstream in self.engines and self.gpu_of(target) is None

    def has(self, target: Target) -> bool:
        """Whether exactly this model has a price. Remembers nothing, unlike `of`."""
        return self._named(target) is not None

    def models(self, upstream: str) -> list[str]:
        """The models of an upstream that have a price."""
        own = (name.removeprefix(f"{upstream}/") for name in self.given if name.startswith(f"{upstream}/"))
        return list(dict.fromkeys([*own, *self.listed.get(upstream, {})]))

    def _named(self, target: Target) -> Price | None:
        given = self.given.get(f"{target.upstream}/{target.model}") or self.given.get(target.model)
        return given or self.listed.get(target.upstream, {}).get(target.model)

    def cost(self, target: Target, usage: Usage | None) -> float | None:
        """USD; None if the target has no price, unless its upstream says what it bills, or there is no usage."""
        if usage is not None and usage.usd is not None:
            return usage.usd
        price = self.of(target)
        return None if price is None or usage is None else price.cost(usage)

    def gpu_seconds_of_call(self, target: Target, usage: Usage | None, attempts: Iterable[Attempt]) -> float | None:
        """GPU-seconds of a call, of all attempts that have usage; None if none of their targets has such a price."""
        if not self.gpu:
            return None
        used: list[tuple[Target, Usage | None]] = [(a.target, a.usage) for a in attempts if a.usage is not None]
        counted = [self.gpu_seconds(t, u) for t, u in used or [(target, usage)] if self.gpu_of(t) and u is not None]
        return sum(counted) if counted else None

    def of_call(self, target: Target, usage: Usage | None, attempts: Iterable[Attempt]) -> float | None:
        """USD for a call, each token at the price of the model that used it.

        Sums the attempts that have usage; without any, the answer's usage counts. None if there is no usage, or if one
        of these targets has no price.
        """
        used = [(a.target, a.usage) for a in attempts if a.usage is not None]
        if len(used) <= 1:
            return self.cost(used[0][0] if used else target, usage or (used[0][1] if used else None))
        costs = [self.cost(t, u) for t, u in used]
        known = [c for c in costs if c is not None]
        return sum(known) if len(known) == len(costs) else None


@dataclass(frozen=True, slots=True)
class PriceTable:
    """A dated list of prices."""

    date: date
    prices: Mapping[str, Mapping[str, Price]]
    """Prices by kind of upstream and the exact name of the model."""


def price_table(raw: Mapping[str, Any]) -> PriceTable:
    """The table of a list in the form of list_prices.json. Raises ValueError that names the first mistake."""
    rows = raw.get("prices")
    if not isinstance(rows, Mapping):
        raise ValueError("prices: expected an object of kinds of upstreams")
    return PriceTable(
        list_date(raw.get("date")),
        {kind: {model: _listed_price(f"prices.{kind}.{model}", row) for model, row in _members(f"prices.{kind}", of)}
         for kind, of in rows.items()},
    )  # fmt: skip


def list_date(value: Any) -> date:
    """Raises ValueError."""
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"date: expected the day of the list, such as 2026-11-26; got {value!r}") from None


def _members(at: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{at}: expected an object of models")
    return value.items()


def _listed_price(at: str, row: Any) -> Price:
    known = isinstance(row, list) and len(row) == 3
    if not known or not all(part is None or _is_usd(part) for part in row) or None in row[:2]:
        raise ValueError(f"{at}: expected [input, output, cached input or null] in USD per million tokens; got {row!r}")
    return Price(*row)


def _is_usd(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_USD


def listed(kind: str) -> Mapping[str, Price]:
    """The prices of one kind of upstream by the exact name of the model; {} for a kind without list prices.

    Reads the file at every call: only when a config is read.
    """
    return {model: Price(*price) for model, price in _shipped()["prices"].get(kind, {}).items()}


def shipped_prices() -> PriceTable:
    """The list that ships with the gateway, read from its file."""
    return price_table(_shipped())


def _shipped() -> Any:
    return orjson.loads(files("gateway.core").joinpath("list_prices.json").read_bytes())
