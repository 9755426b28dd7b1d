"""A key's own page and its API: what it has used, what is left, and a new secret. Over a real socket."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx2
import pytest
from fixtures.console_pages import PagesConsole, csrf
from fixtures.two_organizations import MINE, OTHERS, SIBLING, THEIRS, TwoOrganizations, token_of, two_organizations

from gateway.config.admin import SelfService
from gateway.core.exchange import Tally
from gateway.core.keys import KeyRecord
from gateway.core.limits import counter_name
from gateway.core.usage import NANO, UsageCell, UsageCount, UsageSums, utc_day
from gateway.features.keys.limits_used import scope_of
from gateway.features.own_key.holder import digest_of
from gateway.features.own_key.operations import OPERATIONS
from gateway.features.own_key.page import LOGIN
from gateway.store.usage import add_usage
from gateway.stream.leases import LeaseServer

KEY, PAGE = OPERATIONS.operations[0].path, "/console/me"


@pytest.fixture
async def world(pages: PagesConsole) -> TwoOrganizations:
    """Two organizations, whose console lets keys rotate themselves."""
    made = await two_organizations(pages)
    with_self_service(pages, rotate=True)
    return made


def with_self_service(pages: PagesConsole, **options: Any) -> None:
    config = pages.config[-1]
    assert config.admin is not None
    admin = config.admin.model_copy(update={"self_service": SelfService(**options)})
    pages.config.append(config.model_copy(update={"admin": admin}))


async def new_key(world: TwoOrganizations, **body: Any) -> tuple[str, str]:
    """Makes a key; returns its id and secret."""
    api = await world.api("everybody")
    made = (await api.post("/admin/v1/keys", json={"name": "own", "team": MINE, **body})).json()
    return made["id"], made["secret"]


async def holder(world: TwoOrganizations, secret: str) -> httpx2.AsyncClient:
    return await world.console.client(authorization=f"Bearer {secret}")


async def signed_in(world: TwoOrganizations, secret: str) -> httpx2.AsyncClient:
    browser = await world.console.client()
    answer = await browser.post(LOGIN, data={"key": secret})
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE), answer.text
    return browser


async def use(world: TwoOrganizations, id: str, usd: float) -> None:
    """The key has used this of its month, as the gateways count it, and as its usage."""
    now, console = time.time(), world.console
    corridor = console.admin.corridor
    assert corridor is not None
    scope = scope_of(KeyRecord(id=id, name="own", digests=(), limits={"usd_per_month": 10.0}))
    counters = LeaseServer(corridor.client, corridor.state.prefix, "consumer")
    spent = round(usd * NANO)
    await counters.raise_spent(counter_name(scope, scope.limits[0], now), spent, round((now + 1000) * 1000))
    cell = UsageCell(utc_day(now), id, "own", MINE, OTHERS, "", "chat", "local", "small", "", "", "")
    tally = Tally("g-own", 1.0, 0, usage=(UsageCount(cell, UsageSums(3, 0, 0, 1000, 0, 500, 0, spent)),))
    await console.store.run(lambda c: add_usage(c, tally))


async def test_a_key_sees_its_use_and_what_is_left(world: TwoOrganizations) -> None:
    id, secret = await new_key(world, limits={"usd_per_month": 10}, tags=["x"])
    await use(world, id, 2.5)
    found = (await (await holder(world, secret)).get(KEY)).json()
    assert (found["id"], found["name"], found["team"], found["tags"]) == (id, "own", MINE, ["x"])
    [own] = [each for each in found["limits"] if each["scope"] == f"key own ({id})"]
    assert (own["limit"], own["amount"], own["spent"], own["remaining"]) == ("usd_per_month", 10.0, 2.5, 7.5)
    assert own["reset"] > utc_day(time.time())
    assert {each["scope"] for each in found["limits"]} == {f"key own ({id})", f"team {MINE}", "organization zqacme"}
    [row] = found["usage"]["rows"]
    assert (row["alias"], row["calls"], row["usd"]) == ("chat", 3, 2.5)
    page = (await (await signed_in(world, secret)).get(PAGE)).text
    assert '<h1 class="sentence" dir="auto">3 calls this month, $2.50; $7.50 left of usd per month</h1>' in page
    for said in ("$7.50", "$10.00", "25.0 %", "3 calls, 1\u202f500 tokens", "New secret", "<td>usd per month</td>"):
        assert said in page, said
    for hidden in (SIBLING, THEIRS, OTHERS, "local", secret, digest_of(secret)):
        assert hidden not in page.replace("localhost", ""), hidden


async def test_the_holder_rotates_the_newest_secret_alone(world: TwoOrganizations) -> None:
    """A person who has found a secret cannot lock the others out: the previous one stays for the grace period."""
    id, first = await new_key(world)
    found = (await (await holder(world, first)).post(f"{KEY}/rotate")).json()
    second = found["secret"]
    assert second.startswith("sk-assay-")
    assert found["earlier_secret_ends"] is not None
    old, new = await holder(world, first), await holder(world, second)
    assert (await old.get(KEY)).json()["secret_ends"] == found["earlier_secret_ends"]
    assert (await new.get(KEY)).json()["secret_ends"] is None
    for client, why in ((old, "only the newest one rotates the key"), (new, "an earlier secret opens this key until")):
        refused = await client.post(f"{KEY}/rotate")
        assert refused.status_code == 409
        assert why in refused.json()["error"]["message"]
        assert (await client.get(KEY)).json()["rotates"] is False
    api = await world.api("team")
    [row, _] = (await api.get(f"/admin/v1/audit?subject={id}")).json()["data"]
    assert (row["actor"], row["role"], row["action"]) == ("key:own", "key", "rotate")
    assert second not in str(row)
    world.console.clock[0] += 25 * 3600
    assert (await old.get(KEY)).status_code == 401
    assert (await new.post(f"{KEY}/rotate")).status_code == 200


async def test_the_page_shows_a_new_secret_once(world: TwoOrganizations) -> None:
    _, first = await new_key(world)
    browser = await signed_in(world, first)
    token = csrf((await browser.get(PAGE)).text)
    assert (await browser.post(f"{PAGE}/rotate", data={"csrf": "0" * 40})).status_code == 403
    shown = await browser.post(f"{PAGE}/rotate", data={"csrf": token})
    [second] = re.findall(r"sk-assay-[\w-]{20,}", shown.text)
    assert second != first
    page = (await browser.get(PAGE)).text
    assert second not in page
    assert "No new secret here: an earlier secret opens this key until" in page
    assert (await browser.post(f"{PAGE}/logout", data={"csrf": csrf(page)})).headers["location"] == LOGIN
    assert (await browser.get(PAGE)).status_code == 303


async def test_rotation_is_off_unless_the_config_says_so(world: TwoOrganizations) -> None:
    _, secret = await new_key(world)
    client = await holder(world, secret)
    with_self_service(world.console)
    refused = await client.post(f"{KEY}/rotate")
    assert refused.status_code == 403
    assert "admin.self_service.rotate" in refused.json()["error"]["message"]
    with_self_service(world.console, enabled=False)
    assert (await client.get(KEY)).status_code == 404
    assert (await client.get(LOGIN)).status_code == 404
    assert LOGIN not in (await client.get("/console/login")).text


async def test_a_key_of_gateway_yaml_is_shown_and_not_rotated(world: TwoOrganizations) -> None:
    client = await holder(world, MINE)  # the secret of its static key
    found = (await client.get(KEY)).json()
    assert (found["name"], found["rotates"]) == (f"{MINE}-filed", False)
    refused = await client.post(f"{KEY}/rotate")
    assert "is in gateway.yaml" in refused.json()["error"]["message"]


async def test_a_key_out_of_force_has_no_page(world: TwoOrganizations) -> None:
    id, secret = await new_key(world, networks=["10.0.0.0/8"])
    client, everybody = await holder(world, secret), await world.api("everybody")
    refused = await client.get(KEY)
    assert (refused.status_code, "may not be used from 127.0.0.1" in refused.text) == (403, True)
    path = f"/admin/v1/keys/{id}"
    assert (await everybody.patch(path, json={"networks": None})).status_code == 200
    browser = await signed_in(world, secret)
    assert (await browser.get(PAGE)).status_code == 200
    for change in ({"disabled": True}, {"disabled": False, "expires": "2099-01-01T00:00:00Z"}):
        assert (await everybody.patch(path, json=change)).status_code == 200
        assert (await client.get(KEY)).status_code == (403 if change["disabled"] else 200)
    assert (await everybody.delete(path)).status_code == 200
    assert (await client.get(KEY)).status_code == 401
    assert (await browser.get(PAGE)).headers["location"] == LOGIN


async def test_guesses_are_bounded_and_lock_no_administrator_out(world: TwoOrganizations, caplog: Any) -> None:
    browser = await world.console.client()
    for n in range(10):
        assert (await browser.post(LOGIN, data={"key": f"sk-assay-guess-{n}"})).status_code == 401
    refused = await browser.post(LOGIN, data={"key": "sk-assay-guess-11"})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert (await (await holder(world, "sk-assay-guess-12")).get(KEY)).status_code == 429
    assert "sk-assay-guess" not in caplog.text + refused.text
    assert (await (await world.browser("team")).get("/console/keys")).status_code == 200


async def test_a_key_opens_nothing_else_and_a_token_is_no_key(world: TwoOrganizations) -> None:
    _, secret = await new_key(world)
    client = await holder(world, secret)
    assert (await client.get("/admin/v1/keys")).status_code == 401
    assert (await (await holder(world, token_of("everybody"))).get(KEY)).status_code == 401
    browser = await signed_in(world, secret)
    [cookie] = browser.cookies.jar
    assert (cookie.name, cookie.path) == ("assay_key", PAGE)
    assert (await browser.get("/console/keys")).status_code == 303
    stolen = await world.console.client(cookie=f"assay_console={cookie.value}")
    assert (await stolen.get("/console/keys")).status_code == 303, "in place of a person's session"
    person = await world.browser("everybody")
    [session] = [each.value for each in person.cookies.jar if each.name == "assay_console"]
    other = await world.console.client(cookie=f"assay_key={session}")
    assert (await other.get(PAGE)).status_code == 303


async def test_the_secret_is_in_no_address_and_no_log(world: TwoOrganizations, caplog: Any) -> None:
    _, secret = await new_key(world)
    caplog.set_level("DEBUG", logger="gateway")
    browser = await signed_in(world, secret)
    answer = await browser.get(PAGE)
    assert secret not in str(answer.url) + str(answer.headers) + answer.text
    assert secret not in caplog.text
    assert (await browser.post(LOGIN, data={"key": secret}, headers={"origin": "https://evil"})).status_code == 403
