"""The gate on the path: every arm is asked the same, and scored alike. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.reports.model import GateResult


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
