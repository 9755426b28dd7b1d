"""Reports of gateways about a candidate's circuit breaker, and outcomes that are read too late for a step. Pure.

The consumer may be minutes behind with records; heartbeats come every two seconds. They therefore hold or roll back a
failing candidate, whatever the records say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.json_values import as_list
from gateway.core.ramp import RampDesign
from gateway.stream.types import Lag

FAILING_S = 30.0  # of probes that fail, after which the candidate is taken back, with any number of callers
FAILING_TOGETHER_S = 10.0  # the same where the calls of two callers fail: longer than a restart takes
FRESH_S = 15.0  # a gateway that has not reported for this long is lost
GONE_S = 120.0  # a lost gateway that has not reported for this long has ended
UNREAD_S = 10.0  # no step is taken while outcomes are read later than this
_SCORED_WITHIN = 0.25  # of the soak time; no step is taken while scores come later


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """The circuit breakers of one candidate, over all gateway processes."""

    processes: int = 0  # that send nobody to the candidate now
    open: int = 0  # of these, those whose breaker is open
    again: bool = False  # one of them has opened again soon after it had closed
    failing_s: float = 0.0  # of the longest one that is open or was again: from its first opening to the last failure
    callers: int = 0  # whose calls failed

    @property
    def broken(self) -> str | None:
        """The reason to roll the candidate back; None if there is none yet."""
        if not (self.open or self.again):
            return None
        if self.failing_s >= FAILING_S:
            return f"{self._state}, and its probes have failed for {self.failing_s:.0f} s (most: {FAILING_S:g} s)"
        if self.callers >= 2 and self.failing_s >= FAILING_TOGETHER_S:
            return f"{self._state}: the calls of {self.callers} callers have failed for {self.failing_s:.0f} s"
        return None

    @property
    def holds(self) -> str | None:
        """Reason why no step can be taken now; None if there is none."""
        return f"{self._state}, which send nobody to it" if self.processes else None

    @property
    def _state(self) -> str:
        state = "is open" if self.open else "opens again and again" if self.again else "was open a moment ago"
        in_processes = f"{self.processes} gateway process" + ("" if self.processes == 1 else "es")
        return f"the candidate's circuit breaker {state} in {in_processes}"


def breakers_of(beats: Iterable[Mapping[str, Any]], experiment: str, plan: str, now: float) -> BreakerReport:
    """The report of a plan's candidate from the newest heartbeats. plan: its hash. now: Unix seconds."""
    found = list(_reports(beats, experiment, plan, now))
    opened = [each for each in found if each.get("open") is True]
    again = [each for each in found if _number(each, "openings") > 1]
    failing_s = max((_number(each, "failing_s") for each in (*opened, *again)), default=0.0)
    callers = {str(who) for each in (*opened, *again) for who in as_list(each.get("callers"))}
    return BreakerReport(len(found), len(opened), bool(again), failing_s, len(callers))


def late(lag: Lag, design: RampDesign) -> str | None:
    """Reason why outcomes or scores are too old for a step; None if they are not."""
    if lag.unread_s > UNREAD_S:
        return f"late: the consumers are {lag.unread_s:.0f} s behind with reading outcomes (most: {UNREAD_S:g} s)"
    most = max(UNREAD_S, _SCORED_WITHIN * design.soak_s)
    if lag.oldest_s > most:
        return f"late: scores come {lag.oldest_s:.0f} s after their answers (most: {most:.0f} s, a quarter of the soak)"
    return None


def lost_gateways(beats: Iterable[Mapping[str, Any]], now: float) -> int:
    """The number of gateways that stopped reporting a short time ago."""
    return sum(FRESH_S < now - float(beat.get("at", now)) < GONE_S for beat in beats)


def _reports(beats: Iterable[Mapping[str, Any]], experiment: str, plan: str, now: float) -> Iterator[Mapping[str, Any]]:
    for beat in beats:
        candidates = beat.get("candidates")
        report = candidates.get(experiment) if isinstance(candidates, Mapping) else None
        fresh = now - float(beat.get("at") or 0.0) < FRESH_S
        if fresh and isinstance(report, Mapping) and report.get("plan") == plan:
            yield report


def _number(report: Mapping[str, Any], name: str) -> float:
    found = report.get(name)
    return float(found) if isinstance(found, int | float) else 0.0
