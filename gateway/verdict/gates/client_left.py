"""The gate on clients that leave before an answer ends, which no other metric counts. Pure."""

from __future__ import annotations

from gateway.core.plan import CONTROL
from gateway.reports.model import Comparison, GateResult
from gateway.verdict.metrics import NEGLIGIBLE

LEFT = "client_left"
"""The metric: the share of calls whose client left, or set a deadline that passed, before the answer ended."""
LEAST_LEFT = 0.005  # the margin of LEFT, where the plan gives none for failures


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
