"""What a ramp promotes, as its engine sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.ramp import RampDesign, RampEvent, RampPace, RampRecord
from gateway.ramps.evidence import RampEvidence


@dataclass(frozen=True, slots=True)
class RampLook:
    """One look at a ramp."""

    record: RampRecord
    """The record in force."""
    events: Sequence[RampEvent]
    """Changes of its plan, oldest first."""
    now: float
    """Unix seconds."""


class RampSubject(Protocol):
    """The candidate of an experiment, or the action of a guard."""

    @property
    def name(self) -> str:
        """The name of its ramp's records."""

    @property
    def pace(self) -> RampPace: ...

    def amended(self, known: RampRecord | None, now: float) -> RampRecord | None:
        """The record that has to be in force before anything is decided; None if the known one is right."""

    def design(self, record: RampRecord) -> RampDesign | None:
        """Terms of the record's ramp; None if nothing can be decided about it."""

    def rests(self, record: RampRecord) -> str | None:
        """Reason why no evidence is looked at; None if it is."""

    async def evidence(self, look: RampLook) -> RampEvidence | None:
        """Evidence for a decision; None if this look gives none to decide on. Raises StreamDown and StoreDown."""
