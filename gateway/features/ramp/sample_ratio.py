"""Whether the arms of a ramp's step got the units that its share says, and where they did not. Pure.

Anything that loses units of one arm shows here: clients that leave one arm more often, an alias or a key whose calls
do not reach the draw, records that are lost. Everything else that a step says is then in doubt, so the ramp pauses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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
    """Why the arms' units do not fit the share; None: they do.

    totals: arm → its units at this step. counts: the same by kind of call, to say where it comes from. share: of the
    candidate, in (0, 1).
    """
    control = totals.get(CONTROL, 0)
    candidate = sum(totals.values()) - control
    p = _p(control, candidate, share)
    if p >= RATIO_ALPHA:
        return None
    n = control + candidate
    said = (
        f"{candidate} of {n} units had the candidate, where {share:.3g} was planned (p = {p:.1g} at any look)"
        f"{_where(counts, share)}"
    )
    return f"sample ratio: {said}; find out why before you resume"


def _where(counts: Sequence[UnitCount], share: float) -> str:
    found = sorted(
        (p, f"{dimension} {value}")
        for i, dimension in enumerate(DIMENSIONS)
        for value, p in _by_value(((c.kind[i], c) for c in counts), share)
        if p < RATIO_ALPHA
    )
    return f"; most in {', '.join(name for _, name in found[:_MOST_NAMED])}" if found else ""


def _by_value(counts: Iterable[tuple[str, UnitCount]], share: float) -> list[tuple[str, float]]:
    sums: dict[str, Counter[bool]] = {}
    for value, each in counts:
        sums.setdefault(value, Counter())[each.arm == CONTROL] += each.units
    return [(value, _p(arms[True], arms[False], share)) for value, arms in sums.items()]


def _p(control: int, candidate: int, share: float) -> float:
    test = SequentialRatio([1.0 - share, share], counts=[control, candidate])
    test.add(0, 0)
    return test.p_value
