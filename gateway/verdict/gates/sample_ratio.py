"""The gate on a split's sample ratio: each arm has the share of units that was planned. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gateway.reports.model import GateResult
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.special import smallest
from gateway.statistics.srm import SequentialRatio

SRM_ALPHA = 0.01
SRM_WITHIN = 0.05  # largest distance between a share and its plan for green
_N_OPT = 1000.0
_MOST_FIFTIES = 10**8  # beyond any experiment


def srm_gate(test: SequentialRatio, arms: Sequence[str], near: bool | None = None) -> GateResult:
    """The sequential sample-ratio test. Green: no alarm, and every arm's share is shown to be near its plan.

    arms: names, in the order of test.shares. near: whether that is shown, by `likelihood_ratios`; None if it is decided
    by an interval around each share, as before rules 3.
    """
    n = sum(test.counts)
    counts = ", ".join(f"{arm} {count}" for arm, count in zip(arms, test.counts, strict=True))
    if n == 0:
        return GateResult("srm", 0, "no unit has been assigned yet")
    p = test.p_value
    if p < SRM_ALPHA:
        return GateResult("srm", -1, f"{counts}: not the planned shares (p = {p:.2g})", p)
    if not (_near_plan(test.counts, test.shares) if near is None else near):
        return GateResult("srm", 0, f"{counts}: too few to tell whether these are the planned shares", p)
    return GateResult("srm", 1, f"{counts}: the planned shares (p = {p:.2g})", p)


def _near_plan(counts: Sequence[int], shares: Sequence[float]) -> bool:
    n, total = sum(counts), sum(shares)
    for count, share in zip(counts, shares, strict=True):
        low, high = bernoulli_interval(count, n, SRM_ALPHA, _N_OPT)
        if low < share / total - SRM_WITHIN or high > share / total + SRM_WITHIN:
            return False
    return True


def likelihood_ratios(counts: Sequence[int], shares: Sequence[float]) -> Iterator[float]:
    """ln of the likelihood of each arm's planned share over that of the shares SRM_WITHIN below and above it.

    Under each of these shares the ratio is a martingale that starts at 1, and under shares farther away a
    supermartingale. So an arm whose share is off by SRM_WITHIN or more on one side has a ratio that ever reaches
    1 / alpha with a probability of alpha at most, over all looks. Source: Ville's inequality; Wald 1945.
    """
    n, total = sum(counts), sum(shares)
    for count, planned in zip(counts, (share / total for share in shares), strict=True):
        for other in (planned - SRM_WITHIN, planned + SRM_WITHIN):
            if 0.0 < other < 1.0:
                yield count * math.log(planned / other) + (n - count) * math.log((1 - planned) / (1 - other))


def units_for_srm(shares: Sequence[float], log_ratio: float | None = None) -> int:
    """Estimates how many units make the gate srm green, if each arm gets exactly its share; a multiple of 50.

    log_ratio: what each of `likelihood_ratios` must reach; None: as before rules 3.
    """
    total = sum(shares)

    def enough(fifties: int) -> bool:
        n = 50 * fifties
        counts = [round(n * share / total) for share in shares]
        return _near_plan(counts, shares) if log_ratio is None else min(likelihood_ratios(counts, shares)) >= log_ratio

    return 50 * (smallest(enough, 1, _MOST_FIFTIES) or _MOST_FIFTIES)
