"""Ends of runs as people read them, and additions that are refused."""

from __future__ import annotations

import pytest

from gateway.console.admin import Admin
from gateway.console.errors import Conflict
from gateway.features.runs.live import RunCeilingUse
from gateway.features.runs.notice_source import notice_of
from gateway.features.runs.operations import extend_by


def test_an_end_by_minutes_is_said_in_minutes() -> None:
    use = RunCeilingUse(
        "run_1", "web/a", "calls", 1e15, 9.0, 0.0, 60.0, 0.0, "minutes", "ask", minutes=10, caller="web"
    )
    assert (use.asks, use.endless) == (True, True)
    assert notice_of(use, 0.0).text.startswith("It has taken its 10 minutes. ")


@pytest.mark.parametrize(("ended", "added"), [("loops", 0.0), ("calls", 2.0), ("", 0.0)])
async def test_loops_and_what_was_added_before_are_refused(admin: Admin, ended: str, added: float) -> None:
    use = RunCeilingUse("run_1", "web/a", "calls", 4.0, 1.0, 0.0, 60.0, added, ended, "ask", caller="web")
    with pytest.raises(Conflict, match="possible once"):
        await extend_by(admin, ("otto", "operator"), [use])
