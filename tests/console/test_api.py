"""The operations of the admin API over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gateway.core.exchange import Tally
from gateway.core.usage import UsageCell, UsageCount, UsageSums
from gateway.store.usage import add_usage


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


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/keys?limit=0", "limit: expected a number from 1 to 1000, got '0'"),
        ("/keys?limit=1001", "limit: expected"),
        ("/keys?limit=٣", "limit: expected"),
        ("/audit?limit=x", "limit: expected"),
        ("/keys?deleted=yes", "deleted: expected true or false, got 'yes'"),
    ],
)
async def test_a_parameter_that_cannot_be_read_is_named(console, path, message):
    answer = await console.owner.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


async def test_usage_is_summed_filtered_and_exported(console):
    def using(connection: Any) -> None:
        cells = (("key_1", "web", "search", 3), ("key_2", "app", "other", 4))
        usages = [
            UsageCount(UsageCell(f"{date.today()}", id, name, team, "", "", "chat", "u", "m", "", "", ""),
                       UsageSums(calls=n, input_tokens=10 * n, nano_usd=n * 10**9))
            for id, name, team, n in cells
        ]  # fmt: skip
        add_usage(connection, Tally(incarnation="g", at=1.0, last_seq=1, seen=(), usage=tuple(usages)))

    await console.admin.store.run(using)
    found = (await console.owner.get("/usage", params={"by": "team,key", "since": "2d"})).json()
    assert [(row["team"], row["key"], row["key_name"], row["calls"], row["usd"]) for row in found["rows"]] == [
        ("other", "key_2", "app", 4, 4.0), ("search", "key_1", "web", 3, 3.0),
    ]  # fmt: skip
    assert found["total"]["input_tokens"] == 70
    only = (await console.clients["viewer"].get("/usage", params={"by": "team", "where": "team=search"})).json()
    assert [row["team"] for row in only["rows"]] == ["search"]
    table = await console.owner.get("/usage", params={"by": "team", "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0].startswith("team,calls,")
    assert len(table.text.splitlines()) == 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("by=teem", 'usage has no dimension "teem"; did you mean "team"?'),
        ("where=since=1", 'where: usage has no dimension "since"'),
        ("where=team", "where: 'team' is no condition; write team=search"),
        ("since=soon", "'soon' is neither a day nor a time span"),
        ("format=xml", "format: expected json or csv, got 'xml'"),
    ],
)
async def test_a_question_about_usage_that_makes_no_sense_is_refused(console, query, message):
    answer = await console.owner.get(f"/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (400, message)
