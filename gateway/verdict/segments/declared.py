"""Declared segments: the findings on each of them, and the resulting verdict.

`ship` requires every declared segment to be not worse by its own margin, besides all that it requires anyway: an
intersection-union test, in which each segment is tested at the full alpha (Berger 1982). `ship_except` leaves some
segments with the control. Which ones is chosen from the data: the worst that is shown to be worse first, and then the
others without its requests. So the segments that move are shown to be not worse with the error shared over all of them
by Holm's procedure, and the primary and the guardrails must hold on all the traffic that moves. It waits until each
excepted segment is shown to be worse, or takes no further pair: one that is merely undecided may still come to `ship`.

`reject` waits while excepting segments may still help: as long as the traffic without those that look worse than
their margin is not shown to be worse itself.

Sources: Berger 1982, Technometrics 24(4); Holm 1979, Scandinavian Journal of Statistics 6(2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.plan import FAILURE_METRICS, Plan
from gateway.core.segments import SegmentDesign, segment_name
from gateway.reports.model import (
    Comparison,
    DeclaredSegment,
    Estimate,
    GateResult,
    KeptTraffic,
    SegmentState,
    direction_finding,
    margin_finding,
)
from gateway.reports.number_format import counted, digits, interval, number
from gateway.statistics import hybrid
from gateway.statistics.rare import RareDifference
from gateway.verdict.decision import (
    HARMLESS,
    Decision,
    SwapDescription,
    half_width_of,
    pairs_needed,
)
from gateway.verdict.gates.gates import worst
from gateway.verdict.metrics import ALONE, SEGMENT
from gateway.verdict.sequences.difference import (
    EVEN,
    AlphaShare,
    DifferenceSequence,
    failures_of_all,
    segment_pairs,
)
from gateway.verdict.sequences.progress import empty_comparison, margin_of
from gateway.verdict.sequences.segment_cells import CellMetric, SegmentCells
from gateway.verdict.traffic_facts import calls_gate_of_moved

Segment = tuple[str, str]
"""(property, value)."""
FEWEST = 50  # pairs before a segment can be too rare
_AS_SHOWN = 0.8  # part of the error, where exactly the segments that are shown to be worse are excepted
_SPENT = 2  # times the planned pairs, after which a segment without a planned end is not waited for
_ORDER: Mapping[SegmentState, int] = {"worse": 0, "undecided": 1, "kept": 2, "rare": 3}


@dataclass(frozen=True, slots=True)
class CandidateEvidence:
    """The evidence on one candidate by which its segments are judged."""

    plan: Plan
    candidate: str
    sequences: Mapping[str, DifferenceSequence]  # by metric
    cells: SegmentCells | None  # None: no pair yet
    share: AlphaShare = EVEN

    @property
    def design(self) -> SegmentDesign:
        """The plan's; an empty one where it has none."""
        return self.plan.segments or SegmentDesign()

    def of(self, segment: Segment) -> DifferenceSequence | None:
        """The primary within a segment; None if no pair has a value of it there."""
        return self.sequences.get(f"{SEGMENT}{segment_name(*segment)}")

    def estimate(self, segment: Segment, part: float = 1.0, without: Collection[Segment] = ()) -> Estimate:
        """The difference within a segment. part: of the error that one segment alone may have. without: segments whose
        requests do not count."""
        found = self.of(segment)
        if found is None:
            return Estimate(None)
        if self.cells is not None and without and self.cells.touches(segment, without):
            left = CellMetric(self.cells.within(segment, without))
            return _estimate(self, found, left, part)
        return found.estimate(AlphaShare(part * self.share.ship, part * self.share.reject))

    def harmless(self, segment: Segment, part: float = 1.0, without: Collection[Segment] = ()) -> bool:
        """Whether it is shown to be not worse by its margin."""
        return margin_finding(self.estimate(segment, part, without), self.design.margin) in HARMLESS

    def inferior(self, segment: Segment, part: float = 1.0, without: Collection[Segment] = ()) -> bool:
        """Whether it is shown to be worse by more than its margin."""
        return margin_finding(self.estimate(segment, part, without), self.design.margin) == "inferior"


@dataclass(frozen=True, slots=True)
class SegmentsFound:
    """The declared segments of one candidate, worst first, and the traffic without those that are worse."""

    segments: tuple[DeclaredSegment, ...]
    kept: KeptTraffic | None = None  # None if every segment holds, or no segment does
    hopeless: bool = False  # excepting segments cannot help any more
    done: frozenset[str] = frozenset()  # names of segments that are not waited for any longer
    cells_closed: bool = False  # the sums by cell take no further pair
    drawn: int = 0  # pairs of the draw of all calls

    @property
    def waited(self) -> list[DeclaredSegment]:
        """Segments that decide."""
        return [each for each in self.segments if each.state != "rare"]

    @property
    def closed(self) -> bool:
        """Whether no further pair changes the results of the segments, or of the guardrails without the excepted
        ones."""
        rails = self.kept.metrics[1:] if self.kept is not None else ()
        if any(c.margin_found == "unclear" for c in rails):
            return False
        return self.cells_closed and all(each.name in self.done for each in self.waited)


def segments_found(of: CandidateEvidence, others: Mapping[str, Comparison]) -> SegmentsFound:
    """others: comparisons over all traffic of metrics that have no sums by cell."""
    rare = {each for each in of.design.segments if _is_rare(of, each, ())}
    tested = [each for each in of.design.segments if each not in rare]
    part = 1.0 / max(1, len(tested))
    bad = _worst_first(of, tested, lambda segment, without: of.inferior(segment, part, without))
    rest = [each for each in tested if each not in bad and not _is_rare(of, each, bad)]
    held = _holm(rest, lambda segment, part: of.harmless(segment, part, bad))
    states: dict[Segment, SegmentState] = dict.fromkeys(of.design.segments, "undecided")
    states |= dict.fromkeys(rare, "rare")
    states |= dict.fromkeys((each for each in tested if each not in rest), "kept")  # nothing but excepted requests
    states |= dict.fromkeys(held, "kept")
    states |= dict.fromkeys(bad, "worse")
    shown = [_shown(of, each, state) for each, state in states.items()]
    excepted = [*bad, *(each for each in rest if each not in held)]
    error = kept_part(len(rest), len(rest) - len(held))
    kept = kept_traffic(of, excepted, others, error) if excepted and held else None
    done = frozenset(segment_name(*each) for each in tested if is_done(of, each))
    ordered = sorted(shown, key=lambda s: (_ORDER[s.state], s.difference.value or 0.0, s.name))
    hopeless = _hopeless(of, tested, others)
    if of.cells is None:
        return SegmentsFound(tuple(ordered), kept, hopeless, done)
    return SegmentsFound(tuple(ordered), kept, hopeless, done, of.cells.closed, of.cells.count())


def kept_part(segments: int, undecided: int) -> float:
    """The part of the error for the traffic that moves.

    segments: those that are not shown to be worse. undecided: of them, those that stay with the control nevertheless.
    Chance contributes to that choice, and leaving out the unlucky ones makes the others look better. So every choice of
    the same number has a share of the rest of the error: half of it for one segment, a quarter for two, and so on.
    """
    if not undecided:
        return _AS_SHOWN
    return (1.0 - _AS_SHOWN) * 0.5**undecided / math.comb(segments, undecided)


def _worst_first(
    of: CandidateEvidence, segments: Sequence[Segment], worse: Callable[[Segment, Collection[Segment]], bool]
) -> list[Segment]:
    """Segments that are worse, each without the requests of those before it: the worst one first.

    A segment that overlaps with a bad one looks worse because of it; without the overlap, it may pass.
    """
    found: list[Segment] = []
    while True:
        left = [each for each in segments if each not in found and worse(each, found)]
        if not left:
            return found
        found.append(min(left, key=lambda each: of.estimate(each, 1.0, found).value or 0.0))


def _holm(segments: Sequence[Segment], shown: Callable[[Segment, float], bool]) -> list[Segment]:
    """The segments for which it is shown with the error shared over all of them."""
    left = list(segments)
    while left:
        still = [each for each in left if not shown(each, 1.0 / len(left))]
        if len(still) == len(left):
            break
        left = still
    return [each for each in segments if each not in left]


def _is_rare(of: CandidateEvidence, segment: Segment, without: Collection[Segment]) -> bool:
    """Whether its share of the pairs is too small, without the requests of others. It depends on counts alone."""
    if of.cells is None or of.cells.count() < FEWEST:
        return False
    cells = set(of.cells.of_segment(*segment)) & set(of.cells.without(without))
    return of.cells.count(cells) < of.design.least_share * of.cells.count()


def is_done(of: CandidateEvidence, segment: Segment) -> bool:
    """Whether a segment takes no further pair, or has had twice its planned ones where there is no planned end."""
    found = of.of(segment)
    if found is None or found.closed:
        return found is not None
    if found.rule.close_from or not found.rule.largest or found.n < FEWEST:
        return False
    planned = segment_pairs(of.plan, math.sqrt(found.variance), of.design.margin)
    return found.rule.method != "hybrid" and found.n >= _SPENT * planned


def _shown(of: CandidateEvidence, segment: Segment, state: SegmentState) -> DeclaredSegment:
    found, cells, estimate = of.of(segment), of.cells, of.estimate(segment)
    total = cells.count() if cells is not None else 0
    share = cells.count(cells.of_segment(*segment)) / total if cells is not None and total else 0.0
    margin, needed = of.design.margin, None
    if found is not None:
        rule = replace(found.rule, horizon=found.horizon, largest=found.largest)
        needed = pairs_needed(estimate, found.n, found.variance, margin, rule)
    return DeclaredSegment(
        segment_name(*segment),
        *segment,
        pairs=found.n if found is not None else 0,
        share=share,
        difference=estimate,
        margin=margin,
        found=margin_finding(estimate, margin),
        state=state,
        closed=found is not None and found.closed,
        pairs_needed=needed,
    )


def kept_traffic(
    of: CandidateEvidence, excepted: Sequence[Segment], others: Mapping[str, Comparison], part: float = 1.0
) -> KeptTraffic | None:
    """The primary and the guardrails on the traffic without these segments; None if there is none. part: of the
    error.
    """
    of = replace(of, share=AlphaShare(of.share.ship * part, of.share.reject))
    if of.cells is None:
        return None
    left = of.cells.without(excepted)
    n = of.cells.count(left)
    if not n:
        return None
    metrics = tuple(_on_cells(of, metric, left, others) for metric in of.plan.decides)
    names = tuple(segment_name(*each) for each in excepted)
    holds = all(c.margin_found in HARMLESS for c in metrics)
    return KeptTraffic(names, n / of.cells.count(), metrics, holds)


def _hopeless(of: CandidateEvidence, tested: Sequence[Segment], others: Mapping[str, Comparison]) -> bool:
    """Whether the traffic without the segments that look worse than their margin is shown to be worse, or is empty."""
    margin = of.design.margin
    bad = _worst_first(of, tested, lambda each, without: (of.estimate(each, 1.0, without).value or 0.0) < -margin)
    rest = kept_traffic(of, bad, others)
    if rest is None or any(c.margin_found == "inferior" for c in rest.metrics):
        return True
    return of.cells is not None and of.cells.closed and all(is_done(of, each) for each in tested)


def _on_cells(
    of: CandidateEvidence, metric: str, cells: Collection[str], others: Mapping[str, Comparison]
) -> Comparison:
    """One metric on some cells; as it is over all traffic where there are no sums by cell."""
    empty, found = empty_comparison(of.plan, metric), of.sequences.get(metric)
    sums = of.cells.sums(metric, cells) if of.cells is not None else CellMetric()
    if found is None and metric in others:
        return others[metric]
    estimate = _estimate(of, found, sums) if found is not None else Estimate(None)
    n, m = sums.differences.n, margin_of(of.plan, metric)
    arms = (Estimate(sums.a / n), Estimate(sums.b / n)) if n else (Estimate(None), Estimate(None))
    alone = of.sequences.get(ALONE) if metric in FAILURE_METRICS else None
    if alone is not None and of.cells is not None and (all_pairs := of.cells.sums(ALONE, cells)).differences.n:
        measured = replace(empty, a=arms[0], b=arms[1], difference=estimate)
        rate = Estimate(all_pairs.b / all_pairs.differences.n)
        b, estimate = failures_of_all(measured, rate, _estimate(of, alone, all_pairs))
        arms = (arms[0], b)
    made = replace(empty, a=arms[0], b=arms[1], difference=estimate, pairs=n, effective_n=float(n))
    direction = direction_finding(estimate)
    return replace(
        made, direction_found=direction, margin_found="unclear" if m is None else margin_finding(estimate, m)
    )


def _estimate(of: CandidateEvidence, sequence: DifferenceSequence, sums: CellMetric, part: float = 1.0) -> Estimate:
    """The difference on some cells, with the interval that the sequence's rule gives for this number of pairs. part: of
    the error."""
    n = sums.differences.n
    if not n:
        return Estimate(None)
    low, high = (_interval(of, sequence, sums, part * share) for share in (of.share.ship, of.share.reject))
    bounds = (low[0], high[1])
    return Estimate(sums.differences.mean, *(v if math.isfinite(v) else None for v in bounds))


def _interval(
    of: CandidateEvidence, sequence: DifferenceSequence, sums: CellMetric, part: float
) -> tuple[float, float]:
    rule, m = sequence.rule, sums.differences
    if not sequence.can_look(_last(of, sequence)):
        return -math.inf, math.inf
    rule = replace(rule, alpha=rule.alpha * part)
    if rule.method == "rare":
        low, high = RareDifference(rule.alpha, m.n, sums.more, sums.fewer).interval(_failures_of_event(of, sequence))
        half = half_width_of(replace(rule, method="guarded"), m.m2 * sequence.inflation / m.n)(m.n)
        dependent = sequence.inflation > 1.0
        return (min(low, m.mean - half), max(high, m.mean + half)) if dependent else (low, high)
    m2 = m.m2 * sequence.inflation * _design_effect(sequence)
    if rule.method != "hybrid":
        half = half_width_of(rule, m2 / m.n)(m.n)
    else:
        half = hybrid.half_width(rule.alpha, rule.horizon, m.n, m2, rule.largest, _last(of, sequence))
    return m.mean - half, m.mean + half


def _failures_of_event(of: CandidateEvidence, sequence: DifferenceSequence) -> float:
    return max(sequence.failures_of_event, sequence.events_by(of.sequences.get(ALONE)))


def _last(of: CandidateEvidence, sequence: DifferenceSequence) -> bool:
    """Whether sums take no further pair: those of a segment with its sequence, all others with the cells."""
    if sequence is of.sequences.get(of.plan.primary or ""):
        return of.cells is not None and of.cells.closed
    return sequence.closed


def _design_effect(sequence: DifferenceSequence) -> float:
    """The factor of the variance of a mean over calls by which those of one conversation are alike; at least 1."""
    calls = sequence.conversations
    if calls.calls <= sequence.n or not sequence.n:
        return 1.0
    variance = calls.squares / calls.calls - (calls.total / calls.calls) ** 2
    if variance <= 0:
        return 1.0
    return max(1.0, (sequence.moments.variance() / sequence.n) / (variance / calls.calls))


def decide_by_segment(
    base: Decision, swap: SwapDescription, found: SegmentsFound, gates: Sequence[GateResult]
) -> Decision:
    """The verdict with segments. base: without them."""
    open_ = [each for each in found.waited if each.found not in HARMLESS]
    if base.verdict == "ship" and not open_:
        n = len(found.waited)
        rare = len(found.segments) - n
        more = f" ({rare} more are too rare to decide)" if rare else ""
        held = f"{'All' if n > 1 else 'The'} {counted(n, 'segment')} hold{'' if n > 1 else 's'}{more}. Ship."
        return replace(base, sentence=base.sentence.removesuffix("Ship.") + held)
    kept = found.kept
    if kept is not None and kept.holds and worst(gates_of_moved(gates, found)) == 1 and _settled(found):
        return _except(swap, found, kept)
    if base.verdict == "reject" and found.hopeless:
        return base
    if base.verdict == "hold":
        left = tuple(map(_undecided, open_))
        return replace(base, reasons=(*base.reasons, *(each for each in left if each not in base.reasons)))
    return _hold(base, found, open_)


def gates_of_moved(gates: Sequence[GateResult], found: SegmentsFound) -> tuple[GateResult, ...]:
    """The gates on the traffic without the excepted segments."""
    kept = found.kept
    return tuple(gates) if kept is None or not kept.metrics else calls_gate_of_moved(gates, kept.metrics[0])


def _settled(found: SegmentsFound) -> bool:
    """Whether no excepted segment can still come to hold."""
    excepted = [each for each in found.waited if each.state != "kept"]
    return all(each.state == "worse" or each.name in found.done for each in excepted)


def _except(swap: SwapDescription, found: SegmentsFound, kept: KeptTraffic) -> Decision:
    primary, places = kept.metrics[0], digits(kept.metrics[0].margin)
    numbers = f"difference {number(primary.difference.value, places, signed=True)}, interval "
    numbers += f"{interval(primary.difference, places)}, {counted(primary.pairs, 'pair')}"
    shown = [each for each in found.segments if each.name in kept.excepted]
    head = f"Switching {swap.model} from {swap.control} to {swap.candidate}, except {', '.join(kept.excepted)}: "
    sentence = (
        f"{head}not worse by more than {primary.margin:g} on {primary.metric} ({numbers}). Ship, but keep "
        f"{'; '.join(_there(each, swap) for each in shown)}."
    )
    return Decision("ship_except", sentence, tuple(_reason(each) for each in shown))


def _there(each: DeclaredSegment, swap: SwapDescription) -> str:
    if each.state == "worse":
        loss = number(-(each.difference.value or 0.0), digits(each.margin))
        return f"{each.name} on {swap.control}: worse by {loss} there"
    return f"{each.name} on {swap.control}: not shown to be as good there"


def _hold(base: Decision, found: SegmentsFound, open_: Sequence[DeclaredSegment]) -> Decision:
    """The verdict that only segments withhold."""
    reasons = tuple(map(_undecided, open_))
    if base.verdict == "reject":
        looks = [each.name for each in found.waited if (each.difference.value or 0.0) < -each.margin]
        said = f"The traffic without {', '.join(looks)} may still hold. Hold."
        return Decision("hold", base.sentence.removesuffix("Reject.") + said, (*base.reasons, *reasons))
    said = f"Undecided: {'; '.join(reasons)}. Hold."
    return Decision("hold", base.sentence.removesuffix("Ship.") + said, reasons)


def _reason(each: DeclaredSegment) -> str:
    worse = f"worse by more than {each.margin:g}" if each.state == "worse" else "not shown to hold"
    return f"segment {each.name}: {worse} ({_numbers(each)})"


def _undecided(each: DeclaredSegment) -> str:
    if each.found == "inferior":
        return f"segment {each.name}: worse by more than {each.margin:g} ({_numbers(each)})"
    more = (
        "closed"
        if each.closed
        else "about " + counted(each.pairs_needed, "pair") + " more"
        if each.pairs_needed
        else ""
    )
    return f"segment {each.name} ({_numbers(each)}{f'; {more}' if more else ''})"


def _numbers(each: DeclaredSegment) -> str:
    if not each.pairs:
        return "no pair yet"
    places = digits(each.margin)
    value = number(each.difference.value, places, signed=True)
    return f"difference {value}, interval {interval(each.difference, places)}, {counted(each.pairs, 'pair')}"
