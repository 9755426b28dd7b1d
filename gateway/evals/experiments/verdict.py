"""From comparisons and gates to one verdict in one sentence. Pure; decides, computes nothing.

`ship` needs the primary and every guardrail to be shown not worse than their margins. Each has the plan's whole error
for itself, and no correction is needed: a wrong `ship` needs the one that is truly worse to be missed, and that has
probability alpha at most, at whatever moment one looks. `reject` needs one of them to be shown worse than its margin:
its error adds up over the guardrails, alpha / 2 each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.evals.experiments.gates import worst
from gateway.evals.experiments.number_format import counted, digits, interval, number
from gateway.evals.experiments.report import Comparison, Direction, Estimate, GateResult, Margin, Verdict
from gateway.evals.experiments.sequences import SequenceRule
from gateway.evals.statistics.asymptotic import Tuning, half_width
from gateway.evals.statistics.empirical_bernstein import bernstein_bound

MOST_PAIRS = 10_000_000  # beyond it "still needed" is no help
HARMLESS: tuple[Margin, ...] = ("equivalent", "non_inferior")


@dataclass(frozen=True, slots=True)
class Decision:
    """reasons: what is undecided, or what decided."""

    verdict: Verdict
    sentence: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwapDescription:
    """Of what the sentence speaks."""

    model: str
    control: str
    candidate: str


def direction_finding(difference: Estimate) -> Direction:
    if difference.low is not None and difference.low > 0:
        return "better"
    if difference.high is not None and difference.high < 0:
        return "worse"
    return "unclear"


def margin_finding(difference: Estimate, margin: float) -> Margin:
    """A margin of 0 asks for "not worse at all": then an interval that begins at 0 does."""
    low, high = difference.low, difference.high
    if high is not None and high < -margin:
        return "inferior"
    if low is None or not (low > -margin or low == margin == 0):
        return "unclear"
    return "equivalent" if high is not None and high < margin else "non_inferior"


def pairs_needed(difference: Estimate, n: int, variance: float, margin: float, rule: SequenceRule) -> int | None:
    """About how many pairs more until the margin is decided, if mean and variance stay. None: decided, or out of sight.

    The smallest n at which the interval, around the same mean, ends on one side of −margin.
    """
    if difference.value is None or n < 2 or margin_finding(difference, margin) != "unclear":
        return None
    gap = abs(difference.value + margin)
    width = half_width_of(rule, variance)
    high = max(n, 2)
    while width(high) >= gap:
        high *= 2
        if high > MOST_PAIRS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width(middle) < gap else (middle, high)
    return max(1, high - n)


def half_width_of(rule: SequenceRule, variance: float) -> Callable[[float], float]:
    """n → half of the interval's width after n differences of this variance. Betting is taken to be as wide as
    empirical Bernstein, which errs to the wide side."""
    if rule.method == "asymptotic":
        tuning = Tuning(rule.alpha, rule.n_opt)
        return lambda n: half_width(math.sqrt(variance), n, tuning)
    return lambda n: bernstein_bound(variance * n, rule.alpha, 2.0, rule.v_opt) / n


def decide(
    swap: SwapDescription,
    primary: Comparison | None,
    guardrails: Sequence[Comparison],
    gates: Sequence[GateResult],
    claims: Sequence[str],
) -> Decision:
    """claims: what may be said beside the verdict ("71 % cheaper"), from a fair comparison only."""
    head = f"Switching `{swap.model}` from {swap.control} to {swap.candidate}: "
    if primary is None:
        why = "no primary metric is named, so nothing is decided"
        return Decision("hold", f"{head}no verdict; {why}. Hold.", (why,))
    red = [gate for gate in gates if gate.state < 1]
    if worst(gates) < 1:
        reasons = tuple(f"{'failed' if gate.state < 0 else 'open'}: {gate.says}" for gate in red)
        return Decision("hold", f"{head}verdict withheld; {_first(reasons)}. Hold.", reasons)
    said = ", ".join([f"{head}{_finding(primary)}", *claims])
    bad = [c for c in (primary, *guardrails) if c.margin_found == "inferior"]
    if bad:
        reasons = tuple(_worse(c) for c in bad)
        broken = [c.metric for c in bad if c is not primary]
        tail = f" Guardrails broken: {', '.join(broken)}." if broken else ""
        return Decision("reject", f"{said}.{tail} Reject.", reasons)
    undecided = [c for c in (primary, *guardrails) if c.margin_found not in HARMLESS]
    if undecided:
        reasons = tuple(_undecided(c) for c in undecided)
        return Decision("hold", f"{said}. Undecided: {'; '.join(reasons)}. Hold.", reasons)
    tail = " Guardrails hold." if guardrails else ""
    reasons = tuple(f"{c.metric}: {_words(c)}" for c in (primary, *guardrails))
    return Decision("ship", f"{said}.{tail} Ship.", reasons)


def _first(reasons: Sequence[str]) -> str:
    more = len(reasons) - 1
    return reasons[0] + (f" (and {more} more)" if more else "")


def _finding(c: Comparison) -> str:
    return f"{_words(c)} on *{c.metric}* ({_numbers(c)})"


def _words(c: Comparison) -> str:
    if c.margin_found == "inferior":
        return f"worse by more than {c.margin:g}"
    if c.direction_found == "better":
        return "better"
    if c.margin_found == "equivalent":
        return f"the same within {c.margin:g}"
    return f"not worse by more than {c.margin:g}" if c.margin_found == "non_inferior" else "undecided"


def _numbers(c: Comparison) -> str:
    places = digits(c.margin or c.difference.value)
    unit = f" {c.unit}" if c.unit else ""
    value = number(c.difference.value, places, signed=True)
    return f"difference {value}{unit}, interval {interval(c.difference, places)}, {counted(c.pairs, 'pair')}"


def _worse(c: Comparison) -> str:
    return f"{c.metric}: worse by more than {c.margin:g} ({_numbers(c)})"


def _undecided(c: Comparison) -> str:
    if not c.pairs:
        return f"{c.metric} (no pair yet)"
    more = f"about {counted(c.pairs_needed, 'pair')} more" if c.pairs_needed else "how many more is out of sight"
    return f"{c.metric} ({_numbers(c)}; {more})"


def cheaper(cost: Comparison | None) -> str | None:
    """ "71 % cheaper", where the interval shows which way."""
    if cost is None or cost.direction_found == "unclear" or not cost.a.value or cost.b.value is None:
        return None
    percent = abs(round(100 * (1 - cost.b.value / cost.a.value)))
    return f"{percent} % {'cheaper' if cost.direction_found == 'better' else 'dearer'}"


def faster(p95: Comparison | None) -> str | None:
    """ "p95 0.4 s lower", where the interval shows which way; only of arms that were asked by one path."""
    if p95 is None or p95.direction_found == "unclear" or p95.difference.value is None:
        return None
    return f"p95 {abs(p95.difference.value):.2g} s {'lower' if p95.direction_found == 'better' else 'higher'}"


def with_findings(c: Comparison, rule: SequenceRule, variance: float) -> Comparison:
    """The same comparison with direction, margin and what is still needed filled in."""
    if c.margin is None:
        return replace(c, direction_found=direction_finding(c.difference), margin_found="unclear", pairs_needed=None)
    return replace(
        c,
        direction_found=direction_finding(c.difference),
        margin_found=margin_finding(c.difference, c.margin),
        pairs_needed=pairs_needed(c.difference, c.pairs, variance, c.margin, rule),
    )
