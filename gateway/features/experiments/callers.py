"""What one caller may weigh among all: thinning, and findings that no single caller can make or hide. Pure.

A caller is a key, or a token's subject; never a header, which a caller can make up. Its units (conversations) it can
make up too, without end, and it may know which arm answers it. So from CAPPED_FROM callers on its units are thinned to
CAP of the total weight, and a candidate is called worse, or not worse, only if that is shown without any one caller
too. A caller with HALF of the calls or more is no single caller among many: what its calls show is what the traffic
shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CAP = 0.2
"""The largest share of the total weight that the units of one caller have."""
CAPPED_FROM = 5
"""Callers from which on units are thinned. With fewer, no thinning leaves each of them CAP at most."""
LEFT = 0.25
"""The share of the units that thinning leaves at least; it is left out where the others are too few for that."""
HALF = 0.5
"""The share of the calls from which on a caller's calls alone may show something."""


def thinned(units: Sequence[float]) -> list[float]:
    """The weight of each caller's units, in [0, 1], equal in both arms. units: of each caller, in both arms.

    All ones with fewer than CAPPED_FROM callers that have units, and where less than LEFT of the units would be left.
    """
    some = [n for n in units if n > 0]
    if len(some) < CAPPED_FROM:
        return [1.0] * len(units)
    most = _largest(sorted(some))
    left = sum(min(n, most) for n in some)
    if left < LEFT * sum(some):
        return [1.0] * len(units)
    return [min(1.0, most / n) if n > 0 else 1.0 for n in units]


def _largest(ascending: Sequence[float]) -> float:
    """The units that one caller may have: CAP of the sum of everybody's after that.

    The k largest callers are cut to CAP · (the sum of the others) / (1 - k · CAP), with the smallest k that leaves
    nobody else above that.
    """
    n, total = len(ascending), sum(ascending)
    for k in range(CAPPED_FROM):
        total -= ascending[n - k] if k else 0.0
        most = CAP * total / (1.0 - k * CAP)
        if ascending[n - k - 1] <= most:
            return most
    return ascending[n - CAPPED_FROM]


def may_be_left_out(calls: Mapping[str, int]) -> list[str]:
    """The callers without whom a finding must hold as well: those with less than HALF of the calls."""
    total = sum(calls.values())
    return [caller for caller, n in calls.items() if n < HALF * total]
