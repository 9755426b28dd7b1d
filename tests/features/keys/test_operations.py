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


DIGEST = "ab" * 32


async def test_an_owner_makes_a_key_from_the_digest_of_a_secret(console):
    body = {"name": "old", "sha256": DIGEST}
    assert (await console.clients["operator"].post("/keys", json=body)).status_code == 403
    made = await console.made("key", **body)
    assert made["secret"] is None
    assert DIGEST not in str(made)
    found = (await console.owner.get("/keys", params={"sha256": DIGEST})).json()["data"]
    assert [key["id"] for key in found] == [made["id"]]
    assert (await console.owner.get("/keys", params={"sha256": "cd" * 32})).json()["data"] == []
    audited = (await console.owner.get("/audit")).json()["data"]
    assert [(row["action"], row["role"]) for row in audited] == [("create", "owner")]


async def test_a_digest_opens_one_key_and_none_that_was_revoked(console):
    made = await console.made("key", name="old", sha256=DIGEST)
    again = await console.owner.post("/keys", json={"name": "other", "sha256": DIGEST})
    assert (again.status_code, "has this secret" in again.text) == (409, True)
    await console.owner.delete(f"/keys/{made['id']}")
    revived = await console.owner.post("/keys", json={"name": "old", "sha256": DIGEST})
    assert (revived.status_code, "until it was revoked" in revived.text) == (409, True)
    static = await console.owner.post("/keys", json={"name": "other", "sha256": "a" * 64})
    assert (static.status_code, "gateway.yaml" in static.text) == (409, True)
    for wrong in ("abc", "AB" * 32, ""):
        assert (await console.owner.post("/keys", json={"name": "x", "sha256": wrong})).status_code == 400


async def test_limits_of_models_users_and_what_is_carried_are_kept(console):
    limits = {
        "usd_per_month": 50, "carried": {"usd_per_month": {"amount": 12.5, "until": "2027-01-01T01:00:00+01:00"}},
        "models": {"chat": {"usd_per_month": 5}},
        "per_user": {"tokens_per_day": 100}, "soft": {"usd_per_week": 9},
    }  # fmt: skip
    made = await console.made("key", name="web", limits=limits)
    limits["carried"]["usd_per_month"]["until"] = "2027-01-01T00:00:00Z"
    assert made["limits"] == limits
    path = f"/keys/{made['id']}"
    changed = await console.owner.patch(path, json={"limits": {"carried": None, "models": {"chat": None}}})
    assert {*changed.json()["limits"]} == {"usd_per_month", "per_user", "soft"}
    for wrong in (
        {"carried": {"usd_per_mont": {"amount": 1, "until": "2027-01-01T00:00:00Z"}}},
        {"carried": {"usd_per_day": {"amount": 1, "until": "2027-01-01T00:00:00"}}},
        {"carried": {"usd_per_day": {"amount": -1, "until": "2027-01-01T00:00:00Z"}}},
        {"per_user": {"concurrency": 3}}, {"tags": {"no tag": {}}}, {"soft": {"usd_per_minute": 1}},
        {"models": {"chta": {"usd_per_day": 1}}}, {"tags": {"project=a": {"usd_per_day": 1}}},
    ):  # fmt: skip
        refused = await console.owner.patch(path, json={"limits": wrong})
        assert (refused.status_code, "limits" in refused.text) == (400, True), wrong
