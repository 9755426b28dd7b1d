"""Every page is in the navigation once, and nothing of it is reachable without the frame."""

from __future__ import annotations

import re

from gateway.console.app import collected_pages, page_routes

OPEN = {
    "/console/login", "/console/login/oidc", "/console/login/callback", "/console/static/{name}", "/console/me/login",
}  # fmt: skip


def test_paths_and_titles_are_used_once():
    assert (
        len({page.path for page in collected_pages()})
        == len({page.title for page in collected_pages()})
        == len(collected_pages())
    )
    found = [(route.path, method) for page in collected_pages() for route in page.routes for method in route.methods]
    assert len(found) == len(set(found))
    assert all(path.startswith("/console") for path, _ in found)


async def test_without_a_session_every_route_leads_to_the_login(pages):
    client = await pages.client()
    for route in page_routes():
        path = route.path.replace("{id}", "x").replace("{at:int}", "0").replace("{name}", "x")
        if route.path in OPEN:
            continue
        for method in route.methods - {"HEAD"}:
            answer = await client.request(method, path)
            assert answer.status_code == 303, (method, path)
            login = "/console/me/login" if path.startswith("/console/me") else "/console/login"
            assert answer.headers["location"].startswith(login)
            assert "content-security-policy" in answer.headers


async def test_a_form_without_a_csrf_token_changes_nothing(pages):
    client = await pages.login()
    for route in page_routes():
        path = route.path.replace("{id}", "x").replace("{at:int}", "0").replace("{name}", "x")
        if "POST" in route.methods and route.path not in OPEN and not path.startswith("/console/me/"):
            answer = await client.post(path, data={"reason": "x"})
            assert answer.status_code == 403, path
            assert "belongs to another session" in answer.text, path


async def test_each_page_keeps_its_frame_while_the_store_is_away(pages, make_exchange):
    """The file of the store is overwritten. Pages that need no store, or say it in their figures, are shown."""
    await pages.add(make_exchange())
    client = await pages.login()
    await pages.get(client, "/console/keys")
    for left in pages.data.glob("gateway.db*"):
        left.write_bytes(b"this is not a database  " * 5_000)
    shown = set()
    for page in collected_pages():
        if any(route.path == page.path and route.audience == "key" for route in page.routes):
            continue
        answer = await client.get(page.path)
        while "refresh" in answer.headers:
            answer = await client.get(page.path)
        assert '<nav aria-label="Pages">' in answer.text, page.path
        assert answer.status_code in (200, 503), (page.path, answer.text)
        if answer.status_code == 503:
            assert re.search(r'<p class="error" role="alert"><bdi>the store cannot be used: \w', answer.text), page.path
            assert "Traceback" not in answer.text
        else:
            shown.add(page.title)
    assert {"Calls", "Experiments", "Keys and cost"}.isdisjoint(shown)
    without = {"Today", "System", "Playground", "Label", "Decisions", "Predictor", "Routes"}
    assert shown <= without, "the others need the store"
    for title, path in (("Today", "/console"), ("System", "/console/system")):
        assert title in shown
        assert "the store cannot be used" in (await client.get(path)).text, path
    pages.clock[0] += 601.0
    answer = await client.get("/console/system")
    assert (answer.status_code, "<nav" in answer.text) == (503, False), "nobody knows any more whether it is in force"
