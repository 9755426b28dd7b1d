"""The demo's callers over sockets: they name their users, and a failure is reported once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from gateway.demo.traffic import Traffic
from gateway.fake import FakeUpstream
from gateway.runtime.tasks import Tasks
from gateway.up.up import RunningGateway


def running(base_url: str) -> RunningGateway:
    here = Path()
    return RunningGateway(base_url, "sk-demo", (), ("large",), ("", ""), "", "", here, here, here)


async def sent(gateway: RunningGateway, until: int) -> tuple[Traffic, list[str]]:
    """Traffic until that many calls were answered, or one has failed."""
    traffic, lines = Traffic(gateway, parallel=2, pause_s=0.0), list[str]()
    async with Tasks() as tasks, asyncio.timeout(60):
        tasks.start(traffic.send(lines.append), "traffic")
        while traffic.answered < until and not traffic.last_failure:
            await asyncio.sleep(0.01)
    return traffic, lines


async def test_each_call_names_its_user_and_the_first_answer_is_told() -> None:
    async with FakeUpstream() as upstream:
        upstream.says("the answer")
        traffic, lines = await sent(running(upstream.base_url), 20)
        named = {dict(received.headers).get("x-gateway-user") for received in upstream.received}
    assert traffic.answered >= 20
    assert traffic.users <= named
    assert len(traffic.users) > 1
    assert lines == ["first answer: the answer…"]


async def test_a_failure_is_told_once_and_the_next_calls_are_sent() -> None:
    async with FakeUpstream() as upstream:
        upstream.answers(503, b"{}")
        traffic, lines = await sent(running(upstream.base_url), 1)
    assert traffic.answered == 0
    assert len(lines) == 1
    assert lines[0].startswith("a call failed; the next ones are sent: HTTP 503")


async def test_a_gateway_that_is_away_is_told() -> None:
    async with FakeUpstream() as upstream:
        gone = replace(running(upstream.base_url), key=None)
    _, lines = await sent(gone, 1)
    assert lines[0].startswith("a call failed")
