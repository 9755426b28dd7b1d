"""The attempts that wait at one upstream, and their order. Pure: no clock, no I/O.

First come holders with less in flight than their guaranteed share; then the classes of traffic in their order; within a
class, teams and keys by weighted fair queueing (Demers, Keshav & Shenker, SIGCOMM 1989): each has a finish tag, the
virtual time at which its next attempt would end, and the lowest is served. A flow that was idle continues at the
present virtual time, so it neither saves up turns nor owes any.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gateway.core.traffic_class import BACKGROUND, CLASSES, NORMAL

Holder = tuple[Literal["class", "team", "key"], str]
"""The owner of a weight or of a guaranteed share."""
_MOST_IDLE = 1000
_NEVER = (0.0, 0)


class Flow(NamedTuple):
    """The owner of an attempt."""

    key: str = ""
    team: str = ""
    """The team of the key; "" if it has none."""
    rank: int = NORMAL
    """Position of its class; BACKGROUND: of shadow requests and scorers."""


@dataclass(frozen=True, slots=True)
class FlowShares:
    """The shares of a full upstream, as configured."""

    weights: Mapping[Holder, float] = field(default_factory=dict)
    """Weights of teams and keys; 1 without one. The keys of a team that is not listed have each a weight of their
    own."""
    guaranteed: Mapping[Holder, float] = field(default_factory=dict)
    """Guaranteed parts of the upstream's places, each in (0, 1]."""

    def holders(self, flow: Flow) -> Iterator[Holder]:
        """The holders of guaranteed shares that an attempt counts for."""
        if not self.guaranteed:
            return
        named = (("key", flow.key), ("team", flow.team))
        yield from (holder for holder in named if holder in self.guaranteed)  # type: ignore[misc]
        if flow.rank < BACKGROUND and ("class", CLASSES[flow.rank]) in self.guaranteed:
            yield ("class", CLASSES[flow.rank])


NO_SHARES = FlowShares()


@dataclass(eq=False, slots=True)
class Waiter:
    """One waiting attempt."""

    flow: Flow
    turn: asyncio.Future[Any]
    tokens: int = 0
    """The estimated tokens of the attempt, for an upstream with a limit of tokens."""
    model: str = ""
    """The model that it asks, which its vendor may have closed."""


class _Tags:
    """The finish tags of teams, or of the keys of one team."""

    __slots__ = ("_n", "_tags", "now", "waiting")

    def __init__(self) -> None:
        self.now = 0.0
        self._n = 0
        self.waiting: Counter[Holder] = Counter()
        """Waiting attempts of each, in whatever class; none with zero."""
        self._tags: dict[Holder, tuple[float, int]] = {}
        """Virtual time of each, with the number of its change: of equal tags, the older one is served first."""

    def enter(self, name: Holder, step: float) -> None:
        """Adds a waiting attempt. step: virtual time that it takes."""
        if name not in self.waiting:
            self._set(name, max(self.now, self._tags.get(name, _NEVER)[0]) + step)
        self.waiting[name] += 1

    def leave(self, name: Holder) -> bool:
        """Removes a waiting attempt; returns whether others of the name still wait."""
        self.waiting[name] -= 1
        if not self.waiting[name]:
            del self.waiting[name]
        return name in self.waiting

    def served(self, name: Holder, step: float, *, waits: bool) -> None:
        """Advances to the end of an attempt. waits: another one of the name waits, which takes `step`."""
        tag = self._tags[name][0]
        self.now = max(self.now, tag)
        self._set(name, tag + step if waits else tag)
        if len(self._tags) > _MOST_IDLE:
            self._tags = {n: t for n, t in self._tags.items() if n in self.waiting or t[0] > self.now}

    def correct(self, name: Holder, difference: float) -> None:
        """Adds what an attempt has taken beyond its step. Time taken while nobody waits is not charged."""
        if name in self._tags:
            tag, n = self._tags[name]
            self._tags[name] = tag + difference, n
            if not self.waiting:
                self.now = max(self.now, tag + difference)

    def first(self, names: Iterable[Holder]) -> Holder:
        return min(names, key=self._tags.__getitem__)

    def _set(self, name: Holder, tag: float) -> None:
        self._n += 1
        self._tags[name] = tag, self._n


_Line = dict[Holder, dict[Holder, deque[Waiter]]]
"""Waiting attempts of one class, by team (or key without a listed team) and key."""


def _of_open_models(line: _Line, closed: Collection[str]) -> _Line:
    """The attempts of the line whose model is not closed."""
    open_line: _Line = {}
    for team, keys in line.items():
        turns = {key: deque(w for w in waiters if w.model not in closed) for key, waiters in keys.items()}
        if any(turns.values()):
            open_line[team] = {key: waiters for key, waiters in turns.items() if waiters}
    return open_line


def owner_of(name: str) -> Holder:
    """The inverse of the name that `FairQueue.owner` gives."""
    kind, _, rest = name.partition(" ")
    return (kind, rest)  # type: ignore[return-value]


class FairQueue:
    """Waiting attempts of one upstream."""

    __slots__ = (
        *("_by_team", "_in_flight", "_keys", "_lines", "_places", "_shares", "_teams", "_waiting"),
        *("factors", "models", "step"),
    )

    def __init__(self, shares: FlowShares = NO_SHARES, places: int = 1, queue: int = 1) -> None:
        """places, queue: attempts that may be in flight and may wait, of which shares are guaranteed."""
        self.step = 1.0
        """Charge of one attempt: 1 where turns are counted, seconds where time is."""
        self.factors: Mapping[Holder, float] = {}
        """Factors of weights: parts of the owners' calls that are here and not at other workers."""
        self.models: Counter[str] = Counter()
        """Waiting attempts by model; none with zero."""
        self._shares = shares
        self._lines: tuple[_Line, ...] = tuple({} for _ in range(BACKGROUND + 1))
        self._teams = _Tags()
        self._by_team: dict[Holder, _Tags] = {}
        self._places = places, queue
        self._in_flight: Counter[Holder] = Counter()
        self._waiting: Counter[Holder] = Counter()

    def push(self, waiter: Waiter) -> None:
        flow = waiter.flow
        team, key = self._names(flow)
        self._lines[flow.rank].setdefault(team, {}).setdefault(key, deque()).append(waiter)
        self._teams.enter(team, self._step(team))
        self._by_team.setdefault(team, _Tags()).enter(key, self._step(key))
        self._waiting.update(self._shares.holders(flow))
        self.models[waiter.model] += 1

    def first(self) -> Waiter:
        """The attempt whose turn it is. Raises ValueError if none waits."""
        return self._first(self._lines)

    def first_open(self, closed: Collection[str]) -> Waiter | None:
        """The attempt whose turn it is, of a model that is not closed; None if all wait for closed ones."""
        if all(model in closed for model in self.models):
            return None
        return self._first([_of_open_models(line, closed) for line in self._lines] if closed else self._lines)

    def _first(self, lines: Sequence[_Line]) -> Waiter:
        for holder in self._below_guarantee():
            waiter = self._first_of(holder, lines)
            if waiter is not None:
                return waiter
        line = next((line for line in lines if line), {})
        return self._first_in(line, line)

    def remove(self, waiter: Waiter) -> bool:
        """Takes out an attempt that is not served; returns whether it was still waiting."""
        still = self._take_out(waiter)
        if still is None:
            return False
        team, key = self._names(waiter.flow)
        for tags, name, waits in ((self._teams, team, still[0]), (self._by_team[team], key, still[1])):
            if not waits:
                tags.correct(name, -self._step(name))
        return True

    def began(self, flow: Flow, waiter: Waiter | None = None) -> float:
        """Counts an attempt that begins, and takes it out of the queue. waiter: None if it did not have to wait.
        Returns the step that its flow was charged."""
        team, key = self._names(flow)
        if waiter is None:
            tags = self._by_team.setdefault(team, _Tags())
            for known, name in ((self._teams, team), (tags, key)):
                known.enter(name, self._step(name))
                known.served(name, self._step(name), waits=known.leave(name))
        else:
            still = self._take_out(waiter) or (False, False)
            self._teams.served(team, self._step(team), waits=still[0])
            self._by_team[team].served(key, self._step(key), waits=still[1])
        self._in_flight.update(self._shares.holders(flow))
        if len(self._by_team) > _MOST_IDLE:
            self._by_team = {name: tags for name, tags in self._by_team.items() if tags.waiting}
        return self.step

    def ended(self, flow: Flow, difference: float) -> None:
        """Counts an attempt that has ended. difference: what it took beyond the step that was charged."""
        team, key = self._names(flow)
        self._teams.correct(team, difference / self._weight(team))
        if team in self._by_team:
            self._by_team[team].correct(key, difference / self._weight(key))
        self._in_flight.subtract(self._shares.holders(flow))

    def pop_for(self, flow: Flow) -> Waiter | None:
        """Removes the attempt that gives way to a new one: the newest of the key with the most waiting, of the lowest
        class first. A guaranteed share of the queue's places gives way to none.

        None if the new one must give way, since its key would have as many waiting as any other key has.
        """
        entitled = self._entitled(flow)
        for rank in range(BACKGROUND, -1 if entitled else flow.rank - 1, -1):
            lines = (turns for keys in self._lines[rank].values() for turns in keys.values())
            longest = max((t for t in lines if not self._entitled(t[-1].flow, -1)), key=len, default=None)
            if longest is None or (rank == flow.rank and len(longest) <= self._count(flow) + 1 and not entitled):
                continue
            waiter = longest[-1]
            self.remove(waiter)
            return waiter
        return None

    def owner(self, flow: Flow) -> tuple[int, str]:
        """The rank of a flow's class, and the owner of its weight."""
        kind, name = self._names(flow)[0]
        return flow.rank, f"{kind} {name}"

    def waiting(self) -> Counter[tuple[int, str]]:
        """Waiting attempts by rank and owner."""
        return Counter({
            (rank, f"{kind} {name}"): sum(map(len, keys.values()))
            for rank, line in enumerate(self._lines)
            for (kind, name), keys in line.items()
        })  # fmt: skip

    def _count(self, flow: Flow) -> int:
        team, key = self._names(flow)
        return len(self._lines[flow.rank].get(team, {}).get(key, ()))

    def _entitled(self, flow: Flow, more: int = 0) -> bool:
        """Whether a place in the queue is a guaranteed one. more: places besides those that are taken."""
        queue = self._places[1]
        return any(self._waiting[h] + more < self._shares.guaranteed[h] * queue for h in self._shares.holders(flow))

    def _below_guarantee(self) -> list[Holder]:
        """The holders with waiting attempts and less in flight than their guaranteed share, the least served first."""
        places = self._places[0]
        used = {h: self._in_flight[h] / share / places for h, share in self._shares.guaranteed.items()}
        below = [h for h, part in used.items() if part < 1 and self._waiting[h] > 0]
        return sorted(below, key=used.__getitem__)

    def _first_of(self, holder: Holder, lines: Sequence[_Line]) -> Waiter | None:
        for rank, line in enumerate(lines[:BACKGROUND]):
            if not line or (holder[0] == "class" and holder[1] != CLASSES[rank]):
                continue
            if holder[0] == "class":
                return self._first_in(line, line)
            fits = {
                team: {k: turns for k, turns in keys.items() if holder in self._shares.holders(turns[0].flow)}
                for team, keys in line.items()
            }
            fits = {team: keys for team, keys in fits.items() if keys}
            if fits:
                return self._first_in(fits, fits)
        return None

    def _first_in(self, line: _Line, teams: Iterable[Holder]) -> Waiter:
        team = self._teams.first(teams)
        return line[team][self._by_team[team].first(line[team])][0]

    def _take_out(self, waiter: Waiter) -> tuple[bool, bool] | None:
        """Whether others of its team and of its key still wait; None if it was not waiting."""
        team, key = self._names(waiter.flow)
        line = self._lines[waiter.flow.rank]
        turns = line.get(team, {}).get(key)
        if turns is None or waiter not in turns:
            return None
        turns.remove(waiter)
        self.models[waiter.model] -= 1
        if not self.models[waiter.model]:
            del self.models[waiter.model]
        if not turns:
            del line[team][key]
        if not line[team]:
            del line[team]
        self._waiting.subtract(self._shares.holders(waiter.flow))
        return self._teams.leave(team), self._by_team[team].leave(key)

    def _names(self, flow: Flow) -> tuple[Holder, Holder]:
        """The team and the key of a flow: a key without a listed team is like a team of its own."""
        key: Holder = ("key", flow.key)
        team: Holder = ("team", flow.team)
        return (team if flow.team and team in self._shares.weights else key), key

    def _weight(self, name: Holder) -> float:
        return self._shares.weights.get(name, 1.0) * self.factors.get(name, 1.0)

    def _step(self, name: Holder) -> float:
        return self.step / self._weight(name)
