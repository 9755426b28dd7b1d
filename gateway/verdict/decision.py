"""Turns comparisons and gates into one verdict, in one sentence. Pure: the intervals come from elsewhere.

`ship` requires that the primary and every guardrail are shown not to be worse than their margins. Each is tested at the
plan's full alpha without a correction: a wrong `ship` requires that the truly worse metric is missed, which has
probability at most alpha, over all looks together. `reject` requires that one of them is shown to be worse than its
margin; its error adds up over primary and guardrails, alpha / 2 each. A red gate withholds both. An open gate withholds
`ship` only: a candidate that is shown to be worse need not wait for the proof that everything else is in order, unless
the gate doubts that the candidate is the reason.

`ship` waits for `min_hours` of traffic, and `reject` is about the mean over them, too. A candidate that is worse in the
first hours may be as good as the control in the rest of the day: failures come in bursts, and loads and tasks vary over
the day. While the pairs cover a share of the hours, the known part of that mean is the share times the mean so far. If
the candidate were exactly as good as the control in all the remaining hours, that would be the whole mean. `reject`
comes early where this is shown to be worse than the margin: the interval's upper end, times the share, is below it. The
upper end holds at every look and for the running mean of a difference that moves, so an early `reject` errs as rarely
as one after the hours, for every candidate that is not better than the control in the remaining hours.

Several candidates of one plan share its error by Holm's procedure on their verdicts. Each candidate's verdict is tested
at alpha / k first, where k is the number of candidates. One that ships leaves its part to those that have not shipped,
and one that is rejected to those that have not been rejected: the two kinds of error are counted apart. The probability
that any candidate is shipped although it is worse by a margin stays at most alpha, over all looks, since each test is
valid at every look and a test with a smaller error never claims more than one with a larger error.

Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from gateway.core.guards import guard_in
from gateway.core.horizon import BURN_IN as FEWEST
from gateway.core.plan import Plan
from gateway.reports.model import Comparison, Estimate, GateResult, Margin, Verdict, direction_finding, margin_finding
from gateway.reports.number_format import counted, digits, interval, number
from gateway.statistics import hybrid
from gateway.statistics.asymptotic import SKEW_FROM, Tuning, half_width
from gateway.statistics.empirical_bernstein import bernstein_bound
from gateway.statistics.rare import RareDifference
from gateway.statistics.special import smallest
from gateway.verdict.gates.gates import worst
from gateway.verdict.sequences.difference import EVEN, AlphaShare, DifferenceSequence, SequenceRule

REJECT_WAITS = "`reject` only while the hours left could make up for the harm seen"
"""Second half of a sentence on the hours of `ship`."""
_HOUR_S = 3600.0


def share_of_hours(plan: Plan, hours: float) -> float:
    """The share of `min_hours` that these hours of traffic are, at most 1; 1 where the plan asks for none."""
    if plan.rules < 2 or not plan.min_hours:
        return 1.0
    return min(1.0, max(hours, 0.0) / plan.min_hours)


def share_of_pairs(plan: Plan, sequence: DifferenceSequence | None) -> float:
    """The share of `min_hours` that the values of a sequence cover; 1 where none of them has a time."""
    if sequence is None or sequence.time.last is None:
        return 1.0
    return share_of_hours(plan, sequence.time.covered_s / _HOUR_S)


def rejects(c: Comparison) -> bool:
    """Whether the metric is worse by more than its margin over all of `min_hours`, whatever the remaining hours
    show."""
    if c.margin_found != "inferior" or c.margin is None:
        return False
    return c.hours_share >= 1.0 or (c.difference.high is not None and c.difference.high * c.hours_share < -c.margin)


def too_early(c: Comparison) -> bool:
    """Whether the metric is shown to be worse so far, but not over all of `min_hours`."""
    return c.margin_found == "inferior" and not rejects(c)


def pairs_until_reject(c: Comparison) -> int | None:
    """Estimates how many more pairs reject, if the interval stays and they come at the same pace; None if that is
    unknown.
    """
    if not too_early(c) or not c.hours_share or c.difference.high is None or c.margin is None:
        return None
    return max(1, math.ceil(c.pairs * (-c.margin / c.difference.high / c.hours_share - 1.0)))


def waits(c: Comparison, places: int) -> str:
    """The condition that a reject on this metric waits for. c: one that is too early. places: decimals of numbers."""
    if not c.hours_share:
        return "its values cover no time yet"
    bound = number(-(c.margin or 0.0) / c.hours_share, places)
    return f"its values cover {c.hours_share:.0%} of the hours; a reject now takes an interval below {bound}"


MOST_PAIRS = 10_000_000  # a larger number of missing pairs is reported as out of reach
FUTILE = 0.05  # with a smaller chance of a decision, the advice is to stop
SHIPS: tuple[Verdict, ...] = ("ship", "ship_except")
HARMLESS: tuple[Margin, ...] = ("equivalent", "non_inferior")


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and what it is based on."""

    verdict: Verdict
    sentence: str  # the verdict with its numbers
    reasons: tuple[str, ...]  # one for each metric or gate that is undecided, or that decided


@dataclass(frozen=True, slots=True)
class SwapDescription:
    """The subject of the sentence."""

    model: str  # the name that clients use
    control: str  # "upstream/model"
    candidate: str


def pairs_needed(difference: Estimate, n: int, variance: float, margin: float, rule: SequenceRule) -> int | None:
    """Estimates how many more pairs decide the margin, if the mean and the variance stay the same.

    That is the smallest n at which the interval around the same mean lies on one side of -margin, less the n so far.
    n: pairs so far. variance: of one difference. None if already decided, fewer than two pairs, or more than
    MOST_PAIRS or the horizon.
    """
    if difference.value is None or n < 2 or margin_finding(difference, margin) != "unclear":
        return None
    gap, width = abs(difference.value + margin), half_width_of(rule, variance)
    enough = smallest(lambda pairs: width(pairs) < gap, max(n, 2), rule.horizon or MOST_PAIRS)
    return None if enough is None else max(1, enough - n)


def half_width_of(rule: SequenceRule, variance: float) -> Callable[[float], float]:
    """A function from n to the interval's half-width after n differences of this variance.

    Betting counts as being as wide as empirical Bernstein, which is conservative.
    """
    if rule.method in ("asymptotic", "skewed"):
        tuning = Tuning(rule.alpha, rule.n_opt)
        tuning = replace(tuning, burn_in=SKEW_FROM) if rule.method == "skewed" else tuning
        return lambda n: half_width(math.sqrt(variance), n, tuning)
    if rule.method == "hybrid":
        return lambda n: hybrid.half_width(rule.alpha, rule.horizon, int(n), variance * n, rule.largest)
    if rule.method == "guarded":
        return lambda n: hybrid.guarded_half_width(rule.alpha, rule.n_opt, int(n), variance * n, rule.largest)
    if rule.method == "rare":
        return lambda n: _rare_half_width(rule.alpha, int(n), variance)
    return lambda n: bernstein_bound(variance * n, rule.alpha, 2.0, rule.v_opt) / n


def _rare_half_width(alpha: float, n: int, variance: float) -> float:
    each = min(round(variance * n / 2), n // 2)  # failures of one arm alone, as frequent on both
    return RareDifference(alpha, n, each, each).interval()[1]


def chance_of_decision(
    difference: Estimate, n: int, variance: float, margin: float, rule: SequenceRule
) -> float | None:
    """The probability that the interval at the horizon lies on one side of -margin.

    The present uncertainty of the mean and the pairs to come are both taken as normal around the mean so far. None if
    there is no horizon, it is reached, or there are too few pairs.
    """
    left = rule.horizon - n
    if not rule.horizon or left <= 0 or n < FEWEST or difference.value is None or not variance:
        return None
    spread = left / rule.horizon * math.sqrt(variance * (1 / n + 1 / left))
    half = half_width_of(rule, variance)(rule.horizon)
    ahead = NormalDist(difference.value + margin, spread)
    return 1.0 - (ahead.cdf(half) - ahead.cdf(-half))


def decide(
    swap: SwapDescription,
    primary: Comparison | None,
    guardrails: Sequence[Comparison],
    gates: Sequence[GateResult],
    claims: Sequence[str],
    early_reject: bool = True,
) -> Decision:
    """The verdict of one candidate.

    early_reject: `reject` does not wait for open gates.
    claims: added to the sentence ("71 % cheaper"); only from a fair comparison. None as primary: nothing is decided.
    """
    guard = guard_in(swap.candidate)
    head = f"Switching {swap.model} from {swap.control} to {swap.candidate}: "
    head = head if guard is None else f"Enforcing the guard {guard} on {swap.model} with {swap.control}: "
    if primary is None:
        why = "no primary metric is configured, so nothing is decided"
        return Decision("hold", f"{head}no verdict; {why}. Hold.", (why,))
    left = sorted((gate for gate in gates if gate.state < 1), key=lambda gate: gate.state)
    open_gates = tuple(f"{'failed' if gate.state < 0 else 'open'}: {gate.says}" for gate in left)
    if worst(gates) < (0 if early_reject else 1):
        return Decision("hold", f"{head}verdict withheld; {_first(open_gates)}. Hold.", open_gates)
    finding = ", ".join([f"{head}{_finding(primary)}", *claims])
    bad = [c for c in (primary, *guardrails) if rejects(c)]
    if bad == [primary] and any(gate.doubts_reject for gate in gates):
        return Decision("hold", f"{head}verdict withheld; {_first(open_gates)}. Hold.", open_gates)
    if bad:
        reasons = tuple(_worse(c) for c in bad)
        broken = [c.metric for c in bad if c is not primary]
        tail = f" Guardrails broken: {', '.join(broken)}." if broken else ""
        return Decision("reject", f"{finding}.{tail} Reject.", reasons)
    reasons = tuple(_undecided(c) for c in (primary, *guardrails) if c.margin_found not in HARMLESS)
    early = tuple(_worse_so_far(c) for c in (primary, *guardrails) if too_early(c))
    if open_gates:
        reasons = (*early, *open_gates, *(reason for reason in reasons if reason not in early))
        return Decision("hold", f"{head}verdict withheld; {_first(reasons)}. Hold.", reasons)
    if reasons:
        return Decision("hold", f"{finding}. {_open_end(primary)}ndecided: {'; '.join(reasons)}. Hold.", reasons)
    tail = " Guardrails hold." if guardrails else ""
    reasons = tuple(f"{c.metric}: {_words(c)}" for c in (primary, *guardrails))
    return Decision("ship", f"{finding}.{tail} Ship.", reasons)


def _open_end(primary: Comparison) -> str:
    """End of an undecided sentence: the plan is closed, a verdict is out of reach, or it may still come."""
    if primary.closed:
        return f"Closed at {counted(primary.pairs, primary.counts)}; u"
    if primary.chance is not None and primary.chance < FUTILE:
        chance = f"with a probability of {primary.chance:.0%}"
        horizon = counted(primary.horizon or 0, primary.counts)
        return f"The horizon of {horizon} decides it only {chance}: stop paying for it. U"
    return "U"


def _first(reasons: Sequence[str]) -> str:
    more = len(reasons) - 1
    return reasons[0] + (f" (and {more} more)" if more else "")


def _finding(c: Comparison) -> str:
    return f"{_words(c)} on {c.metric} ({_numbers(c)})"


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
    raw = f", not adjusted {number(c.raw.value, places, signed=True)}" if c.raw else ""
    return f"difference {value}{unit}, interval {interval(c.difference, places)}{raw}, {counted(c.pairs, c.counts)}"


def _worse(c: Comparison) -> str:
    return f"{c.metric}: worse by more than {c.margin:g} ({_numbers(c)})"


def _worse_so_far(c: Comparison) -> str:
    places = digits(c.margin or c.difference.value)
    return f"{c.metric}: worse by more than {c.margin:g} so far ({_numbers(c)}; {waits(c, places)})"


def _undecided(c: Comparison) -> str:
    if too_early(c):
        return _worse_so_far(c)
    if not c.pairs:
        return f"{c.metric} (no {c.counts} with a value yet)"
    if c.stopped:
        return f"{c.metric} ({_numbers(c)}; the plan is stopped)"
    late = f"more than its {counted(c.horizon, c.counts)}" if c.horizon else "too many more to predict"
    more = f"about {counted(c.pairs_needed, c.counts)} more" if c.pairs_needed else late
    return f"{c.metric} ({_numbers(c)}; {more})"


def cheaper(cost: Comparison | None) -> str | None:
    """The claim "71 % cheaper (1.7 … 1.9 USD per 1k)" or "more expensive"; None unless the interval excludes 0."""
    if cost is None or cost.direction_found == "unclear" or not cost.a.value or cost.b.value is None:
        return None
    percent = abs(round(100 * (1 - cost.b.value / cost.a.value)))
    return f"{percent} % {'cheaper' if cost.direction_found == 'better' else 'more expensive'}{_by(cost)}"


def faster(p95: Comparison | None) -> str | None:
    """The claim "p95 0.4 s lower (0.2 … 0.6 s)" or "higher"; None unless the interval excludes 0.

    Both arms must use the same path.
    """
    if p95 is None or p95.direction_found == "unclear" or p95.difference.value is None:
        return None
    word = "lower" if p95.direction_found == "better" else "higher"
    return f"p95 {abs(p95.difference.value):.2g} s {word}{_by(p95)}"


def _by(c: Comparison) -> str:
    """The interval of a difference whose direction is known, in its unit and without a sign; "" where it is open."""
    low, high = c.difference.low, c.difference.high
    if low is None or high is None:
        return ""
    ends = sorted((abs(low), abs(high)))
    return f" ({ends[0]:.3g} … {ends[1]:.3g}{f' {c.unit}' if c.unit else ''})"


def with_findings(c: Comparison, rule: SequenceRule, variance: float) -> Comparison:
    """The comparison with its findings and what is still needed filled in. variance: of one difference."""
    c = replace(c, horizon=rule.horizon or None)
    if c.margin is None:
        return replace(c, direction_found=direction_finding(c.difference), margin_found="unclear", pairs_needed=None)
    found = margin_finding(c.difference, c.margin)
    return replace(
        c,
        direction_found=direction_finding(c.difference),
        margin_found=found,
        pairs_needed=pairs_needed(c.difference, c.pairs, variance, c.margin, rule),
        chance=chance_of_decision(c.difference, c.pairs, variance, c.margin, rule) if found == "unclear" else None,
    )


Look = Callable[[str, AlphaShare], Verdict]
"""(candidate, its share) → its verdict with that share."""


def holm(candidates: Sequence[str], verdict: Look) -> dict[str, AlphaShare]:
    """The share of each candidate, in even shares."""
    if len(candidates) < 2:
        return dict.fromkeys(candidates, EVEN)
    ship = _steps(candidates, lambda arm, share: verdict(arm, AlphaShare(share, 1.0)) in SHIPS)
    reject = _steps(candidates, lambda arm, share: verdict(arm, AlphaShare(1.0, share)) == "reject")
    return {arm: AlphaShare(ship[arm], reject[arm]) for arm in candidates}


def _steps(candidates: Sequence[str], decided: Callable[[str, float], bool]) -> dict[str, float]:
    """The share with which each candidate was decided; for those that are not, the share that remains for each."""
    left, shares = list(candidates), dict.fromkeys(candidates, 1.0)
    while left:
        share = len(candidates) / len(left)
        shares |= dict.fromkeys(left, share)
        still = [arm for arm in left if not decided(arm, share)]
        if len(still) == len(left):
            break
        left = still
    return shares
