"""Selects comparisons to report, with a bound on the share of false ones among them.

Source: Benjamini & Hochberg, JRSS-B 57(1), 1995, pages 289-300.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.statistics.domains import between, inside


def benjamini_hochberg(p_values: Sequence[float], q: float) -> list[bool]:
    """Whether each comparison is reported: the expected share of false ones among these is at most q.

    p_values: one for every comparison, also for those that cannot differ (1.0), each in [0, 1]. q: in (0, 1). Holds for
    independent p-values and for positively dependent ones, as those of scorers of the same calls are. Raises ValueError
    outside these domains.
    Source: Benjamini & Hochberg 1995, JRSS-B 57(1); positive dependence in Benjamini & Yekutieli 2001.
    """
    share, n = inside("q", q), len(p_values)
    passing = (p for i, p in enumerate(sorted(between("p_values", p) for p in p_values), 1) if p <= share * i / n)
    limit = max(passing, default=-1.0)
    return [p <= limit for p in p_values]
