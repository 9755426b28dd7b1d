"""The usage of one process since it started: cumulative sums by cell, of which each tally reports those that changed.

`UsageBooks` adds to them the usage of ended calls, and to the Prometheus series by team.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta

from gateway.core.errors import GatewayError
from gateway.core.exchange import Target, Usage
from gateway.core.prices import Price
from gateway.core.usage import NANO, UsageCell, UsageCount, UsageSums, nano_gpu_seconds, nano_usd, utc_day
from gateway.observability.fast_counters import FastCounter
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.charge import Charge
from gateway.proxy.request.call import Caller

MOST_CELLS = 2000
"""Changed cells of one tally at most: encoding 1 000 takes 1.5 ms. The others are in the next tallies."""

_NOTHING = UsageSums()


class UsageLedger:
    """The counts of this process.

    A cell is reported once it has changed. Every cell is also reported again every `again_s`, because the stream server
    may lose acknowledged entries; those of past days once more, and then they are forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.time, again_s: float = 300.0, tally_s: float = 1.0) -> None:
        """clock: Unix seconds. tally_s: a period of tallies."""
        self._clock = clock
        self._again_s = again_s
        self._tallies = max(1, round(again_s / max(tally_s, 0.001)))  # in one round
        self._sums: dict[UsageCell, UsageSums] = {}
        self._changed: dict[UsageCell, None] = {}  # in order of change
        self._round: tuple[UsageCell, ...] = ()  # reported again in this round
        self._again: deque[UsageCell] = deque()  # those that still have to be
        self._tally = 0  # periods of this round that have passed
        self._forgotten = ""  # the newest day that was forgotten

    @property
    def day(self) -> str:
        """The current day (UTC). If the clock is set back to a day whose sums were forgotten, the day after it: its own
        sums would begin again at 0, below the reported values."""
        today = utc_day(self._clock())
        if today > self._forgotten:
            return today
        return (date.fromisoformat(self._forgotten) + timedelta(days=1)).isoformat()

    def add(self, cell: UsageCell, sums: UsageSums) -> None:
        self._sums[cell] = self._sums.get(cell, _NOTHING).plus(sums)
        self._changed[cell] = None

    @property
    def changed(self) -> bool:
        """Whether a cell has changed that was not acknowledged since."""
        return bool(self._changed)

    def due(self, periods: int = 1) -> tuple[UsageCount, ...]:
        """Cells for the next tally: those that have changed, and some that are reported again. periods: of tallies that
        have passed since the last one."""
        if self._tally == self._tallies:
            self._begin_round()
        cells = dict.fromkeys([*self._changed][:MOST_CELLS])
        for _ in range(min(periods, self._tallies - self._tally)):  # the next round may forget what this one reports
            cells.update(dict.fromkeys(self._next_again()))
        return self._counts(cells)

    def due_again(self, periods: int) -> int:
        """About the number of cells that due() would report again."""
        return len(self._sums) * periods // self._tallies

    def everything(self) -> tuple[UsageCount, ...]:
        return self._counts(self._sums)

    def acknowledge(self, counts: Iterable[UsageCount]) -> None:
        """The stream server has these. A cell that has changed since then stays due."""
        for count in counts:
            if self._sums.get(count.cell) == count.sums:
                self._changed.pop(count.cell, None)

    def _counts(self, cells: Iterable[UsageCell]) -> tuple[UsageCount, ...]:
        return tuple(UsageCount(cell, self._sums[cell]) for cell in cells if cell in self._sums)

    def _begin_round(self) -> None:
        self._forget()
        self._round = tuple(self._sums)
        self._again, self._tally = deque(self._round), 0

    def _next_again(self) -> list[UsageCell]:
        """The part for one period: an even part of the rest of this round."""
        left = self._tallies - self._tally
        self._tally += 1
        return [self._again.popleft() for _ in range(-(-len(self._again) // left))]

    def _forget(self) -> None:
        """Forgets the cells of this round whose day ended, and that have been reported again since."""
        ended = utc_day(self._clock() - 2 * self._again_s - 60)
        for cell in self._round:
            if cell.day < ended and cell not in self._changed and cell in self._sums:
                del self._sums[cell]
                self._forgotten = max(self._forgotten, cell.day)


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
        """Teams that have series of their own, in this order, up to the maximum."""
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
        tags = " ".join(sorted({*caller.tags, *caller.call_tags}))
        whose = (caller.id, caller.name, caller.team or "", caller.organization or "", tags)
        self.ledger.add(UsageCell(self.ledger.day, *whose, *model, "", "", scorer, caller.person or ""), sums)
        if not scorer or caller.team is not None:
            self._count_team(self.teams.of(caller.team), sums)
        for tag in caller.call_tags:
            self._count_tag(tag, sums)

    def _count_tag(self, tag: str, sums: UsageSums) -> None:
        m, counts = self.metrics, self.metrics.counts
        counts.of(m.tag_requests, tag).n += sums.calls
        counts.of(m.tag_cost, tag).n += sums.nano_usd / NANO
        counts.of(m.tag_unpriced, tag).n += sums.unpriced_calls
        for kind, n in (("input", sums.input_tokens), ("output", sums.output_tokens)):
            counts.of(m.tag_tokens, tag, kind).n += n

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
        requests, cost, unpriced, gpu, input_, output, cached, reasoning = counters
        requests.n += sums.calls
        cost.n += sums.nano_usd / NANO
        unpriced.n += sums.unpriced_calls
        gpu.n += sums.nano_gpu_seconds / NANO
        input_.n += sums.input_tokens
        output.n += sums.output_tokens
        cached.n += sums.cached_input_tokens
        reasoning.n += sums.reasoning_tokens

    def _counters_of(self, team: str) -> tuple[FastCounter, ...]:
        m = self.metrics
        kinds = ("input", "output", "cached_input", "reasoning")
        tokens = (m.counts.of(m.team_tokens, team, kind) for kind in kinds)
        of_calls = (m.team_requests, m.team_cost, m.team_unpriced, m.team_gpu_seconds)
        plain = (m.counts.of(metric, team) for metric in of_calls)
        return (*plain, *tokens)


def sums_of(charges: Sequence[Charge]) -> UsageSums:
    """Sums the charges in one pass: on a busy gateway this runs for each call."""
    unpriced = estimated = inputs = cached = outputs = reasoning = nano = gpu = tiered = 0
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
        if charge.gpu_seconds:
            gpu += nano_gpu_seconds(charge.gpu_seconds)
        tiered += charge.tiered
    return UsageSums(len(charges), unpriced, estimated, inputs, cached, outputs, reasoning, nano, gpu, tiered)


def plain_charge(usage: Usage, price: Price | None, gpu: Price | None = None) -> Charge:
    """The charge, as `charge_of` computes it, of a call that one attempt answered with this usage. gpu: the target's
    price in GPU-seconds."""
    usd = usage.usd
    if usd is None and price is not None:
        usd = price.cost(usage)
    cached, reasoning = usage.cached_input_tokens or 0, usage.reasoning_tokens or 0
    seconds = 0.0 if gpu is None else gpu.cost(usage)
    return Charge(usage.input_tokens, cached, usage.output_tokens, reasoning, usd, False, seconds)
