"""Several candidates of one plan share its error: Holm's procedure on their verdicts. Pure.

Each candidate's verdict is tested at alpha / k first, where k is the number of candidates. One that ships leaves its
part to those that have not shipped, and one that is rejected to those that have not been: the two kinds of error are
counted apart. The probability that any candidate is shipped although it is worse by a margin stays at most alpha, over
all looks, since each test is valid at every look and one with a smaller error never says more than one with a larger.

Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.features.experiments.sequences import EVEN, AlphaShare
from gateway.reports.model import Verdict

Look = Callable[[str, AlphaShare], Verdict]
"""(candidate, its share) → its verdict with that share."""


def holm(candidates: Sequence[str], verdict: Look) -> dict[str, AlphaShare]:
    """The share of each candidate, in even shares."""
    if len(candidates) < 2:
        return dict.fromkeys(candidates, EVEN)
    ship = _steps(candidates, lambda arm, share: verdict(arm, AlphaShare(share, 1.0)) == "ship")
    reject = _steps(candidates, lambda arm, share: verdict(arm, AlphaShare(1.0, share)) == "reject")
    return {arm: AlphaShare(ship[arm], reject[arm]) for arm in candidates}


def _steps(candidates: Sequence[str], decided: Callable[[str, float], bool]) -> dict[str, float]:
    """The share with which each candidate was decided; of those that are not, what is left for each."""
    left, shares = list(candidates), dict.fromkeys(candidates, 1.0)
    while left:
        share = len(candidates) / len(left)
        shares |= dict.fromkeys(left, share)
        still = [arm for arm in left if not decided(arm, share)]
        if len(still) == len(left):
            break
        left = still
    return shares
