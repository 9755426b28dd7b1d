"""The gates: conditions of any verdict, each red, unknown or green with a reason. Pure.

A gate without a finding is not green: it is green only when an interval shows that the effect it looks for is small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.horizon import FEWEST_REPEATS
from gateway.core.likelihood import NEVER_COMPARABLE, REFUSALS
from gateway.core.plan import CONTROL
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.reports.number_format import with_sign
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.moments import Moments
from gateway.statistics.special import smallest
from gateway.statistics.srm import SequentialRatio

LEFT = "client_left"
"""The metric: the share of calls whose client left, or set a deadline that passed, before the answer ended."""
LEAST_LEFT = 0.005  # the margin of LEFT, where the plan gives none for failures
NEGLIGIBLE = 0.25  # share of the margin; withheld pairs below it cannot change a verdict
SRM_ALPHA = 0.01
SRM_WITHIN = 0.05  # largest distance between a share and its plan for green
_N_OPT = 1000.0
_MOST_FIFTIES = 10**8  # beyond any experiment
_REFUSED = 0.1  # share of the pairs of a likelihood experiment that may have no likelihood
_FIRST_REPEATS = 3  # before them, a repeat cannot speak for or against a `reject`
_FEW_REPEATS = 15
_DOUBT_Z = 1.64
"""Confidence in the control's own loss on the candidate's path, at one look; simulated in experiments/test_price.py."""


@dataclass(frozen=True, slots=True)
class PairLosses:
    """Number of pairs that each arm lost."""

    arms: Mapping[str, tuple[int, int]]  # arm → (requests, lost)
    difference: Estimate  # of the lost shares, control minus candidate


@dataclass(frozen=True, slots=True)
class PathChecks:
    """Checks of single pairs that both arms are treated alike. Any difference is a fault, so no test is needed."""

    same: int = 0
    different: int = 0
    """Requests of shadow arms that were sent with another body than the served one, apart from the parts that must
    differ."""
    translated: int = 0
    """Requests in the format of another API, which cannot be compared."""
    differs: str | None = None
    """Id of a served exchange whose pair has different requests."""
    rescored: int = 0
    disagreed: int = 0
    """Stored answers of the control that got another score when they were scored like a candidate's."""
    disagrees: str | None = None
    """Id of such an exchange."""


def path_gate(checks: PathChecks, varied: bool = False, sent: bool = True) -> GateResult:
    """Gate: was every arm asked the same and scored alike? Red from the first pair that was not.

    varied: the arms' variants change parts of the requests, which are not compared. sent: requests were sent for the
    candidates; none is for a guard.
    """
    asked = checks.same + checks.different
    if checks.different:
        says = f"{checks.different} of {asked} requests to shadow arms differ from the served request: {checks.differs}"
        return GateResult("path", -1, says, checks.different / asked)
    if checks.disagreed:
        says = (
            f"{checks.disagreed} of {checks.rescored} answers of the control get a different score when scored "
            f"like a candidate's: {checks.disagrees}"
        )
        return GateResult("path", -1, says, checks.disagreed / checks.rescored)
    says = f"all {asked} requests to shadow arms equal the served ones" if asked else "no request could be compared"
    if varied and asked:
        says += ", apart from what the variants change"
    if not sent:
        says = "a guard's arm is a copy of the served answer, or the guard's refusal; no request is sent for it"
    if checks.translated:
        says += f"; {checks.translated} were sent in another API's format"
    if checks.rescored:
        says += f"; {checks.rescored} stored answers were scored again, with the same result"
    return GateResult("path", 1, says, 0.0)


def aa_gate(metric: str, noise: Estimate | None, pairs: int, delta: float, repeats: bool) -> GateResult:
    """A/A: the control against its repeat on the candidate's path, where any difference comes from the pipeline.

    noise: that difference, over `pairs` pairs. delta: the largest difference that may be ignored. repeats: whether the
    plan repeats the control at all.
    """
    if not repeats:
        return _NEVER_REPEATED
    if noise is None or noise.low is None or noise.high is None or not pairs:
        return GateResult("aa", 0, f"no pair of the control and its repeat has a value of {metric} yet")
    finding = _against_itself(metric, noise, pairs)
    if noise.low > 0 or noise.high < 0:
        return GateResult("aa", -1, f"{finding}: the pipeline alone makes a difference", noise.value)
    if -delta <= noise.low and noise.high <= delta:
        return GateResult("aa", 1, f"{finding}, inside ±{delta:g}", noise.value)
    return GateResult("aa", 0, f"{finding}, not inside ±{delta:g} yet", noise.value)


_NEVER_REPEATED = GateResult("aa", 0, "the control is never repeated: set repeat_control to check the pipeline")


def _against_itself(metric: str, noise: Estimate, pairs: int) -> str:
    return (
        f"the control against itself on {metric}: {with_sign(noise.low)} … {with_sign(noise.high)} over {pairs} pairs"
    )


def aa_alarm(metric: str, noise: Estimate | None, pairs: int, repeats: bool) -> GateResult:
    """A/A as an alarm: red once the control differs from its repeat, green after FEWEST_REPEATS without that.

    Green does not prove anything; the sentence states which bias is excluded so far. noise, pairs, repeats: as in
    aa_gate; the interval has the error AA_ALPHA.
    """
    if not repeats:
        return _NEVER_REPEATED
    if noise is None or noise.value is None or pairs < FEWEST_REPEATS:
        says = f"{pairs} of at least {FEWEST_REPEATS} pairs of the control and its repeat have a value of {metric}"
        return GateResult("aa", 0, says)
    if noise.low is None or noise.high is None:
        says = f"the control and its repeat are alike on {metric} so far ({pairs} pairs, too few to bound a bias)"
        return GateResult("aa", 1, says, noise.value)
    if noise.low > 0 or noise.high < 0:
        says = f"{_against_itself(metric, noise, pairs)}: the pipeline alone makes a difference"
        return GateResult("aa", -1, says, noise.value)
    bias = max(-noise.low, noise.high)
    says = f"the shadow path shifts {metric} by at most ±{bias:.2g} (99 %, {pairs} pairs)"
    return GateResult("aa", 1, says, noise.value)


def with_doubt(gate: GateResult, primary: Comparison, noise: Moments) -> GateResult:
    """The A/A gate, which is open while the candidate's path alone may explain a loss of the size of the margin.

    The path explains it where the candidate is not shown to be worse by the margin than the control's answers on that
    path. That is a doubt while fewer than 15 repeats are known, and later if those answers look worse. The alarm needs
    more repeats than a large difference needs pairs: without this a biased path would lead to `reject` before it is
    noticed. noise: of the differences between the control's repeat and its served answer.
    """
    if gate.state < 0 or primary.margin_found != "inferior" or primary.margin is None:
        return gate
    if noise.n < _FIRST_REPEATS:
        says = f"{noise.n} of the {_FIRST_REPEATS} repeats of the control that a reject on {primary.metric} waits for"
        return replace(gate, state=0, says=says, doubts_reject=True)
    few = noise.n < _FEW_REPEATS
    error = _DOUBT_Z * math.sqrt(noise.m2 + few) / noise.n  # a few equal repeats do not show that all are equal
    explained = (primary.difference.value or 0.0) - noise.mean + error >= -primary.margin
    if not explained or not (few or -noise.mean > error):
        return gate
    says = (
        f"the candidate's path may explain this: there the control itself differs by {with_sign(noise.mean, 2)} on "
        f"{primary.metric} ({noise.n} repeats); a reject waits until that is settled"
    )
    return replace(gate, state=0, says=says, doubts_reject=True)


def same_path_gate(metric: str) -> GateResult:
    """The A/A gate of a primary that compares candidate and control on the same path anyway."""
    return GateResult("aa", 1, f"{metric} compares the candidate with the control's repeat on the same path")


def likelihood_gate(refused: Mapping[tuple[str, str], int], compared: int) -> GateResult:
    """Gate: do both engines report the likelihood of the served answers, token by token?

    refused: (key of REFUSALS, arm) → pairs. compared: pairs with a value. Red from the first pair whose tokens differ,
    of an adapter, or of an engine that contradicts its own text: none of them comes by chance. Other refusals turn it
    red where they are more than a tenth.
    """
    total = compared + sum(refused.values())
    if not total:
        return GateResult("likelihood", 0, "no pair has been settled yet")
    if not refused:
        return GateResult("likelihood", 1, f"both engines score the same tokens in all {total} pairs", 0.0)
    share = sum(refused.values()) / total
    worst = sorted(refused.items(), key=lambda each: (each[0][0] not in NEVER_COMPARABLE, -each[1]))
    says = "; ".join(f"{REFUSALS[why]}: {arm or 'both'}, {n} of {total} pairs" for (why, arm), n in worst)
    red = share > _REFUSED or any(why in NEVER_COMPARABLE for why, _ in refused)
    return GateResult("likelihood", -1 if red else 1, says, share)


def losses_gate(name: str, what: str, losses: PairLosses, delta: float) -> GateResult:
    """Gate: could lost pairs change the verdict, or does one arm lose more than the other?

    A share of at most NEGLIGIBLE * delta cannot change it, whatever the values of these pairs. name: of the gate. what:
    what was lost, for the sentence. delta: the margin of the primary, in [0, 1].
    """
    asked = max((n for n, _ in losses.arms.values()), default=0)
    lost = sum(n for _, n in losses.arms.values())
    if not asked:
        return GateResult(name, 0, f"no pair has been settled yet, so nothing is known about {what}")
    share = lost / asked
    by_arm = ", ".join(f"{arm} {n} of {of}" for arm, (of, n) in sorted(losses.arms.items()))
    if share <= NEGLIGIBLE * delta:
        return GateResult(name, 1, f"{what}: {by_arm}; too few to change the verdict", share)
    low, high = losses.difference.low, losses.difference.high
    if low is not None and high is not None:
        if low > 0 or high < 0:
            return GateResult(name, -1, f"{what}: {by_arm}; the arms differ", share)
        if -delta <= low and high <= delta:
            return GateResult(name, 1, f"{what}: {by_arm}; the arms are alike within ±{delta:g}", share)
    return GateResult(name, 0, f"{what}: {by_arm}; it is not known yet whether the arms are alike", share)


def left_margin(control: float, failures: float | None) -> float:
    """Largest admissible excess of clients that leave the candidate: the margin of failures, and half of the control's
    rate.

    control: the share of the control's calls whose client left. failures: the plan's margin; None if it has none.
    """
    return max(LEAST_LEFT if failures is None else failures, control / 2)


def left_gate(found: Comparison, candidate: str, margin: float) -> GateResult:
    """Gate: do clients wait for the candidate's answers as they do for the control's?

    A call whose client left is in no other metric, so a candidate that keeps its clients waiting until they leave would
    be compared by its quick answers alone. found: the comparison of the shares, with this margin, without the effect of
    any single caller.
    """
    a, b, state = found.a.value or 0.0, found.b.value or 0.0, found.margin_found
    says = f"clients did not wait for {a:.2%} of the answers of {CONTROL}, {b:.2%} of {candidate}"
    if state == "inferior":
        return GateResult(LEFT, -1, f"{says}: more by {margin:.2%} or more, and these are in no other metric", b)
    if a + b <= NEGLIGIBLE * margin or state in ("equivalent", "non_inferior"):
        return GateResult(LEFT, 1, says, b)
    return GateResult(LEFT, 0, f"{says}; it is not known yet whether that is less than {margin:.2%} more", b)


def srm_gate(test: SequentialRatio, arms: Sequence[str]) -> GateResult:
    """The sequential sample-ratio test. Green: no alarm, and every arm's share is shown to be near its plan.

    arms: names, in the order of test.shares.
    """
    n = sum(test.counts)
    counts = ", ".join(f"{arm} {count}" for arm, count in zip(arms, test.counts, strict=True))
    if n == 0:
        return GateResult("srm", 0, "no unit has been assigned yet")
    p = test.p_value
    if p < SRM_ALPHA:
        return GateResult("srm", -1, f"{counts}: not the planned shares (p = {p:.2g})", p)
    if not _near_plan(test.counts, test.shares):
        return GateResult("srm", 0, f"{counts}: too few to tell whether these are the planned shares", p)
    return GateResult("srm", 1, f"{counts}: the planned shares (p = {p:.2g})", p)


def _near_plan(counts: Sequence[int], shares: Sequence[float]) -> bool:
    n, total = sum(counts), sum(shares)
    for count, share in zip(counts, shares, strict=True):
        low, high = bernoulli_interval(count, n, SRM_ALPHA, _N_OPT)
        if low < share / total - SRM_WITHIN or high > share / total + SRM_WITHIN:
            return False
    return True


def units_for_srm(shares: Sequence[float]) -> int:
    """Estimates how many units make the gate srm green, if each arm gets exactly its share; a multiple of 50."""
    total = sum(shares)

    def enough(fifties: int) -> bool:
        n = 50 * fifties
        return _near_plan([round(n * share / total) for share in shares], shares)

    return 50 * (smallest(enough, 1, _MOST_FIFTIES) or _MOST_FIFTIES)


def worst(gates: Sequence[GateResult]) -> int:
    """The lowest state; 1 (green) without gates."""
    return min((gate.state for gate in gates), default=1)
