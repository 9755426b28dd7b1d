"""People's commands to a ramp, on a real stream server: each is in force with its event, or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.ramp import RampChange, RampPace, RampRefused, paused, resumed, rolled_back
from gateway.core.segments import SegmentDesign
from gateway.ramps.commands import NoRamp, ProposedChange, RampCommand, command_ramp, make_change, read_ramp
from gateway.stream import Corridor


@pytest.fixture
async def ramp(ramp_on_server: Any, stream_url: str, stream_name: str) -> AsyncIterator[Any]:
    """A ramp on a real stream server, whose plan runs."""
    corridor = Corridor(stream_url, stream_name)
    found = ramp_on_server(corridor)
    await found.plan_runs()
    yield found
    await corridor.aclose()


async def give(ramp: Any, verb: Any, reason: str = "as agreed", **more: Any) -> Any:
    command = RampCommand(verb, "ada", reason, **more)
    return await command_ramp(ramp.corridor, "swap", command, RampPace(cooldown_s=60.0), lambda: ramp.at)


async def test_a_command_is_in_force_with_its_event_and_evidence(ramp: Any) -> None:
    await ramp.begins()
    await ramp.steps()
    await ramp.says("hold", "soaks")
    done = await give(ramp, "rollback", "customers complain")
    assert (done.state, done.by, done.reason, done.cooling_until) == ("rolled_back", "ada", "customers complain", 1060)
    assert await ramp.record() == done
    event = (await ramp.corridor.ramps.waiting()).events[-1]
    assert (event.record, event.before, event.kind) == (done, ("ramp", 0), "rolled_back")
    assert event.evidence["verdict"] == "ship"
    assert event.evidence["decision"]["reason"] == "soaks"


async def test_pause_and_resume_keep_the_share(ramp: Any) -> None:
    await ramp.begins()
    await ramp.steps()
    assert [(await give(ramp, verb)).paused for verb in ("pause", "resume")] == [True, False]
    assert (await read_ramp(ramp.corridor, "swap")).share == 0.25


async def test_promote_takes_the_step_that_waits(ramp: Any) -> None:
    await ramp.begins()
    with pytest.raises(RampRefused, match="there is no evidence yet"):
        await give(ramp, "promote")
    await ramp.says("hold", "12 of 100 units at this step")
    with pytest.raises(RampRefused, match=r"12 of 100 units at this step\. To go on all the same: override it"):
        await give(ramp, "promote")
    await ramp.says("ready", "everything holds")
    done = await give(ramp, "promote")
    assert (done.state, done.step, done.overridden) == ("ramp", 0, False)


async def test_an_override_needs_no_evidence_but_a_reason(ramp: Any) -> None:
    await ramp.begins()
    with pytest.raises(RampRefused, match="a reason is needed"):
        await give(ramp, "override", " ")
    one = await give(ramp, "override", "the old engine ends tonight")
    assert (one.state, one.step, one.overridden) == ("ramp", 0, True)
    assert (await give(ramp, "override", "now", full=True)).state == "promoted"


async def test_promote_full_ends_a_holdout(ramp: Any) -> None:
    ramp.plan = replace(ramp.plan, ramp=replace(ramp.plan.ramp, holdout=0.1, holdout_days=7.0))
    await ramp.plan_runs()
    await ramp.begins()
    with pytest.raises(RampRefused, match="so there is none to end"):
        await give(ramp, "promote", "too early", full=True)
    held = await give(ramp, "override", "now", full=True)
    assert held.share(ramp.plan.ramp) == 0.9
    done = await give(ramp, "promote", "we are sure", full=True)
    assert (done.state, done.share(ramp.plan.ramp)) == ("promoted", 1.0)


async def test_a_ramp_that_has_not_begun_can_be_rolled_back(ramp: Any) -> None:
    """The consumer is down, or the server has lost the record."""
    done = await give(ramp, "rollback", "not today")
    assert (done.state, (await ramp.record()).state) == ("rolled_back", "rolled_back")


async def test_the_record_of_another_plan_is_not_this_ramps(ramp: Any) -> None:
    await ramp.begins()
    before = await ramp.steps()
    ramp.another_plan()
    await ramp.plan_runs()
    done = await give(ramp, "override")
    assert (done.plan, done.step) == (ramp.plan.hash, 0)
    assert done.version > before.version


async def test_commands_at_the_same_time_are_taken_one_after_the_other(ramp: Any) -> None:
    import asyncio

    await ramp.begins()
    done = await asyncio.gather(*(give(ramp, "pause") for _ in range(4)), return_exceptions=True)
    assert sum(not isinstance(each, Exception) for each in done) == 1
    assert all(isinstance(each, RampRefused) for each in done if isinstance(each, Exception))
    assert [event.kind for event in (await ramp.corridor.ramps.waiting()).events] == ["shadowing", "paused"]


@pytest.mark.parametrize(("others", "refused"), [(1, False), (100, True)])
async def test_a_change_is_proposed_again_after_those_of_others(ramp: Any, others: int, refused: bool) -> None:
    """A command is proposed again only a few times: constant changes by others refuse it."""
    await ramp.begins()
    left = others

    async def propose() -> ProposedChange:
        nonlocal left
        before = await ramp.record()
        if left:
            left -= 1
            change = RampChange(ramp.at, "otto", "meanwhile")
            between = resumed(before, change) if before.paused else paused(before, change)
            assert await ramp.corridor.ramps.change(before, between, b"{}")
        return ProposedChange(before, rolled_back(before, RampChange(ramp.at, "ada", "as agreed"), 60.0), {})

    if refused:
        with pytest.raises(RampRefused, match="swap: others changed it at the same time; try again"):
            await make_change(ramp.corridor, "swap", "as agreed", propose)
        return
    done = await make_change(ramp.corridor, "swap", "as agreed", propose)
    assert await ramp.record() == done
    assert (done.state, done.by, done.version) == ("rolled_back", "ada", 3)


async def test_a_plan_without_a_ramp_is_an_error(ramp: Any) -> None:
    with pytest.raises(NoRamp, match='no experiment "other" has been started'):
        await read_ramp(ramp.corridor, "other")
    await ramp.plan_runs("stopped")
    with pytest.raises(RampRefused, match="gateway ab start swap"):
        await give(ramp, "pause")


async def test_a_reason_has_an_end(ramp: Any) -> None:
    with pytest.raises(RampRefused, match="3000 characters"):
        await give(ramp, "pause", "x" * 3000)


def with_segments(ramp: Any) -> None:
    ramp.plan = replace(ramp.plan, segments=SegmentDesign(("tools", "caller"), values=(("caller", ("web",)),)))


async def test_promote_except_keeps_segments_with_the_control(ramp: Any) -> None:
    with_segments(ramp)
    await ramp.plan_runs()
    await ramp.begins()
    with pytest.raises(RampRefused, match="no segments are to be excepted: there is no evidence yet"):
        await give(ramp, "promote", kept=("tools=yes",))
    await ramp.holds_without("tools=yes")
    with pytest.raises(RampRefused, match=r"Ship, but keep tools=yes"):
        await give(ramp, "promote")
    with pytest.raises(RampRefused, match=r'"tool=yes" is not one of its segments; did you mean "tools=yes"\?'):
        await give(ramp, "promote", kept=("tool=yes",))
    with pytest.raises(RampRefused, match=r"tools=yes must be excepted too"):
        await give(ramp, "promote", kept=("tools=no",))
    done = await give(ramp, "promote", kept=("tools=yes", "key=web"))
    assert (done.state, done.step, done.kept) == ("ramp", 0, ("caller=web", "tools=yes"))
    assert await ramp.record() == done
    back = await give(ramp, "rollback", "no more")
    assert back.kept == (), "it begins again without exceptions"


async def test_promote_except_waits_for_everything_else(ramp: Any) -> None:
    with_segments(ramp)
    await ramp.plan_runs()
    await ramp.begins()
    await ramp.holds_without("tools=yes", also=["soaks for another 50 s"])
    with pytest.raises(RampRefused, match="it also waits: soaks for another 50 s"):
        await give(ramp, "promote", kept=("tools=yes",))


async def test_a_record_without_exceptions_reads_as_in_older_versions(ramp: Any) -> None:
    await ramp.begins()
    assert b"kept" not in (await ramp.record()).raw
