"""Moves experiments forward: pairs are settled, compared, and given to the sequences in the order of the stream.

Every consumer stores what it reads; one of them, by lease, does this. All it knows stands in the store, so that it may
be killed at any moment and another goes on: with the same pairs, in the same order, to the same intervals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import orjson

from gateway.core.chunked import chunked
from gateway.core.completion import completion_of
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange
from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.evals.experiments.advance import LEASE, LeaseHolder, LeaseLost, advance, keep_ratio
from gateway.evals.experiments.gauge_values import figures_of
from gateway.evals.scoring.registry import RegisteredPair
from gateway.evals.scoring.run import run_scorer
from gateway.evals.scoring.threads import ScoringThreads
from gateway.evals.scoring.types import Pair, Subject
from gateway.evals.store.experiments.pairs import Row, SettledPair, add_pair_scores, settled_pairs, stored_exchanges
from gateway.evals.store.experiments.plans import StoredPlan, hold_lease, release_lease, save_plans, stored_plans
from gateway.evals.store.experiments.queries import known_pair_scores
from gateway.evals.store.store import Store, StoreDown
from gateway.observability.experiment_metrics import ExperimentFigures
from gateway.stream import Corridor

log = logging.getLogger(__name__)
DEADLINE_S = 600.0  # of a plan that names none: the longest that a route waits
SLACK_S = 30.0  # for a record's way through the recorder into the stream


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """keep_s: a lease is somebody else's after so long without a sign of life. window: pairs of one transaction.
    at_once: pairs that are compared at the same time. show_s: how often the figures are worked out anew."""

    every_s: float = 1.0
    show_s: float = 5.0
    keep_s: float = 15.0
    window: int = 256
    at_once: int = 8


class ExperimentEngine:
    """One consumer's part in experiments. clock: Unix time in seconds. leads: whether it had the lease at its last
    step. figures: for Prometheus, while it leads; none otherwise, so that one consumer alone shows them."""

    def __init__(
        self,
        store: Store,
        corridor: Corridor,
        scorers: Mapping[str, RegisteredPair],
        threads: ScoringThreads,
        cadence: EngineTiming | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._corridor = store, corridor
        self._scorers = scorers
        self._threads = threads
        self._cadence = cadence or EngineTiming()
        self._clock = clock
        self._turn = asyncio.Semaphore(self._cadence.at_once)
        self._told = False
        self._shown_at = 0.0
        self.leads = False
        self.figures: tuple[ExperimentFigures, ...] = ()

    async def run(self, name: str, stopping: asyncio.Event) -> None:
        """Until stopping is set; then once more, and the lease is given back. Survives stream server and store."""
        while True:
            last = stopping.is_set()
            await self._survive(name)
            if last:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._cadence.every_s):
                    await stopping.wait()
        with contextlib.suppress(StoreDown):
            await self._store.run(lambda connection: release_lease(connection, LEASE, name))

    async def _survive(self, name: str) -> None:
        try:
            await self.step(name)
        except (StreamDown, StoreDown):
            return  # told by whoever reads; the next round tries again
        except Exception:  # a plan that breaks this must not end the scoring of everything else
            if not self._told:
                log.exception("experiments: a step failed; it is tried again")
            self._told = True

    async def step(self, name: str) -> bool:
        """Everything that can be settled now. False: another consumer does it."""
        leader = LeaseHolder(name, self._cadence.keep_s)
        await self._keep_plans()
        self.leads = await self._store.run(lambda c: hold_lease(c, LEASE, name, self._clock(), leader.keep_s))
        watermark = await self._corridor.watermark() if self.leads else None
        if watermark is not None:
            for plan in await self._store.run(stored_plans):
                while await self._window(leader, plan, watermark):
                    pass
                if plan.plan.mode != "shadow" and plan.state == "running":
                    await self._store.run(lambda c, plan=plan: keep_ratio(c, plan, self._clock()))  # type: ignore[misc]
        await self._show()
        return self.leads

    async def _show(self) -> None:
        now = self._clock()
        if not self.leads:
            self.figures = ()
        elif now - self._shown_at >= self._cadence.show_s:
            self._shown_at = now
            self.figures = await self._store.look(lambda connection: figures_of(connection, now))

    async def _keep_plans(self) -> None:
        states = await self._corridor.state.plans()
        if states:
            await self._store.run(lambda c: save_plans(c, states.values(), self._clock()))

    async def _window(self, leader: LeaseHolder, plan: StoredPlan, watermark: str) -> bool:
        """The next pairs of one plan. Returns whether there may be more."""
        deadline_ms = int(1000 * ((plan.plan.deadline_s or DEADLINE_S) + SLACK_S))
        most = self._cadence.window
        found = await self._store.run(lambda c: settled_pairs(c, plan.hash, watermark, deadline_ms, most))
        if not found:
            return False
        await self._compare(leader, plan, found)
        try:
            await self._store.run(lambda c: advance(c, leader, plan, found, self._clock()))
        except LeaseLost:
            self.leads = False
            return False
        return len(found) == most

    async def _compare(self, leader: LeaseHolder, plan: StoredPlan, found: Sequence[SettledPair]) -> None:
        """Asks every pair scorer about every pair that it has not judged yet; what it says is stored at once, so that a
        judge is asked once, whoever leads."""
        if not self._scorers:
            return
        there = await self._store.run(lambda c: known_pair_scores(c, [pair.id for pair in found]))
        ids = [i for pair in found for i in (pair.id, *pair.arms.values()) if i is not None]
        exchanges = await self._store.run(lambda c: stored_exchanges(c, ids))
        subjects = {i: _subject(e) for i, e in exchanges.items()}
        jobs = [
            partial(self._opinion, plan, name, arm, subjects[pair.id], subjects[other])
            for pair in found
            if pair.id in subjects
            for arm, other in pair.arms.items()
            if other in subjects
            for name, registered in self._scorers.items()
            if (pair.id, arm, name, registered.scorer.version, registered.config_hash) not in there
            and _drawn(registered, name, subjects[pair.id].exchange)
        ]
        for chunk in chunked(jobs, 4 * self._cadence.at_once):
            rows = await asyncio.gather(*(job() for job in chunk))
            await self._store.run(lambda c, rows=rows: add_pair_scores(c, rows))  # type: ignore[misc]
            await self._store.run(lambda c: hold_lease(c, LEASE, leader.holder, self._clock(), leader.keep_s))

    async def _opinion(self, plan: StoredPlan, name: str, arm: str, served: Subject, other: Subject) -> Row:
        registered = self._scorers[name]
        pair = Pair(served, other, "a" if draw(f"first:{name}", served.exchange.id + arm) < 0.5 else "b")
        certain = _certain(registered, served.exchange, other.exchange)
        if certain is not None:
            result = ScoreResult(
                name, registered.scorer.version, registered.config_hash, "scored", None, "failed", 0.0, 1.0
            )
        else:
            async with self._turn:
                result = await run_scorer(name, registered, lambda: registered.scorer.compare(pair), self._threads)
        return _row(plan, arm, pair, registered, result, certain, self._clock())


def _drawn(registered: RegisteredPair, name: str, served: Exchange) -> bool:
    """By the served exchange's unit, so that all arms of a pair are judged or none."""
    return registered.share >= 1 or draw(f"score:{name}", served.unit) < registered.share


def _certain(registered: RegisteredPair, a: Exchange, b: Exchange) -> float | None:
    """What stands for an arm that failed: the largest distance, or the preference for the other. None: ask."""
    lost, won = (e.outcome != "ok" or e.status >= 400 for e in (b, a))
    if not lost and not won:
        return None
    if registered.scorer.direction == "minimise":
        return 1.0
    return 0.5 if lost and won else float(won)


def _subject(exchange: Exchange) -> Subject:
    try:
        request = orjson.loads(exchange.request)
    except orjson.JSONDecodeError:
        request = {}
    return Subject(exchange, request if isinstance(request, dict) else {}, completion_of(exchange))


def _row(
    plan: StoredPlan,
    arm: str,
    pair: Pair,
    registered: RegisteredPair,
    result: ScoreResult,
    certain: float | None,
    now: float,
) -> Row:
    scorer, score, spent = registered.scorer, result.score, result.spent
    identity = (pair.a.exchange.id, arm, result.scorer, result.version, result.config_hash)
    detail: dict[str, Any] = dict(score.detail) if score is not None else {}
    value = certain if score is None else float(score.value)
    text = result.explanation
    return {
        "score_id": str(uuid5(NAMESPACE_OID, "\0".join(identity))),
        "pair": pair.a.exchange.id, "arm": arm, "exchange_id": pair.b.exchange.id,
        "experiment": plan.plan.name, "plan": plan.hash,
        "scorer": result.scorer, "version": result.version, "config_hash": result.config_hash,
        "kind": scorer.kind, "direction": scorer.direction, "status": result.status, "value": value,
        "label": None if score is None else score.label, "explanation": text and text.replace("\0", "\ufffd"),
        "detail": orjson.dumps(detail).decode() if detail else None,
        "standard_error": None if score is None else score.standard_error,
        "cost_usd": spent.cost_usd if spent else None, "judge_model": spent.judge_model if spent else None,
        "tokens": spent.tokens if spent else None, "seconds": result.seconds, "created": now,
    }  # fmt: skip
