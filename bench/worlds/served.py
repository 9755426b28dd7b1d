"""Rows of what is measured on served traffic that changes: a ramp's proof, a guard's hits, groups of failures.

Each drives the product's own estimate: `prove`, `share_of_calls`, `find_groups`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.features.groups.finding import find_groups
from gateway.features.groups.rows import CallChoice, ScoredCall
from gateway.ramps.blocks import BLOCK_S, ServedBlock
from gateway.ramps.served_proof import ProofTerms, prove
from gateway.ramps.step_values import ServedSums
from gateway.statistics.detection import ClusterSums, WeightSums, share_of_calls
from worlds.rows import Row, Run
from worlds.traffic import START

STEPS = (0.01, 0.05, 0.25, 0.5)
ALPHA = 0.04
"""0.8 of the plan's alpha, two-sided: a proof errs in half of it."""
CALLS_A_BLOCK, ERRORS_MARGIN = 1_500, 0.005
HOURS = tuple(range(24))


@dataclass(frozen=True, slots=True)
class MixedRamp:
    """A ramp whose requests become harder, or easier, while its share rises: pooled over the steps, the candidate's
    rate of failures would be that of another traffic (Simpson's paradox).

    more: failures of the candidate beyond the control's. The event: it is proved to be not worse, or (inferior) worse.
    """

    more: float
    harder: bool
    event: str
    blocks_a_step: int = 12
    last_blocks: int = 72

    def __call__(self, seed: int, rules: int) -> Run:
        rng, blocks = np.random.default_rng([seed, 53]), list[ServedBlock]()
        steps = [step for step in range(3) for _ in range(self.blocks_a_step)] + [3] * self.last_blocks
        terms = ProofTerms(-1.0, ERRORS_MARGIN, ALPHA, True, hours=HOURS if rules >= 3 else None)
        for i, step in enumerate(steps):
            place = i / len(steps)
            rate = 0.002 + 0.018 * (place if self.harder else 1 - place)
            n = int(rng.binomial(CALLS_A_BLOCK, STEPS[step]))
            a, b = (_failed(rng, k, p) for k, p in ((CALLS_A_BLOCK - n, rate), (n, rate + self.more)))
            blocks.append(ServedBlock(step, a, b, at=START + BLOCK_S * i))
            if i % 4 == 3 and self._happened(prove(blocks, terms).found):
                return Run(True, i / 4)
        return Run(False, len(steps) / 4)

    def _happened(self, found: str) -> bool:
        return found == "inferior" if self.event == "is found worse" else found in ("non_inferior", "equivalent")


def _failed(rng: np.random.Generator, n: int, rate: float) -> ServedSums:
    failed = float(rng.binomial(n, rate))
    return ServedSums(n, failed, failed)


@dataclass(frozen=True, slots=True)
class GuardHits:
    """The share of a guard's hits, where they come in bursts of one caller. The event: its interval misses it.

    A burst is one conversation of some calls; `mean_burst` of them have a hit. The hours are clusters, too.
    """

    share: float
    mean_burst: float
    calls: int = 4_000
    conversation: int = 4
    hours: int = 48

    def __call__(self, seed: int, rules: int) -> Run:
        rng = np.random.default_rng([seed, 54])
        units = self.calls // self.conversation
        hour = np.sort(rng.integers(0, self.hours, units))
        busy = rng.gamma(1.0, 1.0, self.hours)  # an hour has more hits, or fewer
        hits = rng.random((units, self.conversation)) < np.minimum(1.0, self.share * busy[hour])[:, None]
        spread = rng.random(units) < 1.0 / self.mean_burst
        hits &= spread[:, None]
        truth = self._truth()
        n = float(hits.sum())
        ways = [_clusters(hits.sum(axis=1).astype(float), np.full(units, float(self.conversation)), np.arange(units)),
                _clusters(hits.sum(axis=1).astype(float), np.full(units, float(self.conversation)), hour)]  # fmt: skip
        found = share_of_calls(WeightSums(n, n), WeightSums(hits.size - n, hits.size - n), 0.05, ways)
        return Run(not found.low <= truth <= found.high, hits.size)

    def _truth(self) -> float:
        return self.share / self.mean_burst  # gamma(1, 1) has mean 1; the cut at 1 takes less than 0.001 of it


def _clusters(hits: NDArray[np.float64], calls: NDArray[np.float64], owner: NDArray[np.int_]) -> ClusterSums:
    found = ClusterSums()
    for a, b in zip(np.bincount(owner, hits).tolist(), np.bincount(owner, calls).tolist(), strict=True):
        found = found.with_cluster(a, b) if b else found
    return found


@dataclass(frozen=True, slots=True)
class NoGroups:
    """Failures that no property explains: conversations differ in how often they fail. The event: a group is named."""

    conversations: int = 150
    calls_each: int = 6
    rate: float = 0.15
    icc: float = 0.2

    def __call__(self, seed: int, rules: int) -> Run:
        rng = np.random.default_rng([seed, 55])
        size = 1 / self.icc - 1
        own = rng.beta(self.rate * size, (1 - self.rate) * size, self.conversations)
        calls = [_call(rng, i, c, float(own[c])) for c in range(self.conversations)
                 for i in range(c * self.calls_each, (c + 1) * self.calls_each)]  # fmt: skip
        return Run(bool(find_groups(CallChoice("helpful", 0.0), calls).groups), len(calls))


WORDS = ("What is the capital of France?", "Translate this sentence.", "Write a function that sorts.", "Summarize it.")
REASONS = ("clear", "too short", "misses the point", "polite, brief", "covers the topic")


def _call(rng: np.random.Generator, i: int, conversation: int, fails: float) -> ScoredCall:
    caller = np.random.default_rng(conversation).choice(["web", "app", "batch", "team"])
    request = json.dumps({"messages": [{"role": "user", "content": WORDS[conversation % len(WORDS)]}]}).encode()
    return ScoredCall(
        f"call-{i:05}", START + 60.0 * i, f"c{conversation}", "chat", str(rng.choice(["local/s", "local/l"])),
        str(caller), "chat", bool(rng.random() < 0.5), None, request, "stop", int(rng.integers(20, 2_000)), "[]",
        float(rng.random() >= fails), str(rng.choice(REASONS)), 1.0,
    )  # fmt: skip


ROWS: list[Row] = [
    Row("ramp: requests become harder, equal", "ramp's proof", "is found worse", MixedRamp(0.0, True, "is found worse"),
        "at most", 0.02, "hours", runs=1_000),
    Row("ramp: requests become easier, worse by the margin", "ramp's proof", "is proved",
        MixedRamp(ERRORS_MARGIN, False, "is proved"), "at most", 0.02, "hours", runs=1_000),
    Row("ramp: requests become harder, worse by the margin", "ramp's proof", "is proved",
        MixedRamp(ERRORS_MARGIN, True, "is proved"), "at most", 0.02, "hours", runs=1_000),
    Row("ramp: requests become harder, equal", "ramp's proof", "is proved", MixedRamp(0.0, True, "is proved"),
        "at least", 0.8, "hours", runs=1_000),
    Row("guard: hits by chance", "guards", "interval misses", GuardHits(0.02, 1.0, hours=200), "at most", 0.05,
        "calls", rules=(3,)),
    Row("guard: hits in conversations, unlike hours", "guards", "interval misses", GuardHits(0.08, 4.0), "at most",
        0.05, "calls", rules=(3,)),
    Row("groups: unlike conversations, no group", "groups", "names a group", NoGroups(), "at most", 0.05, "calls",
        runs=400, rules=(3,)),
]  # fmt: skip
