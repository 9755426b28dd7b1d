"""Estimates of the amounts that a call may use, which are reserved for it before it is sent.

Input: one token for each 4 bytes of the body. Output: `max_tokens` (or its newer names) for each answer; without it,
the 90 % quantile of the output of this model's calls so far, or, with `budgets.estimate: request`, of calls of this
kind. Dollars and GPU-seconds: at the highest price of its targets. Excess reservations are returned when the call ends;
the shortfall is the estimation error. The consumer learns the quantiles by kind.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.config.config import Config
from gateway.config.derive import asked_targets, refs_of_model
from gateway.config.upstreams import TargetRef
from gateway.core.errors import StreamDown
from gateway.core.exchange import Target
from gateway.core.output_tokens import OUTPUT_LIMITS, SHARED_NAME, Tables, kind_of, tables_from_json
from gateway.core.plan import Plan
from gateway.core.prices import Price, Prices
from gateway.proxy.request.call import Call
from gateway.proxy.request.output_limit import LIMIT_NAMES, NESTED, answers_of, output_limit

FIRST_OUTPUT = 1000.0
"""Tokens reserved for the output of a model of which no call has ended yet."""
_UP, _DOWN = 1.094, 0.99  # 9 steps down and 1 up lead back to where they began, so 90 % of the values lie below
_LEAST = 16.0
_SEVERAL = frozenset({"completions", "chat_batch", "generate", "generate_content"})
"""APIs that may have several prompts, or ask for several answers under a name of their own."""
NANO_PER_MTOK = 1000.0
"""USD per million tokens → 1e-9 USD per token."""


@dataclass(slots=True)
class ModelEstimate:
    """The usual usage of calls of one model (an alias)."""

    input_nano: float
    """1e-9 USD per input token, at the dearest target."""
    output_nano: float
    unpriced: str | None
    """A target without a known price; None if all have one."""
    gpu_input_nano: float = 0.0
    """1e-9 GPU-seconds per input token, at the target that takes the most."""
    gpu_output_nano: float = 0.0
    lacks_gpu: str | None = None
    """An engine without a known price in GPU-seconds; None if all have one."""
    set_output: int = 0
    """The largest limit of an answer that one of its targets sets in place of the client's; 0 if no target does."""
    output: float = FIRST_OUTPUT
    """Output tokens that nine of ten calls stay below."""
    learned: bool = False
    by_kind: Mapping[int, int] = field(default_factory=dict)
    """Estimates by the kind of a request (core/output_tokens.py), as the consumer has learned it: all kinds, or
    none."""

    def learn(self, output_tokens: int) -> None:
        """Learns from a call. The first one counts double, since nothing else is known; each further one is a step up
        or down."""
        if not self.learned:
            self.output, self.learned = 2.0 * output_tokens, True
        elif output_tokens > self.output:
            self.output *= _UP
        else:
            self.output *= _DOWN
        if self.output < _LEAST:
            self.output = _LEAST


NO_ESTIMATE = ModelEstimate(0.0, 0.0, None)
"""The estimate of a model that is not in the config any more."""


def output_of(call: Call, estimate: ModelEstimate, size: int) -> tuple[int, bool]:
    """The tokens that all answers to a call may have together, and whether the request itself limits them.

    size: bytes of its body.
    """
    api, fields = call.api, call.fields
    if api not in LIMIT_NAMES:
        return 0, True
    most = 0
    for name in LIMIT_NAMES[api]:
        if name in fields and type(fields[name]) is int and fields[name] > most:
            most = fields[name]
    if "n_predict" in fields or api in NESTED:
        most = output_limit(api, fields)
    if not most and call.default_output is not None:
        most = call.default_output
    given = most > 0
    if not given:
        by_kind = estimate.by_kind
        most = by_kind[kind_of(size, fields, call.stream)] if by_kind else int(estimate.output)
    if most < estimate.set_output:
        most = estimate.set_output
    if "n" in fields or api in _SEVERAL:
        most *= answers_of(call)
    return most, given


def estimates_of(
    config: Config, prices: Prices, plans: Mapping[str, Plan], before: Mapping[str, ModelEstimate]
) -> dict[str, ModelEstimate]:
    """The estimate of each model. before: of the previous config, whose quantiles continue."""
    found = {}
    for alias, model in config.models.items():
        refs = refs_of_model(config, model)
        targets = {Target(t.upstream, t.model) for t in refs}
        for plan in plans.values():
            if plan.model == alias and not plan.only_shadows:
                targets |= {each for _, target in plan.candidates for each in asked_targets(config, target)}
        found[alias] = _estimate(sorted(targets, key=str), prices)
        found[alias].set_output = max(map(_set_output, refs), default=0)
        if alias in before:
            found[alias].output, found[alias].learned = before[alias].output, before[alias].learned
            found[alias].by_kind = before[alias].by_kind if config.budgets.estimate == "request" else {}
    return found


def tier_estimates_of(config: Config, prices: Prices) -> dict[str, ModelEstimate]:
    """The estimates of models whose calls may go to fallbacks with `on: [budget]`, at the prices of these."""
    found = {}
    for alias, model in config.models.items():
        refs = [ref for ref in model.fallback if "budget" in ref.on]
        if refs:
            found[alias] = _estimate(sorted({Target(r.upstream, r.model) for r in refs}, key=str), prices)
            found[alias].set_output = max(map(_set_output, refs), default=0)
    return found


def _set_output(ref: TargetRef) -> int:
    values = [ref.set.get(name) for name in OUTPUT_LIMITS]
    return max([value for value in values if type(value) is int], default=0)


def _estimate(targets: Iterable[Target], prices: Prices) -> ModelEstimate:
    by_target = {target: prices.of(target) for target in targets}
    unpriced = next((str(target) for target, price in by_target.items() if price is None), None)
    known = [price for price in by_target.values() if price is not None]
    in_gpu = [price for price in map(prices.gpu_of, by_target) if price is not None]
    return ModelEstimate(
        NANO_PER_MTOK * max((price.input for price in known), default=0.0),
        NANO_PER_MTOK * max((_output(price) for price in known), default=0.0),
        unpriced,
        NANO_PER_MTOK * max((price.input for price in in_gpu), default=0.0),
        NANO_PER_MTOK * max((price.output for price in in_gpu), default=0.0),
        next((str(target) for target in by_target if prices.lacks_gpu(target)), None),
    )


def _output(price: Price) -> float:
    return max(price.output, price.reasoning or 0.0)


log = logging.getLogger(__name__)

OUTPUTS_EVERY_S = 30.0


@dataclass
class OutputTokenPoller:
    """Keeps the estimates of the config in force up to date."""

    recall: Callable[[str], Awaitable[str | None]]
    """Reads a text of the shared state."""
    estimates: Callable[[], Mapping[str, ModelEstimate]]
    """Returns the estimates of the config in force that learn by kind, by alias."""
    _rejected: str = field(default="", init=False)

    async def look(self) -> None:
        """Reads the tables; while the stream server is unreachable, the last known ones stay in force."""
        estimates = self.estimates()
        if not estimates:
            return
        try:
            text = await self.recall(SHARED_NAME)
        except StreamDown:
            return
        tables = {} if text is None else self._read(text)
        for alias, estimate in estimates.items():
            estimate.by_kind = tables.get(alias, {})

    def _read(self, text: str) -> Tables:
        try:
            return tables_from_json(text)
        except ValueError as error:
            if text != self._rejected:
                log.warning("learned outputs cannot be read; each model's own quantile is reserved: %s", error)
            self._rejected = text
            return {}
