"""What must hold before any verdict: red, unknown or green, each with its reason. Pure.

"Nothing found yet" is never green: a gate is green only when the interval shows that what it looks for is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.evals.experiments.report import Estimate, GateResult
from gateway.evals.statistics.bernoulli import bernoulli_interval
from gateway.evals.statistics.srm import SequentialRatio

NEGLIGIBLE = 0.25  # of the margin: withheld pairs that few cannot turn a verdict
SRM_ALPHA = 0.01
SRM_WITHIN = 0.05  # of a share, for green
_N_OPT = 1000.0


@dataclass(frozen=True, slots=True)
class PairLosses:
    """arms: arm → (asked, lost). difference: of the lost shares, control less candidate."""

    arms: Mapping[str, tuple[int, int]]
    difference: Estimate


def aa_gate(metric: str, noise: Estimate | None, pairs: int, delta: float, repeats: bool) -> GateResult:
    """The control against itself, asked again by the candidate's path: any difference is the pipeline's.

    repeats: the plan asks the control again. delta: largest difference that may be overlooked, the margin's size.
    """
    if not repeats:
        return GateResult(
            "aa", 0, "the control is never asked again: set repeat_control, so that the pipeline can be checked"
        )
    low, high = (None, None) if noise is None else (noise.low, noise.high)
    if low is None or high is None or not pairs:
        return GateResult("aa", 0, f"no pair of the control with itself has been judged on {metric} yet")
    said = f"the control against itself on {metric}: {low:+.3g} … {high:+.3g} over {pairs} pairs"
    value = None if noise is None else noise.value
    if low > 0 or high < 0:
        return GateResult("aa", -1, f"{said}: the pipeline alone makes a difference", value)
    if -delta <= low and high <= delta:
        return GateResult("aa", 1, f"{said}, inside ±{delta:g}", value)
    return GateResult("aa", 0, f"{said}, not inside ±{delta:g} yet", value)


def same_path_gate(metric: str) -> GateResult:
    """For a primary that compares candidate and control by one path in any case."""
    return GateResult("aa", 1, f"{metric} compares the candidate with the control asked again by the same path")


def losses_gate(name: str, what: str, losses: PairLosses, delta: float) -> GateResult:
    """Whether pairs that had to be left out could turn the verdict, or fall on one arm.

    Few enough of them cannot, whatever they would have said. delta: the margin of the primary, on [0, 1].
    """
    asked = max((n for n, _ in losses.arms.values()), default=0)
    lost = sum(n for _, n in losses.arms.values())
    if not asked:
        return GateResult(name, 0, f"no pair has been settled yet, so nothing is known of {what}")
    share = lost / asked
    said = ", ".join(f"{arm} {n} of {of}" for arm, (of, n) in sorted(losses.arms.items()))
    if share <= NEGLIGIBLE * delta:
        return GateResult(name, 1, f"{what}: {said}; too few to turn the verdict", share)
    low, high = losses.difference.low, losses.difference.high
    if low is not None and high is not None:
        if low > 0 or high < 0:
            return GateResult(name, -1, f"{what}: {said}; one arm more than the other", share)
        if -delta <= low and high <= delta:
            return GateResult(name, 1, f"{what}: {said}; the arms alike, within ±{delta:g}", share)
    return GateResult(name, 0, f"{what}: {said}; whether the arms are alike is not known yet", share)


def srm_gate(test: SequentialRatio, arms: Sequence[str]) -> GateResult:
    """The sequential sample-ratio test. Green: no alarm, and every arm's share is shown to be near its plan."""
    n = sum(test.counts)
    said = ", ".join(f"{arm} {count}" for arm, count in zip(arms, test.counts, strict=True))
    if n == 0:
        return GateResult("srm", 0, "no unit has been assigned yet")
    p = test.p_value
    if p < SRM_ALPHA:
        return GateResult("srm", -1, f"{said}: not the planned shares (p = {p:.2g})", p)
    whole = sum(test.shares)
    for count, share in zip(test.counts, test.shares, strict=True):
        low, high = bernoulli_interval(count, n, SRM_ALPHA, _N_OPT)
        if low < share / whole - SRM_WITHIN or high > share / whole + SRM_WITHIN:
            return GateResult("srm", 0, f"{said}: too few to tell whether these are the planned shares", p)
    return GateResult("srm", 1, f"{said}: the planned shares (p = {p:.2g})", p)


def worst(gates: Sequence[GateResult]) -> int:
    """The lowest state; green for none."""
    return min((gate.state for gate in gates), default=1)
