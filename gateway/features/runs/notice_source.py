"""Notices of runs that a ceiling has ended: one that asks a person for more, and one that is over."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.notice import SEVERITIES, Notice
from gateway.features.runs.live import RunCeilingUse, ended_ceilings
from gateway.features.task import TaskContext


class RunNotices:
    """The ends that the gateways have noted on the stream server in the last day."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._corridor = context.corridor

    async def look(self, now: float) -> Sequence[Notice]:
        """Raises StreamDown."""
        return [notice_of(use, now) for use in await ended_ceilings(self._corridor) if use.on_end != "tier"]


def notice_of(use: RunCeilingUse, now: float) -> Notice:
    name = use.run or use.run_id
    title = f"run {name} asks for more" if use.asks else f"run {name} has ended"
    text = f"{end_text(use)}. Its further calls are refused"
    text += (
        " until somebody adds the original amount, once: an operator on the page of the run, or the holder of the key "
        "on the page of the key (/console/me)."
        if use.asks
        else "."
    )
    data = {"run": use.run_id, "limit": use.ended, "amount": use.amount, "spent": use.spent, "asks": use.asks}
    severity = SEVERITIES["budget.run_asks" if use.asks else "budget.run_ended"]
    times = "again" if use.added or use.minutes_added else "once"
    id = f"run:{use.run_id}:{use.ended}:{times}:{use.began:.0f}"
    return Notice(id, "budget", title, text, now, f"/console/runs/{use.run_id}", severity, data)


def end_text(use: RunCeilingUse) -> str:
    """How a ceiling has ended the run, in words without a full stop."""
    if use.ended == "minutes":
        return f"It has taken its {use.minutes + use.minutes_added:g} minutes"
    if use.ended == "loops":
        return "It repeats a tool call with the same result"
    used = min(use.spent + use.reserved, use.amount)
    if use.ceiling == "usd":
        return f"It has used ${used:,.4g} of ${use.amount:,.4g}"
    return f"It has used {used:,.0f} of {use.amount:,.0f} {use.ceiling}"
