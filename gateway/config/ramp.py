"""The section `ramp` of an experiment: how the candidate takes over the traffic, step by step."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.types import Positive, Section
from gateway.core.ramp import FreezeWindow, RampDesign, RampMode, RampPace

STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"([A-Za-z]{3})[a-z]* +([01]?\d|2[0-3]):([0-5]\d)$")


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    RampDesign(steps, 0.0, 1)
    return steps


def freeze_window(text: str) -> FreezeWindow:
    """Of `Fri 16:00 - Mon 08:00`, weekly, or of two times such as `2026-12-20T00:00Z - 2027-01-03T00:00Z`; in UTC.

    Raises ValueError.
    """
    begins, dash, ends = text.partition(" - ")
    parts = (begins.strip(), ends.strip())
    if dash and all(map(_WEEKLY.match, parts)):
        start, end = (_seconds_of_week(part) for part in parts)
        if start != end:
            return FreezeWindow(start, end, weekly=True)
    elif dash:
        start, end = (_unix_seconds(part) for part in parts)
        if start < end:
            return FreezeWindow(start, end)
    raise ValueError(f"{text!r}: expected FROM - TO, as Fri 16:00 - Mon 08:00 or 2026-12-20T00:00Z - 2027-01-03T00:00Z")


def _seconds_of_week(text: str) -> float:
    found = _WEEKLY.match(text)
    if found is None or found[1].lower() not in _DAYS:
        raise ValueError(f"{text!r}: expected a day and a time, as Fri 16:00")
    return 86_400.0 * _DAYS.index(found[1].lower()) + 3600.0 * int(found[2]) + 60.0 * int(found[3])


def _unix_seconds(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r}: expected a time, as Fri 16:00 or 2026-12-20T00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _window(text: str) -> str:
    freeze_window(text)
    return text


class LargestExposure(Section):
    """What the candidate may serve before the experiment has its first verdict."""

    requests: Annotated[int, Field(gt=0)] | None = None
    """Calls that the candidate serves. Default: unlimited."""
    usd: Positive | None = None
    """USD that these calls cost. Default: unlimited."""


class RampConfig(Section):
    """How the candidate takes over the traffic, step by step, as long as nothing speaks against it."""

    steps: Annotated[tuple[float, ...], AfterValidator(_rising)] = STEPS
    """Shares of the units that the candidate serves, rising to 1."""
    soak_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds that each step lasts at least."""
    min_units: Annotated[int, Field(gt=0)] = 100
    """Units that the candidate serves at least before the next step."""
    mode: RampMode = "advise"
    """`advise`: a step waits for `gateway ab promote`. `auto`: it is taken once everything holds. A rollback never
    waits."""
    cooldown_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds after a rollback in which nothing advances."""
    stale_s: Positive = 300.0
    """Without a newer answer of the candidate than this many seconds, nothing advances."""
    freeze: tuple[Annotated[str, AfterValidator(_window)], ...] = ()
    """Times in UTC in which nothing advances: weekly, as `Fri 16:00 - Mon 08:00`, or from one time to another, as
    `2026-12-20T00:00Z - 2027-01-03T00:00Z`. A rollback never waits."""
    largest_exposure: LargestExposure = LargestExposure()
    """What the candidate may serve before the first verdict; then the ramp stops. Needed where feedback is the primary,
    since only served answers get any."""

    holdout: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of the units that the control still serves after the promotion, so that both stay comparable. 0: none."""
    holdout_days: Positive = 28.0
    """Days after the promotion in which the holdout ends by itself."""

    @property
    def design(self) -> RampDesign:
        most, days = self.largest_exposure, self.holdout_days if self.holdout else 0.0
        return RampDesign(
            self.steps, self.soak_s, self.min_units, most.requests, most.usd, holdout=self.holdout, holdout_days=days
        )

    @property
    def pace(self) -> RampPace:
        windows = tuple(freeze_window(text) for text in self.freeze)
        return RampPace(self.mode, self.cooldown_s, self.stale_s, windows)
