"""Ceilings of runs: what the calls of one task of an agent may use together. Pure.

A run belongs to its key, so a ceiling of a team, a person or an organization bounds each run of its keys, and the
smallest amount of all of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

from gateway.core.limits import Limit, LimitScope, Measure

OnEnd = Literal["stop", "tier", "ask"]
RunOutage = Literal["bounded", "closed"]
NEAR_END = 0.8
"""Share of a ceiling from which answers say what is left, and a person may add to it."""
RUN_LIFE_S = 86_400.0
"""Time without a call after which a run's ceiling begins again."""
COUNTED: Mapping[str, Measure] = {"usd": "usd", "tokens": "tokens", "calls": "requests"}
"""The amounts of a ceiling that are counted call by call, and their measures."""
ENDLESS = 10**15
"""Calls that are counted so that the first one is known, without an end."""


class RunAmount(NamedTuple):
    """An amount of US dollars, tokens or calls, and what happens once it is used up."""

    amount: float
    on_end: OnEnd = "stop"
    tier_usd: float = 0.0
    """Dollars that the cheaper tier may use after it."""


class RunBudget(NamedTuple):
    """The ceiling that a call itself asks for; None: no such ceiling."""

    usd: float | None = None
    tokens: float | None = None
    calls: float | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class RunCeiling:
    """The ceilings of one run. Comparable: it is part of a caller's identity."""

    usd: RunAmount | None = None
    tokens: RunAmount | None = None
    calls: RunAmount | None = None
    minutes: float | None = None
    """Minutes from the first call on."""
    minutes_on_end: OnEnd = "stop"
    loops: int | None = None
    """Equal tool calls with equal results in a row that end the run."""
    on_outage: RunOutage = "bounded"
    require: bool = False
    """Refuse calls without a run."""

    def __bool__(self) -> bool:
        return self != NO_CEILING

    def with_smaller(self, other: RunCeiling) -> Self:
        """Both ceilings at once: the smaller of each amount, the stricter of each rule."""
        amounts = {name: _smaller(getattr(self, name), getattr(other, name)) for name in _AMOUNTS}
        closed = "closed" in (self.on_outage, other.on_outage)
        return replace(
            self,
            **amounts,
            minutes_on_end=self._minutes_on_end(other),
            on_outage="closed" if closed else "bounded",
            require=self.require or other.require,
        )

    def _minutes_on_end(self, other: RunCeiling) -> OnEnd:
        """The rule at the end of the fewer minutes of both; of equal ones, `ask` before `stop`."""
        both = [(each.minutes, each.minutes_on_end) for each in (self, other) if each.minutes is not None]
        return min(both)[1] if both else "stop"

    def asked(self, budget: RunBudget) -> Self:
        """The ceiling of a call that asks for less. A ceiling of its own ends the run."""
        usd, tokens, calls = (None if n is None else RunAmount(n) for n in (budget.usd, budget.tokens, budget.calls))
        return self.with_smaller(RunCeiling(usd, tokens, calls, budget.minutes, on_outage=self.on_outage))

    def on_end(self, measure: Measure) -> OnEnd:
        """The rule at the end of the ceiling of this measure."""
        part = {"usd": self.usd, "tokens": self.tokens, "requests": self.calls}.get(measure)
        return "stop" if part is None else part.on_end

    def limits(self) -> tuple[Limit, ...]:
        """The limits that count call by call. With `minutes` alone they count calls, so that the first one is known."""
        amounts = {measure: getattr(self, name) for name, measure in COUNTED.items()}
        counted = [
            Limit(measure, part.amount, "run", on_outage=self.on_outage)
            for measure, part in amounts.items()
            if part is not None
        ]
        if self.minutes is not None and not counted:
            counted.append(Limit("requests", ENDLESS, "run", on_outage=self.on_outage))
        return tuple(counted)

    def tier(self) -> Self | None:
        """The ceiling of the cheaper tier once the dollars are used up; None if these end the run."""
        if self.usd is None or self.usd.on_end != "tier":
            return None
        return replace(self, usd=RunAmount(self.usd.tier_usd), tokens=None, calls=None, minutes=None, loops=None)

    def without_usd(self) -> Self:
        return replace(self, usd=None)


NO_CEILING = RunCeiling()
_AMOUNTS = ("usd", "tokens", "calls", "minutes", "loops")


def _smaller(one: Any, other: Any) -> Any:
    """The smaller of two amounts; None means no limit."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def ceiling_of(settings: Mapping[str, Any] | None, on_outage: RunOutage = "bounded") -> RunCeiling:
    """The ceiling in a mapping such as `{"usd": 0.5, "calls": 200}`, which config.limits.RunLimits has validated."""
    amounts = {name: value for name, value in (settings or {}).items() if value is not None}
    on_end: OnEnd = amounts.get("on_end", "stop")
    tier_usd = amounts.get("tier_usd", amounts.get("usd", 0.0))
    usd, tokens, calls = (None if name not in amounts else RunAmount(float(amounts[name]), on_end) for name in COUNTED)
    if on_end == "tier":
        usd, tokens, calls = (None if n is None else n._replace(on_end="stop") for n in (usd, tokens, calls))
        usd = None if usd is None else usd._replace(on_end="tier", tier_usd=float(tier_usd))
    outage: RunOutage = amounts.get("on_outage", on_outage)
    asks: OnEnd = "ask" if on_end == "ask" and "minutes" in amounts else "stop"
    ceiling = RunCeiling(usd, tokens, calls, amounts.get("minutes"), asks, amounts.get("loops"))
    require = bool(amounts.get("require"))
    return replace(ceiling, on_outage=outage, require=require) if ceiling or require else NO_CEILING


def run_scope(run: str, ceiling: RunCeiling, part: str = "", label: str = "") -> LimitScope:
    """The scope of one run.

    run: exchange.run_key. part: "model/chat" or "tag/project=x" of a ceiling of such calls, or "tier". label: name of
    the run for people.
    """
    return LimitScope("run", f"{run}/{part}" if part else run, ceiling.limits(), label)
