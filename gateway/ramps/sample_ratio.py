"""The alarm on the sample ratio: the arms' units do not fit the share of the step. Pure.

Any loss of units of one arm shows there: clients that leave one arm more often, an alias or a key whose calls do not
reach the draw, records that are lost. All other findings of the step are then in doubt, so the ramp pauses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.plan import CONTROL
from gateway.statistics.srm import SequentialRatio

RATIO_ALPHA = 0.001  # of one step, over all looks
DIMENSIONS = ("alias", "key", "stream", "API")
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class UnitCount:
    """Units of one arm with calls of one kind. A unit with calls of several kinds is in several counts."""

    arm: str
    kind: tuple[str, str, str, str]  # the values of DIMENSIONS
    units: int


def ratio_alarm(totals: dict[str, int], counts: Sequence[UnitCount], share: float) -> str | None:
    """Reason why the arms' units do not fit the share; None if they do.

    totals: arm → its units at this step. counts: the same by kind of call, to say where it comes from. share: of the
    candidate, in (0, 1).
    """
    control = totals.get(CONTROL, 0)
    candidate = sum(totals.values()) - control
    p = _p(control, candidate, share)
    if p >= RATIO_ALPHA:
        return None
    return (
        f"sample ratio: {candidate} of {control + candidate} units had the candidate, where {share:.3g} was planned "
        f"(p = {p:.1g} at any look){_where(counts, share)}; find out why before you resume"
    )


def _where(counts: Sequence[UnitCount], share: float) -> str:
    """The kinds of calls in which the units fit the share least."""
    sums: dict[str, Counter[bool]] = {}  # kind of call → units with the control (True) and with the candidate
    for each in counts:
        for dimension, value in zip(DIMENSIONS, each.kind, strict=True):
            sums.setdefault(f"{dimension} {value}", Counter())[each.arm == CONTROL] += each.units
    found = sorted((_p(arms[True], arms[False], share), name) for name, arms in sums.items())
    names = [name for p, name in found if p < RATIO_ALPHA][:_MOST_NAMED]
    return f"; most in {', '.join(names)}" if names else ""


def _p(control: int, candidate: int, share: float) -> float:
    test = SequentialRatio([1.0 - share, share], counts=[control, candidate])
    test.add(0, 0)
    return test.p_value
