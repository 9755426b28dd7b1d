"""Margins and differences on a judge's scores, as people judge.

On answers that are good or bad, a judge with sensitivity s and specificity t sees (s + t − 1) times the difference that
people see, so a margin of 0.05 on its scores is one of 0.05 / (s + t − 1) as people judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.reports.model import Estimate
from gateway.statistics.judge_rates import JudgeAccuracy
from gateway.statistics.special import two_sided_z


@dataclass(frozen=True, slots=True)
class JudgeMargin:
    """A margin as people judge, with the interval that labels give it at one look."""

    margin: float
    """Margin in the judge's scores."""
    seen: float
    """Sensitivity + specificity − 1: the share of a difference that the judge sees."""
    low: float
    high: float
    """Interval of `seen`."""

    @property
    def as_people_judge(self) -> tuple[float, float | None]:
        """The smallest and the largest loss that the margin may stand for; None if it has no bound."""
        return self.margin / self.high, self.margin / self.low if self.low > 0 else None

    @property
    def setting(self) -> float | None:
        """The margin to set so that the loss is at most `margin` as people judge; None if the labels do not determine
        one."""
        return self.margin * self.low if self.low > 0 else None


def judge_margin(judge: JudgeAccuracy, margin: float, alpha: float = 0.05) -> JudgeMargin:
    """The margin as people judge. Its interval combines Wilson's intervals of both rates by the square root of the
    summed squares of their arms.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures", Stat. Med. 27 (MOVER).
    """
    (low0, high0), (low1, high1) = judge.intervals(alpha)
    seen = judge.tpr + judge.tnr - 1.0
    low = seen - math.hypot(judge.tpr - low1, judge.tnr - low0)
    high = seen + math.hypot(high1 - judge.tpr, high0 - judge.tnr)
    return JudgeMargin(margin, seen, low, min(1.0, max(high, 1e-9)))


def difference_by_rates(judge: JudgeAccuracy, difference: float, se: float, alpha: float = 0.05) -> Estimate | None:
    """The difference as people judge, for a judge that errs equally on both arms: difference / (sensitivity +
    specificity − 1), by the delta method, for one look. None if the labels do not show that the judge is better than
    chance.

    difference, se: of the judge's verdicts, good or bad. The rates' variances are those with one more answer of each
    kind on each side, since equal labels do not prove certainty. Source: Rogan & Gladen 1978.
    """
    found = judge_margin(judge, 1.0, alpha)
    if found.low <= 0:
        return None
    rates = ((judge.tnr, judge.m0), (judge.tpr, judge.m1))
    smooth = [((rate * m + 1.0) / (m + 2.0), m + 2.0) for rate, m in rates]
    of_rates = sum(rate * (1.0 - rate) / m for rate, m in smooth)
    half = two_sided_z(alpha) * math.sqrt(se**2 + (difference / found.seen) ** 2 * of_rates) / found.seen
    value = difference / found.seen
    return Estimate(value, value - half, value + half)


def margin_sentence(judge: str, of: JudgeMargin, labels: int) -> str:
    """ "Your margin of 0.05 on right is 0.06 to 0.15 as people judge: …; for at most 0.05 …, set `margin: 0.017`"."""
    least, most = of.as_people_judge
    size = f"{least:.2g} to {most:.2g}" if most is not None else f"at least {least:.2g}, without a bound,"
    text = (
        f"Your margin of {of.margin:g} on {judge} is {size} as people judge: the judge sees {max(of.seen, 0.0):.0%} of "
        f"a difference ({max(of.low, 0.0):.0%} … {of.high:.0%}, one look at {labels} labels)"
    )
    if of.setting is None:
        return f"{text}; label more answers: gateway label next --scorer {judge}."
    return f"{text}; for at most {of.margin:g} as people judge, set `margin: {of.setting:.2g}`."
