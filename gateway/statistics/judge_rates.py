"""The true rate behind a judge's verdicts, given its error rates on answers that people have labelled."""

import math
from dataclasses import dataclass

from gateway.statistics.domains import at_least, between
from gateway.statistics.paired import wilson
from gateway.statistics.special import two_sided_z


@dataclass(frozen=True, slots=True)
class JudgeAccuracy:
    """A judge's error rates against labels. Always show both next to kappa, which hides the direction of the errors.

    Raises ValueError unless both rates are in [0, 1] and both sizes at least 1.
    """

    tnr: float  # share of m0 truly bad answers that the judge calls bad (specificity)
    m0: int
    tpr: float  # share of m1 truly good answers that the judge calls good (sensitivity)
    m1: int

    def __post_init__(self) -> None:
        between("tnr", self.tnr)
        between("tpr", self.tpr)
        at_least("m0", self.m0, 1)
        at_least("m1", self.m1, 1)

    def intervals(self, alpha: float = 0.05) -> tuple[tuple[float, float], tuple[float, float]]:
        """Wilson's intervals ((low, high) of tnr, (low, high) of tpr), for one look. alpha: in (0, 1)."""
        return wilson(self.tnr * self.m0, self.m0, alpha), wilson(self.tpr * self.m1, self.m1, alpha)


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A true rate estimated from an imperfect judge's verdicts; all three numbers in [0, 1]."""

    rate: float
    low: float
    high: float


def corrected_rate(p: float, n: int, judge: JudgeAccuracy, alpha: float = 0.05) -> CorrectedRate:
    """Rogan-Gladen: (p + tnr - 1) / (tnr + tpr - 1), where p is the share of n answers that the judge called good.

    The interval carries the uncertainty of p, tnr and tpr: with z^2/2 added to successes and failures of p, 1 to those
    of each rate, and t the estimate from these,
    t + d +- z sqrt(V(p) + (1 - t)^2 V(tnr) + t^2 V(tpr)) / (tnr + tpr - 1), V(q) = q (1 - q) / its size,
    d = 2 z^2 (t V(tpr) - (1 - t) V(tnr)). All ends clipped to [0, 1].
    p: in [0, 1]. n: >= 1. alpha: in (0, 1). For one look. Raises ValueError outside these domains, and if
    tnr + tpr <= 1: such a judge is not better than chance.
    Source: Rogan & Gladen 1978; Lee et al. 2025, arXiv:2511.21140, equations 4 and 6.
    """
    between("p", p)
    at_least("n", n, 1)
    rate = _rogan_gladen(p, judge.tnr, judge.tpr)
    z = two_sided_z(alpha)
    p_size, m0, m1 = n + z * z, judge.m0 + 2.0, judge.m1 + 2.0
    p_more = (n * p + z * z / 2.0) / p_size
    tnr, tpr = (judge.m0 * judge.tnr + 1.0) / m0, (judge.m1 * judge.tpr + 1.0) / m1
    t = _rogan_gladen(p_more, tnr, tpr)
    v_p, v0, v1 = (q * (1.0 - q) / size for q, size in ((p_more, p_size), (tnr, m0), (tpr, m1)))
    centre = t + 2.0 * z * z * (t * v1 - (1.0 - t) * v0)
    half = z * math.sqrt(v_p + (1.0 - t) ** 2 * v0 + t * t * v1) / (tnr + tpr - 1.0)
    return CorrectedRate(_clip(rate), _clip(centre - half), _clip(centre + half))


def _rogan_gladen(p: float, tnr: float, tpr: float) -> float:
    informed = tnr + tpr - 1.0
    if not informed > 0:
        raise ValueError(f"tnr + tpr: {tnr + tpr!r}, expected more than 1 (the judge is not better than chance)")
    return (p + tnr - 1.0) / informed


def _clip(x: float) -> float:
    return min(1.0, max(0.0, x))
