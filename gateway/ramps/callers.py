"""A ramp's alarms and proofs, where one caller can neither raise nor silence them alone. Pure.

An alarm of a step is raised if the candidate is shown to be worse by its margin

1. without the caller who speaks most against the candidate, so that nobody rolls back for all others;
2. and, from CAPPED_FROM callers on, perhaps only without one more: the caller who hides most, by failing on purpose
   where the control answers. The error is shared over those who could hide something, so that the total stays the same.

Each is looked at with every unit as it is and, where that differs, with callers thinned to a fifth of the weight. A
finding that depends on one caller only holds the ramp and names that caller. If there is only one caller, the alarm
rolls back and says so. From two to four callers 1 holds, and nothing is thinned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.core.plan import Plan
from gateway.ramps.alarms import FAILURES, AlarmTerms, step_finding
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues
from gateway.verdict.price.terms import ERRORS
from gateway.verdict.split.callers import CAPPED_FROM, may_be_left_out, thinned

_HIDES_FROM = 0.05  # share of the weight from which on a caller is thought able to hide a candidate that breaks
_HIDERS = 20  # callers with so much: 1 / _HIDES_FROM at most


@dataclass(frozen=True, slots=True)
class WeightedCaller:
    """A caller's sums, and the weight of each of its units."""

    sums: CallerSums
    weight: float

    @property
    def units(self) -> float:
        return self.weight * (self.sums.a.n + self.sums.b.n)


def caller_alarms(values: Sequence[StepValues], terms: AlarmTerms) -> tuple[ServedFinding, ...]:
    """The finding of each metric and step that has an alarm and values in both arms."""
    known = [v for v in values if v.metric in terms.margins and v.a.n and v.b.n]
    watched = [v for v in known if v.paired or v.metric in FAILURES]
    return tuple(caller_finding(v, terms.margin(v), terms.alpha) for v in watched)


def blind_to_callers(values: Sequence[StepValues], terms: AlarmTerms, step: int) -> bool:
    """Whether no alarm on errors could ring at this step."""
    return cannot_ring([v for v in values if (v.metric, v.step) == (ERRORS, step)], terms)


def cannot_ring(values: Sequence[StepValues], terms: AlarmTerms) -> bool:
    """Whether no alarm would have been raised even if the candidate had failed with every unit. values: of metrics of
    which 1 is the worst."""
    return not any(
        caller_finding(_all_failed(v), terms.margin(v), terms.alpha).raised for v in values if v.a.n and v.b.n
    )


def _all_failed(v: StepValues) -> StepValues:
    return replace(v, b=_failed(v.b), callers=tuple(replace(c, b=_failed(c.b)) for c in v.callers))


def _failed(sums: ServedSums) -> ServedSums:
    return ServedSums(sums.n, float(sums.n), float(sums.n))


def caller_finding(v: StepValues, margin: float, alpha: float) -> ServedFinding:
    """The finding of one metric and step. alpha: one-sided, of the alarm."""
    plain = step_finding(v, margin, alpha)
    if not v.callers:
        return plain
    plain = replace(plain, callers=len(v.callers))
    rests_on = ""
    looks = list(looks_at(v.callers))
    for look in looks:
        share = alpha / len(looks)
        for kept, error in without_hiders(look, share):
            raised = _raised(v, kept, margin, error)
            if raised is not None:
                return replace(raised, callers=len(v.callers))
        speaker = speaker_of(v.sign, look)
        alone = _of(v, look)
        if speaker is not None and alone is not None and step_finding(alone, margin, share).raised:
            rests_on = speaker
    found = "unclear" if plain.raised else plain.found
    return replace(plain, found=found, rests_on=rests_on)


def looks_at(callers: Sequence[CallerSums]) -> Iterator[list[WeightedCaller]]:
    """Everybody as they are and, if that differs, with callers thinned."""
    yield [WeightedCaller(each, 1.0) for each in callers]
    weights = thinned([each.a.n + each.b.n for each in callers])
    if min(weights) < 1.0:
        yield [WeightedCaller(each, weight) for each, weight in zip(callers, weights, strict=True)]


def without_hiders(look: Sequence[WeightedCaller], alpha: float) -> Iterator[tuple[list[WeightedCaller], float]]:
    """Yields the groups of callers to look at, each with its error: everybody, and everybody but one who could hide
    something."""
    if len(look) < CAPPED_FROM:
        yield list(look), alpha
        return
    yield list(look), alpha / 2
    total = sum(each.units for each in look)
    for hider in look:
        if hider.units >= _HIDES_FROM * total:
            yield [each for each in look if each is not hider], alpha / 2 / _HIDERS


def _raised(v: StepValues, look: Sequence[WeightedCaller], margin: float, alpha: float) -> ServedFinding | None:
    """The finding without the caller who weighs most against the candidate; None if the finding does not show the
    candidate to be worse."""
    speaker = speaker_of(v.sign, look)
    left = _of(v, [each for each in look if each.sums.caller != speaker])
    if left is None or _difference(left) >= -margin:
        return None
    found = step_finding(left, margin, alpha)
    return found if found.raised else None


def speaker_of(sign: float, look: Sequence[WeightedCaller]) -> str | None:
    """The caller without whom the candidate looks best; None means that nobody may be left out."""
    others = set(may_be_left_out({each.sums.caller: each.sums.calls for each in look}))
    total_a, total_b = _total(look, "a"), _total(look, "b")

    def without(each: WeightedCaller) -> float:
        a, b = _less(total_a, each.sums.a, each.weight), _less(total_b, each.sums.b, each.weight)
        return sign * (b.mean - a.mean)

    found = [each for each in look if each.sums.caller in others]
    return max(found, key=without).sums.caller if found else None


def _total(look: Sequence[WeightedCaller], arm: str) -> ServedSums:
    sums = [(getattr(each.sums, arm), each.weight) for each in look]
    return ServedSums(
        sum(w * s.n for s, w in sums), sum(w * s.total for s, w in sums), sum(w * s.squares for s, w in sums)
    )


def _less(total: ServedSums, sums: ServedSums, weight: float) -> ServedSums:
    n = total.n - weight * sums.n
    if n < 1e-9:
        return ServedSums()
    return ServedSums(n, total.total - weight * sums.total, total.squares - weight * sums.squares)


def _of(v: StepValues, look: Sequence[WeightedCaller]) -> StepValues | None:
    """The values of these callers; None if an arm has less than a whole unit of them."""
    a, b = _total(look, "a"), _total(look, "b")
    return replace(v, a=a, b=b, callers=()) if min(a.n, b.n) >= 1.0 else None


def _difference(v: StepValues) -> float:
    return v.sign * (v.b.mean - v.a.mean)


Prove = Callable[[Sequence[StepValues], Plan], tuple[ServedFinding, ...]]


def proved_without_any(values: Sequence[StepValues], plan: Plan, prove: Prove) -> tuple[ServedFinding, ...]:
    """The findings of `prove`, as far as they also hold without the caller who speaks most for them.

    The error stays: more has to be shown, never less.
    """
    found = []
    for each in prove(values, plan):
        mine = [v for v in values if v.metric == each.metric and v.callers]
        speaker = foe_of(mine) if each.raised else friend_of(mine)
        if each.found != "unclear" and speaker is not None:
            less = [left for v in values if (left := _without(v, speaker)) is not None]
            again = {f.metric: f for f in prove(less, plan)}.get(each.metric)
            each = without_speaker(each, again, speaker)
        found.append(each)
    return tuple(found)


def without_speaker(found: ServedFinding, again: ServedFinding | None, speaker: str) -> ServedFinding:
    """The finding, unless it is another one without this caller. again: the finding without; None if there is none."""
    if again is not None and again.found != "unclear" and again.raised == found.raised:
        return found
    return replace(found, found="unclear", rests_on=speaker)


def friend_of(values: Sequence[StepValues]) -> str | None:
    """The caller without whom the candidate looks worst, over all steps; None means that nobody may be left out."""
    known = _differences_without(values)
    return min(known, key=lambda caller: known[caller]) if known else None


def foe_of(values: Sequence[StepValues]) -> str | None:
    """The caller without whom the candidate looks best, over all steps; None means that nobody may be left out."""
    known = _differences_without(values)
    return max(known, key=lambda caller: known[caller]) if known else None


def majority_of(values: Sequence[StepValues]) -> str | None:
    """The caller with half of the calls or more, over all steps; None if there is none, or nobody else."""
    calls = _calls(values)
    left = set(may_be_left_out(calls))
    return next((caller for caller in calls if caller not in left), None) if left else None


def _calls(values: Sequence[StepValues]) -> dict[str, int]:
    calls: dict[str, int] = {}
    for v in values:
        for caller in v.callers:
            calls[caller.caller] = calls.get(caller.caller, 0) + caller.calls
    return calls


def _differences_without(values: Sequence[StepValues]) -> dict[str, float]:
    """caller → the mean difference of the steps without its units, by the candidate's units."""
    calls = _calls(values)
    own = [{each.caller: each for each in v.callers} for v in values]
    found: dict[str, float] = {}
    for caller in may_be_left_out(calls):
        units = weighted = 0.0
        for v, by_caller in zip(values, own, strict=True):
            mine = by_caller.get(caller)
            a, b = (v.a, v.b) if mine is None else (_less(v.a, mine.a, 1.0), _less(v.b, mine.b, 1.0))
            if min(a.n, b.n) >= 1.0:
                units += b.n
                weighted += b.n * v.sign * (b.mean - a.mean)
        found[caller] = weighted / units if units else 0.0
    return found


def _without(v: StepValues, caller: str) -> StepValues | None:
    left = tuple(each for each in v.callers if each.caller != caller)
    if len(left) == len(v.callers):
        return v
    found = _of(v, [WeightedCaller(each, 1.0) for each in left])
    return None if found is None else replace(found, callers=left)
