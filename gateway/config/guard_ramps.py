"""The section `guards.NAME.ramp` of gateway.yaml: the steps of `gateway guard promote`, and its guardrails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.freeze_windows import FreezeText, freeze_window
from gateway.config.types import Positive, Section, number
from gateway.core.ramp import RampDesign, RampMode, RampPace

GUARD_STEPS = (0.05, 0.25, 1.0)
PromotedAction = Literal["flag", "redact", "block"]


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    RampDesign(steps, 0.0, 1)
    return steps


Steps = Annotated[tuple[float, ...], AfterValidator(_rising)]
_Margin = Annotated[float, BeforeValidator(number), Field(gt=0, le=1)]


class GuardRampConfig(Section):
    """Steps by which `gateway guard promote` takes the guard from its `action` to a stricter one, and what speaks
    against a step."""

    to: PromotedAction = "block"
    """Final action. Before `redact` or `block`, every unit is flagged first."""
    steps: Steps = GUARD_STEPS
    """Shares of the units with that action, rising to 1. A unit is a conversation, else a key with its end user."""
    soak_s: Annotated[float, Field(ge=0)] = 3600.0
    """Shortest duration of a step, in seconds."""
    min_units: Annotated[int, Field(gt=0)] = 100
    """Fewest units with the action before the next step."""
    max_block_rate: Annotated[float, BeforeValidator(number), Field(gt=0, le=1)] = 0.02
    """Largest share of calls with a hit (in each unit, averaged over the units). A step needs a share shown to be below
    this bound; a share shown to be above it takes the guard back.
    """
    thumbs_down: _Margin | None = 0.02
    """Largest acceptable rise of the share of calls with bad feedback (a value below the middle of `feedback.range`,
    else below 0.5) that the action may cause. null: feedback is ignored."""
    retries: _Margin | None = 0.02
    """Largest acceptable rise of the share of calls that are followed by the same prompt of the same key and end user,
    that the action may cause. null: retries are ignored.
    """
    retry_s: Positive = 600.0
    """Seconds within which the same prompt is a retry."""
    alpha: Annotated[float, BeforeValidator(number), Field(gt=0, lt=0.5)] = 0.05
    """Largest probability that a guard is promoted whose action is worse by more than one of these margins."""
    mode: RampMode = "auto"
    """`auto`: a step is taken once everything holds. `advise`: it also waits for `gateway guard promote`. A rollback
    never waits."""
    cooldown_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds after a rollback in which the ramp does not begin again."""
    stale_s: Positive = 300.0
    """Largest age of the newest call, in seconds, at which a step may be taken."""
    freeze: tuple[FreezeText, ...] = ()
    """Times in UTC in which no step is taken, as in `experiments.NAME.ramp.freeze`. A rollback never waits."""

    @property
    def pace(self) -> RampPace:
        return RampPace(self.mode, self.cooldown_s, self.stale_s, tuple(freeze_window(text) for text in self.freeze))
