"""The gate on losses: pairs without a record, or that were withheld. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.reports.model import Estimate, GateResult
from gateway.verdict.metrics import NEGLIGIBLE


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Number of pairs that each arm lost."""

    arms: Mapping[str, tuple[int, int]]  # arm → (requests, lost)
    difference: Estimate  # of the lost shares, control minus candidate


def losses_gate(name: str, what: str, losses: PairLosses, delta: float) -> GateResult:
    """Gate: could lost pairs change the verdict, or does one arm lose more than the other?

    A share of at most NEGLIGIBLE * delta cannot change it, whatever the values of these pairs. name: of the gate. what:
    what was lost, for the sentence. delta: the margin of the primary, in [0, 1].
    """
    asked = max((n for n, _ in losses.arms.values()), default=0)
    lost = sum(n for _, n in losses.arms.values())
    if not asked:
        return GateResult(name, 0, f"no pair has been settled yet, so nothing is known about {what}")
    share = lost / asked
    by_arm = ", ".join(f"{arm} {n} of {of}" for arm, (of, n) in sorted(losses.arms.items()))
    if share <= NEGLIGIBLE * delta:
        return GateResult(name, 1, f"{what}: {by_arm}; too few to change the verdict", share)
    low, high = losses.difference.low, losses.difference.high
    if low is not None and high is not None:
        if low > 0 or high < 0:
            return GateResult(name, -1, f"{what}: {by_arm}; the arms differ", share)
        if -delta <= low and high <= delta:
            return GateResult(name, 1, f"{what}: {by_arm}; the arms are alike within ±{delta:g}", share)
    return GateResult(name, 0, f"{what}: {by_arm}; it is not known yet whether the arms are alike", share)
