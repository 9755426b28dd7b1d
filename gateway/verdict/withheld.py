"""The pairs of a plan that count in no mean, by reason."""

from __future__ import annotations

from gateway.core.likelihood import REFUSALS
from gateway.core.plan_evidence import AFTER_VERDICT
from gateway.verdict.findings import Finding
from gateway.verdict.states import SequenceStates


def withheld_of(found: Finding, look: SequenceStates) -> tuple[tuple[str, int], ...]:
    """(reason, count): pairs that were not offered or lost, then those without a value of the primary metric."""
    rows = []
    for reason, n in sorted((found.pairs.not_asked or {}).items()):
        rows.append(("after the verdict" if reason == AFTER_VERDICT else f"not offered: {reason}", n))
    for arm, (_, lost) in sorted(look.evidence.lost_by_arm.items()):
        rows.append((f"lost: {arm}", lost))
    primary = found.names.get(found.primary.metric) if found.primary else None
    words = {
        "judge_failed": "judge failed",
        "not_applicable": "not applicable",
        "cut": "record cut",
        "same_cluster": "same conversation",
    }
    words |= REFUSALS
    for (name, reason, arm), n in sorted(found.withheld.items()):
        if name == primary and reason != "lost":
            rows.append((words.get(reason, reason) + (f": {arm}" if arm else ""), n))
    return tuple((reason, n) for reason, n in rows if n)
