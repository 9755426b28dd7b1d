"""The shares that this process applies to ramps: as last read, and never raised while the records are in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.plan import Plan, PlanState
from gateway.core.ramp import RampRecord


class RampShares:
    """One process's view of all ramps. It outlives configs, so that a reload moves no unit."""

    def __init__(self) -> None:
        self.by_plan: dict[str, float] = {}
        """The share of units that the candidate serves, by the plan's hash."""
        self.kept: dict[str, frozenset[str]] = {}
        """The segments that stay with the control, by the plan's hash; none: no entry."""
        self.stale: frozenset[str] = frozenset()
        """Experiments whose record was not read at the last look, or is older than the one that is known."""
        self._known: dict[str, RampRecord] = {}

    def state(self, experiment: str) -> RampRecord | None:
        """The record that is applied; None if none has been read."""
        return self._known.get(experiment)

    def read(self, records: Mapping[str, RampRecord], states: Mapping[str, PlanState]) -> None:
        """Applies what the stream server holds. states: the plans as read from it."""
        plans = _ramped(states)
        self.stale = frozenset(name for name, plan in plans.items() if not self._applied(plan, records.get(name)))

    def unreadable(self, states: Mapping[str, PlanState]) -> None:
        """Keeps the last shares, because the server does not answer. states: the plans as last read."""
        self.stale = frozenset(_ramped(states))

    def _applied(self, plan: Plan, record: RampRecord | None) -> bool:
        """Whether the record is the known one or a later one of this plan."""
        known = self._known.get(plan.name)
        if known is not None and known.plan != plan.hash:
            self.by_plan.pop(known.plan, None)
            self.kept.pop(self._known.pop(plan.name).plan, None)
            known = None
        if record is None or record.plan != plan.hash:
            return known is None  # it has not begun; or the server has lost it
        if known is not None and not _supersedes(record, known, plan):
            return record == known
        self._known[plan.name] = record
        self.by_plan[plan.hash] = _share(record, plan)
        self.kept[plan.hash] = frozenset(record.kept)
        return True


def _supersedes(record: RampRecord, known: RampRecord, plan: Plan) -> bool:
    """Whether a record replaces the known one: a higher version does. A server that has lost its last changes counts
    again from an older version: later decisions there can only take units away."""
    if record.version > known.version:
        return True
    return record.at > known.at and _share(record, plan) < _share(known, plan)


def _share(record: RampRecord, plan: Plan) -> float:
    return 0.0 if plan.ramp is None else record.share(plan.ramp)


def _ramped(states: Mapping[str, PlanState]) -> dict[str, Plan]:
    """The plans in force that have a ramp, by experiment."""
    plans: Iterable[Plan] = (state.plan for state in states.values() if state.running)
    return {plan.name: plan for plan in plans if plan.ramp is not None}
