"""/health of a gateway over sockets: HTTP 200 in any case, with the parts that fail and, for some, the causes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import redis.asyncio

from gateway.fake import FakeUpstream, Fault

Configured = Callable[..., dict[str, Any]]
RECORDING = "calls are not recorded now; records wait in memory"
CONFIG = "the newest gateway.yaml was refused, and the previous one is in force"
PROXIED = {"x-forwarded-for": "203.0.113.7"}


async def health(gateway: Any, **headers: str) -> dict[str, Any]:
    reply = await gateway.client.get(f"{gateway.base_url.removesuffix('/v1')}/health", headers=headers)
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    assert (found["status"], set(found)) == ("ok", {"status", "version", "reasons"})
    return found


async def reasons_until(gateway: Any, holds: Callable[[list[str]], bool]) -> list[str]:
    async with asyncio.timeout(55):
        while not holds(found := (await health(gateway))["reasons"]):
            await asyncio.sleep(0.02)
    return found


async def test_a_full_stream_server_is_named_with_its_cause(
    start: Any, configured: Configured, upstream: FakeUpstream, stream_server: Any, stream_name: str
) -> None:
    gateway = await start(configured(upstream, stream={"url": stream_server.url, "name": stream_name}))
    assert (await reasons_until(gateway, lambda found: not found)) == []
    client = redis.asyncio.Redis.from_url(stream_server.url)
    await client.config_set("maxmemory-policy", "noeviction")
    await client.config_set("maxmemory", "1")
    found = await reasons_until(gateway, lambda found: any(each.startswith(RECORDING) for each in found))
    (recording,) = [each for each in found if each.startswith(RECORDING)]
    assert "command not allowed when used memory > 'maxmemory'" in recording
    assert (await gateway.chat()).status_code == 200, "a call does not wait for the stream server"
    assert RECORDING in (await health(gateway, **PROXIED))["reasons"], "the cause is not for everyone"
    assert "maxmemory" not in str(await health(gateway, **PROXIED))
    await client.config_set("maxmemory", "0")
    assert (await reasons_until(gateway, lambda found: not found)) == []
    await client.aclose()


async def test_a_stream_server_that_is_gone_is_named_for_each_part(
    start: Any, configured: Configured, upstream: FakeUpstream, stream_server: Any, stream_name: str
) -> None:
    config = configured(upstream, stream={"url": stream_server.url, "name": stream_name})
    config["keys"][0]["limits"] = {"requests_per_minute": 1000}
    gateway = await start(config)
    assert (await gateway.chat()).status_code == 200
    stream_server.kill()
    found = await reasons_until(gateway, lambda found: len(found) == 2)
    assert [each.partition(": ")[0] for each in found] == [RECORDING, "limits hold for each worker by itself"]
    assert all(": stream server: " in each for each in found)
    stream_server.start()
    assert (await reasons_until(gateway, lambda found: not found)) == []


async def test_a_refused_config_is_named_until_a_good_one_comes(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    gateway = await start(config)
    gateway.write({**config, "surely_unknown": 1})
    (refused,) = await reasons_until(gateway, lambda found: bool(found))
    assert refused.startswith(f"{CONFIG}: ")
    assert "surely_unknown" in refused
    assert await gateway.metric("gateway_failing_parts") == 1
    assert (await health(gateway, **PROXIED))["reasons"] == [CONFIG]
    gateway.write({**config, "sampling": {"rate": 0.5}})
    assert await reasons_until(gateway, lambda found: not found) == []
    assert await gateway.metric("gateway_failing_parts") == 0


async def test_an_issuer_that_does_not_answer_is_named(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    issuer = {
        "issuer": "https://idp.test", "audience": ["gateway"], "jwks_url": f"https://127.0.0.1:{port}/jwks",
        "callers": [{}],
    }  # fmt: skip
    gateway = await start(configured(upstream, jwt={"staff": issuer}))
    (found,) = await reasons_until(gateway, lambda found: bool(found))
    assert found.startswith("the keys of a token issuer cannot be read: jwt.staff: ")


REVOKED = Fault.status(401, error_code="invalid_api_key")
FORBIDDEN = Fault.status(403, error_code="account_deactivated")
KEY = "an upstream refuses the gateway's key"


@pytest.mark.parametrize(("fault", "fewest"), [(REVOKED, 1), (FORBIDDEN, 3)], ids=["401", "403"])
async def test_an_upstream_that_refuses_our_key_is_named(
    start: Any, configured: Configured, upstream: FakeUpstream, fault: Fault, fewest: int
) -> None:
    """Only an answered call ends the state; one 403 may be about the request."""
    gateway = await start(configured(upstream))
    upstream.always(fault)
    for n in range(fewest):
        assert (await health(gateway))["reasons"] == [], n
        await gateway.chat()
    (found,) = (await health(gateway))["reasons"]
    assert found.startswith(f"{KEY}: upstreams.u0: HTTP {fault.name.rpartition(':')[2]}")
    assert (await health(gateway, **PROXIED))["reasons"] == [KEY]
    assert await gateway.metric("gateway_failing_parts") == 1
    upstream.always(None)
    async with asyncio.timeout(60):
        while (await gateway.chat()).status_code != 200:  # while the breaker is open
            await asyncio.sleep(0.02)
    assert (await health(gateway))["reasons"] == []


async def test_a_403_between_answers_does_not_refuse_our_key(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream))
    for _ in range(5):
        upstream.then(FORBIDDEN)
        assert (await gateway.chat()).status_code == 403
        assert (await gateway.chat()).status_code == 200
    assert (await health(gateway))["reasons"] == []


async def test_the_metrics_listener_shows_causes(
    start: Any, configured: Configured, upstream: FakeUpstream, servers: Any
) -> None:
    bind = f"127.0.0.1:{servers.free_ports(1)[0]}"
    config = configured(upstream, metrics={"bind": bind})
    gateway = await start(config)
    gateway.write({**config, "surely_unknown": 1})
    async with httpx2.AsyncClient() as client, asyncio.timeout(55):
        while "surely_unknown" not in (await client.get(f"http://{bind}/health", headers=PROXIED)).text:
            await asyncio.sleep(0.02)
    assert (await health(gateway))["reasons"] == [CONFIG], "the main port has no causes then"


async def test_readiness_follows_the_targets_and_health_does_not(gateway: Any) -> None:
    root = gateway.base_url.removesuffix("/v1")
    [target_state] = gateway.gateway.router.target_states
    for change, state in (("down", "down"), ("failing", "failing"), ("", "ready")):
        target_state.upstream.down = change == "down"
        target_state.breaker.pause(100.0) if change == "failing" else target_state.breaker.record_success()
        ready = await gateway.client.get(f"{root}/ready")
        assert ready.status_code == (503 if change else 200)
        assert ready.json()["targets"] == {"u0/model-u0": state}
        assert ready.json()["without_target"] == (["chat"] if change else [])
        health = await gateway.client.get(f"{root}/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
