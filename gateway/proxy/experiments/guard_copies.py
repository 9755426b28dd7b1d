"""Records of arms for which nothing is sent: copies of the served answer, and refusals of guards in its place. Pure.

A guard that is a candidate has judged the call while it observed. Where it has a hit, or gave no score and `if_late` is
not `pass`, its arm has the refusal that the caller would have got; otherwise the served answer, and the pair is tied.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config.guard_candidates import GuardCandidate
from gateway.core.completion import Completion
from gateway.core.exchange import Exchange, new_id
from gateway.core.guards import CONTENT_FILTER, GuardDecision, from_json, to_json
from gateway.proxy.request.call import Call
from gateway.proxy.routing.assignment import RunningExperiment

ACTS = ("redact", "block")
"""The actions with which the served answer would be a guarded one already."""


def why_no_copy(candidate: GuardCandidate, call: Call, decisions: str | None) -> str | None:
    """Reason why the call makes no pair; None if it makes one. decisions: as Exchange.guards has them.

    The action depends on the call's unit and never on a hit, so leaving these calls out favours no arm. Without content
    a refusal could not be told from the answer.
    """
    if call.caller.content == "metadata":
        return "no_content"
    decision = _decision(candidate, decisions)
    if decision is not None:
        return "guard_enforced" if decision.action in ACTS else None
    judged = candidate.guard.judges(call.caller.name, call.caller.team, call.alias)
    return "guard_undecided" if judged else None


def tied_copy(served: Exchange, running: RunningExperiment, arm: str) -> Exchange:
    """The served answer as that of an arm for which nothing is sent."""
    return replace(
        served,
        id=new_id(),
        role="shadow",
        arm=arm,
        pair=served.id,
        asked=(),
        not_asked=None,
        attempts=(),
        pi=running.plan.shadow,
        stratum=f"shadow:{running.plan.name}",
        tied=True,
    )


def refusal_copy(served: Exchange, running: RunningExperiment, arm: str) -> Exchange | None:
    """The refusal that the arm's guard would have put in place of the served answer; None if it would have let it pass.

    Its text is the answer's text in every API, also where callers would get it in a field of its own, which scorers of
    texts pass over, or as an error: so each scorer judges what the caller reads. It is complete, since `blocked` is no
    failure of an arm. A request that is refused uses no tokens.
    """
    candidate = running.guards[arm]
    decision = _decision(candidate, served.guards)
    if decision is None or not _blocks(candidate, decision):
        return None
    text = candidate.guard.blocked_text(candidate.name, served.id)
    acted = (replace(d, action="block", acted=True) if d == decision else d for d in from_json(served.guards))
    unsent = candidate.guard.on == "request"
    return replace(
        tied_copy(served, running, arm),
        tied=None,
        form="assembled",
        response=Completion(text, finish_reason=CONTENT_FILTER).to_json(),
        truncated=False,
        usage=None if unsent else served.usage,
        gpu_seconds=None if unsent else served.gpu_seconds,
        guards=to_json(acted),
        fingerprint=None,
        model_returned=None,
    )


def _blocks(candidate: GuardCandidate, decision: GuardDecision) -> bool:
    return decision.result == "hit" or (decision.result == "failed" and candidate.guard.blocks_late("block"))


def _decision(candidate: GuardCandidate, decisions: str | None) -> GuardDecision | None:
    """The guard's decision on the call, by the config that the candidate stands for."""
    return next(
        (d for d in from_json(decisions) if d.guard == candidate.name and d.config_hash == candidate.config_hash), None
    )
