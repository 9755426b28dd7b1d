"""The gate on a split's sample ratio: each arm has the share of units that was planned. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.reports.model import GateResult
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.special import smallest
from gateway.statistics.srm import SequentialRatio

SRM_ALPHA = 0.01
SRM_WITHIN = 0.05  # largest distance between a share and its plan for green
_N_OPT = 1000.0
_MOST_FIFTIES = 10**8  # beyond any experiment


def srm_gate(test: SequentialRatio, arms: Sequence[str]) -> GateResult:
    """The sequential sample-ratio test. Green: no alarm, and every arm's share is shown to be near its plan.

    arms: names, in the order of test.shares.
    """
    n = sum(test.counts)
    counts = ", ".join(f"{arm} {count}" for arm, count in zip(arms, test.counts, strict=True))
    if n == 0:
        return GateResult("srm", 0, "no unit has been assigned yet")
    p = test.p_value
    if p < SRM_ALPHA:
        return GateResult("srm", -1, f"{counts}: not the planned shares (p = {p:.2g})", p)
    if not _near_plan(test.counts, test.shares):
        return GateResult("srm", 0, f"{counts}: too few to tell whether these are the planned shares", p)
    return GateResult("srm", 1, f"{counts}: the planned shares (p = {p:.2g})", p)


def _near_plan(counts: Sequence[int], shares: Sequence[float]) -> bool:
    n, total = sum(counts), sum(shares)
    for count, share in zip(counts, shares, strict=True):
        low, high = bernoulli_interval(count, n, SRM_ALPHA, _N_OPT)
        if low < share / total - SRM_WITHIN or high > share / total + SRM_WITHIN:
            return False
    return True


def units_for_srm(shares: Sequence[float]) -> int:
    """Estimates how many units make the gate srm green, if each arm gets exactly its share; a multiple of 50."""
    total = sum(shares)

    def enough(fifties: int) -> bool:
        n = 50 * fifties
        return _near_plan([round(n * share / total) for share in shares], shares)

    return 50 * (smallest(enough, 1, _MOST_FIFTIES) or _MOST_FIFTIES)
