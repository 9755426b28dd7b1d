"""One guard of the config as it runs: its rule or its scorer, its breaker and slots, and its counts.

`Verdict` is its judgement of one call. An error of a guard becomes a failure of its verdict, and never of the call:
`if_late` decides then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config.guards import REFUSING, GuardConfig
from gateway.core.errors import NotAllowed
from gateway.core.guards import ENFORCED, GuardAction, GuardDecision, GuardFailure, GuardRamp, GuardResult
from gateway.observability.fast_counters import FastCounter
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.rules import span_rule
from gateway.proxy.guards.search import RuleHits
from gateway.proxy.request.call import Call
from gateway.proxy.routing.circuit_breaker import CircuitBreaker

log = logging.getLogger("gateway")

ACTING = ("redact", "block")
"""The actions that change an answer."""
INSTEAD = "use /v1/chat/completions, /v1/responses or /v1/messages"
"""Hint for calls of paths that guards cannot read."""
FAILING = 3
"""Failures in a row after which a guard counts as failing."""
_FOLD_AT = 256  # times that wait before they are added to the histogram, so that each costs its share of a sort


class GuardFailed(Exception):
    """A guard gave no score."""

    def __init__(self, reason: GuardFailure, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class GuardScorers(Protocol):
    """The scorers that judge for guards, in a process of their own."""

    async def ask(self, guard: str, subject: Mapping[str, Any]) -> float:
        """The score: 1 where the value is worst. Raises GuardFailed."""
        ...


class Guard:
    """Built once for each guard of a config."""

    def __init__(
        self,
        name: str,
        config: GuardConfig,
        metrics: ProxyMetrics,
        scorers: GuardScorers | None,
        ramps: Mapping[str, GuardRamp],
        clock: Callable[[], float] = time.monotonic,
        config_hash: str = "",
    ) -> None:
        """scorers: None: the gateway's own process evaluates it. ramps: by the guards' names, as last published."""
        self.name = name
        self.config = config
        self.config_hash = config_hash or config.config_hash({})
        self.rule = span_rule(config)
        self.deadline_s = config.deadline_ms / 1000
        self.trouble = ""
        """Reason why its last decisions have all failed; "" if they have not."""
        self.breaker = CircuitBreaker(clock)
        self._scorers = scorers
        self.ramps = ramps
        self._slots = asyncio.Semaphore(config.concurrency)
        self._metrics = metrics
        self._row = 0  # failures in a row
        self._counters: dict[tuple[GuardAction, GuardResult], FastCounter] = {}
        self._seconds: list[float] = []
        self._spread = metrics.counts.spread(metrics.guard_seconds, name)
        metrics.counts.batches.add(self)
        metrics.counts.set(metrics.guard_failing, 0.0, name)

    def judges(self, call: Call) -> bool:
        """Whether it judges the calls of this call's key to this model."""
        return self.config.judges(call.caller.name, call.caller.team, call.alias)

    def action_for(self, call: Call) -> GuardAction:
        """The action in force for a call: the config's, or its ramp's, by the call's conversation, key and user."""
        ramp = self.ramps.get(self.name) if self.ramps else None
        return self.config.action if ramp is None else ramp.action_of(guard_unit(call))

    def enforced_for(self, call: Call) -> bool:
        """Whether the config enforces it, or its ramp acts on the call: a unit that a ramp only flags is not
        refused."""
        return self.config.action != "observe" or self.action_for(call) in ACTING

    def counted_unit(self, call: Call) -> str:
        """The digest of the call's unit while its ramp takes its steps; "" if it takes none."""
        ramp = self.ramps.get(self.name)
        return "" if ramp is None else ramp.digest_of(f"{call.caller.name}\0{guard_unit(call)}")

    async def ask(self, subject: Mapping[str, Any]) -> float:
        """The scorer's score. Raises GuardFailed."""
        if self._scorers is None:
            raise GuardFailed("error", "it has no scorer")
        if not self.breaker.allow():
            raise GuardFailed("breaker_open")
        try:
            score = await self._in_time(self._scorers, subject)
        except GuardFailed as failed:
            if failed.reason == "busy":
                self.breaker.release_probe()
            else:
                self.breaker.record_failure()
            raise
        except BaseException:
            self.breaker.release_probe()
            raise
        self.breaker.record_success()
        return score

    async def _in_time(self, scorers: GuardScorers, subject: Mapping[str, Any]) -> float:
        waiting = True
        try:
            async with asyncio.timeout(self.deadline_s), self._slots:
                waiting = False
                score = await scorers.ask(self.name, subject)
        except TimeoutError:
            raise GuardFailed("busy" if waiting else "timeout") from None
        if not math.isfinite(score):
            raise GuardFailed("invalid", f"its score is {score}")
        return score

    def refuses_without_score(self, action: GuardAction, failure: GuardFailure) -> bool:
        """Whether a call for which it gives no score is refused, where this action is in force. No sender decides by
        the size of a text that a rule does not judge it."""
        if failure == "too_large":
            return action in REFUSING
        ramp = self.ramps.get(self.name)
        return self.config.blocks_late(action) and (ramp is None or not ramp.passes_late)

    def note_failed(self, failed: GuardFailed) -> None:
        m = self._metrics
        m.counts.of(m.guard_failures, self.name, failed.reason).n += 1
        self._row += failed.reason != "too_large"  # the sender's doing, and no trouble of the guard
        if self._row >= FAILING:
            if not self.trouble:
                decides = "block" if self.config.blocks_late(self.config.action) else "pass"
                log.warning("guard %s fails (%s); its calls %s meanwhile", self.name, failed, decides)
                m.counts.set(m.guard_failing, 1.0, self.name)
            self.trouble = str(failed)[:200]

    def note_decided(self) -> None:
        if self._row:
            self._row = 0
            if self.trouble:
                log.warning("guard %s decides again", self.name)
                self._metrics.counts.set(self._metrics.guard_failing, 0.0, self.name)
                self.trouble = ""

    def count(self, action: GuardAction, result: GuardResult, seconds: float) -> None:
        if self._row and result != "failed":
            self.note_decided()
        key = (action, result)
        if key not in self._counters:
            m = self._metrics
            self._counters[key] = m.counts.of(m.guard_decisions, self.name, self.config.on, action, result)
        self._counters[key].n += 1
        self._seconds.append(seconds)
        if len(self._seconds) >= _FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Adds the times that wait to the histogram."""
        seconds, self._seconds = self._seconds, []
        if seconds:
            self._spread.observe_all(seconds)


def guard_unit(call: Call) -> str:
    """The unit for which a guard's ramp draws: a conversation, or a key with its end user."""
    return call.conversation or f"{call.caller.name}\0{call.user or ''}"


@dataclass(slots=True)
class Verdict:
    """One guard's judgement of one call."""

    guard: Guard
    action: GuardAction
    hits: RuleHits | None
    """Hits of its rule; None if it has no rule that finds places."""
    score: float | None = None
    failure: GuardFailure | None = None
    seconds: float = 0.0
    acted: bool = False
    decided: bool = field(default=False)
    """Whether it has been counted."""
    unit: str = ""
    """The unit, as GuardDecision has it."""

    @property
    def enforced(self) -> bool:
        return self.action in ENFORCED

    @property
    def hit(self) -> bool:
        return self.score is not None and self.score >= self.guard.config.threshold

    @property
    def blocks(self) -> bool:
        """Whether the call is refused, as far as this guard has seen it."""
        if self.action == "block" and self.hit:
            return True
        return self.failure is not None and self.guard.refuses_without_score(self.action, self.failure)

    @property
    def result(self) -> GuardResult:
        if self.hit:
            return "hit"
        if self.failure is not None:
            return "failed"
        return "near" if (self.score or 0.0) >= self.guard.config.near_from else "pass"

    def fail(self, failed: GuardFailed) -> None:
        self.failure = failed.reason
        self.guard.note_failed(failed)

    def count(self) -> None:
        """Counts the decision, once for each call."""
        if not self.decided:
            self.decided = True
            self.guard.count(self.action, self.result, self.seconds)

    def decision(self) -> GuardDecision:
        hits = self.hits
        return GuardDecision(
            self.guard.name,
            self.guard.config.on,
            self.action,
            self.result,
            self.acted,
            self.score,
            self.failure,
            () if hits is None else tuple(hits.found),
            0 if hits is None else hits.matches,
            round(self.seconds, 6),
            self.guard.config_hash,
            self.unit,
        )


def clean_decision(guard: Guard, seconds: float) -> GuardDecision:
    """The decision of a rule that found nothing."""
    config = guard.config
    return GuardDecision(
        *(guard.name, config.on, config.action, "pass", False, 0.0),
        seconds=round(seconds, 6),
        config_hash=guard.config_hash,
    )


class GuardSet:
    """The guards that judge the calls of one key to one model. Built once for both."""

    __slots__ = ("answer", "every", "holds_answer", "quick", "ramps")

    def __init__(self, guards: Sequence[Guard], ramps: Mapping[str, GuardRamp]) -> None:
        self.ramps = ramps
        """The ramps in force, of all guards: while there is one, actions differ between calls."""
        self.every = tuple(guards)
        self.answer = tuple(guard for guard in guards if guard.config.on == "answer")
        self.holds_answer = any(guard.config.action in ENFORCED for guard in self.answer)
        """Whether an answer waits for a judgement, if no ramp is in force."""
        self.quick = len(self.answer) == len(self.every) and all(guard.rule is not None for guard in guards)
        """Whether all are rules on answers that the gateway's own process evaluates."""

    def refuse_unread(self, call: Call) -> None:
        """Raises NotAllowed where a guard would have to judge a call that it cannot read."""
        enforced = next((guard.name for guard in self.every if guard.enforced_for(call)), None)
        if enforced is not None:
            raise NotAllowed(
                f'the guard "{enforced}" judges the calls of this key and model, and cannot read those of this path; '
                f"{INSTEAD}",
                retry=False,
            )

    def refuse_background(self, call: Call) -> None:
        """Raises NotAllowed for a response in the background where a guard on answers acts: it is read by its id."""
        acting = (guard for guard in self.answer if guard.action_for(call) in ACTING)
        if (guard := next(acting, None)) is not None:
            raise NotAllowed(
                f'the guard "{guard.name}" judges the answers of this key and model, and cannot judge one that is made '
                "in the background; leave `background` out, or stream the answer",
                param="background",
                retry=False,
            )


def new_verdict(guard: Guard, call: Call) -> Verdict:
    action = guard.action_for(call)
    hits = None if guard.rule is None else RuleHits(guard.rule, action == "redact")
    return Verdict(guard, action, hits, unit=guard.counted_unit(call) if guard.ramps else "")


def refusing(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The first verdict that refuses the call; None if no guard does."""
    return next((verdict for verdict in verdicts if verdict.blocks), None)
