"""The A/A gate: the control against its repeat on the candidate's path. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.core.horizon import FEWEST_REPEATS
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.reports.number_format import with_sign
from gateway.statistics.moments import Moments

_FIRST_REPEATS = 3  # before them, a repeat cannot speak for or against a `reject`
_FEW_REPEATS = 15
_DOUBT_Z = 1.64
"""Confidence in the control's own loss on the candidate's path, at one look; simulated in experiments/test_price.py."""


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
