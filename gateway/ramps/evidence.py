"""The evidence for the next step of a ramp, and its form in the audit. Pure: its subject reads what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.ramps.breakers import BreakerReport
from gateway.ramps.served_hours import ServedHours, named_hours
from gateway.reports.model import Estimate, Margin, Verdict, WeakSpot
from gateway.reports.number_format import with_sign


@dataclass(frozen=True, slots=True)
class ServedFinding:
    """Finding on one metric of served answers, of one step or of all (step None)."""

    metric: str
    step: int | None
    difference: Estimate  # positive is better for the candidate
    margin: float
    found: Margin
    units: tuple[int, int]  # (control, candidate)
    callers: int = 0  # whose units these are; 0 if unknown
    rests_on: str = ""  # the one caller without whom nothing is shown to be worse; "": none
    needed: int | None = None  # units an arm until it is decided, about; None if unknown
    cut: tuple[int, int] = (0, 0)  # answers (control, candidate) whose record was cut, where the proof fails for them
    unscored: tuple[int, int] = (0, 0)  # the same of those that their scorer gave no value
    hours: tuple[int, ...] = ()  # of the day without a value in both arms, which the proof waits for
    so_far: bool = False  # it would be proved if these hours were not needed
    since: float | None = None  # Unix seconds of the first block of time that an alarm by blocks rests on

    @property
    def raised(self) -> bool:
        """Whether it is shown to be worse than its margin."""
        return self.found == "inferior"

    def says(self) -> str:
        d = self.difference
        bound = "" if d.high is None else f", at most {with_sign(d.high)}"
        at = "" if self.step is None else f" at step {self.step + 1}"
        return (
            f"{self.metric}{at}: worse by more than {self.margin:g} on served answers{self._since()} "
            f"(difference {with_sign(d.value or 0.0)}{bound}; {self.units[1]} units of the candidate, "
            f"{self.units[0]} of the control{_from(self.callers)})"
        )

    def _since(self) -> str:
        return "" if self.since is None else f" since {datetime.fromtimestamp(self.since, UTC):%H:%M} UTC"

    def missing(self) -> str:
        """The part of a proof that is still open, in words."""
        have, low = min(self.units), self.difference.low
        of = f": {have} of about {self.needed} units an arm" if self.needed is not None and have < self.needed else ""
        if not of and low is not None:
            above = with_sign(-self.margin)
            of = f": the difference may be {with_sign(low)}, and must be above {above} ({have} units an arm)"
        without = f" without {self.rests_on}" if self.rests_on else ""
        cut = (
            f"; the records of {self.cut[1]} answers of the candidate and {self.cut[0]} of the control were cut, and "
            "count as the worst for the candidate"
        )
        none = (
            f"; {self.unscored[1]} answers of the candidate and {self.unscored[0]} of the control have no score, and "
            "count as 0"
        )
        also = cut * any(self.cut) + none * any(self.unscored)
        if self.so_far and not also:
            of = f": no values of both arms in {named_hours(self.hours)} UTC"
        return f"{self.metric} is not shown to be harmless on served answers{without} yet{of}{also}"

    def fields(self) -> dict[str, Any]:
        difference = {"difference": self.difference.value, "low": self.difference.low, "high": self.difference.high}
        pairs = {"units": list(self.units), "cut": list(self.cut), "unscored": list(self.unscored)}
        made = {**asdict(self), **difference, **pairs}
        hours, so_far, since = made.pop("hours"), made.pop("so_far"), made.pop("since")
        of_hours = {"hours": list(hours), "so_far": so_far} if hours else {}
        return {**made, **of_hours} if since is None else {**made, **of_hours, "since": since}


_PLAIN_FIELDS = (
    *("at", "verdict", "sentence", "pairs", "units", "unit", "requests", "usd", "blind", "newest"),
    *("lag_s", "lost_gateways", "ratio", "independence", "headline"),
)
"""Fields of the evidence that the audit keeps as they are."""


@dataclass(frozen=True, slots=True)
class RampEvidence:
    """The evidence for a decision about the next step, at one moment."""

    at: float  # Unix seconds
    verdict: Verdict = "hold"
    sentence: str = ""  # of the verdict
    pairs: int = 0
    decided: bool = False  # there has been a `ship`
    served_primary: bool = False  # the primary is feedback, which only served answers get
    served: tuple[ServedFinding, ...] = ()  # by step
    proofs: tuple[ServedFinding, ...] = ()  # over all steps: to be harmless before the candidate serves everything
    units: int = 0  # that the candidate served at this step
    unit: str = ""  # what a unit is, for readers
    requests: int = 0  # that the candidate served in this plan
    usd: float = 0.0
    blind: bool = False  # too few units at this step for an alarm on errors
    newest: float | None = None  # of the candidate's answers: Unix seconds
    lag_s: float = 0.0  # how far the consumers are behind
    lost_gateways: int = 0  # processes that stopped reporting a short time ago
    breakers: BreakerReport = field(default_factory=BreakerReport)
    late: str | None = None  # why outcomes or scores are too old for a step
    ratio: str | None = None  # why the units of this step do not fit its share, unless a person has resumed it since
    independence: str | None = None  # of the pairs: checked, declared, assumed or alarm; None if the rules do not ask
    switch: Sequence[Mapping[str, Any]] = ()  # what the switch did, while a holdout lasts (features/ramp/served.py)
    excepted: tuple[str, ...] = ()  # segments that do not hold, of a verdict `ship_except`
    weak_spot: WeakSpot | None = None  # the search for weak spots; None if the plan asks for none
    headline: str = ""  # the verdict in at most 90 characters
    hours: ServedHours | None = None  # of the day that the step to all traffic waits for; None: the plan asks for none
    waits: tuple[str, ...] = ()  # conditions of this subject alone that the next step waits for
    own: Mapping[str, Any] = field(default_factory=dict)  # figures of this subject alone, as the audit keeps them

    @property
    def alarms(self) -> tuple[ServedFinding, ...]:
        return tuple(each for each in self.served if each.raised)

    @property
    def unproven(self) -> tuple[ServedFinding, ...]:
        return tuple(each for each in self.proofs if each.found not in ("equivalent", "non_inferior"))

    def fields(self) -> dict[str, Any]:
        """JSON-able: the snapshot that the audit keeps."""
        plain = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        findings = {name: [each.fields() for each in getattr(self, name)] for name in ("served", "proofs")}
        segments: dict[str, Any] = {"excepted": list(self.excepted)} if self.excepted else {}
        segments |= {} if self.weak_spot is None else {"weak_spot": asdict(self.weak_spot)}
        segments |= {} if self.hours is None else {"hours": self.hours.fields()}
        switch = {"breakers": asdict(self.breakers), "switch": list(self.switch)}
        return {**plain, **findings, **switch, **segments, **self.own}


def _from(callers: int) -> str:
    if not callers:
        return ""
    return "; all from one caller" if callers == 1 else f"; from {callers} callers"
