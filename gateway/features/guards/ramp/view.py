"""The ramp of a guard on its page: its state in words, the share of the units over time, and its changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.core.guard_ramp import design_of, ramp_name
from gateway.core.ramp import RampEvent
from gateway.features.guards.ramp.commands import GuardRampOutput
from gateway.reports import number_format as say
from gateway.reports.charts import Chart
from gateway.reports.time_charts import RampTimeline, ramp_chart, ramp_step, short_time
from gateway.store.query import Reading
from gateway.store.ramp_events import stored_ramp_events

_STATES = {
    "shadow": ("open", "first phase"),
    "ramp": ("open", "ramp"),
    "promoted": ("good", "✓ promoted"),
    "rolled_back": ("bad", "✕ rolled back"),
    "stopped": ("", "stopped"),
}
MOST_EVENTS = 20


@dataclass(frozen=True, slots=True)
class ShownRamp:
    """A guard's ramp, as its page shows it."""

    output: GuardRampOutput
    events: Sequence[RampEvent]
    """Changes, newest first."""
    chart: Chart | None
    """The shares over time; None if there was no change yet."""

    @property
    def begun(self) -> bool:
        return self.output["state"] is not None

    @property
    def going(self) -> bool:
        return self.output["state"] in ("shadow", "ramp")

    @property
    def can_resume(self) -> bool:
        return self.begun and (self.output["paused"] or self.output["state"] in ("rolled_back", "stopped"))

    @property
    def pill(self) -> tuple[str, str]:
        """The state in a word, and its tone."""
        of = self.output
        tone, word = _STATES[of["state"] or "stopped"]
        if of["state"] == "ramp":
            word = f"step {of['step'] + 1} of {len(of['steps'])}"
        return (f"{word}, paused" if of["paused"] else word), ("open" if of["paused"] else tone)

    @property
    def sentence(self) -> str:
        """Says who gets which action."""
        of = self.output
        if of["share"] >= 1.0:
            return f"Every unit gets {of['action']}."
        return f"{say.share(of['share'])} of the units get {of['action']}, the others {of['otherwise']}."

    def lines(self) -> Iterator[str]:
        """Yields the evidence, and what the next step waits for."""
        of = self.output
        rate = of["block_rate"]
        if rate is not None:
            units, share = say.counted(rate["units"], "unit"), say.share(rate["rate"])
            bounds = f"{say.share(rate['low'])} to {say.share(rate['high'])} at every look"
            yield f"{share} of the calls of {units} have a hit ({bounds}); at most {say.share(rate['max'])} may"
        for each in of["compared"]:
            if each["difference"] is not None and each["low"] is not None and each["high"] is not None:
                ends = (say.number(-100 * end, 1, signed=True) for end in (each["high"], each["low"]))
                between = " to ".join(ends)
                yield (
                    f"{each['metric'].replace('_', ' ')} with the action: {between} points against the other units "
                    f"(margin {100 * each['margin']:g}): {each['found'].replace('_', ' ')}"
                )
        yield from (f"waits: {why}" for why in of["waits_for"])


def shown_ramp(output: GuardRampOutput, events: Sequence[RampEvent], now: float) -> ShownRamp:
    """events: of this guard, oldest first. now: Unix seconds."""
    steps = [ramp_step(e.record.at, _share(e), e.kind) for e in events]
    timeline = RampTimeline(
        "guard-ramp", "Share of the units with the last action", steps, output["steps"], now, short_time
    )
    return ShownRamp(output, events[::-1][:MOST_EVENTS], ramp_chart(timeline))


def _share(event: RampEvent) -> float:
    design = design_of(event.record)
    return 0.0 if design is None else event.record.share(design.ramp)


def guard_ramp_events(connection: Reading, guard: str) -> list[RampEvent]:
    """The changes of a guard's ramp, oldest first."""
    return stored_ramp_events(connection, ramp_name(guard))
