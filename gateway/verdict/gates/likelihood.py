"""The gate of a likelihood experiment: both engines report the likelihood of the same tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.likelihood import NEVER_COMPARABLE, REFUSALS
from gateway.reports.model import GateResult

_REFUSED = 0.1  # share of the pairs of a likelihood experiment that may have no likelihood


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
