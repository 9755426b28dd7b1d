"""Keeps a consumer's predictor up to date: loads the newest model of the store, and has a new one trained in its turn.

One consumer at a time trains, under a lease in the store, in a child process of low priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import orjson

from gateway.features.learned.model import read_model
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.trainer import TrainingJob, TrainingOutcome
from gateway.features.learned.trees import InvalidModel
from gateway.store.plans import hold_lease, release_lease
from gateway.store.predictions import StoredModel, newest_model
from gateway.store.store import Store, StoreDown, WriteRejected

ARGV = (sys.executable, "-P", "-X", "utf8", "-m", "gateway.features.learned.train_process")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}  # one core for training; the child inherits nothing else
_FIRST_S = 120.0  # between looks whether there are rows enough for the first model
log = logging.getLogger(__name__)


class TrainingFailed(Exception):
    """The process that trains ended without a result."""


@dataclass(frozen=True, slots=True)
class UpkeepTiming:
    """In seconds."""

    look_s: float = 15.0
    """Between looks for a newer model, and for a training that is due."""
    train_s: float = 900.0
    """After which a training is given up; the lease is held for as long."""


class PredictorUpkeep:
    """holder: this consumer's name. clock: Unix time in seconds."""

    def __init__(
        self,
        store: Store,
        predictor: Predictor,
        job: TrainingJob,
        holder: str,
        timing: UpkeepTiming | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._predictor, self._job, self._holder = store, predictor, job, holder
        self._timing = timing or UpkeepTiming()
        self._clock = clock
        self._tried = float("-inf")
        self._complaint = ""

    async def run(self) -> None:
        """Until it is cancelled."""
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
            await asyncio.sleep(min(self._timing.look_s, self._predictor.config.retrain_s))

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
        if (
            newest is None or newest.features != self._predictor.names
        ):  # the latter: of another version of this package, or of a consumer with another `embedding`
            return now >= self._tried + min(every, _FIRST_S)
        stale = newest.created <= now - every or newest.card.get("asked_share") != self._job.share
        return stale and now >= self._tried + every

    async def _train_in_turn(self) -> None:
        lease = f"predictor:{self._job.key}"
        now, keep_s = self._clock(), self._timing.train_s
        if not await self._store.run(lambda c: hold_lease(c, lease, self._holder, now, keep_s)):
            return
        self._tried = now
        try:
            outcome = await trained(self._job, keep_s)
        except TrainingFailed as error:
            self._complain(str(error))
        else:
            self._complaint = ""
            if outcome.version:
                log.info("predictor trained: rows=%d cpu_s=%.1f", outcome.rows, outcome.seconds)
        finally:
            with contextlib.suppress(StoreDown, WriteRejected):  # it expires
                await self._store.run(lambda c: release_lease(c, lease, self._holder))

    def _complain(self, reason: str) -> None:
        """Once for each reason: the next turn will meet it again."""
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
