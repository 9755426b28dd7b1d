"""The operations on keys, teams and organizations over HTTP."""

from __future__ import annotations

import pytest


async def test_a_key_is_made_read_listed_changed_rotated_and_revoked(console):
    made = await console.made("key", name="web", limits={"requests_per_minute": 5})
    path = f"/keys/{made['id']}"
    assert made["secret"].startswith("sk-assay-")
    assert made["published"] is True
    read = (await console.owner.get(path)).json()
    assert read == {name: value for name, value in made.items() if name not in ("secret", "published")}
    changed = await console.owner.patch(path, json={"limits": {"requests_per_minute": 9}, "expires": None})
    assert (changed.status_code, changed.json()["limits"]) == (200, {"requests_per_minute": 9})
    rotated = await console.owner.post(f"{path}/rotate", json={"overlap_s": 60})
    assert rotated.json()["secret"] != made["secret"]
    assert len(rotated.json()["secrets"]) == 2
    assert (await console.owner.post(f"{path}/rotate")).status_code == 200, "a body may be left out"
    assert (await console.owner.get("/keys")).json()["data"][0]["id"] == made["id"]
    gone = await console.owner.delete(path, params={"end_streams": "true"})
    assert (gone.status_code, gone.json()["end_streams"], gone.json()["deleted"] is None) == (200, True, False)
    assert (await console.owner.get("/keys")).json() == {"data": [], "next": None}
    assert len((await console.owner.get("/keys", params={"deleted": "true"})).json()["data"]) == 1
    actions = [row["action"] for row in (await console.owner.get("/audit")).json()["data"]]
    assert sorted(actions) == ["change", "create", "delete", "rotate", "rotate"]


@pytest.mark.parametrize(("kind", "role"), [("organization", "owner"), ("team", "owner"), ("key", "operator")])
async def test_each_kind_has_the_same_operations(console, kind, role):
    body = {"name": "web"} if kind == "key" else {"id": "one"}
    viewer, writer = console.clients["viewer"], console.clients[role]
    assert (await viewer.post(f"/{kind}s", json=body)).status_code == 403
    made = await writer.post(f"/{kind}s", json=body)
    assert made.status_code == 201
    path = f"/{kind}s/{made.json()['id']}"
    again = await writer.post(f"/{kind}s", json=body)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert (await viewer.get(path)).json()["disabled"] is False
    assert (await viewer.patch(path, json={"disabled": True})).status_code == 403
    assert (await writer.patch(path, json={"disabled": True})).json()["disabled"] is True
    assert (await viewer.delete(path)).status_code == 403
    assert (await writer.delete(path)).status_code == 200
    assert (await writer.delete(path)).status_code == 404


async def test_lists_are_read_page_by_page_until_there_is_no_next(console):
    made = [(await console.made("key", name=f"k{n}"))["id"] for n in range(5)]
    found, after, pages = [], "", 0
    while after is not None:
        page = (await console.owner.get("/keys", params={"limit": "2", "after": after})).json()
        found += [key["id"] for key in page["data"]]
        after, pages = page["next"], pages + 1
    assert (sorted(found), pages) == (sorted(made), 3)
    first = (await console.owner.get("/audit", params={"limit": "3"})).json()
    rest = (await console.owner.get("/audit", params={"limit": "3", "before": first["next"]})).json()
    assert (len(first["data"]), len(rest["data"]), rest["next"]) == (3, 2, None)
    only = (await console.owner.get("/audit", params={"subject": made[0]})).json()
    assert [row["subject"] for row in only["data"]] == [made[0]]


async def test_lists_are_narrowed_to_a_team_or_an_organization(console):
    await console.made("organization", id="acme")
    await console.made("team", id="search", organization="acme")
    await console.made("team", id="alone")
    await console.made("key", name="web", team="search")
    await console.made("key", name="app")
    keys = (await console.owner.get("/keys", params={"team": "search"})).json()["data"]
    teams = (await console.owner.get("/teams", params={"organization": "acme"})).json()["data"]
    assert [key["name"] for key in keys] == ["web"]
    assert [team["id"] for team in teams] == ["search"]
