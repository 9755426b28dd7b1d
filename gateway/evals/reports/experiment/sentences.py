"""What a report says of its own design and limits, in sentences. Pure."""

from __future__ import annotations

from gateway.evals.experiments.findings import Finding, SequenceStates
from gateway.evals.experiments.number_format import when
from gateway.evals.experiments.sequences import METHOD_NAMES
from gateway.evals.store.experiments.plans import StoredPlan

_SHADOW = (
    "Each answer is compared on its own: how a conversation goes on after a candidate's answer is not seen.",
    "The candidate is asked after the served answer has ended: with caches colder or warmer than they would be if it "
    "served, which moves cost and latency.",
)


def design_of(plan: StoredPlan) -> tuple[tuple[str, str], ...]:
    """Of the plan as it was frozen."""
    p = plan.plan
    rows = [
        ("mode", p.mode),
        ("model", p.model),
        ("control", str(p.control)),
        *((f"candidate {arm}", str(target)) for arm, target in p.candidates),
        ("primary", f"{p.primary}, margin {p.margin:g}" if p.primary else "none"),
        ("error", f"{p.alpha:g}" + (f", {p.alpha / len(p.candidates):g} each" if len(p.candidates) > 1 else "")),
        ("guardrails", ", ".join(f"{g.metric} {g.margin:g}" for g in p.guardrails) or "none"),
    ]
    if p.mode != "split":
        rows += [
            ("shadow", f"{p.shadow:.3g} of eligible requests"),
            ("control asked again", f"{p.repeat_control:.3g} of those"),
        ]
    if p.mode != "shadow":
        rows += [("split", f"{p.split:.3g} of units"), ("unit", p.unit)]
    method = METHOD_NAMES["betting" if p.stationary else "bernstein"]
    return (*rows, ("intervals", method), ("state", f"{plan.state} since {when(plan.since)}"))


def limits_of(found: Finding, look: SequenceStates) -> tuple[str, ...]:
    """What the numbers do not say."""
    plan = found.stored_plan.plan
    said = list(_SHADOW if plan.mode != "split" else ())
    said.append("A difference is the average over the pairs so far; of traffic of another kind it says nothing.")
    said += _of_pairs(found)
    if plan.mode == "shadow" and not plan.repeat_control:
        said.append("Latency is not compared: that needs the control asked again by the candidate's path.")
    if plan.mode != "shadow":
        said.append("Clients who left before the end say nothing of an answer, and are not in any mean of a split.")
    if len(plan.candidates) > 1:
        said.append(f"The error of {plan.alpha:g} is split evenly over {len(plan.candidates)} candidates.")
    if any(s.test is not None for s in look.sequences.values()):
        said.append("That no difference in distance was found does not prove that the answers are alike.")
    if plan.stationary:
        said.append("The plan says that the mean does not move; if it does, the intervals may miss it.")
    return tuple(said)


def _of_pairs(found: Finding) -> list[str]:
    plan, said = found.stored_plan.plan, []
    lost = sum(n for (_, reason, _), n in found.withheld.items() if reason == "lost")
    if lost:
        said.append("Pairs of which a record was lost are in no mean; the gate on losses says whether that may matter.")
    if any(reason == "same_cluster" for _, reason, _ in found.withheld):
        said.append(
            "Of each conversation only the first compared request counts, since later ones depend on it: a difference "
            "is that of first compared requests."
        )
    if plan.mode != "split":
        said.append(
            "An answer that failed or came too late has a score of 0 and a distance of 1. Durations are of answers "
            "that came whole, and of those that were given up, with the time until then."
        )
    return said
