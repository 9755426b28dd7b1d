"""The ramp of a guard: how its action is promoted from observing to refusing, by steps. Pure.

Its record is a RampRecord under the name `guard NAME`, which holds its own design. It begins with a phase in which
every unit gets the action before the last one (flag, where it will block), then a rising share of the units gets the
last action. Its evidence is in ramps/guard_promotion.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, get_args

import orjson

from gateway.core.guards import GuardAction, GuardRamp, GuardResult
from gateway.core.ramp import RampChange, RampDesign, RampRecord, started

OF_GUARDS = "guard "
"""Begins the names of guards' ramps. The name of an experiment holds no blank."""
STRICTNESS: tuple[GuardAction, ...] = get_args(GuardAction)
"""The actions in ascending order."""


def ramp_name(guard: str) -> str:
    return OF_GUARDS + guard


def ramped_guard(name: str) -> str | None:
    """The guard whose ramp has this name; None if it is the ramp of an experiment."""
    return name.removeprefix(OF_GUARDS) if name.startswith(OF_GUARDS) else None


@dataclass(frozen=True, slots=True)
class GuardRampDesign:
    """The terms that were agreed when a guard's ramp began. Raises ValueError for an invalid ramp."""

    to: GuardAction
    """The action in the end: flag, redact or block."""
    before: GuardAction
    """The action in the config when it began."""
    config: str
    """Hash of the part of the guard's config that the evidence is about."""
    steps: tuple[float, ...]
    """Shares of the units with the action, rising, in (0, 1]; the last is 1."""
    soak_s: float
    """Shortest duration of a step."""
    min_units: int
    """Fewest units that are acted on at a step."""
    max_block_rate: float
    """Largest share of a unit's calls with a hit, averaged over the units, in (0, 1]."""
    thumbs_down: float | None
    """Margin of the share of a unit's calls with bad feedback; None means that feedback is not looked at."""
    retries: float | None
    """Margin of the share of a unit's calls that are followed by the same prompt; None if they are not looked at."""
    retry_s: float
    """Seconds within which the same prompt is a retry."""
    alpha: float
    """The probability that a guard that harms is promoted, at most; in (0, 1)."""

    def __post_init__(self) -> None:
        if self.to == "observe" or STRICTNESS.index(self.to) <= STRICTNESS.index(self.before):
            raise ValueError(f"to: {self.to}, expected an action that is stricter than {self.before}")
        _ = self.ramp

    @property
    def ramp(self) -> RampDesign:
        return RampDesign(self.steps, self.soak_s, self.min_units)

    @property
    def first(self) -> GuardAction:
        """The action of every unit in the first phase, and later of those that are not acted on."""
        return max(self.before, "flag", key=STRICTNESS.index) if self.to != "flag" else self.before

    @property
    def hash(self) -> str:
        """12 hex digits, under which the audit has it as the plan."""
        return sha256(orjson.dumps(self.fields(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]

    def fields(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "steps": list(self.steps)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> GuardRampDesign:
        """Raises ValueError, TypeError or KeyError."""
        return cls(**{**fields, "steps": tuple(float(step) for step in fields["steps"])})


@dataclass(frozen=True, slots=True)
class CountedCall:
    """A call that a guard judged while its ramp took its steps."""

    id: str
    received: float
    """Unix seconds."""
    caller: str
    """Name of the key."""
    unit: str
    action: GuardAction
    """Action in force for the unit."""
    result: GuardResult
    asked: str | None
    """A digest of key, end user and prompt; None if unknown."""


def guard_ramp_begun(guard: str, design: GuardRampDesign, change: RampChange, before: RampRecord | None) -> RampRecord:
    """The record of a ramp that begins. before: of an earlier one of the same guard."""
    return replace(started(ramp_name(guard), design.hash, change, before), design=design.fields())


def design_of(record: RampRecord) -> GuardRampDesign | None:
    """The design of a guard's ramp; None if it is of an experiment, or this version does not understand it."""
    if record.design is None:
        return None
    try:
        return GuardRampDesign.from_fields(record.design)
    except (ValueError, TypeError, KeyError):
        return None


def ramp_in_force(record: RampRecord, design: GuardRampDesign, secret: bytes = b"") -> GuardRamp | None:
    """The ramp that gateways apply; None: the action of the config. secret: keys the draws; b"" if it is not known
    yet."""
    if record.state in ("rolled_back", "stopped"):
        return None
    domain, counted = f"{record.experiment}:{record.plan}", record.state != "promoted"
    if record.state == "shadow":
        return GuardRamp(design.first, design.first, 1.0, domain, secret, counted)
    return GuardRamp(design.to, design.first, record.share(design.ramp), domain, secret, counted)
