"""The verdicts of a pairwise judge: wins, ties and losses, and the strengths of several models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.plan import CONTROL, REPEAT
from gateway.reports.model import ArmStrength, Estimate, Wins
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.bradley_terry import Duels, fit_bradley_terry

ALPHA = 0.05  # of each share's interval
_N_OPT = 300.0  # verdicts at which it is tightest


@dataclass(frozen=True, slots=True)
class PairwiseVerdict:
    """The verdict of a pairwise judge. value: preference for the arm."""

    arm: str
    value: float
    detail: Mapping[str, float]


def wins_of(verdicts: Sequence[PairwiseVerdict], arm: str) -> Wins | None:
    """The wins of one arm against the served answers; None if there is no verdict."""
    ours = [v for v in verdicts if v.arm == arm]
    if not ours:
        return None
    flips = [v.detail["flip"] for v in ours if "flip" in v.detail]
    slots = [v.detail["first_slot"] for v in ours if "first_slot" in v.detail]
    counts = (sum(v.value > 0.5 for v in ours), sum(v.value == 0.5 for v in ours), sum(v.value < 0.5 for v in ours))
    shares = [_share(k, len(ours)) for k in counts]
    return Wins(
        *counts,
        flip_rate=sum(flips) / len(flips) if flips else None,
        first_slot_rate=sum(slots) / len(slots) if slots else None,
        win_share=shares[0],
        tie_share=shares[1],
        loss_share=shares[2],
    )


def _share(k: int, n: int) -> Estimate:
    """A share with its interval, which is valid at every look for this share alone."""
    return Estimate(k / n, *bernoulli_interval(k, n, ALPHA, _N_OPT))


def duels_of(verdicts: Sequence[PairwiseVerdict]) -> list[Duels]:
    """Counts each verdict as two duels, one for each order.

    A verdict that is the same in both orders is a win in each; one that flipped is two wins for the same slot.
    """
    won: Counter[tuple[str, str]] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    for v in verdicts:
        if v.arm == REPEAT:
            continue
        orders = ((CONTROL, v.arm), (v.arm, CONTROL))
        if v.detail.get("flip"):
            first = float(v.detail.get("first_slot", 0.5))
            shares = (first, first)
        else:
            shares = (1 - v.value, v.value)
        for order, share in zip(orders, shares, strict=True):
            won[order] += share  # type: ignore[assignment]  # a tie is half
            lost[order] += 1 - share  # type: ignore[assignment]
    return [Duels(first, second, won[first, second], lost[first, second]) for first, second in sorted(won)]


def strengths_of(verdicts: Sequence[PairwiseVerdict]) -> tuple[tuple[ArmStrength, ...], float | None]:
    """(strengths, advantage of the first slot); ((), None) for fewer than three models, or if one never lost."""
    duels = duels_of(verdicts)
    if len({name for d in duels for name in (d.first, d.second)}) < 3:
        return (), None
    try:
        found = fit_bradley_terry(duels, CONTROL, order_effect=True)
    except ValueError:
        return (), None
    # Both orders of a pair are one verdict, so there are half as many independent verdicts as rows.
    wider = 2**0.5
    strengths = tuple(ArmStrength(arm, value, wider * found.robust_se[arm]) for arm, value in found.strength.items())
    return strengths, found.order
