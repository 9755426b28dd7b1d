"""A worker applies the newest record of a ramp, and only a smaller share while the record is in doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState
from gateway.core.ramp import RampChange, RampDecision, RampDesign, RampRecord, advanced, excepted, rolled_back, started
from gateway.proxy.experiments.ramp_shares import RampShares

DESIGN = RampDesign((0.1, 0.5, 1.0), 0.0, 1)
PLAN = Plan("swap", "chat", Target("a", "m"), (("candidate", Target("b", "m")),), "both", ramp=DESIGN)
STATES = {"swap": PlanState(PLAN, "running", 1.0)}


def at(now: float) -> RampChange:
    return RampChange(now, "ada", "why")


BEGUN = started("swap", PLAN.hash, at(1.0))
FIRST = advanced(BEGUN, DESIGN, at(2.0))
SECOND = advanced(FIRST, DESIGN, at(3.0))
BACK = rolled_back(SECOND, at(4.0), 60.0)


class Worker:
    def __init__(self) -> None:
        self.shares = RampShares()

    def reads(self, *records: RampRecord) -> tuple[float, bool]:
        self.shares.read({each.experiment: each for each in records}, STATES)
        return self.now

    @property
    def now(self) -> tuple[float, bool]:
        """(share, stale)."""
        return self.shares.by_plan.get(PLAN.hash, 0.0), "swap" in self.shares.stale


def test_a_worker_without_plans_never_uses_a_candidate() -> None:
    worker = Worker()
    assert worker.reads() == (0.0, False)
    worker.shares.unreadable(STATES)
    assert worker.now == (0.0, True)


def test_the_newest_record_is_applied() -> None:
    worker = Worker()
    assert [worker.reads(each) for each in (BEGUN, FIRST, SECOND, BACK)] == [
        (0.0, False), (0.1, False), (0.5, False), (0.0, False),
    ]  # fmt: skip
    assert worker.shares.state("swap") == BACK


def test_while_the_server_is_unreachable_the_share_stays_and_says_so() -> None:
    worker = Worker()
    worker.reads(SECOND)
    worker.shares.unreadable(STATES)
    assert worker.now == (0.5, True)
    assert worker.reads(SECOND) == (0.5, False)


@pytest.mark.parametrize("lost", [(), (FIRST,), (replace(SECOND, plan="another"),)])
def test_a_record_that_is_lost_or_older_moves_nobody(lost: Any) -> None:
    worker = Worker()
    worker.reads(SECOND)
    assert worker.reads(*lost) == (0.5, True)


def test_an_older_version_never_goes_forward() -> None:
    """The server lost its last change, and somebody else took a step there."""
    worker = Worker()
    worker.reads(FIRST)
    assert worker.reads(replace(SECOND, version=FIRST.version, at=9.0)) == (0.1, True)


def test_a_rollback_on_a_server_that_lost_changes_is_applied() -> None:
    worker = Worker()
    worker.reads(SECOND)
    late = replace(BACK, version=FIRST.version, at=9.0)
    assert worker.reads(late) == (0.0, False)
    assert worker.reads(SECOND) == (0.5, False), "a higher version again"


def test_a_new_plan_begins_at_nothing_and_an_old_one_too() -> None:
    worker = Worker()
    worker.reads(SECOND)
    other = replace(PLAN, margin=0.5)
    worker.shares.read({"swap": SECOND}, {"swap": PlanState(other, "running", 5.0)})
    assert worker.shares.by_plan.get(other.hash, 0.0) == 0.0
    assert worker.reads() == (0.0, False), "its record is gone"


def test_a_plan_without_a_ramp_is_nobodys_concern() -> None:
    shares = RampShares()
    plain = replace(PLAN, ramp=None)
    shares.read({"swap": SECOND}, {"swap": PlanState(plain, "running", 5.0)})
    shares.unreadable({"swap": PlanState(plain, "running", 5.0)})
    assert (shares.by_plan, shares.stale) == ({}, frozenset())


def test_segments_that_stay_come_and_go_with_the_record() -> None:
    worker = Worker()
    ready = RampDecision("hold", "all but tools", without=("tools=yes",))
    kept = excepted(BEGUN, DESIGN, at(2.0), ready, ("tools=yes",))
    worker.reads(kept)
    assert (worker.now[0], worker.shares.kept) == (0.1, {PLAN.hash: {"tools=yes"}})
    worker.reads(advanced(kept, DESIGN, at(3.0)))
    assert worker.shares.kept == {PLAN.hash: {"tools=yes"}}, "at every later step"
    worker.reads(rolled_back(advanced(kept, DESIGN, at(3.0)), at(5.0), 60.0))
    assert (worker.now[0], worker.shares.kept) == (0.0, {PLAN.hash: frozenset()})
