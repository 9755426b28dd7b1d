"""Rows of the best of eight candidates of one plan: each is compared with the control, and with every other one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from gateway.core.exchange import Target
from gateway.core.plan import REPEAT, Plan
from gateway.verdict.best_of_k.dropped import DroppedCandidate, changes_of
from gateway.verdict.decision import SHIPS
from gateway.verdict.ending import is_closed
from gateway.verdict.findings import drops_of, findings
from gateway.verdict.metrics import ArmObservation, JoinedPair, PairOrigin, StoredScore
from worlds.rows import Row, Run, Side
from worlds.traffic import DEVIATION, MARGIN, START
from worlds.verdict_play import QUALITY, Experiment, MemoryEvidence, plan_of

ARMS, LOOK, HOURS = 8, 50, 25.0


@dataclass(frozen=True, slots=True)
class BestWorld:
    """means: of each candidate, in margins. The event: a candidate that is worse by a margin ships; with `any_best`,
    one is found. Its size: paid requests to candidates."""

    means: tuple[float, ...]
    any_best: bool = False

    def __call__(self, seed: int, rules: int) -> Run:
        plan, rng = best_plan(rules), np.random.default_rng([seed, 57])
        experiment, dropped, paid = Experiment(plan), dict[str, DroppedCandidate](), 0
        apart = 3600 * HOURS / (plan.max_pairs or 1)
        for pairs in range(1, 1_000_000):
            experiment.joined(self._pair(rng, pairs, START + apart * pairs, dropped))
            paid += ARMS - len(dropped)
            if pairs % LOOK:
                continue
            evidence = _with(experiment.evidence(), dropped)
            dropped = dict(drops_of(evidence))
            shipped = [arm for arm, found in findings(evidence).items() if found.decision.verdict in SHIPS]
            if shipped or is_closed(_with(evidence, dropped)):
                return Run(self._happened(shipped), paid)
        raise AssertionError("a plan for the best candidate ends")

    def _happened(self, shipped: list[str]) -> bool:
        return bool(shipped) if self.any_best else any(self.means[int(arm[1:])] <= -1.0 for arm in shipped)

    def _pair(self, rng: np.random.Generator, i: int, at: float, dropped: Mapping[str, DroppedCandidate]) -> JoinedPair:
        spread = DEVIATION / np.sqrt(2)
        means = 0.5 + MARGIN * np.array([*self.means, 0.0, 0.0])
        *scores, again, control = np.clip(rng.normal(means, spread), 0.0, 1.0).tolist()
        arms = {f"c{j}": _seen(score) for j, score in enumerate(scores) if f"c{j}" not in dropped}
        arms |= {REPEAT: _seen(again)} if i % 4 == 0 else {}
        return JoinedPair(f"p{i}", _seen(control), arms, None, PairOrigin(at, "web", f"u{i}"))


def _seen(score: float) -> ArmObservation:
    return ArmObservation("ok", "x", scores={QUALITY: StoredScore("scored", score, score)})


def _with(evidence: MemoryEvidence, dropped: Mapping[str, DroppedCandidate]) -> MemoryEvidence:
    states = changes_of(evidence.plan.hash, dropped).states
    evidence.states = {**evidence.states, **{name: orjson.dumps(s).decode() for name, (_, s) in states.items()}}
    return evidence


def best_plan(rules: int) -> Plan:
    arms = tuple((f"c{i}", Target("b", f"c{i}")) for i in range(ARMS))
    return plan_of(rules, candidates=arms, family="best", method="anytime")


def _row(name: str, event: str, world: BestWorld, side: Side = "measured", bound: float = 0.0) -> Row:
    return Row(name, "best of 8", event, world, side, bound, "requests", runs=200, rules=(3,))


ROWS: list[Row] = [
    _row("best of 8, one equal, seven worse by a margin", "ships falsely", BestWorld((0.0, *(-1.0,) * 7)), "at most",
         0.025),
    _row("best of 8, all worse by a margin", "ships falsely", BestWorld((-1.0,) * 8), "at most", 0.025),
    _row("best of 8, all equal", "finds one", BestWorld((0.0,) * 8, any_best=True)),
    _row("best of 8, one better by a margin", "finds one", BestWorld((1.0, *(0.0,) * 7), any_best=True)),
]  # fmt: skip
