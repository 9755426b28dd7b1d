"""`gateway status` speaks of what clients feel: failed calls, upstreams, breakers, and the config of each gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from typer.testing import CliRunner

from gateway.cli import app
from gateway.fake import FakeUpstream
from gateway.fake.faults import parse_fault
from gateway.stream import Corridor

Start = Callable[..., Any]
Configured = Callable[..., dict[str, Any]]
Status = dict[str, Any]


async def command(config: Path) -> tuple[int, Status]:
    """Runs `gateway status --json`; its exit code and what it printed."""
    words = ["status", "--json", "--config", str(config), "--data", str(config.parent / "data")]
    done = await asyncio.to_thread(lambda: CliRunner().invoke(app, words))
    return done.exit_code, orjson.loads(done.stdout)


async def status_until(config: Path, holds: Callable[[list[str]], bool]) -> tuple[int, Status]:
    """The first answer whose problems satisfy `holds`."""
    async with asyncio.timeout(55):
        while True:
            code, found = await command(config)
            if holds(found["problems"]):
                return code, found


async def test_failing_calls_are_a_problem(start: Start, configured: Configured, upstream: FakeUpstream) -> None:
    upstream.then(*[parse_fault("status:500")] * 6)
    chat = {"retries": {"attempts": 1}}
    gateway = await start(configured(upstream, chat=chat))
    for _ in range(6):
        assert (await gateway.chat()).status_code in (500, 502, 503)
    code, found = await status_until(gateway.config_path, lambda p: bool(p) and p[0].startswith("6 of 6"))
    assert code == 1
    assert found["problems"][0] == "6 of 6 calls of the last minute failed"
    breaker = "circuit breaker of u0/model-u0 is open at 1 of 1 gateway processes: HTTP 5"
    assert any(problem.startswith(breaker) for problem in found["problems"])
    (process,) = found["stream"]["gateways"]
    assert (process["ended"], process["failed"], process["breakers_open"]) == (6, 6, ["u0/model-u0"])


async def test_good_calls_and_the_clients_own_errors_are_none(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream))
    upstream.then(*[parse_fault("status:400")] * 5)
    for _ in range(5):
        assert (await gateway.chat()).status_code == 400
    assert (await gateway.chat()).status_code == 200
    async with asyncio.timeout(55):
        while (found := (await command(gateway.config_path))[1])["stream"]["gateways"][0]["ended"] != 6:
            pass
    (process,) = found["stream"]["gateways"]
    assert (process["ended"], process["failed"], process["upstreams"]["u0"]["down"]) == (6, 0, False)
    assert not [p for p in found["problems"] if "failed" in p or "breaker" in p or "config" in p]


async def test_a_refused_config_is_a_problem_until_a_good_one_comes(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    gateway = await start(config)
    gateway.write({**config, "surely_unknown": 1})
    await gateway.until(lambda: gateway.process.app.config_refused)
    gateway.config_path.with_name("good.yaml").write_text(
        gateway.config_path.read_text().replace("surely_unknown", "#")
    )
    good = gateway.config_path.with_name("good.yaml")
    code, found = await status_until(good, lambda p: any("was refused" in x for x in p))
    assert code == 1
    assert not found["stream"]["gateways"][0]["config_ok"]
    (refused,) = [each for each in found["problems"] if "was refused" in each]
    assert "surely_unknown" in refused, "the cause, as the heartbeat has it"
    gateway.write({**config, "sampling": {"rate": 0.5}})
    await gateway.until(lambda: not gateway.process.app.config_refused)
    _, found = await status_until(good, lambda p: not any("was refused" in x for x in p))
    assert found["stream"]["gateways"][0]["config_digest"] == gateway.gateway.config.digest != ""


async def test_a_killed_process_is_forgotten_and_a_replaced_one_at_once(
    start: Start, configured: Configured, upstream: FakeUpstream, stream_url: str, stream_name: str
) -> None:
    corridor = Corridor(stream_url, stream_name)
    now = time.time()
    plain = {"host": "box", "pid": 1, "rates": {}, "waiting": 0, "started": now - 9000}
    live = {**plain, "pid": 2, "at": now, "started": now - 50, "address": "0.0.0.0:8000"}
    await corridor.state.set_gateway_heartbeat("old", {**plain, "at": now - 700})
    await corridor.state.set_gateway_heartbeat("killed", {**plain, "pid": 3, "at": now - 90})
    await corridor.state.set_gateway_heartbeat("replaced", {**live, "pid": 4, "at": now - 60, "started": now - 9000})
    await corridor.state.set_gateway_heartbeat("live", live)
    await corridor.state.heartbeat("late", now - 90)
    await corridor.state.heartbeat("long-gone", now - 700)
    path = (await start(configured(upstream))).config_path
    _, found = await command(path)
    pids = {g["pid"] for g in found["stream"]["gateways"]}
    assert {2, 3} <= pids
    assert not {1, 4} & pids
    assert "gateways without a heartbeat: box/3" in found["problems"]
    assert any("consumers without a heartbeat: late;" in p for p in found["problems"])
    async with asyncio.timeout(55):
        while "old" in await corridor.state.gateways():
            await asyncio.sleep(0.05)
    await corridor.aclose()


async def test_a_stream_server_that_is_unreachable_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text('stream: {url: "redis://127.0.0.1:1/0"}')
    code, found = await command(path)
    assert (code, found["stream"]) == (2, None)


async def test_a_heartbeat_stays_small_with_many_upstreams(
    start: Start, configured: Configured, upstream: FakeUpstream
) -> None:
    """The heartbeat is written every two seconds by every worker, so it must not list what has nothing to say."""
    config = configured(upstream)
    config["upstreams"] |= {f"other-{i}": config["upstreams"]["u0"] for i in range(200)}
    gateway = await start(config)
    report = gateway.process.app.report()
    assert len(orjson.dumps(report)) < 1000
    gateway.gateway.upstreams["other-7"].down = True
    _, found = await status_until(gateway.config_path, lambda p: any("other-7" in x for x in p))
    assert "upstream other-7 is down at 1 of 1 gateway processes" in found["problems"]
