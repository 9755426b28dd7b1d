"""The likely cause of a change: the provider, the prompt or config, the traffic, or the scorer. Pure.

Causes with an event of their own come first. A provider that names nothing is left when everything else that can be
seen is excluded, so the sentence says what was, and what cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.features.models.watch.cells import OTHERS
from gateway.features.models.watch.monitor import CustomerShift, Moved
from gateway.features.models.watch.series import scorer_of

Cause = Literal["provider", "config", "prompt", "traffic", "scorer"]
CONFIG_H = 1.0
"""Hours between a change of the config and the time in which the answers began to differ, at most."""
NAMED_H = 48.0
"""The same for what answers name of their origin, or a round of probes."""
_CONFINED = 0.75  # share of the deviation that one customer has
_SURE = 2.0  # standard errors
_PROMPT = 5.0  # standard errors of the prompts' length


@dataclass(frozen=True, slots=True)
class NearbyEvent:
    """An event of the deployment, with the hours between it and the time in which the answers began to differ."""

    text: str
    hours: float


@dataclass(frozen=True, slots=True)
class CauseEvidence:
    """Knowledge about the time of a change."""

    moved: Sequence[Moved]
    """The series, with the most evidence first."""
    customers: Sequence[CustomerShift] = ()
    """The deviations of the first series since then."""
    prompts: float | None = None
    """Deviation of the prompts' length since then, in standard errors."""
    named: Sequence[NearbyEvent] = ()
    """Changes that the target's answers, or its probes, named."""
    config: Sequence[NearbyEvent] = ()
    """Changes of the config, and versions of the gateway."""
    same_scorer: tuple[int, int] = (0, 0)
    """Other targets with the scorer of the first series: how many moved with it, and how many there are."""


@dataclass(frozen=True, slots=True)
class Attribution:
    cause: Cause
    because: str
    excluded: Sequence[str]
    open: Sequence[str] = ()
    """Causes that the traffic cannot tell from this one."""

    @property
    def text(self) -> str:
        """ "Probably the provider: 5 of 5 customers moved beyond chance. Excluded: the config, …"."""
        parts = [f"Probably {_NAMES[self.cause]}: {self.because}."]
        parts += [f"Excluded: {'; '.join(self.excluded)}."] if self.excluded else []
        return " ".join([*parts, *([f"Not excluded: {'; '.join(self.open)}."] if self.open else [])])


_NAMES: dict[Cause, str] = {
    "provider": "the provider",
    "config": "your config",
    "prompt": "your prompt",
    "traffic": "your traffic",
    "scorer": "your scorer",
}


def nearby(text: str, hour: float, between: tuple[float, float]) -> NearbyEvent:
    """The event of an hour, which may be a fraction. between: the hours between which the change began."""
    return NearbyEvent(text, min(hour - between[0], 0.0) + max(hour - between[1] - 1.0, 0.0))


def attribution(evidence: CauseEvidence) -> Attribution:
    cause, because = next(_causes(evidence))
    return Attribution(cause, because, list(_excluded(evidence, cause)), list(_open(evidence, cause)))


def _causes(evidence: CauseEvidence) -> Iterator[tuple[Cause, str]]:
    """Yields the causes that the evidence speaks for, the most likely first."""
    scorer = _only_scorer(evidence.moved)
    with_it, others = evidence.same_scorer
    if scorer is not None and with_it and 2 * with_it >= others:
        yield "scorer", f"only {scorer} moved, and on {with_it} of {others} other targets as well"
    for event in _within(evidence.named, NAMED_H):
        yield "provider", event.text
    for event in _within(evidence.config, CONFIG_H):
        yield "config", f"{event.text} at that time"
    alone = confined(evidence.customers)
    if alone is not None:
        yield "traffic", f"only the answers to {customer_name(alone.customer)} moved"
    if evidence.prompts is not None and abs(evidence.prompts) > _PROMPT:
        yield "prompt", f"prompts are {'longer' if evidence.prompts > 0 else 'shorter'} since then"
    yield "provider", f"{_moved_customers(evidence.customers)}, and nothing of yours changed at that time"


def _excluded(evidence: CauseEvidence, cause: Cause) -> Iterator[str]:
    with_it, others = evidence.same_scorer
    scorer = _only_scorer(evidence.moved)
    if cause != "scorer" and scorer is None:
        yield "the scorer, since not only a score moved"
    elif cause != "scorer" and others and 2 * with_it < others:
        yield f"the scorer, since {scorer} moved on {with_it} of {others} other targets"
    if cause != "provider" and not list(_within(evidence.named, NAMED_H)):
        yield "a new model that answers name"
    if cause != "config" and not list(_within(evidence.config, CONFIG_H)):
        yield "the config, unchanged at that time"
    if cause != "traffic":
        yield "the mix of customers and prompt lengths, since it is taken out"
    if cause not in ("prompt", "traffic") and evidence.prompts is not None and abs(evidence.prompts) <= _PROMPT:
        yield "prompts of another length"


def _open(evidence: CauseEvidence, cause: Cause) -> Iterator[str]:
    scorer = _only_scorer(evidence.moved)
    if cause not in ("scorer", "traffic") and scorer is not None and not evidence.same_scorer[1]:
        yield f"the scorer, since {scorer} has no other target to compare"
    if cause == "provider" and len(evidence.customers) < 2:
        yield "other prompts of the same length, since there is one customer"


def _within(events: Sequence[NearbyEvent], hours: float) -> Iterator[NearbyEvent]:
    return iter(sorted((event for event in events if abs(event.hours) <= hours), key=lambda event: abs(event.hours)))


def _only_scorer(moved: Sequence[Moved]) -> str | None:
    """The scorer, if only its score has moved."""
    scorers = {scorer_of(series.series) for series in moved}
    return scorers.pop() if len(scorers) == 1 else None


def confined(customers: Sequence[CustomerShift]) -> CustomerShift | None:
    """The customer whose answers alone have moved. None if others did as well, may have, or are not there."""
    total = sum(customer.total for customer in customers)
    sign = 1.0 if total > 0 else -1.0
    top = max(customers, key=lambda customer: sign * customer.total, default=None)
    if top is None or top.customer == OTHERS or sign * top.total < _CONFINED * sign * total:
        return None
    weight = sum(customer.weight for customer in customers) - top.weight
    if weight <= 0:
        return None
    error = sum(customer.error**2 for customer in customers if customer is not top) ** 0.5
    of_rest = (sign * (total - top.total) + _SURE * error) / weight
    return top if of_rest < 0.5 * sign * top.total / top.weight else None


def _moved_customers(customers: Sequence[CustomerShift]) -> str:
    sign = 1.0 if sum(customer.total for customer in customers) > 0 else -1.0
    moved = sum(sign * customer.total > _SURE * customer.error for customer in customers)
    return f"{moved} of {len(customers)} customers moved beyond chance"


def customer_name(name: str) -> str:
    key, _, user = name.partition("/")
    return f"a user ({user}) of the key {key}" if user else f"the key {key}"
