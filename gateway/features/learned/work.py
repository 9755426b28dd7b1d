"""Learning in the consumer: the predictor, trained in its turn, and the numbers of tokens that calls of each kind
produce.

One consumer at a time trains, under a lease in the store, in a child process of low priority. The numbers of tokens are
published for the reservations of limits. They are empirical quantiles with back-off: a kind with too few calls takes
the number of its kinds without the stream, then without the size, then of its alias. Calls that say `max_tokens` need
no estimate and are left out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.predictor import PredictorConfig
from gateway.core.json_values import parse_object
from gateway.core.output_tokens import (
    FORMAT,
    KINDS,
    OUTPUT_LIMITS,
    QUANTILE,
    SHARED_NAME,
    TOOLS,
    Tables,
    kind_of,
    tables_to_json,
)
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.learned.drift import DriftWatch
from gateway.features.learned.model import read_model
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.rows import CallOutput, call_outputs
from gateway.features.learned.trainer import TrainingJob, TrainingOutcome, training_job
from gateway.features.learned.trees.ensembles import InvalidModel
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.observability.eval_metrics import EvalFigures
from gateway.store.predictions import StoredModel, newest_model
from gateway.store.store import Store, StoreDown, WriteRejected
from gateway.stream.shared_state import SharedState

ARGV = (sys.executable, "-P", "-X", "utf8", "-m", "gateway.features.learned.trainer")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}  # one core for training; the child inherits nothing else
_FIRST_S = 120.0  # between looks whether there are rows enough for the first model
_LOOK_S = 15.0  # between looks for a newer model, and for a training that is due
_TRAIN_S = 900.0  # timeout of a training; the lease is held for as long
DRIFT_S = 10.0  # between looks at the newest predictions
log = logging.getLogger(__name__)


def learning_hooks(context: TaskContext) -> Hooks:
    config, scorers = context.config, context.scorers.single
    if config.predictor is None:
        return Hooks()
    predictor = Predictor(config.predictor, scorers)
    upkeep = PredictorUpkeep(context.worker, predictor, training_job(config, context.store.url, scorers))

    def current(figures: EvalFigures) -> EvalFigures:
        return replace(figures, predictor=predictor.figures())

    alarms = drift_alarms(drift_watch(config, config.predictor))
    return Hooks(before=predictor, figures=(alarms,), current=(current,), tasks={"predictor": upkeep.run})


def drift_watch(config: Config, predictor: PredictorConfig) -> DriftWatch:
    scorer = config.scorers.get(predictor.guided or "")
    share = predictor.share or (1.0 if scorer is None else scorer.share)
    return DriftWatch(predictor.key, predictor.floor(share), frozenset(config.models))


def drift_alarms(watch: DriftWatch, every_s: float = DRIFT_S) -> Figures:
    async def read(store: Store) -> ShownFigures:
        alarms = await store.run(watch.look)
        return lambda figures, _: replace(figures, drift=alarms)

    return Figures("figures of drift", every_s, read)


class TrainingFailed(Exception):
    """The process that trains ended without a result."""


class PredictorUpkeep:
    """Loads and trains models."""

    def __init__(self, worker: TaskWorker, predictor: Predictor, job: TrainingJob) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._predictor, self._job = predictor, job
        self._tried = float("-inf")
        self._complaint = ""

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                newest = await self.load()
                if self._is_due(newest):
                    await self._train_in_turn()
                    await self.load()
            except (StoreDown, WriteRejected):  # the consumer logs that the store is down
                pass
            except Exception as error:  # a model must not end the consumer
                self._complain(f"{type(error).__name__}: {error}")
            await asyncio.sleep(min(_LOOK_S, self._predictor.config.retrain_s))

    async def load(self) -> StoredModel | None:
        """Makes the predictor use the newest model, and returns that. Raises StoreDown."""
        known = self._predictor.model_version
        newest = await self._store.look(partial(newest_model, target=self._job.target, known={known}))
        if newest is None:
            return None
        if newest.version == known:
            self._predictor.note_card(newest)
            return newest
        try:
            self._predictor.use(await asyncio.to_thread(read_model, newest), newest)
        except InvalidModel as error:
            self._complain(f"model {newest.version[:12]} cannot be used: {error}")
        else:
            log.info("predictor loaded: model=%s target=%s rows=%d", newest.version[:12], newest.target, newest.rows)
        return newest

    def _is_due(self, newest: StoredModel | None) -> bool:
        now, every = self._clock(), self._predictor.config.retrain_s
        # Other features: of another version of this package, or of a consumer with another `embedding`.
        if newest is None or newest.features != self._predictor.names:
            return now >= self._tried + min(every, _FIRST_S)
        stale = newest.created <= now - every or newest.card.get("asked_share") != self._job.share
        return stale and now >= self._tried + every

    async def _train_in_turn(self) -> None:
        lease = f"predictor:{self._job.key}"
        keep_s = _TRAIN_S
        if not await self._worker.leads(lease, keep_s):
            return
        self._tried = self._clock()
        try:
            outcome = await trained(self._job, keep_s)
        except TrainingFailed as error:
            self._complain(str(error))
        else:
            self._complaint = ""
            if outcome.version:
                log.info("predictor trained: rows=%d cpu_s=%.1f", outcome.rows, outcome.seconds)
        finally:
            await self._worker.release(lease)

    def _complain(self, reason: str) -> None:
        """Logs each reason once: the next turn will meet it again."""
        if reason != self._complaint:
            log.warning("predictor: %s; judging continues with the newest usable model, or without one", reason)
        self._complaint = reason


async def trained(job: TrainingJob, timeout_s: float) -> TrainingOutcome:
    """Trains in a child process, which ends with this call. Raises TrainingFailed."""
    child = await asyncio.create_subprocess_exec(
        *ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await child.communicate(job.to_json())
    except TimeoutError:
        raise TrainingFailed(f"training was not done after {timeout_s:g} s") from None
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
            await child.wait()
    if child.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise TrainingFailed(lines[-1] if lines else f"training ended with status {child.returncode}")
    return TrainingOutcome(**orjson.loads(output))


EVERY_S = 600.0
MIN_CALLS = 50
"""Minimum number of calls of a kind; with fewer it backs off."""
MOST_CALLS = 20_000
WINDOW_S = 7 * 86_400.0
_KEEP_S = 86_400  # gateways drop a table that is not renewed
_LEASE = "output tokens"
_SIZE = 7  # the bits of a kind that hold the bucket of the size

_Group = tuple[Any, ...]  # alias, then up to three more: format, size, kind


def learn(calls: Iterable[CallOutput], min_calls: int = MIN_CALLS) -> Tables:
    """Aliases with fewer than min_calls calls are left out."""
    groups: dict[_Group, list[tuple[float, float]]] = {}
    for call in calls:
        kind = _kind(call)
        if kind is not None:
            for group in _groups(call.alias, kind):
                groups.setdefault(group, []).append((call.tokens, call.weight))
    known = {group: _quantile(values) for group, values in groups.items() if len(values) >= min_calls}
    aliases = sorted(alias for alias, *rest in known if not rest)
    return {
        alias: {kind: next(known[group] for group in _groups(alias, kind) if group in known) for kind in KINDS}
        for alias in aliases
    }


def _kind(call: CallOutput) -> int | None:
    """The kind of a call; None if the request cannot be read, or limits its output itself."""
    fields = parse_object(call.request)
    if fields is None or any(isinstance(fields.get(name), int) for name in OUTPUT_LIMITS):
        return None
    return kind_of(len(call.request), fields, call.stream)


def _groups(alias: str, kind: int) -> tuple[_Group, ...]:
    """The groups in which a call counts and to which its kind backs off, the narrowest first."""
    size, form = kind & _SIZE, kind & (TOOLS | FORMAT)
    return (alias, form, size, kind), (alias, form, size), (alias, form), (alias,)


def _quantile(values: list[tuple[float, float]]) -> int:
    """The smallest value that QUANTILE of the weight does not exceed."""
    values.sort()
    wanted, below = QUANTILE * sum(weight for _, weight in values), 0.0
    for value, weight in values:
        below += weight
        if below >= wanted:
            return max(1, math.ceil(value))
    return max(1, math.ceil(values[-1][0]))


class OutputTokenLearner:
    """Learns from recent calls every ten minutes, in one of the consumers."""

    def __init__(self, worker: TaskWorker, state: SharedState) -> None:
        self._worker, self._state = worker, state

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.publish, EVERY_S, "reservations are not learned now")

    async def publish(self) -> Tables | None:
        """Publish the tables; None if another consumer does it."""
        if not await self._worker.leads(_LEASE, 1.5 * EVERY_S):
            return None
        now = self._worker.clock()
        tables = await self._worker.store.look(lambda c: learn(call_outputs(c, now - WINDOW_S, MOST_CALLS)))
        await self._state.remember(SHARED_NAME, tables_to_json(tables), _KEEP_S)
        return tables


def output_tokens_task(context: TaskContext) -> PeriodicWork | None:
    """The task; None if gateways reserve without estimates of single requests."""
    if context.config.budgets.estimate != "request":
        return None
    return OutputTokenLearner(context.worker, context.corridor.state).periodic()
