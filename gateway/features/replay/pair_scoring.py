"""Pairwise judges in a replay: each candidate's answer against the control's, once both are stored.

A score belongs to the candidate's answer, under an identity that names the control. A run that is stopped continues
with the pairs that have none.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.randomization import draw
from gateway.core.score import ScoreResult
from gateway.features.replay.asking import ReplayRequest, subject
from gateway.features.replay.datasets import DatasetItem
from gateway.features.replay.design import ReplayTarget, body
from gateway.features.replay.rows import KnownAnswer, ReplayAnswer, ReplayKey, ReplayStore
from gateway.features.replay.run import ReplayJob
from gateway.runtime.tasks import Tasks
from gateway.scoring.registry import RegisteredPair
from gateway.scoring.run import run_scorer
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Pair
from gateway.store.rows import ScoredExchange

_CHUNK = 32  # items


def against(pairs: Mapping[str, RegisteredPair], control: str) -> dict[str, RegisteredPair]:
    """The scorers under identities of their own for this control: the same answer may be compared with several."""
    return {
        name: replace(r, config_hash=hashlib.sha256(f"{r.config_hash}:{control}".encode()).hexdigest()[:12])
        for name, r in pairs.items()
    }


@dataclass(frozen=True, slots=True)
class _UncomparedPair:
    """Two answers to one item, and the scorers that have not compared them."""

    control: ReplayRequest
    candidate: ReplayRequest
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairScoring:
    """One run over the stored answers of a job."""

    job: ReplayJob
    store: ReplayStore
    threads: ScoringThreads

    async def run(self) -> int:
        """The number of pairs that it scored. Raises StoreDown and WriteRejected."""
        done = 0
        if not self.job.pairs:
            return done
        for chunk in self.job.chunks(_CHUNK):
            known = await self.store.known(self.job.name, chunk[0].number, chunk[-1].number)
            missing = [m for item in chunk for m in self._missing(item, known)]
            done += await self._score(missing)
        return done

    def _missing(self, item: DatasetItem, known: Mapping[ReplayKey, KnownAnswer]) -> Iterator[_UncomparedPair]:
        control, *candidates = self.job.design.targets
        for repeat, candidate in itertools.product(range(1, self.job.repeats + 1), candidates):
            one, other = (known.get(ReplayKey(item.number, t.name, repeat)) for t in (control, candidate))
            if one is None or other is None or not one.ok or not other.ok:
                continue
            names = tuple(
                name
                for name, r in self.job.pairs.items()
                if (name, r.scorer.version, r.config_hash) not in other.settled
            )
            if names:
                yield _UncomparedPair(
                    self._request(item, control, repeat), self._request(item, candidate, repeat), names
                )

    def _request(self, item: DatasetItem, target: ReplayTarget, repeat: int) -> ReplayRequest:
        return ReplayRequest(self.job.name, item, target, repeat, body(item, target, self.job.design.settings, repeat))

    async def _score(self, missing: Sequence[_UncomparedPair]) -> int:
        """Scores and stores; what is done is stored also when this task is cancelled."""
        turn = asyncio.Semaphore(self.job.pace.concurrency)
        done: list[tuple[ReplayAnswer, ScoredExchange | None]] = []

        async def one(each: _UncomparedPair) -> None:
            async with turn:
                done.append(await self._compared(each))

        try:
            async with Tasks() as tasks:
                await asyncio.gather(*(tasks.start(one(each), "replay pair") for each in missing))
        finally:
            if done:
                await asyncio.shield(self.store.keep(self.job.name, done, self.job.pairs))
        return len(done)

    async def _compared(self, each: _UncomparedPair) -> tuple[ReplayAnswer, ScoredExchange]:
        control, candidate = each.control, each.candidate
        answers = [await self.store.answer(r.answer_id) for r in (control, candidate)]
        a, b = subject(control, answers[0]), subject(candidate, answers[1])
        results = await asyncio.gather(*(self._by(name, a.exchange.id, Pair(a, b)) for name in each.names))
        return answers[1], ScoredExchange(b.exchange, b.completion, results)

    async def _by(self, name: str, unit: str, pair: Pair) -> ScoreResult:
        registered = self.job.pairs[name]
        shown = replace(pair, first="a" if draw(f"first:{name}", unit + pair.b.exchange.id) < 0.5 else "b")
        return await run_scorer(name, registered, lambda: registered.scorer.compare(shown), self.threads, patient=True)
