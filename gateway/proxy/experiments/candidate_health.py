"""Whether this process may send users to the candidates of ramps: not while one is down or its circuit breaker is open.

An open breaker sets the share of its candidate to 0 at once, in this process. Shadows then serve as its probes; where
none is sent, the share returns for a moment, so that a served call is the probe. After the breaker has closed, the
share stays at 0 for a while, which doubles with each new opening, so that a candidate that fails every other minute
cannot fail the same users again and again. The consumer reads the report in the heartbeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.core.backoff import Backoff
from gateway.core.exchange import Target
from gateway.core.plan import Plan
from gateway.proxy.routing.target_state import TargetState

UNPROBED_S = 5.0  # after this time unprobed, served calls probe a breaker
HEALTHY_S = 60.0  # after this time at its share, a candidate's next failure begins a new episode
SETTLE = Backoff(first_s=5.0, most_s=60.0)
_MOST_CALLERS = 8


@dataclass(slots=True)
class _Episode:
    """The time from the first opening of a candidate's breaker until it has been healthy again for HEALTHY_S."""

    since: float  # monotonic seconds
    failed_at: float  # when a call to the candidate failed last
    open: bool = True
    openings: int = 1
    hold_until: float = 0.0  # after it has closed
    callers: set[str] = field(default_factory=set)


class CandidateHealth:
    """The candidates of ramps whose breakers have opened. It outlives configs. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved: dict[Target, Target] = {}
        self._states: dict[Target, TargetState] = {}
        self._episodes: dict[Target, _Episode] = {}
        self._recent: dict[Target, dict[str, float]] = {}  # whose calls failed before a breaker opened, and when

    def watch(self, target_state: TargetState) -> None:
        """Follows a target of the config that is in force now."""
        self._states[target_state.target] = target_state

    def follow_routes(self, moved: Mapping[Target, Target]) -> None:
        """Learns the learned routes of the config in force. moved: by the target that stands for a route, the one that
        it moves calls to: while that is down, the route is a candidate to which nobody is sent."""
        self._moved = dict(moved)

    def failed(self, target: Target, caller: str) -> None:
        """Notes a failure of the target itself. caller: whose call failed."""
        now, who, episode = self._clock(), _digest(caller), self._episodes.get(target)
        if episode is not None and self._lasts(episode, now):
            episode.failed_at = now
            if len(episode.callers) < _MOST_CALLERS:
                episode.callers.add(who)
            return
        recent = self._recent.setdefault(target, {})
        recent[who] = now
        if len(recent) > _MOST_CALLERS:
            del recent[min(recent, key=recent.__getitem__)]

    def opened(self, target: Target) -> None:
        """Notes that the target's breaker has opened, or that its upstream is down."""
        now, episode = self._clock(), self._episodes.get(target)
        if episode is None or not self._lasts(episode, now):
            recent = self._recent.pop(target, {})
            callers = {who for who, at in recent.items() if now - at <= HEALTHY_S}
            self._episodes[target] = _Episode(now, now, callers=callers)
        elif not episode.open:
            episode.open, episode.openings = True, episode.openings + 1

    def closed(self, target: Target) -> None:
        """Notes that a probe of the target has succeeded, or that its upstream is up again."""
        episode = self._episodes.get(target)
        if episode is not None and episode.open:
            episode.open, episode.hold_until = False, self._clock() + SETTLE.wait_s(episode.openings)

    def applied(self, shares: Mapping[str, float], plans: Iterable[Plan]) -> Mapping[str, float]:
        """The shares with 0 for each candidate that nobody may be sent to now. plans: in force, by the first rules too,
        whose shares stay. shares: by the plan's hash."""
        watched = [p for p in plans if p.ramp is not None and p.rules >= 2]
        found = [p.hash for p in watched if self._suspended(self._asked(p))]
        return {**shares, **dict.fromkeys(found, 0.0)} if found else shares

    def reports(self, plans: Iterable[Plan]) -> dict[str, dict[str, Any]]:
        """Reports of the candidates that are not healthy, by experiment; JSON-able. failing_s: from the first opening
        to the last failure. callers: digests of those whose calls failed."""
        found = {}
        for plan in plans:
            episode = self._episodes.get(self._asked(plan)) if plan.ramp is not None else None
            if episode is not None and (episode.open or self._clock() < episode.hold_until):
                found[plan.name] = {
                    "plan": plan.hash,
                    "open": episode.open,
                    "openings": episode.openings,
                    "callers": sorted(episode.callers),
                    "failing_s": max(0.0, episode.failed_at - episode.since),
                }
        return found

    def _asked(self, plan: Plan) -> Target:
        """The target whose health is that of the plan's candidate."""
        candidate = plan.candidates[0][1]
        return self._moved.get(candidate, candidate)

    def _suspended(self, target: Target) -> bool:
        state = self._states.get(target)
        if state is None:
            return False
        self._follow_upstream(state)
        episode = self._episodes.get(target)
        if episode is None:
            return False
        if episode.open:
            return state.upstream.down or state.breaker.unprobed_s() < UNPROBED_S
        return self._clock() < episode.hold_until

    def _follow_upstream(self, state: TargetState) -> None:
        """Follows health checks: a failed one counts like an open breaker, and a passed one ends that unless the
        breaker is open."""
        episode = self._episodes.get(state.target)
        if state.upstream.down:
            self.opened(state.target)
            self._episodes[state.target].failed_at = self._clock()
        elif episode is not None and episode.open and not state.breaker.open:
            self.closed(state.target)

    def _lasts(self, episode: _Episode, now: float) -> bool:
        return episode.open or now - episode.hold_until <= HEALTHY_S


def _digest(caller: str) -> str:
    return sha256(caller.encode("utf-8", "surrogatepass")).hexdigest()[:12]
