"""The gate on completeness: answers that drop out of a comparison on one arm only. Pure.

A scorer that does not apply to the candidate's bad answers leaves only its good ones to compare. An empty answer counts
as failed, which is a value; what else has no score on one arm is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from gateway.core.plan import CONTROL, Plan
from gateway.features.experiments.gates import NEGLIGIBLE
from gateway.reports.model import Estimate, GateResult
from gateway.reports.number_format import counted, digits, interval, number

COMPLETENESS = "completeness"
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
    """Whether an answer counts as failed: it is not whole, or it is empty and the plan does not allow that."""
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
    """Of these shares, control minus candidate."""


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
    """The sum of both arms' shares, each weighted as the means are: the most by which they can change a difference."""
    difference: Estimate
    """Of these shares, control minus candidate."""
    more_units: int | None = None
    """About how many more make the gate green, if shares and means stay; None: none do, or that is not known."""


def completeness_gate(
    metric: str, candidate: str, found: OneSided, worst: Estimate | None, margin: float
) -> GateResult | None:
    """Whether what has no score on one arm could change the verdict; None: nothing is missing on one arm alone.

    Red once the shares are shown to differ by more than a quarter of the margin. Green while they are below that, or
    shown to be alike within it. Until either is known, the gate is as green as the primary at worst: worst is its
    difference with each missing score counted as the worst for the candidate; None: it has no worst value.
    """
    missing = found.control + found.candidate
    if not missing:
        return None
    says = (
        f"{metric} has a value of one arm alone: it lacks {CONTROL} {found.control} of {found.pairs}, "
        f"{candidate} {found.candidate} of {found.pairs}"
    )
    return _gate(says, candidate, _Shares(missing / found.pairs, found.difference), worst, margin)


def preference_completeness_gate(
    metric: str, found: NoPreference, worst: Estimate | None, margin: float
) -> GateResult | None:
    """The same for preferences; None: every pair has one. A missing one does not say whose answer is the reason, so it
    never shows that the arms are alike, nor that they are not: the gate is as green as the primary at worst."""
    if not found.without:
        return None
    says = f"{metric} has no preference in {found.without} of {found.pairs} pairs"
    share = found.without / found.pairs
    if share <= NEGLIGIBLE * margin:
        return GateResult(COMPLETENESS, 1, f"{says}; too few to change the verdict", share)
    return _at_worst(says, worst, margin, share)


def split_completeness_gate(
    metric: str, candidate: str, found: SplitMissing, worst: Estimate | None, margin: float
) -> GateResult | None:
    """The same for answers of a split, whose arms answer different requests; None: none is missing on either arm."""
    (a, of_a), (b, of_b) = found.control, found.candidate
    if not a + b:
        return None
    says = f"{metric} does not apply to {a} of {of_a} answers of {CONTROL}, {b} of {of_b} of {candidate}"
    gate = _gate(says, candidate, _Shares(found.share, found.difference), worst, margin)
    if gate.state:
        return gate
    more = f"about {counted(found.more_units, 'unit')} more close this gate" if found.more_units else _NOT_CLOSED
    return replace(gate, says=f"{gate.says}; {more}")


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
    return _at_worst(says, worst, margin, share)


def _at_worst(says: str, worst: Estimate | None, margin: float, share: float) -> GateResult:
    if worst is None or worst.value is None:
        says = f"{says}; it is not known yet whether the arms are alike within ±{NEGLIGIBLE * margin:.4g}"
        return GateResult(COMPLETENESS, 0, says, share)
    places = digits(margin)
    line = f"{number(worst.value, places, signed=True)}, interval {interval(worst, places)}"
    says = f"{says}; with these counted as the worst for the candidate the difference is {line}"
    if worst.low is not None and worst.low > -margin:
        return GateResult(COMPLETENESS, 1, f"{says}: still not worse by more than {margin:g}", share)
    return GateResult(COMPLETENESS, 0, f"{says}, which may be worse by more than {margin:g}", share)
