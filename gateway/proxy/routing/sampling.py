"""Decides which calls are recorded, and with which probability π. Pure: the same unit gets the same u in every process.

Head rules are evaluated with the route, tail rules when the call has ended. π is the largest rate of all rules that
match, and the stratum is the rule that gave it, so that π is constant within a stratum.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from gateway.config.config import Sampling, SamplingRule
from gateway.core.exchange import Outcome
from gateway.core.randomization import draw
from gateway.proxy.request.call import Call

_MOST_KEYS = 10_000
DEFAULT = "default"
FORCED = "forced"
GUARD = "guard"
"""Begins the strata of calls that are recorded because of a guard's result (`guards.NAME.record`); its name follows."""


class SampleDraw(Struct, frozen=True):
    """The draw of one unit, and the result of the head rules."""

    unit: str
    u: float
    rate: float
    """The highest rate of the head rules that match."""
    stratum: str
    """The rule that gave the rate."""
    max_rate: float
    """The highest rate that can still apply: with u at or above it, the answer need not be held."""
    run_rate: float | None = None
    """Rate at which the call's whole run is recorded, with runs as the unit; `rate` is then that of its scoring."""
    reason: str | None = None
    """Reason why the call is outside the sampled population: "opted_out" or "forbidden"; None if it is inside."""

    @property
    def recordable(self) -> bool:
        return self.reason is None and self.u < self.max_rate


@dataclass(frozen=True, slots=True)
class CallEnding:
    """The end of a call: the input of tail rules."""

    outcome: Outcome
    finish_reason: str | None
    total_s: float
    first_token_s: float | None


class Sampler:
    """The sampling policy of one config."""

    def __init__(self, policy: Sampling) -> None:
        named = [(rule.name or f"rule{i}", rule) for i, rule in enumerate(policy.rules)]
        self._head = [(name, rule) for name, rule in named if rule.when.head]
        self._tail = [(name, rule) for name, rule in named if not rule.when.head]
        self._rate = policy.rate
        self._by_conversation = policy.unit == "conversation"
        self._by_run = policy.unit == "run"
        self._rules = policy.rules
        self._run_rates: dict[str, float] = {}  # by key
        self.reads_ending = bool(self._tail)
        self.reads_finish = any(rule.when.finish_reason is not None for _, rule in self._tail)
        self.strata = (DEFAULT, FORCED, *(name for name, _ in named))

    def head(self, call: Call, requested: str | None = None) -> SampleDraw:
        """requested: "always" or "never", from a header, if the key allows it."""
        unit = call.conversation if self._by_conversation and call.conversation else call.id
        if self._by_run:
            return self._head_of_run(call, requested)
        if not call.caller.sampled or requested == "never":
            reason = "opted_out" if not call.caller.sampled else "forbidden"
            return SampleDraw(unit, 1.0, 0.0, DEFAULT, 0.0, reason=reason)
        if requested == "always":
            return SampleDraw(unit, 0.0, 1.0, FORCED, 1.0)
        u = draw("sample", unit)
        if not (self._head or self._tail):
            return SampleDraw(unit, u, self._rate, DEFAULT, self._rate)
        rate, stratum = self._head_rate(call)
        reach = (_reach(rule) for _, rule in self._tail if rule.rate > rate and _head_matches(rule, call))
        return SampleDraw(unit, u, rate, stratum, max([rate, *reach]))

    def _head_rate(self, call: Call) -> tuple[float, str]:
        """The highest rate of the head rules that match, and the rule's stratum."""
        rate, stratum = self._rate, DEFAULT
        for name, rule in self._head:
            if rule.rate > rate and _head_matches(rule, call):
                rate, stratum = rule.rate, name
        return rate, stratum

    def _head_of_run(self, call: Call, requested: str | None) -> SampleDraw:
        """The draw of a run, which is recorded whole: at the highest rate of all rules that name no key or this one."""
        unit, key = call.id if call.run is None else call.run.key, call.caller.name
        if not call.caller.sampled or requested == "never":
            reason = "forbidden" if call.caller.sampled else "opted_out"
            return SampleDraw(unit, 1.0, 0.0, DEFAULT, 0.0, reason=reason)
        if requested == "always":
            return SampleDraw(unit, 0.0, 1.0, FORCED, 1.0)
        run_rate = self._run_rates.get(key)
        if run_rate is None:
            run_rate = max([self._rate, *(rule.rate for rule in self._rules if rule.when.key in (None, key))])
            if len(self._run_rates) < _MOST_KEYS:
                self._run_rates[key] = run_rate
        rate, stratum = self._head_rate(call)
        return SampleDraw(unit, draw("sample", unit), rate, stratum, run_rate, run_rate)

    def tail(self, drawn: SampleDraw, call: Call, ending: CallEnding) -> tuple[float, str]:
        """The highest rate of all rules that match, once the call has ended, and the rule's stratum."""
        rate, stratum = drawn.rate, drawn.stratum
        if drawn.reason is None:
            for name, rule in self._tail:
                if rule.rate > rate and _head_matches(rule, call) and _tail_matches(rule, ending):
                    rate, stratum = rule.rate, name
        return rate, stratum


def _reach(rule: SamplingRule) -> float:
    """The u below which an answer is held for this tail rule.

    1 for a rule on the finish reason, which is read from the answer: it decides the stratum of unsampled calls too, and
    those are counted.
    """
    return rule.rate if rule.when.finish_reason is None else 1.0


def _head_matches(rule: SamplingRule, call: Call) -> bool:
    when = rule.when
    return (
        when.alias in (None, call.alias)
        and when.key in (None, call.caller.name)
        and when.api in (None, call.api)
        and when.stream in (None, call.stream)
    )


def _tail_matches(rule: SamplingRule, ending: CallEnding) -> bool:
    when = rule.when
    if when.outcome == "error":
        if ending.outcome not in ("upstream_error", "timeout", "cut"):
            return False
    elif when.outcome not in (None, ending.outcome):
        return False
    if when.finish_reason not in (None, ending.finish_reason):
        return False
    if when.min_total_s is not None and ending.total_s < when.min_total_s:
        return False
    return when.min_first_token_s is None or (ending.first_token_s or 0.0) >= when.min_first_token_s
