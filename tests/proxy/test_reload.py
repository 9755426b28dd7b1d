"""The next config is in force without a restart: a call ends on the one that it began with."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.fake import HOLD, FakeAnswer, FakeUpstream, Fault
from gateway.observability.label_history import KEEP_S, LabelHistory

Configured = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def nothing_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test whose log names an error: errors in the background are reported nowhere else."""
    yield
    wrong = [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]
    assert not wrong


async def put_in_force(gateway: Any, config: dict[str, Any]) -> None:
    """Changes the file, and waits until its config has taken the place of what was."""
    before = gateway.gateway
    gateway.write(config)
    os.kill(os.getpid(), signal.SIGHUP)  # the gateway runs in this process; it would look by itself within a second
    await gateway.until(lambda: gateway.gateway is not before)


async def refused(gateway: Any, caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Writes a file that must be refused; gives what the log says of it."""
    caplog.clear()
    gateway.config_path.write_text(text)
    os.kill(os.getpid(), signal.SIGHUP)
    await gateway.until(lambda: "is refused" in caplog.text)
    return caplog.text


async def read_until(lines: AsyncIterator[str], words: str) -> None:
    async for line in lines:
        if words in line:
            return
    raise AssertionError(f"the stream ended before {words!r}")


async def test_a_changed_file_is_in_force_without_a_restart(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    config = configured(upstream, second)
    gateway = await start(config)
    assert (await gateway.chat(model="new")).status_code == 404

    before = gateway.gateway
    config["models"]["new"] = {"targets": [{"upstream": "u1", "model": "newer"}]}
    gateway.write(config)  # and no signal
    await gateway.until(lambda: gateway.gateway is not before)

    assert (await gateway.chat(model="new")).status_code == 200
    assert (await gateway.chat()).status_code == 200
    assert second.calls[0].json["model"] == "newer"
    assert await gateway.metric("gateway_config_ok") == 1
    assert len({e.incarnation for e in await gateway.recorded(2)}) == 1, "the recorder outlives a config"


async def test_a_stream_in_flight_ends_on_the_config_it_began_with(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two")
    gateway = await start(configured(upstream))
    async with gateway.stream() as reply:
        lines = reply.aiter_lines()
        await read_until(lines, "one ")
        await put_in_force(gateway, configured(second))
        new = await gateway.chat()
        assert len(second.calls) == 1
        assert "Hello" in new.text
        upstream.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    assert [e.outcome for e in await gateway.recorded(2)] == ["ok", "ok"]
    await upstream.until(lambda u: u.open_connections == 0)
    assert second.open_connections == 1, "connections of the config in force stay"


async def test_a_reload_keeps_a_call_that_waits_for_its_retry(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The call is at no upstream in that moment, and will open a connection of the old config later."""
    upstream.then(Fault.rate_limited(retry_after=1.5))
    kept = FakeAnswer(b"{}", headers=(("keep-alive", "timeout=600"),))
    upstream.replies(lambda _: kept)  # the old pool would keep it
    gateway = await start(configured(upstream))
    state = asyncio.get_running_loop().create_task(gateway.chat())
    await upstream.until(lambda u: len(u.calls) == 1)
    await put_in_force(gateway, configured(second))
    assert (await state).status_code == 200
    assert len(upstream.calls) == 2
    await upstream.until(lambda u: u.open_connections == 0)


async def test_another_path_in_flight_is_not_cut_by_a_reload(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.streams([b"first half ", HOLD, b"second half"], content_type="application/octet-stream")
    gateway = await start(configured(upstream, passthrough="u0"))
    async with gateway.client.stream("GET", "/files/f/content") as reply:
        parts = reply.aiter_raw()
        assert await anext(parts) == b"first half "
        await put_in_force(gateway, configured(second, passthrough="u0"))
        await gateway.client.get("/files")
        assert second.calls, "the new config's upstream was asked"
        upstream.release()
        assert await anext(parts) == b"second half"
    await upstream.until(lambda u: u.open_connections == 0)


BAD_TEXTS = [
    ("no YAML", "models: [", "not YAML"),
    ("an unknown key", "modles: {}", "modles"),
    ("nothing", "", "expected sections"),
]


@pytest.mark.parametrize(("text", "output"), [b[1:] for b in BAD_TEXTS], ids=[b[0] for b in BAD_TEXTS])
async def test_a_refused_file_leaves_the_old_config_in_force(
    gateway: Any, caplog: pytest.LogCaptureFixture, text: str, output: str
) -> None:
    before, good = gateway.gateway, gateway.config_path.read_text()
    assert output in await refused(gateway, caplog, text)
    assert gateway.gateway is before
    assert await gateway.metric("gateway_config_ok") == 0
    assert (await gateway.chat()).status_code == 200

    await put_in_force(gateway, yaml.safe_load(good))
    assert await gateway.metric("gateway_config_ok") == 1
    assert (await gateway.chat()).status_code == 200


async def test_a_config_that_cannot_be_built_is_refused(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(config := configured(upstream))
    for wrong in ({"ca_file": "/nowhere/ca.pem"}, {"proxy": "nonsense"}):
        bad = configured(upstream)
        bad["upstreams"]["u0"] |= wrong
        await refused(gateway, caplog, yaml.safe_dump(bad))
        assert (await gateway.chat()).status_code == 200
    await put_in_force(gateway, config)
    assert await gateway.metric("gateway_config_ok") == 1


async def test_a_mistake_in_the_config_of_a_test_is_its_only_failure(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """The fixture leaves nothing open, which `fixtures.open_connections` would report in place of the mistake."""
    with pytest.raises(ConfigError, match=r"sampling\.rat: unknown key"):
        await start(configured(upstream, sampling={"rat": 1}))


async def test_a_file_without_keys_is_refused_as_it_is_at_the_start(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(configured(upstream))
    assert "open: true" in await refused(gateway, caplog, yaml.safe_dump(configured(upstream, keys=[])))
    assert (await gateway.chat()).status_code == 200


async def test_an_open_breaker_is_not_carried_into_the_next_config(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The state is not carried over, since the new config may be the repair, nor is the metric; a removed target shows
    0.
    """
    upstream.always(Fault.status(500))
    once = {"retries": {"attempts": 1}}
    gateway = await start(configured(upstream, chat=once))
    for _ in range(5):
        assert (await gateway.chat()).status_code == 502
    assert (await gateway.chat()).status_code == 503
    assert await gateway.metric("gateway_breaker_open") == 1

    config = configured(second, chat={"targets": [{"upstream": "u0", "model": "other"}]})
    await put_in_force(gateway, config)

    assert await gateway.metric("gateway_breaker_open") == 0
    assert (await gateway.chat()).status_code == 200
    assert await gateway.metric("gateway_breaker_open") == 0


async def test_unchanged_upstreams_keep_breakers_and_connections(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    once = {"retries": {"attempts": 1}, "fallback": []}
    config = configured(upstream, second, chat=once)
    config["models"]["other"] = {"targets": [{"upstream": "u1", "model": "m"}]}
    upstream.always(Fault.status(500))
    gateway = await start(config)
    for _ in range(5):
        assert (await gateway.chat()).status_code == 502
    assert (await gateway.chat(model="other")).status_code == 200
    states = {t.name: t for t in gateway.gateway.router.target_states}
    transport = gateway.gateway.upstreams["u1"].transport

    config["models"]["new"] = {"targets": [{"upstream": "u0", "model": "model-u0"}, {"upstream": "u1", "model": "m"}]}
    await put_in_force(gateway, config)

    assert (await gateway.chat()).status_code == 503, "the dead upstream is not asked again"
    assert len(upstream.calls) == 5
    assert gateway.gateway.upstreams["u1"].transport is transport
    opened = transport.opened
    assert (await gateway.chat(model="other")).status_code == 200
    assert transport.opened == opened, "on the connection of before"
    assert all(t is states.get(t.name) for t in gateway.gateway.router.target_states)

    config["upstreams"]["u0"]["headers"] = {"x-new": "1"}
    await put_in_force(gateway, config)
    assert (await gateway.chat()).status_code == 502, "what has changed may be mended"
    assert gateway.gateway.upstreams["u1"].transport is transport
    assert (await gateway.chat(model="other")).status_code == 200


async def test_reading_thousands_of_keys_stops_no_call(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """Compares what one turn of the loop computes during the reload with what reading the file takes."""
    config = configured(upstream)
    gateway = await start(config)
    digests = [sha256(b"%d" % i).hexdigest() for i in range(4_000)]
    config["keys"] += [{"name": f"team-{i}", "sha256": each, "models": ["chat"]} for i, each in enumerate(digests)]
    text = yaml.dump(config, Dumper=yaml.CSafeDumper)
    began = time.thread_time()
    parse(text)
    whole = time.thread_time() - began
    before, longest, last = gateway.gateway, 0.0, 0.0
    gateway.config_path.write_text(text)
    while gateway.gateway is before:
        last = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - last)
    assert longest < whole / 4, f"{longest:.3f} s of {whole:.3f} s in one turn"
    assert (await gateway.chat()).status_code == 200


async def test_a_health_check_of_the_old_config_ends_with_it(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """An upstream that is down is down again in the next config, and one that is there is asked."""
    config, watched = configured(upstream), {"health": "/health"}
    config["upstreams"]["u0"] |= watched
    gateway = await start(config)
    await upstream.until(lambda u: any(r.probe for r in u.received))
    other = configured(second)
    other["upstreams"]["u0"] |= watched
    await put_in_force(gateway, other)
    await second.until(lambda u: any(r.probe for r in u.received))
    await upstream.until(lambda u: u.open_connections == 0)
    names = [t.get_name() for t in asyncio.all_tasks()]
    assert names.count("health") == 1


async def test_many_reloads_leave_nothing_behind(gateway: Any, upstream: FakeUpstream) -> None:
    """SIGHUP asks at once: ten configs, ten pools, and at the end the connections and tasks of one."""
    await gateway.chat()
    before = len(asyncio.all_tasks())
    for _ in range(10):
        old = gateway.gateway
        os.kill(os.getpid(), signal.SIGHUP)
        await gateway.until(lambda old=old: gateway.gateway is not old)
        assert (await gateway.chat()).status_code == 200
    await upstream.until(lambda u: u.open_connections == 1)
    await gateway.until(lambda: len(asyncio.all_tasks()) <= before)


async def test_metrics_cover_both_configs_while_both_are_in_use(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two")
    gateway = await start(configured(upstream))
    async with gateway.stream() as reply:
        lines = reply.aiter_lines()
        await read_until(lines, "one ")
        config = configured(second)
        config["upstreams"] = {"elsewhere": config["upstreams"]["u0"]}
        config["models"]["chat"]["targets"][0]["upstream"] = "elsewhere"
        await put_in_force(gateway, config)
        assert await gateway.metric("gateway_inflight_requests") == 1
        assert await gateway.metric("gateway_upstream_inflight_requests", upstream="u0") == 1
        upstream.release()
        await read_until(lines, "[DONE]")
    await upstream.until(lambda u: u.open_connections == 0)
    assert await gateway.metric("gateway_inflight_requests") == 0
    assert await gateway.metric("gateway_upstream_inflight_requests") == 0


async def test_settings_that_a_reload_cannot_change_are_named(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(configured(upstream))
    await put_in_force(gateway, configured(upstream, limits={"drain_s": 3, "max_body_mb": 1}, cors=["https://a.b"]))
    await gateway.until(lambda: "that need a restart to take effect: cors, limits.drain_s" in caplog.text)
    assert (await gateway.client.post("/chat/completions", content=b"x" * 2_000_000)).status_code == 413


async def test_a_secret_of_a_file_is_read_again_when_it_changes(
    start: Any, configured: Configured, upstream: FakeUpstream, tmp_path: Path
) -> None:
    secret = tmp_path / "vendor-key"
    secret.write_text("sk-first\n")
    config = configured(upstream)
    config["upstreams"]["u0"]["api_key"] = f"${{file:{secret}}}"
    gateway = await start(config)
    assert (await gateway.chat()).status_code == 200
    before = gateway.gateway
    secret.write_text("sk-the-second\n")  # and gateway.yaml stays as it is
    await gateway.until(lambda: gateway.gateway is not before)
    assert (await gateway.chat()).status_code == 200
    sent = [dict(r.headers)["authorization"] for r in upstream.received if not r.probe]
    assert sent == ["Bearer sk-first", "Bearer sk-the-second"]


async def test_a_model_that_retires_is_announced_and_measured(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The gauge of a date that has left the file is 0, so that no alert goes on."""
    config = configured(upstream)
    target = config["models"]["chat"]["targets"][0]
    gauge, labels = "gateway_target_retires_timestamp_seconds", {"alias": "chat", "upstream": target["upstream"]}
    gateway = await start(config)
    assert gauge + "{" not in await metrics_text(gateway)
    day = datetime.now(UTC).date() + timedelta(days=41)
    target["retires"] = day
    await put_in_force(gateway, config)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    assert await gateway.metric(gauge, **labels, model=target["model"]) == midnight
    await gateway.until(lambda: "retires in " in caplog.text)
    assert f"{target['upstream']}/{target['model']} retires in 4" in caplog.text
    assert "1 alias: chat; successor: none is listed; `gateway ab draft " in caplog.text
    caplog.clear()
    target["retires"] = day + timedelta(days=400)
    await put_in_force(gateway, config)
    assert await gateway.metric(gauge, **labels) == midnight + 400 * 86_400
    del target["retires"]
    await put_in_force(gateway, config)
    assert await gateway.metric(gauge, **labels) == 0
    assert "retires in" not in caplog.text, "a date more than 60 days away is not logged"


async def test_a_deleted_alias_leaves_its_series_an_hour_after_the_reload(
    start: Any, configured: Configured, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model leaves with it, and both continue where they were if a config names them again."""
    now = [1e6]
    monkeypatch.setattr("gateway.proxy.endpoints.metrics.LabelHistory", partial(LabelHistory, clock=lambda: now[0]))
    config = configured(upstream)
    old = {"targets": [{**config["models"]["chat"]["targets"][0], "model": "large"}]}
    config["models"]["old"] = old
    gateway = await start(config)
    for alias in ("chat", "old"):
        assert (await gateway.chat(model=alias)).status_code == 200
    assert await gateway.metric("gateway_requests_total", alias="old", model="large") == 1

    del config["models"]["old"]
    await put_in_force(gateway, config)
    for passed, left in ((0.0, True), (KEEP_S, True), (1.0, False)):
        now[0] += passed
        text = await metrics_text(gateway)
        assert ('alias="old"' in text, 'model="large"' in text) == (left, left)
    assert await gateway.metric("gateway_requests_total", alias="chat") == 1

    config["models"]["old"] = old
    await put_in_force(gateway, config)
    assert (await gateway.chat(model="old")).status_code == 200
    assert await gateway.metric("gateway_requests_total", alias="old", model="large") == 2


async def metrics_text(gateway: Any) -> str:
    return str((await gateway.client.get(gateway.base_url.removesuffix("/v1") + "/metrics")).text)
