"""Whether a plan has anything left to decide, and whether it takes any more pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.horizon import AT_MOST, FEWEST_REPEATS, FOLLOWED
from gateway.core.plan import BEST_PATIENCE, REPEAT, UNITS_FIRST_RULES, Plan
from gateway.core.plan_horizon import horizon_of
from gateway.reports.model import margin_finding
from gateway.verdict.decision import HARMLESS
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.findings import Finding, findings
from gateway.verdict.price.failures import failure_pairs, failure_rails
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.sequences.duels import duels_of
from gateway.verdict.states import SequenceStates, is_open_at_worst

MOST_REPEATS = 60  # of the control, that a doubtful reject waits for beyond the horizon


def is_closed(evidence: PlanEvidence) -> bool:
    """Whether the primary has taken its last look with every candidate, and the A/A alarm has its fewest repeats.

    A plan for the best of several candidates without a last look is closed after its most pairs.
    Where variance reduction brought that look before the plan's horizon, undecided guardrails still have until then.
    More repeats are taken while they alone can settle whether the candidate's path explains its loss.
    """
    states = SequenceStates(evidence)
    plan, primary = states.plan, states.plan.primary
    if plan.method == "anytime" and plan.ends_at is not None:
        return evidence.pairs.joined >= _last_pair(plan, states)
    sequences, left = states.sequences, [arm for arm, _ in plan.candidates if arm not in states.dropped]
    noise = sequences.get((REPEAT, primary)) if primary and plan.aa == "alarm" else None
    if noise is not None and noise.n < FEWEST_REPEATS:
        return False
    if states.dropped and not left:
        return True
    names = [*left, *_duels_that_matter(plan, sequences, left)]
    waited = [sequences.get((name, primary)) for name in names] if primary else []
    if not waited or not all(sequence is not None and sequence.closed for sequence in waited):
        return False
    if any(is_open_at_worst(sequences, arm) for arm in left):
        return False
    looks = [finding for arm, finding in findings(evidence).items() if arm in left]
    if any(finding.doubtful for finding in looks) and noise is not None and noise.n < MOST_REPEATS:
        return False
    joined = evidence.pairs.joined
    if joined < states.continued_until and any(c.margin_found == "unclear" for f in looks for c in f.guardrails):
        return False
    if any(_waits_for_segments(finding) for finding in looks) and joined < AT_MOST * (plan.max_pairs or 0):
        return False
    if joined >= max(plan.max_pairs or 0, *(_pairs_for_failures(plan, finding) for finding in looks)):
        return True
    return all(c.margin_found != "unclear" for finding in looks for c in finding.guardrails)


def _pairs_for_failures(plan: Plan, found: Finding) -> int:
    """Pairs that the undecided guardrails on failures need at the rate of both arms together; at most AT_MOST times the
    planned ones. The arms' difference is not used, so that waiting favours neither verdict."""
    if plan.rules < UNITS_FIRST_RULES or not plan.auto_horizon:
        return 0
    planned, needed = plan.max_pairs or 0, 0
    rails = {rail.metric: rail for rail in failure_rails(plan)}
    for c in found.guardrails:
        if c.metric in rails and c.margin_found == "unclear" and c.a.value is not None and c.b.value is not None:
            pairs = failure_pairs(plan, rails[c.metric], _failing((c.a.value + c.b.value) / 2, c.metric))
            needed = max(needed, AT_MOST * planned if pairs is None else pairs)
    return min(needed, AT_MOST * planned)


def _failing(mean: float, metric: str) -> float:
    return 1.0 - mean if metric == "completion" else mean


def _last_pair(plan: Plan, states: SequenceStates) -> int:
    """Pairs at which a plan without a last look ends: as stated, or a multiple of the pairs that the margin needs at
    the variance of its pairs, within the bounds of a horizon that follows the variance."""
    stated, arms = plan.ends_at or 0, [arm for arm, _ in plan.candidates if arm not in states.dropped]
    if not plan.auto_horizon:
        return stated
    names = [*arms, *(duel.name for duel in duels_of(plan) if {*duel.pair} <= {*arms})]
    found = [states.sequences.get((name, plan.primary or "")) for name in names]
    variance = max((each.variance for each in found if each is not None and each.n >= FOLLOWED), default=0.0)
    asked = BEST_PATIENCE * (horizon_of(plan, variance) or 0)
    return min(max(asked, stated), AT_MOST * stated)


def _duels_that_matter(
    plan: Plan, sequences: Mapping[tuple[str, str], DifferenceSequence], left: Sequence[str]
) -> list[str]:
    """The duels of candidates that are left; none where the control's comparisons are closed and no candidate is shown
    not to be worse, since then none can be the best."""
    primary = plan.primary or ""
    shown = [s.estimate() for arm in left if (s := sequences.get((arm, primary))) is not None]
    able = any(margin_finding(each, plan.margin) in HARMLESS for each in shown)
    return [duel.name for duel in duels_of(plan) if able and {*duel.pair} <= {*left}]


def _waits_for_segments(found: Finding) -> bool:
    """Whether segments can still bring a verdict on a candidate that has none."""
    segments = found.segments
    if segments is None or found.decision.verdict != "hold":
        return False
    return not segments.closed


def is_decided(evidence: PlanEvidence) -> bool:
    """Whether every candidate has a verdict, or one is the best."""
    verdicts = [finding.decision.verdict for finding in findings(evidence).values()]
    return all_decided(evidence.plan.plan, verdicts)


def all_decided(plan: Plan, verdicts: Sequence[str]) -> bool:
    """Whether a plan has nothing left to decide. verdicts: of its candidates."""
    return "hold" not in verdicts or (plan.finds_best and "ship" in verdicts)
