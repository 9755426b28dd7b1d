"""The changes of a ramp, for people and programs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.core.ramp import RampEvent


def event_view(event: RampEvent) -> dict[str, Any]:
    """JSON-able: one change with its evidence."""
    r = event.record
    return {
        "id": event.id,
        "at": datetime.fromtimestamp(r.at, UTC).isoformat(timespec="milliseconds"),
        "kind": event.kind,
        "version": r.version,
        "plan": r.plan,
        "before": None if event.before is None else {"state": event.before[0], "step": event.before[1]},
        "state": r.state,
        "step": r.step,
        "paused": r.paused,
        "overridden": r.overridden,
        "by": r.by,
        "reason": r.reason,
        "evidence": dict(event.evidence),
    }


def history_line(event: RampEvent) -> str:
    """One change in one line."""
    r = event.record
    at = datetime.fromtimestamp(r.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    step = f" to step {r.step + 1}" if r.state == "ramp" and event.before != (r.state, r.step) else ""
    return f"{at}  {event.kind}{step}  by {r.by}: {r.reason or 'no reason given'}"
