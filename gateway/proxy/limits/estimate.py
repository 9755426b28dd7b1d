"""What a call may use, before it is sent: the amounts that are reserved for it. Pure.

Input: one token for each 4 bytes of the body. Output: `max_tokens` (or its newer names) for each answer; without it,
the 90 % quantile of what calls of this model have used so far, or, with `budgets.estimate: request`, of what calls of
this kind have used. Dollars: at the highest price of its targets. What is reserved too much comes back when the call
ends; what is reserved too little is the estimation error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.models import Config
from gateway.core.exchange import Target
from gateway.core.plan import Plan
from gateway.core.prices import Price, Prices

FIRST_OUTPUT = 1000.0
"""Tokens reserved for the output of a model of which no call has ended yet."""
_UP, _DOWN = 1.094, 0.99  # 9 steps down and 1 up lead back to where they began, so 90 % of the values lie below
_LEAST = 16.0
GENERATES = frozenset({"chat", "completions", "responses", "messages"})
NANO_PER_MTOK = 1000.0
"""USD per million tokens → 1e-9 USD per token."""


@dataclass(slots=True)
class ModelEstimate:
    """What calls of one model (an alias) use."""

    input_nano: float
    """1e-9 USD per input token, at the dearest target."""
    output_nano: float
    unpriced: str | None
    """A target without a known price; None: all have one."""
    output: float = FIRST_OUTPUT
    """Output tokens that nine of ten calls stay below."""
    learned: bool = False
    by_kind: Mapping[int, int] = field(default_factory=dict)
    """The same by the kind of a request (core/output_tokens.py), as the consumer has learned it: all kinds, or none."""

    def learn(self, output_tokens: int) -> None:
        """The first call counts double, since nothing else is known; each further one is a step up or down."""
        if not self.learned:
            self.output, self.learned = 2.0 * output_tokens, True
        elif output_tokens > self.output:
            self.output *= _UP
        else:
            self.output *= _DOWN
        if self.output < _LEAST:
            self.output = _LEAST


def answers_of(fields: Mapping[str, Any]) -> int:
    """How many answers a request has generated: `n` (or `best_of`) for each of its prompts."""
    counts = [fields[name] for name in ("n", "best_of") if type(fields.get(name)) is int]
    prompt = fields.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return max(1, *counts) * prompts if counts else prompts


def estimates_of(
    config: Config, prices: Prices, plans: Mapping[str, Plan], before: Mapping[str, ModelEstimate]
) -> dict[str, ModelEstimate]:
    """The estimate of each model. before: of the previous config, whose quantiles go on."""
    found = {}
    for alias, model in config.models.items():
        targets = {Target(t.upstream, t.model) for t in (*model.targets, *model.fallback)}
        for plan in plans.values():
            if plan.model == alias and not plan.only_shadows:
                targets |= {target for _, target in plan.candidates}
        found[alias] = _estimate(sorted(targets, key=str), prices)
        if alias in before:
            found[alias].output, found[alias].learned = before[alias].output, before[alias].learned
            found[alias].by_kind = before[alias].by_kind if config.budgets.estimate == "request" else {}
    return found


def _estimate(targets: Iterable[Target], prices: Prices) -> ModelEstimate:
    by_target = {target: prices.of(target) for target in targets}
    unpriced = next((str(target) for target, price in by_target.items() if price is None), None)
    known = [price for price in by_target.values() if price is not None]
    return ModelEstimate(
        NANO_PER_MTOK * max((price.input for price in known), default=0.0),
        NANO_PER_MTOK * max((_output(price) for price in known), default=0.0),
        unpriced,
    )


def _output(price: Price) -> float:
    return max(price.output, price.reasoning or 0.0)
