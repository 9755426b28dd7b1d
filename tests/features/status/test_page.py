"""The page System: what runs, what is in force, what got stuck, and who changed what."""

from __future__ import annotations

import time

HOME = "/console/system"
HOSTILE = b"<script>alert(1)</script>\x1b[31m\xe2\x80\xaeevil"


async def beating(corridor, **fields) -> None:
    now = time.time()
    report = {
        "host": "h", "pid": 1, "at": now, "started": now - 60, "rates": {"seen": 2.0}, "waiting": 0, "version": "1",
        "upstreams": {"local": {"down": True, "in_flight": 3, "queued": 1}}, "breakers_open": ["local/small"],
        **fields,
    }  # fmt: skip
    await corridor.state.set_gateway_heartbeat("i1", report)


async def buried(corridor, error: str = "why") -> str:
    await corridor.join()
    await corridor.append([{b"kind": HOSTILE, b"body": HOSTILE}])
    [entry] = await corridor.read("c1", 1, 1000)
    await corridor.dead_letters.add(entry, "unreadable", error)
    return [each.id async for each in corridor.dead_letters.all()][-1]


async def test_health_breakers_and_lag_are_shown(pages, corridor):
    await beating(corridor)
    client = await pages.login("viewer")
    page = await pages.get(client, HOME)
    for part in ("down at 1 of 1", "local/small open at 1 of 1", "h/1", "Ledger", "no consumer has a heartbeat"):
        assert part in page, part


async def test_parts_that_fail_are_shown_with_their_cause(pages, corridor, stream_name):
    """Those of gateways, by their heartbeats, and the console's own."""
    reasons = ["the keys of a token issuer cannot be read: jwt.staff: <b>timed out</b>"]
    await beating(corridor, reasons=reasons, config={"ok": False, "refused": "models.chat: missing"})
    client = await pages.login("viewer")
    page = await pages.get(client, HOME)
    assert "the one before is in force: h/1 (models.chat: missing); `gateway check` names the mistakes" in page
    assert "jwt.staff: &lt;b&gt;timed out&lt;/b&gt; (at h/1)" in page
    assert "This console" not in page
    await corridor.client.hset(f"{stream_name}:directory:head", mapping={"epoch": "other", "version": "1"})
    await pages.admin.publisher.look()
    page = await pages.get(client, HOME)
    assert "This console: <bdi>keys are not published: the stream server has the keys of another store" in page


async def test_the_config_has_sources_and_no_secret(pages):
    client = await pages.login("viewer")
    page = await pages.get(client, f"{HOME}/config")
    assert "scorers.valid_json" in page
    assert "gateway.yaml" in page
    assert "default" in page
    assert "sk-evals" not in page, "the key by which judges reach the gateway"


async def test_a_dead_letter_is_shown_as_text_and_replayed(pages, corridor):
    id = await buried(corridor, HOSTILE.decode())
    client = await pages.login()
    for path in (f"{HOME}/dead", f"{HOME}/dead?reason=unreadable", f"{HOME}/dead/{id}"):
        page = await pages.get(client, path)
        assert "<script>alert" not in page, path
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "⟨U+202E⟩evil" in page, path
    answer = await pages.send(client, f"{HOME}/dead", f"{HOME}/dead/replay", {"id": id})
    assert answer.status_code == 303
    assert "There are none." in await pages.get(client, f"{HOME}/dead")
    assert "replay" in await pages.get(client, f"{HOME}/audit")
    assert (await client.get(f"{HOME}/dead/{id}")).status_code == 404


async def test_without_content_a_letter_has_no_text(pages, corridor):
    """An error may repeat what could not be read."""
    id = await buried(corridor, "cannot read: my password is hunter2")
    viewer = await pages.login("viewer")
    for path in (f"{HOME}/dead", f"{HOME}/dead/{id}"):
        page = await pages.get(viewer, path)
        assert "hunter2" not in page
    assert "needs <code>content: true</code>" in page
    assert "<h3>" not in page
    assert (await pages.send(viewer, HOME, f"{HOME}/dead/replay", {"id": id})).status_code == 403


async def test_the_audit_says_who_changed_what(pages):
    client = await pages.login("operator")
    await pages.send(client, "/console/keys/new", "/console/keys/new", {"name": "web", "requests_per_day": "9"})
    page = await pages.get(client, f"{HOME}/audit")
    assert "otto" in page
    assert "requests_per_day" in page
    assert "create key" in page
