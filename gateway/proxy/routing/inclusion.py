"""The inclusion of an ended call in the record: the probability, the stratum, and the result of its draws. Pure.

Three numbers decide it: the `rate` of a rule (sampling.py; of a guard, `record`), the threshold below which the call's
own draw records it, and π, which counts a shadow's draw as well (assignment.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from gateway.proxy.routing.assignment import Assignment
from gateway.proxy.routing.sampling import SampleDraw

NOT_DRAWN = "not_drawn"
"""Reason why a call inside the sampled population is not recorded."""


class Inclusion(Struct, frozen=True):  # one for each call: a frozen dataclass takes eight times as long
    """The inclusion of one ended call, computed once."""

    pi: float
    """Probability of being recorded, by the call's own draw or by that of a shadow, as in the record."""
    stratum: str
    """The rule that gave the probability."""
    score_rate: float | None = None
    """Rate at which the call is scored by itself, with runs as the unit of sampling; as in the record."""
    left_out: str | None = None
    """Reason why the call is not recorded; None if it is."""
    shadowed: bool = False
    """A shadow was drawn and may be sent."""


@dataclass(frozen=True, slots=True)
class ArmEnding:
    """The end of a call of an experiment, as far as its inclusion depends on it."""

    assignment: Assignment
    comparable: bool
    """A candidate's answer can be compared with the served one."""
    counts: bool
    """The call counts for its arm."""
    complete: bool
    """The conversation counts no further pair, so that the call may have no shadow."""

    @property
    def arm(self) -> str | None:
        """The arm in the record; None if the call counts for none."""
        return self.assignment.arm if self.counts else None


def inclusion_of_call(drawn: SampleDraw, rate: float, stratum: str) -> Inclusion:
    """The inclusion of a call in no experiment. rate: the highest of all rules that match. stratum: that rule's."""
    if drawn.run_rate is None:
        return Inclusion(rate, stratum, None, drawn.reason or (None if drawn.u < rate else NOT_DRAWN))
    return Inclusion(drawn.run_rate, stratum, rate, drawn.reason or (None if drawn.u < drawn.run_rate else NOT_DRAWN))


def inclusion_in_experiment(drawn: SampleDraw, rate: float, stratum: str, ending: ArmEnding) -> Inclusion:
    """The inclusion of a call of an experiment, each of which is scored if it is recorded. rate, stratum: as above."""
    own = rate if drawn.run_rate is None else drawn.run_rate
    if drawn.reason is not None:
        return Inclusion(own, stratum, left_out=drawn.reason)
    assignment, drawable = ending.assignment, ending.comparable and not ending.complete
    threshold, pi = own, own
    if ending.counts:
        threshold, pi, stratum = assignment.inclusion(own, stratum, drawable)
    shadowed = assignment.shadowed and drawable
    return Inclusion(pi, stratum, None, None if shadowed or drawn.u < threshold else NOT_DRAWN, shadowed)
