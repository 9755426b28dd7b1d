"""The paid calls of finding the best of several candidates, before anything is paid. Pure.

While no candidate is dropped, each pair pays for all of them. A candidate that is worse than another by some margins is
dropped at about the number of pairs at which an interval is that narrow; the best one continues until the verdict. The
comparison is with separate experiments of one look, one for each candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.plan import Plan
from gateway.reports.number_format import count, counted
from gateway.statistics.special import normal_quantile
from gateway.verdict.price.terms import POWER, PriceTerm

GAPS = (0.5, 1.0, 2.0, 3.0)
"""Differences between the best candidate and the others, in margins."""


@dataclass(frozen=True, slots=True)
class BestCase:
    """The price if one candidate is better than all others, which are as good as the control."""

    gap: float
    """Lead of the best candidate, in margins; 0 if all are alike."""
    dropped_pairs: int | None
    """Pairs until the others are dropped; None if they are not."""
    pairs: int
    """Pairs until the verdict."""
    paid_calls: int


@dataclass(frozen=True, slots=True)
class BestPrice:
    """The price of the best of several candidates."""

    arms: int
    """Number of arms, k: the candidates and the control."""
    alpha: float
    """One-sided error of each comparison."""
    separate_paid_calls: int
    """Paid calls of one experiment with one look for each candidate, at the same margin, alpha, power and repeats."""
    cases: tuple[BestCase, ...]
    """Prices for candidates that are alike, and for each of GAPS."""

    def at(self, effect: float) -> BestCase | None:
        """The case of a multiple of the planned effect: 1.5 is better by half a margin."""
        return next((case for case in self.cases if case.gap == effect - 1.0), None)


Until = Callable[[float, float], int | None]
"""(margins, deviations) → settled pairs until each side of an interval is narrower than that number of margins plus
that number of standard errors of the mean; None if there are too many to predict."""


def best_price(plan: Plan, variance: float, until: Until, others: int) -> BestPrice | None:
    """The price at this variance of one difference. None if there are too many pairs to predict, or a margin of 0.

    others: settled pairs that guardrails and gates need.
    """
    if not plan.margin:
        return None
    cases = [_case(plan, gap, until, others) for gap in (0.0, *GAPS)]
    z = normal_quantile(1 - plan.verdict_alpha / 2) + normal_quantile(POWER)
    one_look = math.ceil(variance * (z / plan.margin) ** 2)
    separate = len(plan.candidates) * math.ceil(one_look * (1.0 + plan.paid_repeats))
    known = tuple(case for case in cases if case is not None)
    alpha = plan.verdict_alpha / 2 / len(plan.candidates)
    return BestPrice(len(plan.candidates) + 1, alpha, separate, known) if len(known) == len(cases) else None


def _case(plan: Plan, gap: float, until: Until, others: int) -> BestCase | None:
    shown = until(1.0 + gap, 0.0 if gap else _ahead(len(plan.candidates)))
    dropped = until(gap, 0.0) if gap else None
    if shown is None:
        return None
    pairs = max(shown, others)
    dropped = dropped if dropped is not None and dropped < pairs else None
    paid = pairs + (len(plan.candidates) - 1) * (dropped or pairs) + math.ceil(pairs * plan.paid_repeats)
    return BestCase(gap, dropped, pairs, paid)


def _ahead(candidates: int) -> float:
    """Lead by chance of the first of equally good candidates over the control, in standard errors of the mean
    difference: the expected maximum of that number of normal means, where a difference has twice the variance.

    Source: Blom 1958, Statistical Estimates and Transformed Beta-Variables (the approximation of the expectation).
    """
    return normal_quantile((candidates - 0.375) / (candidates + 0.25)) / math.sqrt(2.0)


def best_term(price: BestPrice) -> PriceTerm:
    """The price in words."""
    alike, better = price.cases[0], [case for case in price.cases if case.gap >= 1.0]
    cases = [f"{counted(alike.paid_calls, 'paid call')} if all candidates are alike"]
    cases += [f"{count(case.paid_calls)} if one is better by {case.gap:g} × the margin" for case in better]
    says = (
        f"each comparison, with the control and between candidates, has a one-sided error of {price.alpha:.2g}; "
        f"{', '.join(cases)}; {price.arms - 1} experiments with one look each: {count(price.separate_paid_calls)}"
    )
    return PriceTerm(f"best of {price.arms - 1}", says)
