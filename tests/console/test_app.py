"""The frame of each operation of the console: tokens, bodies, errors, and operation without its servers."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2
import pytest
from fixtures.metric_samples import sample_sum_of_page

from gateway.console.access import FAILURES
from gateway.console.app import MAX_BODY_BYTES
from gateway.console.publisher import Publisher
from gateway.console.store import ConsoleStore
from gateway.stream import Corridor


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic dG9rZW4tb2Ytb3duZXI="},
        {"x-api-key": "token-of-owner"},
        {"cookie": "token=token-of-owner"},
    ],
    ids=str,
)
async def test_without_a_token_nothing_is_answered(console, headers):
    async with httpx2.AsyncClient(base_url=console.url, headers=headers) as client:
        for method, path in (("GET", "/admin/v1/keys"), ("POST", "/admin/v1/keys"), ("DELETE", "/admin/v1/teams/a")):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_admin_token")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_callers_key_does_not_open_the_admin_api(console):
    made = await console.made("key", name="web")
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {made['secret']}"}) as client:
        assert (await client.get(f"{console.url}/admin/v1/keys")).status_code == 401


async def test_guessing_is_bounded_and_a_missing_token_is_not_a_guess(console, caplog):
    async with httpx2.AsyncClient(base_url=console.url) as client:
        for _ in range(FAILURES + 2):
            assert (await client.get("/admin/v1/keys")).status_code == 401
        wrong = {"authorization": "Bearer s3cret-guess"}
        for _ in range(FAILURES):
            assert (await client.get("/admin/v1/keys", headers=wrong)).status_code == 401
        blocked = await client.get("/admin/v1/keys", headers=wrong)
        assert (blocked.status_code, blocked.json()["error"]["code"]) == (429, "too_many_failed_logins")
        assert 0 < int(blocked.headers["retry-after"]) <= 60
    assert (await console.owner.get("/keys")).status_code == 200, "the right token is not locked out"
    assert "a wrong token came from 127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_proxy_that_is_trusted_names_the_address_that_guesses(admin, corridor, serving):
    config = admin.config().model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with serving(replace(admin, config=lambda: config), corridor) as console:
        for n in range(FAILURES + 1):
            headers = {"authorization": "Bearer wrong", "x-forwarded-for": "203.0.113.9"}
            answer = await console.owner.get("/keys", headers=headers)
            assert answer.status_code == (401 if n < FAILURES else 429)
        assert (await console.owner.get("/keys", headers={"x-forwarded-for": "203.0.113.10"})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[]", 400, "the body is not a JSON object"),
        (b'"text"', 400, "the body is not a JSON object"),
        (b'{"name": 1e999}', 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not JSON"),
        (b"", 400, "name: missing"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "the body is larger than"),
        (b'{"name": "a\\u0000b"}', 400, ""),
    ],
    ids=lambda each: str(each)[:20],
)
async def test_a_body_that_cannot_be_read_is_refused(console, body, status, message):
    answer = await console.owner.post("/keys", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)


async def test_unknown_paths_and_methods_say_so_in_json(console):
    async with httpx2.AsyncClient(base_url=console.url) as client:
        unknown = await client.get("/admin/v1/kyes")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        wrong = await client.put("/admin/v1/keys")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
        assert set(wrong.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}
        assert (await client.get("/admin/v1/keys/")).status_code == 404, "no redirect"


@pytest.mark.parametrize("host", ["[", "a b", "x" * 300, ""])
async def test_an_invalid_host_header_changes_no_answer(console, host):
    headers = {"host": host, "authorization": "Bearer token-of-owner"}
    async with httpx2.AsyncClient(base_url=console.url, headers=headers) as client:
        assert (await client.get("/admin/v1/kyes")).json()["error"]["code"] == "not_found"
        assert (await client.post("/admin/v1/keys", json={"name": "web"})).status_code == 201


async def test_no_path_moves_the_cursor_of_a_terminal(console, caplog):
    caplog.set_level(logging.INFO)
    made = await console.made("key", name="web")
    assert (await console.owner.delete(f"/keys/{made['id']}%1b[2J%0aforged")).status_code == 404
    await console.owner.delete(f"/keys/{made['id']}")
    assert f"DELETE /admin/v1/keys/{made['id']}" in caplog.text
    assert "\x1b" not in caplog.text


async def test_no_answer_is_cached_and_no_secret_is_logged(console, caplog):
    with caplog.at_level(logging.DEBUG):
        answer = await console.owner.post("/keys", json={"name": "web"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert "admin: ada (owner): POST /admin/v1/keys" in caplog.text
    assert answer.json()["secret"] not in caplog.text
    assert "token-of-owner" not in caplog.text


async def test_ready_says_whether_keys_can_be_changed(console, stream_name):
    async with httpx2.AsyncClient(base_url=console.url) as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        assert (await client.get("/ready")).json() == {"status": "ready", "store": True, "published": True}
        await console.corridor.client.hset(f"{stream_name}:directory:head", mapping={"epoch": "other", "version": "1"})
        await console.admin.publisher.look()
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["published"]) == (503, False)


async def test_a_change_without_a_stream_server_is_stored_unpublished(
    opened, stream_server, stream_name, admin, serving
):
    corridor = Corridor(stream_server.url, stream_name)
    store = admin.store
    publisher = Publisher(corridor.directory, store, take_over=True, wait_s=0.3)
    await publisher.look()
    async with serving(replace(admin, publisher=publisher), corridor) as console:
        made = await console.made("key", name="web")
        stream_server.pause()
        async with asyncio.timeout(20):
            late = await console.owner.patch(f"/keys/{made['id']}", json={"disabled": True})
        assert (late.status_code, late.json()["published"], late.json()["disabled"]) == (200, False, True)
        stream_server.resume()
        async with asyncio.timeout(60):
            while not await publisher.reached(2):  # it waits for 0.3 s each time
                pass
        changes = await corridor.directory.read(None, await corridor.directory.head())
        assert changes.records[f"key:{made['id']}"].disabled
    await corridor.aclose()


async def test_a_locked_store_answers_503_with_retry_after(admin, corridor, serving, tmp_path):
    store = ConsoleStore(f"sqlite:///{tmp_path / 'gateway.db'}", busy_ms=20)
    await store.open()
    async with serving(replace(admin, store=store), corridor) as console:
        other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answers: list[Any] = [
            await console.owner.post("/keys", json={"name": "web"}),
            await console.owner.patch("/keys/key_1", json={}),
            await console.owner.delete("/keys/key_1"),
        ]
        assert (await console.owner.get("/keys")).status_code == 200, "reading waits for no one who writes"
        other.close()
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert answer.headers["retry-after"] == "2"
        assert (await console.owner.post("/keys", json={"name": "web"})).status_code == 201
    await store.close()


async def test_requests_failed_logins_and_publication_are_counted(console, stream_name):
    async with httpx2.AsyncClient(base_url=console.url) as client:
        await console.made("key", name="web")
        await client.get("/admin/v1/keys", headers={"authorization": "Bearer wrong"})
        text = (await client.get("/metrics")).text
        requests = partial(sample_sum_of_page, text, "gateway_admin_requests_total")
        assert (requests(method="POST", status="201"), requests(method="GET", status="401")) == (1, 1)
        assert "gateway_admin_failed_logins_total 1.0" in text
        assert "gateway_directory_published_version 1.0" in text
        assert "gateway_directory_unpublished 0.0" in text
        await console.corridor.client.hset(f"{stream_name}:directory:head", mapping={"epoch": "other", "version": "1"})
        await console.admin.publisher.look()
        text = (await client.get("/metrics")).text
        assert "gateway_directory_unpublished 1.0" in text
        assert "gateway_console_failing_parts 1.0" in text
