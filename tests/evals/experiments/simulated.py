"""Experiments without a gateway: pairs from a seed, through the sequences, the store and the verdict as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.evals.experiments.findings import Finding, Looked, finding
from gateway.evals.experiments.measures import Joined, Opinion, Seen
from gateway.evals.experiments.progress import Progress
from gateway.evals.store import engine
from gateway.evals.store import experiments_sequences as kept
from gateway.evals.store.experiments_plans import Kept, keep_plans
from gateway.evals.store.tables_experiments import pairs
from gateway.exchange import Target
from gateway.experiment import Guardrail, Plan, PlanState

JUDGE = ("said", "1 c1")


def a_plan(**changes: Any) -> Plan:
    """On the score `said`, with a margin of 0.1 and a guardrail of 0.02 on errors."""
    usual: dict[str, Any] = {
        "name": "swap", "model": "chat", "control": Target("a", "old"),
        "candidates": (("candidate", Target("b", "new")),),
        "shadow": 1.0, "repeat_control": 1.0, "primary": "said", "margin": 0.1,
        "guardrails": (Guardrail("error_rate", 0.02),),
    }  # fmt: skip
    return Plan(**{**usual, **changes})


def seen(score: float | None, *, distance: float | None = None, failed: bool = False, **more: Any) -> Seen:
    """An arm's answer. score: None: its record was lost. distance: to the served answer."""
    if score is None:
        return Seen("lost")
    beside = {} if distance is None else {("edit", "1 c1"): Opinion("scored", distance, distance, "minimise")}
    scores = {JUDGE: Opinion("scored", 0.0 if failed else score, score)}
    return Seen("failed" if failed else "ok", "x", scores=scores, beside=beside, **more)


def a_pair(i: int, control: Seen, cluster: str | None = None, **arms: Seen) -> Joined:
    return Joined(f"p{i}", control, arms, cluster)


@dataclass
class Simulated:
    """One experiment in a store of its own. template: a store that has its tables already."""

    plan: Plan
    url: str
    n: int = 0
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.engine = engine.writer(self.url)
        with self.engine.begin() as connection:
            keep_plans(connection, [PlanState(self.plan, "running", 1.0)], 1.0)

    @classmethod
    def at(cls, template: Path, path: Path, plan: Plan) -> Simulated:
        shutil.copyfile(template, path)
        return cls(plan, f"sqlite:///{path}")

    def add(self, joined: Iterable[Joined]) -> None:
        """The next pairs, in one transaction, as a leader stores them."""
        joined = list(joined)
        with self.engine.begin() as connection:
            progress = Progress(
                self.plan, self.plan.hash, kept.states(connection, self.plan.hash), self._taken(connection)
            )
            rows = []
            for pair in joined:
                self.n += 1
                progress.take(self.n, pair)
                rows.append(self._row(pair))
            kept.save(connection, progress.changes(), float(self.n))
            connection.execute(pairs.insert(), rows)

    def _taken(self, connection: Any) -> set[Any]:
        clusters = [f"c{i}" for i in range(2000)]
        return kept.clusters_taken(connection, self.plan.hash, clusters)

    def _row(self, pair: Joined) -> dict[str, Any]:
        states: Mapping[str, Any] = {arm: {"exchange": arm, "state": s.state} for arm, s in pair.arms.items()}
        return {
            "id": f"{self.n}", "experiment": "swap", "plan": self.plan.hash, "position": f"{self.n:020d}",
            "received": float(self.n), "cluster": pair.cluster, "asked": orjson.dumps(list(pair.arms)).decode(),
            "state": "joined", "reason": None, "place": self.n, "arms": orjson.dumps(states).decode(),
        }  # fmt: skip

    def found(self) -> Finding:
        with self.engine.connect() as connection:
            return finding(connection, Kept(self.plan, self.plan.hash, "running", 1.0), "candidate")

    def close(self) -> None:
        self.engine.dispose()


def looked(connection: Any, plan: Plan) -> Looked:
    return Looked(connection, Kept(plan, plan.hash, "running", 1.0))
