"""Children are started in order, restarted when they end, and stopped in reverse order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.runtime.child import Child
from gateway.runtime.supervisor import ChildFailed, RestartDelay, StartPatience, Supervisor


async def state(holds: Callable[[], bool]) -> None:
    """Waits for a state of the world outside this process."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def sh(name: str, script: str, **more: object) -> Child:
    return Child(name, ("/bin/sh", "-c", script), **more)  # type: ignore[arg-type]


def appears(path: Path) -> Callable[[], object]:
    async def ask() -> bool:
        return path.exists()  # noqa: ASYNC240 - a local file

    return ask


@pytest.mark.parametrize(
    ("lives", "waits"),
    [
        ([0, 0, 0, 0], [0.2, 0.4, 0.8, 1.6]),
        ([0] * 12, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30, 30]),
        ([0, 0, 59.9, 60, 0], [0.2, 0.4, 0.8, 0.2, 0.4]),
        ([3600], [0.2]),
    ],
)
def test_restart_delays_grow_until_a_child_runs_for_a_minute(lives: list[float], waits: list[float]) -> None:
    delay = RestartDelay()
    assert [delay.wait_s(lived_s) for lived_s in lives] == pytest.approx(waits)


async def test_each_child_is_started_once_the_previous_one_is_ready(tmp_path: Path) -> None:
    order = tmp_path / "order"
    first_ready = tmp_path / "first"
    async with Supervisor() as supervisor:
        await supervisor.start(
            sh("first", f"echo first >> {order}; : > {first_ready}; exec sleep 100", ready=appears(first_ready))
        )
        assert first_ready.exists()
        await supervisor.start(sh("second", f"echo second >> {order}; exec sleep 100"))
        await state(lambda: order.read_text() == "first\nsecond\n")


async def test_children_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    order, up = tmp_path / "order", tmp_path / "up"
    async with Supervisor() as supervisor:
        for name in ("first", "second", "third"):
            script = f"trap 'echo {name} >> {order}; exit' TERM; echo {name} >> {up}; while :; do sleep 0.02; done"
            await supervisor.start(sh(name, script))
        await state(lambda: up.exists() and len(up.read_text().split()) == 3)
    assert order.read_text().split() == ["third", "second", "first"]


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    up = tmp_path / "up"
    async with Supervisor() as supervisor:
        await supervisor.start(
            sh("deaf", f"trap '' TERM; : > {up}; while :; do sleep 0.02; done", ready=appears(up), grace_s=0.1)
        )
        program = supervisor.program("deaf")
    assert program.code == -signal.SIGKILL
    assert "deaf did not stop within 0.1 s" in caplog.text


async def test_grandchildren_end_with_a_child(tmp_path: Path) -> None:
    grandchild = tmp_path / "pid"
    async with Supervisor() as supervisor:
        await supervisor.start(sh("parent", f"sleep 100 & echo $! > {grandchild}; exec sleep 100"))
        await state(lambda: grandchild.exists() and grandchild.read_text().strip() != "")
        pid = int(grandchild.read_text())
        assert alive(pid)
    await state(lambda: not alive(pid))


async def test_a_child_that_dies_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    starts = tmp_path / "starts"
    async with Supervisor() as supervisor:
        await supervisor.start(sh("mortal", f"echo $$ >> {starts}; exec sleep 100"))
        await state(lambda: starts.exists() and len(starts.read_text().split()) == 1)
        os.kill(supervisor.program("mortal").pid, signal.SIGKILL)
        await state(lambda: len(starts.read_text().split()) == 2)
        assert supervisor.program("mortal").code is None
    assert "mortal ended with -9; it restarts in 0.2 s" in caplog.text


async def test_a_child_that_hangs_is_killed_and_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    starts, answers = tmp_path / "starts", tmp_path / "answers"
    script = f"echo $$ >> {starts}; : > {answers}; exec sleep 100"
    async with Supervisor() as supervisor:
        await supervisor.start(sh("stuck", script, ready=appears(answers), hung_s=0.3))
        first = supervisor.program("stuck")
        os.kill(first.pid, signal.SIGSTOP)
        answers.unlink()
        await state(lambda: len(starts.read_text().split()) == 2)
        assert first.code == -signal.SIGKILL
        assert supervisor.program("stuck").code is None
    assert "stuck has not answered for 0.3 s and is killed" in caplog.text


async def test_a_child_whose_answer_never_comes_hangs(tmp_path: Path) -> None:
    """The child is like a stopped process, whose socket still takes connections."""
    starts = tmp_path / "starts"

    answered: list[bool] = []

    async def ask() -> bool:
        if answered and len(starts.read_text().split()) == 1:
            await asyncio.sleep(3600)
        if starts.exists():
            answered.append(True)
        return starts.exists()

    async with Supervisor() as supervisor:
        await supervisor.start(sh("silent", f"echo $$ >> {starts}; exec sleep 100", ready=ask, hung_s=0.3))
        await state(lambda: len(starts.read_text().split()) == 2)


async def test_a_child_that_answers_again_in_time_is_left(tmp_path: Path) -> None:
    starts, looks = tmp_path / "starts", 0

    async def ask() -> bool:
        nonlocal looks
        looks += 1
        return starts.exists() and looks % 3 != 0

    async with Supervisor() as supervisor:
        await supervisor.start(sh("slow", f"echo $$ >> {starts}; exec sleep 100", ready=ask, hung_s=3.0))
        await state(lambda: looks >= 4)
    assert len(starts.read_text().split()) == 1


async def test_a_child_that_is_killed_before_it_is_ready_is_replaced(tmp_path: Path) -> None:
    starts, is_ready = tmp_path / "starts", tmp_path / "ready"
    script = f"echo >> {starts}; [ $(wc -l < {starts}) = 3 ] || kill -9 $$; : > {is_ready}; exec sleep 100"
    async with Supervisor() as supervisor:
        with pytest.raises(ChildFailed, match="lost ended with -9 before it was ready"):
            await supervisor.start(sh("lost", script, ready=appears(is_ready)))
        await supervisor.start(sh("kept", script, ready=appears(is_ready), replaced_when_killed=True))
        assert supervisor.restarts == 1
        with pytest.raises(ChildFailed, match="wrong ended with 2 before it was ready"):
            await supervisor.start(sh("wrong", "exit 2", ready=appears(tmp_path / "no"), replaced_when_killed=True))


async def test_a_child_that_ends_before_it_is_ready_says_why() -> None:
    async def never() -> bool:
        return False

    async with Supervisor() as supervisor:
        with pytest.raises(
            ChildFailed, match=r"(?s)broken ended with 3 before it was ready; its output:.*no such thing"
        ):
            await supervisor.start(sh("broken", "echo no such thing >&2; exit 3", ready=never))


async def test_a_child_that_is_never_ready_is_stopped() -> None:
    async def never() -> bool:
        return False

    async with Supervisor() as supervisor:
        with pytest.raises(ChildFailed, match=r"slow was not ready within 0.1 s"):
            await supervisor.start(sh("slow", "exec sleep 100", ready=never, ready_s=0.1))
        assert supervisor.program("slow").code == -signal.SIGTERM


def test_a_start_may_take_long_while_it_works() -> None:
    """A third of a core: 90 s of a start that takes 30 on a core of its own. One second is 100 units of work."""
    slow = StartPatience(30.0, 0.0)
    assert not any(slow.ended(float(s), s * 33) for s in range(90))
    hangs = StartPatience(30.0, 0.0)
    assert not any(hangs.ended(float(s), min(s, 20) * 33) for s in range(50))
    assert hangs.ended(51.0, 660), "30 s after its last work"
    spins = StartPatience(30.0, 0.0)
    assert not spins.ended(30.0, 3_000)
    assert spins.ended(31.0, 3_100), "30 s of CPU time should have been enough"
    untold = StartPatience(30.0, 0.0)
    assert (untold.ended(30.0, None), untold.ended(31.0, None)) == (False, True)
    idle = StartPatience(30.0, 0.0)
    assert idle.ended(31.0, 4), "a heartbeat does not count as work"


async def test_a_childs_end_is_logged_with_its_last_lines(caplog: pytest.LogCaptureFixture) -> None:
    async with Supervisor() as supervisor:
        await supervisor.start(sh("frail", "echo the disk is full; sleep 0.05; exit 3"))
        await state(lambda: "frail ended with 3" in caplog.text)
    assert "frail ended with 3; it restarts in 0.2 s; its last lines:\n  the disk is full" in caplog.text


async def test_a_childs_output_is_logged_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Supervisor() as supervisor:
        await supervisor.start(sh("talker", "echo on stdout; echo on stderr >&2; exec sleep 100"))
        await state(lambda: "on stdout" in caplog.text and "on stderr" in caplog.text)
    assert {r.name for r in caplog.records if "on std" in r.message} == {"gateway.child.talker"}


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
