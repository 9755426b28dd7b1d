"""Measures what the statistics of pairs cost a consumer: CPU of each exchange of a shadow experiment, by the plan's
rules.

The functions are those that the consumer calls, without a stream: a second of traffic is decoded, scored with the
scorers that `gateway up` writes and stored in SQLite, then the experiments take a step, and look at their figures every
five seconds. Traffic has conversations, users, keys, blocks of time, and answers that are cut, so that
the primary does not apply.
CPU is of the whole process, so other programs matter little.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scored import PROSE

from gateway.config.scorers import ScorerConfig
from gateway.consumer.entry_scoring import EntryScorer, batch_of
from gateway.core.exchange import Exchange, Target, Usage, new_id
from gateway.core.plan import REPEAT, Guardrail, Plan, PlanState
from gateway.features.experiments.work import EngineTiming, ExperimentEngine
from gateway.scoring.registry import DEFAULTS, RegisteredScorer, build_all
from gateway.scoring.threads import ScoringThreads
from gateway.store.store import Store
from gateway.stream import StreamEntry

_BEGAN = 1_790_000_000.0
_CONTROL, _CANDIDATE = Target("up", "small"), Target("up", "large")


@dataclass(frozen=True, slots=True)
class Load:
    """The records of each second."""

    served: int
    paired: int
    """Number of these that have a shadow."""
    again: int
    """Number of these that are sent to the control again."""


SMALL, LARGE = Load(60, 6, 3), Load(1_000, 100, 50)
"""A shadow for one in ten, as by `shadow: 0.1`."""


@dataclass(frozen=True, slots=True)
class PairedCost:
    """CPU µs of an exchange."""

    reading: float
    """Decoding, scoring and storing it."""
    experiments: float
    """Pairs, sequences, looks and figures."""

    @property
    def all(self) -> float:
        return self.reading + self.experiments


def plan_of(rules: int) -> Plan:
    """A plan as `gateway ab start` makes it of the defaults; with rules 1, as it was made of them before."""
    made = Plan(
        "swap", "chat", _CONTROL, (("candidate", _CANDIDATE),), shadow=0.1, repeat_control=0.5,
        unit="conversation", primary="valid_json", margin=0.02, guardrails=(Guardrail("error_rate", 0.02),),
        deadline_s=1.0, method="hybrid", max_pairs=100_000, auto_horizon=True, aa="alarm", adjust=True,
        after_verdict="continue", family="holm", rules=2, min_hours=24.0, empty="failed", headers="target",
    )  # fmt: skip
    return made if rules == 2 else replace(made, rules=1, min_hours=0.0, empty="allowed", headers="all")


class PairedConsumer:
    """A consumer's work on one plan, second after second."""

    def __init__(self, plan: Plan, store: Store, threads: ScoringThreads, scorers: dict[str, RegisteredScorer]) -> None:
        self.plan = plan
        self._store = store
        self._scorers = scorers
        self._scoring = EntryScorer(scorers, threads)
        self._stream = _Stream(plan)
        self._now = 0.0
        self._engine = ExperimentEngine(
            store, self._stream, {}, threads, EngineTiming(), lambda: _BEGAN + self._now,  # type: ignore[arg-type]
            rescore=self._scoring.score_again,
        )  # fmt: skip

    async def work(self, entries: Sequence[StreamEntry], later_s: float = 1.0) -> tuple[float, float]:
        """(CPU seconds of reading and storing, of the experiments). later_s: since the entries before."""
        self._now += later_s
        began = time.process_time()
        found = await self._scoring.read(entries)
        await self._store.write(batch_of(self._scorers, found.read))
        read_s, began = time.process_time() - began, time.process_time()
        self._stream.mark = entries[-1].id.partition("-")[0] + "-999999"
        await self._engine.step("bench")
        return read_s, time.process_time() - began

    @property
    def pairs(self) -> int:
        """Pairs in the figures, which are those of the last look."""
        return sum(each.pairs for each in self._engine.figures)


class _Stream:
    """The part of the corridor and of its shared state that the experiments ask."""

    def __init__(self, plan: Plan) -> None:
        self.state = self
        self.mark = "0-0"
        self._secret: bytes | None = None
        self._plans = {plan.name: PlanState(plan, "running", _BEGAN)}

    async def draw_secret(self) -> bytes | None:
        return self._secret

    async def set_draw_secret(self, secret: bytes) -> None:
        self._secret = secret

    async def plans(self) -> dict[str, PlanState]:
        return self._plans

    async def set_plan(self, state: PlanState, instead_of: PlanState | None = None) -> bool:
        self._plans[state.plan.name] = state
        return True

    async def watermark(self) -> str:
        return self.mark


class Traffic:
    """The same traffic for the same seed, as entries of the stream."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._conversations: list[str] = []
        self._chance = random.Random(seed)
        self._seq = 0
        self._at = 0

    def next(self, load: Load, seconds: int = 1) -> list[StreamEntry]:
        """The exchanges of this load, spread over the next seconds, in order."""
        made = []
        for i in range(load.served):
            made += self._call(paired=i < load.paired, again=i < load.again)
        start = int(1000 * (_BEGAN + self._at))
        self._at += seconds
        apart = 1000 * seconds // (2 * len(made))
        return [StreamEntry(f"{start + i * apart}-0", each.to_fields()) for i, each in enumerate(made)]

    def _call(self, *, paired: bool, again: bool) -> list[Exchange]:
        """The served exchange, and those of its other arms. A conversation has three pairs, about."""
        chance = self._chance
        conversation, user = self._conversation(), f"u{chance.randrange(2000)}"
        asked = (("candidate",) if paired else ()) + ((REPEAT,) if again else ())
        who: dict[str, Any] = {"caller": f"key-{chance.randrange(20)}", "user_digest": user, "plan": self._plan.hash}
        question = " ".join(chance.choices(PROSE.split(), k=200))
        asks = {"model": "chat", "messages": [{"role": "user", "content": question}]}
        body = json.dumps(asks | {"response_format": {"type": "json_object"}}).encode()
        served = self._exchange(body, "control", who | {"asked": asked, "cluster": conversation if paired else None})
        shadow = {"pair": served.id, "unit": served.unit}
        roles = {"candidate": "shadow", REPEAT: "control"}
        return [served, *(self._exchange(body, arm, who | shadow | {"role": roles[arm]}) for arm in asked)]

    def _conversation(self) -> str:
        """One of the newest two hundred, or, in a third of the calls, a new one."""
        if self._chance.random() < 1 / 3 or not self._conversations:
            self._conversations = [*self._conversations[-199:], f"c{self._seq}"]
        return self._chance.choice(self._conversations)

    def _exchange(self, body: bytes, arm: str, fields: dict[str, Any]) -> Exchange:
        chance, self._seq = self._chance, self._seq + 1
        id, failed = new_id(), arm != "control" and chance.random() < 0.01
        text = " ".join(chance.choices(PROSE.split(), k=210))[:1000] + "."
        text = json.dumps({"answer": text}) if chance.random() < 0.9 else text
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        response = {"id": id, "object": "chat.completion", "created": 1, "model": "small", "choices": [choice]}
        usage = {"prompt_tokens": 200, "completion_tokens": 210, "total_tokens": 410}
        answer = json.dumps(response | {"usage": usage}).encode()
        given: dict[str, Any] = {
            "id": id, "received": _BEGAN + self._at, "api": "chat", "alias": "chat", "stream": False,
            "target": self._plan.target(arm), "request": body, "response": answer,
            "status": 502 if failed else 200, "outcome": "upstream_error" if failed else "ok",
            "total_s": chance.uniform(0.4, 0.6), "unit": id, "u": 0.05, "pi": 0.1, "stratum": f"default+{arm}",
            "incarnation": "bench", "seq": self._seq, "usage": Usage(200, 210), "experiment": self._plan.name,
            "arm": arm, "first_token_s": 0.2, "truncated": arm != "control" and chance.random() < 0.02,
        }  # fmt: skip
        return Exchange(**given | fields)


TURN = 5  # seconds in which everything that is not done each second is done once
WARM = Load(256, 256, 128)
"""A transaction's pairs, to which a quarter of an hour is given: a run begins with full tables of units and blocks."""


def measured(rules: Sequence[int], load: Load, seconds: int, warm: int = 10, seed: int = 0) -> dict[int, PairedCost]:
    """Costs by rules, measured in turns, over the given seconds of the same traffic each.

    seconds: a multiple of TURN. warm: WARMs before, which are not counted.
    """
    return asyncio.run(_measured(rules, load, seconds, warm, seed))


async def _measured(rules: Sequence[int], load: Load, seconds: int, warm: int, seed: int) -> dict[int, PairedCost]:
    costs: dict[int, list[tuple[float, float]]] = {each: [] for each in rules}
    async with AsyncExitStack() as opened:
        directory = opened.enter_context(TemporaryDirectory())
        at = {each: await opened.enter_async_context(_consumer(each, directory)) for each in rules}
        traffic = {each: Traffic(plan_of(each), seed) for each in rules}
        for n in range(warm + seconds):
            for each in rules if n % 2 else list(reversed(rules)):
                entries = traffic[each].next(*((WARM, 900) if n < warm else (load, 1)))
                spent = await at[each].work(entries, TURN if n < warm else 1)
                if n >= warm:
                    costs[each].append((1e6 * spent[0] / len(entries), 1e6 * spent[1] / len(entries)))
    assert all(each.pairs for each in at.values()), "no pair has been settled"
    return {each: PairedCost(*_median(found)) for each, found in costs.items()}


def _median(seconds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Medians over stretches of five seconds, each of which has one look at the figures."""
    stretches = np.array(seconds[: len(seconds) // TURN * TURN]).reshape(-1, TURN, 2).mean(axis=1)
    reading, experiments = np.median(stretches, axis=0).tolist()
    return reading, experiments


@asynccontextmanager
async def _consumer(rules: int, directory: str) -> AsyncIterator[PairedConsumer]:
    threads = ScoringThreads()
    built = build_all({name: ScorerConfig(use=name) for name in DEFAULTS})
    async with Store(f"sqlite:///{Path(directory) / f'{rules}.db'}") as store:
        yield PairedConsumer(plan_of(rules), store, threads, built.single)
    threads.close()
