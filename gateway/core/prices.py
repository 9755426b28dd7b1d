"""What tokens cost: a price for each model, and what an exchange cost by the model that answered. Pure.

A model without a price has no known cost: None, never 0. config/derive.py builds Prices from a gateway.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.core.exchange import Attempt, Target, Usage

_MILLION = 1e6
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
        cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
        total = (usage.input_tokens - cached) * self.input + usage.output_tokens * self.output
        total += cached * (self.input if self.cached_input is None else self.cached_input)
        if self.reasoning is not None:
            thought = min(usage.reasoning_tokens or 0, usage.output_tokens)
            total += thought * (self.reasoning - self.output)
        return total / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices in force. given: the user's, by "upstream/model" or "model". listed: those that ship with the
    gateway, by upstream and model, for upstreams that are the vendor itself."""

    given: Mapping[str, Price] = field(default_factory=dict)
    listed: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    def of(self, target: Target) -> Price | None:
        """The user's price wins over a listed one, and "upstream/model" over "model"; a dated name (gpt-x-2025-04-14)
        that has no price of its own has that of the name without its date. None: no price is known."""
        return self._named(target) or self._named(Target(target.upstream, _DATED.sub("", target.model)))

    def _named(self, target: Target) -> Price | None:
        given = self.given.get(str(target)) or self.given.get(target.model)
        return given or self.listed.get(target.upstream, {}).get(target.model)

    def cost(self, target: Target, usage: Usage | None) -> float | None:
        """USD. None: no price for this target, or no usage."""
        price = self.of(target)
        return None if price is None or usage is None else price.cost(usage)

    def of_call(self, target: Target, usage: Usage | None, attempts: Iterable[Attempt]) -> float | None:
        """USD for a call, each token by the model that took it: the sum over attempts that have usage, or where none
        has, that of the answer. None: there is no usage, or one of these targets has no price."""
        taken = [(a.target, a.usage) for a in attempts if a.usage is not None]
        if len(taken) <= 1:
            return self.cost(taken[0][0] if taken else target, usage or (taken[0][1] if taken else None))
        costs = [self.cost(t, u) for t, u in taken]
        known = [c for c in costs if c is not None]
        return sum(known) if len(known) == len(costs) else None
