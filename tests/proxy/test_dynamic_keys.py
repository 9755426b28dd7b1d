"""Keys that are made and revoked while a gateway answers, over real sockets and a real stream server."""

from __future__ import annotations

import asyncio
import json
import os
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from gateway.core.keys import AnyRecord, KeyRecord, TeamRecord
from gateway.fake import HOLD
from gateway.features.keys.directory_file import write_directory_file
from gateway.store.directory import DirectoryRow, begin_change, save_row
from gateway.stream import Corridor

SECRET = "sk-assay-of-a-test"
HEADERS = {"authorization": f"Bearer {SECRET}"}
ADMIN = {"tokens": [{"name": "ada", "sha256": "f" * 64, "role": "owner"}]}


def a_key(**fields: Any) -> KeyRecord:
    digest = sha256(SECRET.encode()).hexdigest()
    return KeyRecord(**{"id": "key_1", "name": "app", "digests": ((digest, None),), "limits": {}, **fields})


async def publish(corridor: Corridor, *records: AnyRecord) -> None:
    """Puts these records in place of all there are, as a newer version of the same store."""
    head = await corridor.directory.head()
    assert await corridor.directory.publish_all(head, "e1", 1 if head is None else head.version + 1, records)


async def change(corridor: Corridor, *records: AnyRecord) -> None:
    head = await corridor.directory.head()
    assert head is not None
    changed = [(head.version + n + 1, record) for n, record in enumerate(records)]
    assert await corridor.directory.publish(head, changed[-1][0], changed)


async def ask(gateway: Any, **fields: Any) -> httpx2.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    response: httpx2.Response = await gateway.client.post("/chat/completions", json=body, headers=HEADERS)
    return response


async def until(gateway: Any, status: int, code: str | None = None) -> None:
    """Asks until the key is answered so."""
    async with asyncio.timeout(30):
        while (answer := await gateway.client.get("/models", headers=HEADERS)).status_code != status or (
            code is not None and answer.json()["error"]["code"] != code
        ):
            await asyncio.sleep(0.02)


async def test_a_key_opens_from_publication_to_revocation(start, configured, upstream):
    gateway = await start(configured(upstream, admin=ADMIN))
    await publish(gateway.corridor)
    await until(gateway, 401, "invalid_api_key")
    await change(gateway.corridor, TeamRecord("search", {}), a_key(team="search"))
    await until(gateway, 200)
    models = await gateway.client.get("/models", headers=HEADERS)
    assert [each["id"] for each in models.json()["data"]] == ["chat"]
    await change(gateway.corridor, TeamRecord("search", {}, disabled=True))
    await until(gateway, 401, "key_disabled")
    await change(gateway.corridor, TeamRecord("search", {}))
    await until(gateway, 200)
    await change(gateway.corridor, a_key(disabled=True))
    await until(gateway, 401, "key_disabled")
    assert (await gateway.chat()).status_code == 200, "the key of the config is not concerned"


async def test_a_config_with_the_admin_api_needs_no_keys_of_its_own(start, configured, upstream):
    gateway = await start(configured(upstream, admin=ADMIN, keys=[]), key=None)
    assert (await ask(gateway)).status_code == 503
    await publish(gateway.corridor, a_key())
    await until(gateway, 200)
    assert (await gateway.chat()).status_code == 401


@pytest.mark.parametrize("end_streams", [True, False])
async def test_answers_in_flight_end_if_the_revocation_says_so(start, configured, upstream, end_streams):
    quick = {"timeouts": {"first_token_s": 3600, "idle_s": 3600, "answer_s": 3600, "total_s": 7200}}
    gateway = await start(configured(upstream, chat=quick, admin=ADMIN))
    await publish(gateway.corridor, a_key())
    await until(gateway, 200)
    upstream.says("one ", HOLD, "two")
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    streaming = gateway.client.stream("POST", "/chat/completions", json=body, headers=HEADERS)
    async with gateway.stream() as other, streaming as response:
        pieces = response.aiter_text()
        text = await anext(pieces)
        await change(gateway.corridor, a_key(disabled=True, end_streams=end_streams))
        await until(gateway, 401, "key_disabled")
        if not end_streams:
            upstream.release()
        text += "".join([piece async for piece in pieces])
        upstream.release()
        assert (await other.aread()).rstrip().endswith(b"[DONE]"), "the answer of another key goes on"
    last = text.rstrip().rpartition("\n\n")[2].removeprefix("data: ")
    assert (last == "[DONE]") is not end_streams
    if end_streams:
        assert json.loads(last)["error"]["code"] == "key_disabled"
    assert await gateway.metric("gateway_key_ended_total") == end_streams


@pytest.mark.parametrize("content", ["metadata", "redacted", None])
async def test_no_more_of_a_dynamic_key_is_recorded_than_it_allows(start, configured, upstream, content):
    sections = {} if content else {"redaction": {}}  # whose default is `redacted`
    gateway = await start(configured(upstream, admin=ADMIN, **sections))
    await publish(gateway.corridor, a_key(content=content))
    await until(gateway, 200)
    await ask(gateway, messages=[{"role": "user", "content": "write to ada@example.com"}])
    async with asyncio.timeout(55):
        while not any(b"write to" in e.request or e.request == b"{}" for e in gateway.exchanges):
            await gateway.read_more()
    assert all(b"ada@example.com" not in e.request for e in gateway.exchanges)
    assert {e.caller for e in gateway.exchanges} == {"app"}


async def test_without_the_server_the_snapshot_holds_and_others_get_503(
    start, configured, upstream, stream_server, tmp_path
):
    config = configured(upstream, admin=ADMIN, stream={"url": stream_server.url, "name": "a"})
    first = await start(config, flush_s=0.05)
    await publish(first.corridor, a_key())
    await until(first, 200)
    snapshot = tmp_path / "data" / "directory.jsonl"
    await first.until(snapshot.exists)
    stream_server.kill()
    os.utime(snapshot, (1e9, 1e9))  # the server was last seen long ago
    second = await start(config, flush_s=0.05)
    assert (await ask(second)).status_code == 200
    unknown = await second.client.get("/models", headers={"authorization": "Bearer sk-assay-made-meanwhile"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "keys_unavailable")
    assert "retry-after" in unknown.headers
    assert await second.metric("gateway_directory_version") == 1
    assert await second.metric("gateway_directory_age_seconds") > 1e6


async def test_a_stream_server_that_hangs_delays_no_call_and_refuses_no_key(start, configured, upstream, stream_server):
    config = configured(upstream, admin=ADMIN, stream={"url": stream_server.url, "name": "a"})
    gateway = await start(config, flush_s=0.05)
    await publish(gateway.corridor, a_key())
    await until(gateway, 200)
    stream_server.pause()
    async with asyncio.timeout(20):
        for _ in range(20):
            assert (await ask(gateway)).status_code == 200
    stream_server.resume()
    await change(gateway.corridor, a_key(disabled=True))
    await until(gateway, 401, "key_disabled")


async def test_limits_of_a_dynamic_team_hold_and_follow_its_changes(start, configured, upstream):
    gateway = await start(configured(upstream, admin=ADMIN))
    team = TeamRecord("search", {"requests_per_month": 2})
    await publish(gateway.corridor, team, a_key(team="search"))
    await until(gateway, 200)
    assert [(await ask(gateway)).status_code for _ in range(3)] == [200, 200, 429]
    error = (await ask(gateway)).json()["error"]
    assert (error["code"], error["scope"], error["used"]) == ("insufficient_quota", "team search", 2)
    shown = (await gateway.client.get("/key", headers=HEADERS)).json()
    assert (shown["id"], shown["team"]) == ("key_1", "search")
    assert "digest" not in str(shown)
    await change(gateway.corridor, TeamRecord("search", {"requests_per_month": 4}))
    async with asyncio.timeout(30):
        while (answer := await ask(gateway)).status_code == 429:
            await asyncio.sleep(0.02)
    assert answer.status_code == 200
    assert [(await ask(gateway)).status_code for _ in range(2)] == [200, 429], "what was spent counts"
    await change(gateway.corridor, TeamRecord("search", {}))
    async with asyncio.timeout(30):
        while (await ask(gateway)).status_code == 429:
            await asyncio.sleep(0.02)


async def test_a_key_and_its_team_narrow_where_it_may_be_used(start, configured, upstream):
    gateway = await start(configured(upstream, admin=ADMIN, trusted_proxies=["127.0.0.1"]))
    team = TeamRecord("search", {}, networks=("10.0.0.0/8",))
    await publish(gateway.corridor, team, a_key(team="search", networks=("10.1.0.0/16", "192.0.2.0/24")))
    gateway.client.headers["x-forwarded-for"] = "10.1.2.3"
    await until(gateway, 200)
    for address in ("10.2.2.3", "192.0.2.7", "203.0.113.1"):
        gateway.client.headers["x-forwarded-for"] = address
        await until(gateway, 403, "address_not_allowed")
    await change(gateway.corridor, TeamRecord("search", {}))
    gateway.client.headers["x-forwarded-for"] = "192.0.2.7"
    await until(gateway, 200)


async def test_a_new_pod_gets_keys_from_the_store_in_an_outage(start, configured, upstream, opened, tmp_path, servers):
    """The init container of the Kubernetes manifests does it: `gateway keys snapshot`."""
    store = await opened()
    version = await store.run(begin_change)
    await store.run(lambda c: save_row(c, DirectoryRow(a_key(limits={"requests_per_minute": 100}), 1.0, 1.0, version)))
    written = write_directory_file(f"sqlite:///{tmp_path}/gateway.db", tmp_path / "data")
    assert (written.records, written.version) == (1, version)
    away = {"url": f"redis://127.0.0.1:{servers.free_ports(1)[0]}/0", "name": "away"}
    gateway = await start(configured(upstream, admin=ADMIN, stream=away))
    assert (await ask(gateway)).status_code == 200
    assert (await gateway.client.get("/models", headers={"authorization": "Bearer sk-assay-other"})).status_code == 401
    assert await gateway.metric("gateway_directory_keys") == 1


async def test_without_a_snapshot_a_new_pod_knows_no_dynamic_key(start, configured, upstream, tmp_path, servers):
    away = {"url": f"redis://127.0.0.1:{servers.free_ports(1)[0]}/0", "name": "away"}
    gateway = await start(configured(upstream, admin=ADMIN, stream=away))
    assert (await ask(gateway)).status_code == 503


async def test_a_refusal_names_the_key_next_to_its_id(start, configured, upstream):
    """A key of the console is called by its name in the 429, in GET /v1/key and in the label of the alert."""
    gateway = await start(configured(upstream, admin=ADMIN))
    await publish(gateway.corridor, a_key(name="web", limits={"requests_per_day": 1}))
    await until(gateway, 200)
    assert (await ask(gateway)).status_code == 200
    refused = (await ask(gateway)).json()["error"]
    assert "the limit of key web (key_1) is 1 request" in refused["message"]
    own = (await gateway.client.get("/key", headers=HEADERS)).json()
    assert [limit["scope"] for limit in own["limits"]] == ["key web (key_1)"]
    assert await gateway.metric("gateway_limit_used_ratio", scope="key web (key_1)") == 1
