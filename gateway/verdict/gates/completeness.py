"""The gate on completeness: answers that drop out of a comparison on one arm only. Pure.

A scorer that does not apply to the candidate's bad answers leaves only its good ones to compare. An empty answer counts
as failed, which is a value; every other answer without a score on one arm is counted here.

The arms of a split answer different requests, so a request to which a scorer never applies is missing on both arms
equally often, except for chance. A split therefore compares the shares, and the primary at worst.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import CONTROL, Plan
from gateway.core.served_answer import ServedAnswer
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.reports.number_format import counted, digits, interval, number
from gateway.statistics.domains import Floats
from gateway.verdict.gates.losses import PairLosses
from gateway.verdict.metrics import NEGLIGIBLE

COMPLETENESS, JUDGE = "completeness", "judge"
_NOT_CLOSED = "it is not known how many units would close this gate"


class AnswerRecord(Protocol):
    """Stored facts of one answer that decide whether it failed."""

    @property
    def outcome(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def empty(self) -> bool | None: ...


def has_failed(plan: Plan, answer: AnswerRecord) -> bool:
    """Whether an answer counts as failed: it is incomplete, or it is empty and the plan does not allow that."""
    if answer.outcome != "ok" or answer.status >= 400:
        return True
    return bool(answer.empty) and plan.empty == "failed"


@dataclass(frozen=True, slots=True)
class OneSided:
    """Pairs in which the primary has a value of one answer alone."""

    pairs: int
    """Pairs in which the primary has a value of either answer."""
    control: int
    """Pairs in which the control's answer has no value."""
    candidate: int
    difference: Estimate
    """Difference of the shares, control minus candidate."""


@dataclass(frozen=True, slots=True)
class NoPreference:
    """Pairs to which the primary, a preference, does not apply, or of which an answer was cut."""

    pairs: int
    """Pairs whose judge did not fail."""
    without: int


@dataclass(frozen=True, slots=True)
class SplitMissing:
    """Answers of a split without a value of the primary, though they did not fail."""

    control: tuple[int, int]
    """(answers without a value, answers that did not fail)."""
    candidate: tuple[int, int]
    share: float
    """The sum of both arms' shares, each weighted as the means are: the largest change of a difference that they can
    cause."""
    difference: Estimate
    """Difference of the shares, control minus candidate."""
    more_units: int | None = None
    """Approximate number of further units that make the gate green, if shares and means stay the same; None if none do,
    or it is unknown."""


def completeness_gate(
    metric: str, candidate: str, found: OneSided, worst: Estimate | None, margin: float
) -> GateResult | None:
    """Gate: could pairs without a score on one arm change the verdict? None if nothing is missing on one arm only.

    Red once the shares are shown to differ by more than a quarter of the margin. Green while they are below that, or
    shown to be alike within it. Until either is known, the gate is as green as the primary at worst: worst is its
    difference with each missing score counted as the worst for the candidate; None if it has no worst value.
    """
    missing = found.control + found.candidate
    if not missing:
        return None
    says = (
        f"{metric} has a value for one arm only: it lacks {CONTROL} {found.control} of {found.pairs}, "
        f"{candidate} {found.candidate} of {found.pairs}"
    )
    return _gate(says, candidate, _Shares(missing / found.pairs, found.difference), worst, margin)


def preference_completeness_gate(
    metric: str, found: NoPreference, worst: Estimate | None, margin: float
) -> GateResult | None:
    """The gate for preferences; None if every pair has one. A missing one does not say whose answer is the reason, so
    it never shows that the arms are alike, nor that they are not: the gate is as green as the primary at worst.
    """
    if not found.without:
        return None
    says = f"{metric} has no preference in {found.without} of {found.pairs} pairs"
    share = found.without / found.pairs
    if share <= NEGLIGIBLE * margin:
        return GateResult(COMPLETENESS, 1, f"{says}; too few to change the verdict", share)
    return _at_worst(COMPLETENESS, says, worst, margin, share)


def split_completeness_gate(
    metric: str, candidate: str, found: SplitMissing, worst: Estimate | None, margin: float
) -> GateResult | None:
    """The gate for a split, whose arms answer different requests; None if no score is missing on either arm."""
    (a, of_a), (b, of_b) = found.control, found.candidate
    if not a + b:
        return None
    says = f"{metric} has no value of {a} of {of_a} answers of {CONTROL}, {b} of {of_b} of {candidate}"
    gate = _gate(says, candidate, _Shares(found.share, found.difference), worst, margin)
    if gate.state:
        return gate
    more = f"about {counted(found.more_units, 'unit')} more close this gate" if found.more_units else _NOT_CLOSED
    return replace(gate, says=f"{gate.says}; {more}")


def judge_gate(failed: PairLosses, worst: Estimate | None, margin: float) -> GateResult:
    """Gate: could scores that the scorer failed to give, twice each, change the verdict?

    Failures that come as often on both arms are taken as the scorer's own. One arm's excess may depend on its answers,
    and counts as the worst for the candidate: worst is the primary's difference with it. Red once the arms are shown to
    differ by more than a quarter of the margin.
    """
    by_arm = ", ".join(f"{arm} {n} of {of}" for arm, (of, n) in sorted(failed.arms.items()))
    says, limit = f"judgements that failed: {by_arm}", NEGLIGIBLE * margin
    share = sum(n for _, n in failed.arms.values()) / max([1, *(of for of, _ in failed.arms.values())])
    if share <= limit:
        return GateResult(JUDGE, 1, f"{says}; too few to change the verdict", share)
    low, high = failed.difference.low, failed.difference.high
    if (low is not None and low > limit) or (high is not None and high < -limit):
        return GateResult(JUDGE, -1, f"{says}; the arms differ by more than {limit:.4g}", share)
    return _at_worst(JUDGE, f"{says}; as many on both arms count as the scorer's own", worst, margin, share)


@dataclass(frozen=True, slots=True)
class _Shares:
    both: float  # of either arm alone, or the sum of both arms' shares
    difference: Estimate  # control minus candidate


def _gate(says: str, candidate: str, found: _Shares, worst: Estimate | None, margin: float) -> GateResult:
    limit, share = NEGLIGIBLE * margin, found.both
    if share <= limit:
        return GateResult(COMPLETENESS, 1, f"{says}; too few to change the verdict", share)
    low, high = found.difference.low, found.difference.high
    if (low is not None and low > limit) or (high is not None and high < -limit):
        more = candidate if high is not None and high < -limit else CONTROL
        says = f"{says}; {more} lacks more, by more than {limit:.4g}: the answers that can be compared are not alike"
        return GateResult(COMPLETENESS, -1, says, share)
    if low is not None and high is not None and -limit <= low and high <= limit:
        return GateResult(COMPLETENESS, 1, f"{says}; the arms are alike within ±{limit:.4g}", share)
    return _at_worst(COMPLETENESS, says, worst, margin, share)


def _at_worst(gate: str, says: str, worst: Estimate | None, margin: float, share: float) -> GateResult:
    if worst is None or worst.value is None:
        says = f"{says}; it is not known yet whether the arms are alike within ±{NEGLIGIBLE * margin:.4g}"
        return GateResult(gate, 0, says, share)
    places = digits(margin)
    line = f"{number(worst.value, places, signed=True)}, interval {interval(worst, places)}"
    says = f"{says}; with these counted as the worst for the candidate the difference is {line}"
    if worst.low is not None and worst.low > -margin:
        return GateResult(gate, 1, f"{says}: still not worse by more than {margin:g}", share)
    return GateResult(gate, 0, f"{says}, which may be worse by more than {margin:g}", share)


Flags = NDArray[np.bool_]
Compare = Callable[[Floats, float], Comparison | None]
"""(values, sign) → their comparison, weighted as that of the primary."""


@dataclass(frozen=True, slots=True)
class PrimaryValues:
    """The primary of n answers."""

    values: Floats  # shape (n,), on [0, 1]; NaN: it does not apply, or was not asked for
    responded: Flags  # shape (n,): its scorer has looked at the answer
    failed: Flags  # shape (n,)

    @property
    def missing(self) -> Flags:
        """Answers without a value, though its scorer has looked at them."""
        return np.isnan(self.values) & self.responded & ~self.failed


def split_missing(
    rows: Sequence[ServedAnswer], primary: PrimaryValues, compare: Compare, margin: float
) -> tuple[SplitMissing, Estimate] | None:
    """Counts missing values by arm, and takes the difference with these as the worst for the candidate.

    None if nothing is missing, or nothing of one arm can be compared. margin: of the primary.
    """
    missing, seen = primary.missing, primary.responded & ~primary.failed
    if not missing.any():
        return None
    control = np.array([row.arm == CONTROL for row in rows])
    shares = compare(np.where(seen, missing, np.nan), -1.0)
    worst = compare(np.where(missing, control, primary.values), 1.0)
    if shares is None or worst is None:
        return None
    a, b = ((int((missing & arm).sum()), int((seen & arm).sum())) for arm in (control, ~control))
    share = (shares.a.value or 0.0) + (shares.b.value or 0.0)
    needed = [n for n in (_until_alike(shares, NEGLIGIBLE * margin), _until(worst, -margin)) if n is not None]
    return SplitMissing(a, b, share, shares.difference, min(needed, default=None)), worst.difference


def _until_alike(shares: Comparison, limit: float) -> int | None:
    """Units until the arms' shares are shown to be alike within ±limit. None if they are not, or it is not known."""
    value, low, high = shares.difference.value, shares.difference.low, shares.difference.high
    if value is None or low is None or high is None:
        return None
    return _more(shares.pairs, (high - low) / 2.0, limit - abs(value))


def _until(worst: Comparison, bound: float) -> int | None:
    """Units until the difference is shown to be above the bound. None if it is not, or that is not known."""
    value, low = worst.difference.value, worst.difference.low
    return None if value is None or low is None else _more(worst.pairs, value - low, value - bound)


def _more(units: int, half: float, gap: float) -> int | None:
    """Units until half of the interval's width is below the gap: it falls as 1 / √n. None if there is no gap."""
    if gap <= 0:
        return None
    return max(1, math.ceil(units * ((half / gap) ** 2 - 1.0)))
