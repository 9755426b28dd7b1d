"""Adds what ended calls have used to the process's usage, and to the Prometheus series by team."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.core.errors import GatewayError
from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price
from gateway.core.usage import NANO, UsageCell, UsageSums, nano_usd
from gateway.observability.fast_counters import FastCounter
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.charge import Charge
from gateway.proxy.recording.usage_ledger import UsageLedger
from gateway.proxy.request.call import Caller

MOST_TEAMS = 200
"""Teams with series of their own; the others share `team="other"`."""
NO_TEAM, OTHER_TEAMS = "none", "other"

PaidCall = tuple[Caller, str, Charge]
"""A call's caller, the scorer that made it ("" for none), and its cost."""


class TeamLabels:
    """The values of the label `team`, at most MOST_TEAMS and two."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    def learn(self, teams: Iterable[str]) -> None:
        """Teams that have series of their own, in this order, as long as there is room."""
        for team in teams:
            if len(self._known) < MOST_TEAMS:
                self._known[team] = None

    def of(self, team: str | None) -> str:
        if team is None:
            return NO_TEAM
        self.learn((team,))
        return team if team in self._known else OTHER_TEAMS


@dataclass(frozen=True, slots=True)
class UsageBooks:
    """The books in which the usage of one config's calls is counted."""

    ledger: UsageLedger
    metrics: ProxyMetrics
    teams: TeamLabels = field(default_factory=TeamLabels)
    scorer_keys: Container[str] = frozenset()
    """The names of the keys whose calls may say that a scorer made them."""
    _counters: dict[str, tuple[FastCounter, ...]] = field(default_factory=dict, init=False, repr=False)  # by team

    def add_calls(self, alias: str, target: Target, calls: Iterable[PaidCall]) -> None:
        """Calls of clients and scorers that ended now, all of one alias and answered by one target."""
        groups: dict[tuple[int, str], tuple[Caller, str, list[Charge]]] = {}
        for caller, scorer, charge in calls:
            group = groups.get((id(caller), scorer))
            if group is None:
                group = groups[id(caller), scorer] = (caller, scorer, [])
            group[2].append(charge)
        model = (alias, target.upstream, target.model)
        for caller, scorer, charges in groups.values():
            self._add(caller, scorer if caller.name in self.scorer_keys else "", model, sums_of(charges))

    def _add(self, caller: Caller, scorer: str, model: tuple[str, str, str], sums: UsageSums) -> None:
        whose = (caller.id, caller.name, caller.team or "", caller.organization or "", " ".join(sorted(caller.tags)))
        self.ledger.add(UsageCell(self.ledger.day, *whose, *model, "", "", scorer), sums)
        if not scorer or caller.team is not None:
            self._count_team(self.teams.of(caller.team), sums)

    @contextmanager
    def passing(self, caller: Caller, upstream: str, *, costs: bool) -> Iterator[None]:
        """A call outside the models. It counts, but not if the gateway itself refuses it; its tokens are unknown, and
        so is its cost, if it may have one. upstream: "": unknown."""
        charge = Charge(0, 0, 0, 0, None if costs else 0.0, False)
        try:
            yield
        except GatewayError:  # no upstream was reached
            raise
        except BaseException:
            self.add_calls("", Target(upstream, ""), [(caller, "", charge)])
            raise
        self.add_calls("", Target(upstream, ""), [(caller, "", charge)])

    def add_shadow(self, alias: str, target: Target, experiment: str, arm: str, charge: Charge) -> None:
        """A shadow request that has ended: its experiment pays, not the caller."""
        cell = UsageCell(self.ledger.day, "", "", "", "", "", alias, target.upstream, target.model, experiment, arm, "")
        self.ledger.add(cell, sums_of([charge]))

    def _count_team(self, team: str, sums: UsageSums) -> None:
        counters = self._counters.get(team)
        if counters is None:
            counters = self._counters[team] = self._counters_of(team)
        requests, cost, unpriced, input_, output, cached, reasoning = counters
        requests.n += sums.calls
        cost.n += sums.nano_usd / NANO
        unpriced.n += sums.unpriced_calls
        input_.n += sums.input_tokens
        output.n += sums.output_tokens
        cached.n += sums.cached_input_tokens
        reasoning.n += sums.reasoning_tokens

    def _counters_of(self, team: str) -> tuple[FastCounter, ...]:
        m = self.metrics
        kinds = ("input", "output", "cached_input", "reasoning")
        tokens = (m.counts.of(m.team_tokens, team, kind) for kind in kinds)
        plain = (m.counts.of(metric, team) for metric in (m.team_requests, m.team_cost, m.team_unpriced))
        return (*plain, *tokens)


def sums_of(charges: Sequence[Charge]) -> UsageSums:
    """Sums the charges in one pass: on a busy gateway this runs for each call."""
    unpriced = estimated = inputs = cached = outputs = reasoning = nano = 0
    for charge in charges:
        if charge.usd is None:
            unpriced += 1
        else:
            nano += nano_usd(charge.usd)
        estimated += charge.estimated
        inputs += charge.input_tokens
        cached += charge.cached_input_tokens
        outputs += charge.output_tokens
        reasoning += charge.reasoning_tokens
    return UsageSums(len(charges), unpriced, estimated, inputs, cached, outputs, reasoning, nano)


def plain_charge(usage: Usage, price: Price | None) -> Charge:
    """The charge, as `charge_of` computes it, of a call that one attempt answered with this usage."""
    usd = None if price is None else price.cost(usage)
    cached, reasoning = usage.cached_input_tokens or 0, usage.reasoning_tokens or 0
    return Charge(usage.input_tokens, cached, usage.output_tokens, reasoning, usd, False)
