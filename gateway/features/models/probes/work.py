"""Asks the probes of each target when they are due, in one of the consumers, and stores an event for a change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from gateway.config.config import Config
from gateway.config.derive import prices_of
from gateway.config.scorers import EvalsConfig
from gateway.config.watch import SAMPLED, WatchConfig
from gateway.core.errors import CannotRun
from gateway.features.models import rows
from gateway.features.models.probes.asking import DEADLINE_S, NAME, RoundPlan, ask_round
from gateway.features.models.probes.comparison import error_level, judged
from gateway.features.models.probes.model import ProbedTarget, ProbeRequest, ProbeRound, month_of
from gateway.features.models.probes.requests import fixed_requests
from gateway.features.models.probes.sampled import sampled_requests
from gateway.features.models.probes.targets import probed_targets
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.scoring.asker import Asker
from gateway.scoring.http_client import GatewayClient, HttpConnections
from gateway.store.engine import Transaction
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.query import Reading, reading, writing

EVERY_S = 60.0
SOON_S = 3600.0
"""Seconds until a target is asked again after a gap or a suspicion."""
_LEASE = "model probes"


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes of a config: what is asked, of whom."""

    config: Config
    watch: WatchConfig
    targets: Sequence[ProbedTarget]

    @property
    def level(self) -> float:
        return error_level(len(self.targets), self.watch.every_s)

    def plan(self, connection: Reading, of: ProbedTarget, now: float) -> RoundPlan:
        """The next round of a target. Raises CannotRun for a file that cannot be used."""
        requests = self.requests(connection, of)
        left = self.watch.usd_per_month - rows.spent_on_probes(connection, month_of(now))
        return RoundPlan(of, requests, self.watch.repeats, left, now)

    def requests(self, connection: Reading, of: ProbedTarget) -> list[ProbeRequest]:
        """Raises CannotRun for a file that cannot be used."""
        if self.watch.probes != SAMPLED:
            return fixed_requests(self.watch, self.config.directory)
        past = rows.probe_rounds_of(connection, str(of.target))
        return sampled_requests(connection, self.config, of.alias, past[-1] if past else None)

    def due(self, newest: Mapping[str, ProbeRound], now: float) -> ProbedTarget | None:
        """The target that waits longest, if one is due."""
        waiting = [(self._due_at(newest.get(str(of.target))), at) for at, of in enumerate(self.targets)]
        first, at = min(waiting, default=(float("inf"), 0))
        return self.targets[at] if first <= now else None

    def _due_at(self, newest: ProbeRound | None) -> float:
        if newest is None:
            return 0.0
        soon = newest.result in ("gap", "suspected")
        return newest.asked + (min(SOON_S, self.watch.every_s) if soon else self.watch.every_s)


def probes_of(config: Config) -> Probes | None:
    watch = config.watch
    return None if watch is None or watch.probes is None else Probes(config, watch, probed_targets(config))


def asker_of(config: Config, evals: EvalsConfig, connections: HttpConnections) -> Asker:
    client = GatewayClient(evals.base_url, evals.api_key, connections) if evals.base_url else None
    return Asker(client, prices_of(config), None, DEADLINE_S, NAME)


def conclude(connection: Transaction, asked: ProbeRound, level: float) -> ProbeRound:
    """Compares a round with the stored ones, and stores it and the event of a change. Returns it with its result."""
    done = judged(asked, rows.probe_rounds_of(connection, asked.target), level) if asked.is_usable else asked
    rows.store_probe_round(connection, done)
    if done.result == "changed":
        add_events(connection, [probe_event(done)])
    return done


def probe_event(of: ProbeRound) -> DeploymentEvent:
    digest = sha256(of.target.encode()).hexdigest()[:16]
    text = f"{of.alias}, {of.target}: probes get other answers, twice in a row: {of.text}"
    return DeploymentEvent(f"model:probe:{digest}:{int(of.asked)}", of.asked, "model", f"{of.alias} {of.target}", text)


async def ask_all(probes: Probes, evals: EvalsConfig, store: str, say: Callable[[str], None]) -> list[ProbeRound]:
    """Asks every target once, whether it is due or not. store: its URL. say: gets the name of each target."""
    done = []
    async with HttpConnections() as connections:
        asker = asker_of(probes.config, evals, connections)
        for of in probes.targets:
            say(f"asking {of.target}")
            with reading(store) as connection:
                plan = probes.plan(connection, of, time.time())
            asked = await ask_round(asker, plan, _no_lease)
            with writing(store) as connection:
                done.append(conclude(connection, asked, probes.level))
    return done


async def _no_lease() -> None:
    """A command has no lease to renew."""


class ProbeKeeper:
    """Asks one target at a step."""

    def __init__(self, worker: TaskWorker, probes: Probes, asker: Asker) -> None:
        self._worker, self._probes, self._asker = worker, probes, asker
        self._store, self._clock = worker.store, worker.clock

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.ask_next, EVERY_S, "no probes are asked now")

    async def ask_next(self) -> ProbeRound | None:
        """Asks the target that is due. None if none is, or another consumer asks."""
        if not await self._alive():
            return None
        now = self._clock()
        of = self._probes.due(await self._store.look(rows.newest_probe_rounds), now)
        if of is None:
            return None
        asked = await self._asked(of, now)

        def store(connection: Transaction) -> ProbeRound:
            return conclude(connection, asked, self._probes.level)

        return await self._store.run(store)

    async def _asked(self, of: ProbedTarget, now: float) -> ProbeRound:
        try:
            plan = await self._store.look(lambda connection: self._probes.plan(connection, of, now))
        except CannotRun as error:
            empty = RoundPlan(of, (), self._probes.watch.repeats, 0.0, now).empty()
            return replace(empty, result="gap", text=str(error))
        return await ask_round(self._asker, plan, self._alive)

    async def _alive(self) -> bool:
        return await self._worker.leads(_LEASE, DEADLINE_S + 3 * EVERY_S)


def probes_task(context: TaskContext) -> PeriodicWork | None:
    probes = probes_of(context.config)
    if probes is None:
        return None
    asker = asker_of(context.config, context.config.evals, context.connections)
    return ProbeKeeper(context.worker, probes, asker).periodic()
