"""What can be done about a change of a model, or its retirement: keep it, compare it again, or switch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.core.exchange import Target, Usage
from gateway.core.prices import Prices
from gateway.core.retirements import Retirement
from gateway.core.usage import UsageSums
from gateway.reports import number_format as say

LEAST_SAVED = 0.2
"""Share of the cost that a cheaper model must save to be named."""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One way on."""

    kind: Literal["keep", "compare", "switch"]
    text: str
    command: str = ""
    """Command line that does it; "" if nothing is to be done."""

    @property
    def sentence(self) -> str:
        return f"{self.kind}: {self.text}" + (f": {self.command}" if self.command else "")


@dataclass(frozen=True, slots=True)
class ChangedModel:
    """A target of an alias that changed, or that its provider retires."""

    alias: str
    target: Target
    sums: UsageSums
    """Usage of the last days."""
    retirement: Retirement | None
    experiment: str | None
    """The experiment whose candidate it is, and which was promoted."""
    is_probed: bool


def plans_for(changed: ChangedModel, others: Iterable[Target], prices: Prices) -> Iterator[ModelPlan]:
    """others: the targets of the config, which this deployment can call."""
    if changed.retirement is None:
        yield ModelPlan(
            "keep",
            "the change is accepted; the next probes say whether it lasts" if changed.is_probed else "nothing to do",
            "gateway models probe" if changed.is_probed else "",
        )
    if changed.experiment is not None:
        text = "freeze the plan that shipped this model again, and compare with its control from zero"
        yield ModelPlan("compare", text, f"gateway ab start {changed.experiment}")
    yield from _switches(changed, others, prices)


def _switches(changed: ChangedModel, others: Iterable[Target], prices: Prices) -> Iterator[ModelPlan]:
    draft = f"gateway ab draft {changed.target}"
    successor = None if changed.retirement is None else changed.retirement.successor
    if changed.retirement is not None:
        text = f"draft the experiment against {successor or 'a successor'}, which its provider recommends"
        named = "" if successor else " --successor NAME"
        yield ModelPlan("switch", text if successor else "no successor is listed; name one", draft + named)
    cheaper = _cheaper(changed, others, prices)
    if cheaper is not None and cheaper[0].model != successor:
        target, saved = cheaper
        text = (
            f"{target} costs {say.share(saved)} less for these tokens by the list; draft the experiment that compares"
        )
        yield ModelPlan("switch", text, f"{draft} --successor {target}")


def _cheaper(changed: ChangedModel, others: Iterable[Target], prices: Prices) -> tuple[Target, float] | None:
    """The target with the smallest saving of at least LEAST_SAVED, the closest in price, and that saving."""
    sums = changed.sums
    usage = Usage(sums.input_tokens, sums.output_tokens, sums.cached_input_tokens)
    cost = prices.cost(changed.target, usage)
    if not cost:
        return None
    known = [(1.0 - usd / cost, str(of), of) for of in set(others) if (usd := prices.cost(of, usage)) is not None]
    saving = min((row for row in known if row[0] >= LEAST_SAVED and row[2] != changed.target), default=None)
    return None if saving is None else (saving[2], saving[0])
