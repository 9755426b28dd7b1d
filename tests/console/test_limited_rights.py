"""Rights that are limited to a team or an organization: every operation and every page, against two organizations in
which everything that others have written has a word of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fixtures.two_organizations import (
    ACTORS,
    HIDDEN,
    MINE,
    OTHERS,
    OURS,
    SIBLING,
    THEIRS,
    TwoOrganizations,
    two_organizations,
)
from sqlalchemy import select

from gateway.console.api import Operation, collected_operations
from gateway.console.app import collected_pages, page_routes
from gateway.console.frame import PageRoute
from gateway.store.tables import metadata

OPERATIONS = [each for feature in collected_operations() for each in feature.operations if not each.of_key]
ROUTES = [route for page in collected_pages() for route in page.routes if route.audience == "people"]
LIMITED = tuple(name for name in ACTORS if name != "everybody")
QUERIES = {
    "/admin/v1/usage": (
        "", "?by=source,organization,team,key,tag", "?by=day,key&format=csv", f"?by=key&where=team={THEIRS}",
    ),
    "/admin/v1/audit": ("", "?limit=1000", f"?subject={THEIRS}"),
    "/admin/v1/keys": ("", "?deleted=true&limit=1000", f"?team={THEIRS}", f"?name={THEIRS}-web"),
    "/admin/v1/teams": ("", "?deleted=true", f"?organization={OTHERS}"),
    "/console/keys": ("", f"?team={THEIRS}"),
    "/console/calls": (
        "", "?since=24h", "?worst=valid_json", "?role=shadow", f"?caller={THEIRS}-web", f"?where=run~{THEIRS[:4]}",
        f"?words={THEIRS[:4]}", f"?where=explanation~{THEIRS[:4]}", f"?where=team={THEIRS}", "?where=scorer=valid_jsn",
        "?where=request~zq", "?where=label=good or tags~project",
    ),
    "/console/runs": ("", "?worst=valid_json", f"?caller={THEIRS}-web"),
    "/console/system/audit": ("", f"?subject={THEIRS}"),
}  # fmt: skip
"""Queries that a reader may send, by path."""
FORM = {
    "name": "new-name", "id": "new-id", "team": THEIRS, "organization": OTHERS, "usd_per_month": "1", "disabled": "1",
    "overlap_h": "1", "sure": "yes", "end_streams": "1", "verdict": "good", "scorer": "valid_json", "reason": "why",
    "experiment": f"{THEIRS}-try", "target": "local/small", "item": "x", "command": "pause", "to": "1",
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "POST": {"name": "new-name", "team": THEIRS},
    "PATCH": {"disabled": True},
    "DELETE": {},
}


@pytest.fixture
async def world(pages: Any) -> TwoOrganizations:
    """Two organizations, and people with limited rights in one of them."""
    return await two_organizations(pages)


def ids_of(world: TwoOrganizations, path: str, team: str) -> Iterator[str]:
    """The paths with what belongs to a team in place of their parameters."""
    if "{" not in path:
        yield path
        return
    if "/keys" in path and "/team/" not in path:
        yield path.replace("{id}", world.keys[team])
    elif "/team/" in path or "/teams/" in path:
        yield path.replace("{id}", team)
    elif "/organizations/" in path:
        yield path.replace("{id}", OTHERS)
    elif "/runs/{id}" in path and "playground" not in path:
        yield path.replace("{id}", world.runs[team])
    elif "/dead/" in path:
        yield from (path.replace("{id}", letter) for letter in world.letters)
    else:
        named = path.replace("{name:path}", f"{team}-try").replace("{name}", f"{team}-try")
        of_experiment = "/experiments/" in path
        yield named.replace("{id}", f"{team}-try" if of_experiment else world.calls[team]).replace("{at:int}", "0")


def absent(path: str, template: str) -> str:
    """The path of something that nobody has, as long as the one that others have."""
    fixed = template.partition("{")[0]
    end = template.rpartition("}")[2]
    return fixed + "q" * (len(path) - len(fixed) - len(end)) + end


async def table_rows(world: TwoOrganizations) -> dict[str, set[tuple[Any, ...]]]:
    """Every row of the store, but those of sessions and of the directory's version."""
    left_out = ("console_sessions", "directory_state")
    found = [table for table in metadata.sorted_tables if table.name not in left_out]
    return await world.console.store.read(
        lambda c: {table.name: {tuple(map(repr, row)) for row in c.execute(select(table))} for table in found}
    )


def shown(answer: httpx2.Response, sent: str = "") -> str:
    """All that an answer says, but what the request itself said."""
    text = answer.text + repr(sorted(answer.headers.items()))
    return text.replace(sent, "") if sent else text


@pytest.mark.timeout(120)
async def test_no_operation_shows_what_others_have(world: TwoOrganizations) -> None:
    for actor in LIMITED:
        await _read_operations(world, actor)


async def _read_operations(world: TwoOrganizations, actor: str) -> None:
    client, seen = await world.api(actor), 0
    for operation in OPERATIONS:
        if operation.method != "GET":
            continue
        for team in (MINE, SIBLING, THEIRS) if "{" in operation.path else (MINE,):
            for path in ids_of(world, operation.path, team):
                for query in QUERIES.get(operation.path, ("",)):
                    answer = await client.get(path + query)
                    assert answer.status_code < 500, (path, answer.text)
                    assert operation.scoped or answer.status_code == 403, path
                    named = path.rpartition("/")[2] if "{" in operation.path else query.rpartition("=")[2]
                    said = shown(answer, named if set(named) & set("q_") else "")
                    assert not [word for word in HIDDEN[actor] if word in said], (path + query, said)
                    seen += MINE in said
    assert seen >= 5


@pytest.mark.timeout(120)
async def test_no_page_shows_what_others_have(world: TwoOrganizations) -> None:
    for actor in LIMITED:
        await _read_pages(world, actor)


async def _read_pages(world: TwoOrganizations, actor: str) -> None:
    browser, seen = await world.browser(actor), 0
    for route in ROUTES:
        if "GET" not in route.methods or route.path.endswith("/live"):
            continue
        for team in (MINE, SIBLING, THEIRS) if "{" in route.path else (MINE,):
            for path in ids_of(world, route.path, team):
                for query in QUERIES.get(route.path, ("",)):
                    answer = await browser.get(path + query)
                    assert answer.status_code < 500, (path, answer.text)
                    start = route.path == "/console" and answer.status_code == 303
                    assert route.scoped or start or answer.status_code == 403, path
                    named = path.rpartition("/")[2] if "{" in route.path else query.rpartition("=")[2].partition("~")[2]
                    searched = query.replace("?", "").partition("=")[2]
                    said = shown(answer, named).replace(searched, "") if searched else shown(answer, named)
                    words = [word for word in HIDDEN[actor] if word in said.replace(word_of(query), "")]
                    assert not words, (path + query, words, said)
                    seen += MINE in said
    assert seen >= 5


def word_of(query: str) -> str:
    """The word that a query asks for, which a page repeats in its form and its links."""
    return next((word for word in (f"{THEIRS}-web", THEIRS) if word in query), "\0")


@pytest.mark.timeout(120)
async def test_objects_of_others_look_as_if_they_did_not_exist(world: TwoOrganizations) -> None:
    for actor in LIMITED:
        await _compare_with_nothing(world, actor)


async def _compare_with_nothing(world: TwoOrganizations, actor: str) -> None:
    api, browser = await world.api(actor), await world.browser(actor)
    templates: list[tuple[str, str, httpx2.AsyncClient]] = [
        *((each.method, each.path, api) for each in OPERATIONS if "{" in each.path),
        *((method, each.path, browser) for each in ROUTES if "{" in each.path for method in each.methods),
    ]
    token = await world.csrf(browser)
    for method, template, client in templates:
        for path in ids_of(world, template, THEIRS):
            nowhere = absent(path, template)
            fixed, end = template.partition("{")[0], template.rpartition("}")[2]
            answers = []
            for each in (path, nowhere):
                more = {"json": BODIES[method]} if client is api and method != "GET" else {}
                more = {"data": {**FORM, "csrf": token}} if client is browser and method == "POST" else more
                answer = await client.request(method, each, **more)
                named = each[len(fixed) : len(each) - len(end)]
                answers.append((answer.status_code, answer.text.replace(named, "…")))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] in (400, 403, 404, 409), (method, path, answers[0])


@pytest.mark.timeout(120)
async def test_no_write_reaches_others(world: TwoOrganizations) -> None:
    before = await table_rows(world)
    for actor in LIMITED:
        await _write_everywhere(world, actor)
        assert await table_rows(world) == before, actor


async def _write_everywhere(world: TwoOrganizations, actor: str) -> None:
    api, browser = await world.api(actor), await world.browser(actor)
    token, tried = await world.csrf(browser), 0
    for operation in OPERATIONS:
        if operation.method == "GET":
            continue
        for path in ids_of(world, operation.path, THEIRS):
            body = {"id": "new", "organization": OTHERS} if path.endswith("teams") else BODIES[operation.method]
            answer = await api.request(operation.method, path, json=body)
            assert 400 <= answer.status_code < 500, (operation.method, path, answer.text)
            tried += 1
    for route in ROUTES:
        for path in ids_of(world, route.path, THEIRS) if "POST" in route.methods else ():
            answer = await browser.post(path, data={**FORM, "csrf": token, "run": world.runs[THEIRS]})
            assert 400 <= answer.status_code < 500, (path, answer.text)
            tried += 1
    assert tried >= 25


async def test_a_table_without_a_rule_is_refused(world: TwoOrganizations) -> None:
    """An author who adds a page or an operation decides here, too, what it shows of others."""
    assert not Operation("GET", "/new", "", "viewer", None, "new").scoped  # type: ignore[arg-type]
    assert not PageRoute("/console/new", None).scoped  # type: ignore[arg-type]
    scoped = {route.path for route in ROUTES if route.scoped} | {each.path for each in OPERATIONS if each.scoped}
    kinds = ("keys", "teams", "organizations")
    assert scoped == {
        *(f"/admin/v1/{kind}" for kind in kinds), *(f"/admin/v1/{kind}/{{id}}" for kind in kinds),
        "/admin/v1/keys/{id}/rotate", "/admin/v1/usage", "/admin/v1/audit", "/console/calls", "/console/calls/live",
        "/console/calls/{id}", "/console/runs", "/console/runs/{id}", "/console/runs/stop", "/console/runs/more",
        "/console/system/audit", "/console/keys",
        "/console/keys/new", "/console/keys/new-team", "/console/keys/key/{id}", "/console/keys/team/{id}",
        *(f"/console/keys/key/{{id}}/{verb}" for verb in ("limits", "switch", "rotate", "revoke")),
        *(f"/console/keys/team/{{id}}/{verb}" for verb in ("limits", "switch", "delete")),
    }  # fmt: skip
    assert {route.path for route in page_routes()} >= {route.path for route in ROUTES}


async def test_the_live_tail_has_the_teams_own_calls_alone(world: TwoOrganizations, make_exchange: Any) -> None:
    browser = await world.browser("team")
    async with asyncio.timeout(60), browser.stream("GET", "/console/calls/live") as answer:
        lines = aiter(answer.aiter_lines())
        await world.console.add(make_exchange(f"{THEIRS} now", caller=f"{THEIRS}-web", team=THEIRS))
        await world.console.add(make_exchange("no team at all"))
        await world.console.add(make_exchange("the last word", caller=f"{MINE}-web", team=MINE))
        said = ""
        while "the last word" not in said:
            said += await anext(lines)
    assert THEIRS not in said
    assert "no team at all" not in said


async def test_counts_and_sums_are_the_teams_own(world: TwoOrganizations) -> None:
    api, browser = await world.api("team"), await world.browser("team")
    total = (await api.get("/admin/v1/usage")).json()["total"]
    assert (total["calls"], total["usd"]) == (1, 1.0)
    page = (await browser.get("/console/calls")).text
    assert "Of 2 calls." in page
    assert f"{MINE} question" in page
    assert f"{MINE} answer" in page
    organization = (await (await world.api("organization")).get("/admin/v1/usage?by=team")).json()
    assert [row["team"] for row in organization["rows"]] == [MINE, SIBLING]


async def test_a_viewer_of_a_team_reads_no_prompt(world: TwoOrganizations) -> None:
    browser = await world.browser("team viewer")
    for path in ("/console/calls", f"/console/calls/{world.calls[MINE]}"):
        page = (await browser.get(path)).text
        assert "question" not in page.replace("Question", "")
        assert f"{MINE} answer" not in page
    assert (await browser.get(f"/console/calls?words={MINE}")).status_code == 403


async def test_the_start_page_leads_to_what_they_may_see(world: TwoOrganizations) -> None:
    browser = await world.browser("team")
    answer = await browser.get("/console")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/calls")
    page = (await browser.get("/console/keys")).text
    assert [title for title in ("Today", "Experiments", "System", "Playground") if f">{title}</a>" in page] == []
    assert f"operator of team {MINE}" in page
    assert (await browser.get("/console/nowhere")).status_code == 404


async def test_an_organization_sees_its_teams(world: TwoOrganizations) -> None:
    api = await world.api("organization")
    assert [team["id"] for team in (await api.get("/admin/v1/teams")).json()["data"]] == [SIBLING]
    names = {key["name"] for key in (await api.get("/admin/v1/keys")).json()["data"]}
    assert names == {f"{MINE}-web", f"{SIBLING}-web"}
    found = (await api.get("/admin/v1/audit?limit=1000")).json()["data"]
    assert {row["kind"] for row in found} == {"key", "team"}
    page = (await (await world.browser("organization")).get("/console/keys")).text
    assert f"organization {OURS}" in page
