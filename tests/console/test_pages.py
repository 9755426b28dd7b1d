"""Every page is in the navigation once, and nothing of it is reachable without the frame."""

from __future__ import annotations

from gateway.console.app import collected_pages, page_routes

OPEN = {"/console/login", "/console/login/oidc", "/console/login/callback", "/console/static/{name}"}


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
            assert answer.headers["location"].startswith("/console/login")
            assert "content-security-policy" in answer.headers


async def test_a_form_without_a_csrf_token_changes_nothing(pages):
    client = await pages.login()
    for route in page_routes():
        path = route.path.replace("{id}", "x").replace("{at:int}", "0").replace("{name}", "x")
        if "POST" in route.methods and route.path not in OPEN:
            answer = await client.post(path, data={"reason": "x"})
            assert answer.status_code == 403, path
            assert "not of this session" in answer.text, path
