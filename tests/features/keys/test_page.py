"""The page Keys and cost, and the limits used."""

from __future__ import annotations

import re
import time
from hashlib import sha256

from gateway.core.exchange import Tally
from gateway.core.keys import KeyRecord, TeamRecord
from gateway.core.limits import counter_name
from gateway.core.usage import NANO, UsageCell, UsageCount, UsageSums, utc_day
from gateway.features.keys.limits_used import scope_of, used_limits
from gateway.features.keys.page import headline
from gateway.store.usage import UsageRow, add_usage
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer


async def test_the_most_used_limit_comes_first_in_its_own_unit(corridor: Corridor) -> None:
    now = time.time()
    team = scope_of(TeamRecord("search", {"usd_per_month": 10.0, "requests_per_day": 100}))
    key = scope_of(KeyRecord(id="k1", name="web", digests=(), limits={"tokens_per_month": 1000}))
    counters = LeaseServer(corridor.client, corridor.state.prefix, "consumer")
    later_ms = round((now + 1000) * 1000)
    dollars = next(limit for limit in team.limits if limit.measure == "usd")
    await counters.raise_spent(counter_name(team, dollars, now), 9 * NANO, later_ms)
    await counters.raise_spent(counter_name(key, key.limits[0], now), 250, later_ms)
    found = await used_limits(corridor, [team, key], now)
    assert [(str(u.scope), u.limit.name, u.spent, u.near) for u in found] == [
        ("team search", "usd_per_month", 9.0, True),
        ("key web (k1)", "tokens_per_month", 250.0, False),
        ("team search", "requests_per_day", 0.0, False),
    ]
    assert all(u.resets_at is not None and u.resets_at > now for u in found)


async def test_nobody_with_limits_asks_nothing(corridor: Corridor) -> None:
    assert await used_limits(corridor, [], time.time()) == []


HOME = "/console/keys"
MARKED = "<script>alert(1)</script>\u202eevil"  # names may not have blanks or control characters


async def made(pages, client, **fields) -> tuple[str, str]:
    """(id, secret) of a new key."""
    answer = await pages.send(client, f"{HOME}/new", f"{HOME}/new", {"name": "web", **fields})
    assert answer.status_code == 200, answer.text
    [secret] = re.findall(r"sk-assay-[\w-]{20,}", answer.text)
    [id] = re.findall(r"<code>(key_\w+)</code>", answer.text)
    return id, secret


async def test_a_secret_is_shown_once_and_opens_the_key(pages):
    client = await pages.login("operator")
    id, secret = await made(pages, client)
    page = await pages.get(client, f"{HOME}/key/{id}")
    assert secret not in page
    assert secret not in await pages.get(client, HOME)
    row = await pages.store.read(lambda c: c.exec_driver_sql("SELECT digests FROM keys").scalar())
    assert sha256(secret.encode()).hexdigest() in row


async def test_limits_are_set_changed_and_removed(pages):
    client = await pages.login("operator")
    id, _ = await made(pages, client, requests_per_minute="60", usd_per_month="12.5")
    page = await pages.get(client, HOME)
    assert "requests_per_minute 60, usd_per_month 12.5" in page
    assert "Nearest to a limit" in page
    path = f"{HOME}/key/{id}"
    answer = await pages.send(client, path, f"{path}/limits", {"requests_per_minute": "", "tokens_per_day": "1 000"})
    assert answer.status_code == 303, answer.text
    assert "tokens_per_day 1000" in await pages.get(client, HOME)
    answer = await pages.send(client, path, f"{path}/limits", {"tokens_per_day": "many"})
    assert answer.status_code == 400
    assert "tokens_per_day: expected a number" in answer.text


async def test_a_key_is_disabled_rotated_and_revoked(pages):
    client = await pages.login("operator")
    id, secret = await made(pages, client)
    path = f"{HOME}/key/{id}"
    await pages.send(client, path, f"{path}/switch", {"disabled": "1"})
    assert "Enable" in await pages.get(client, path)
    answer = await pages.send(client, path, f"{path}/rotate", {"overlap_h": "1"})
    [new] = re.findall(r"sk-assay-[\w-]{20,}", answer.text)
    assert new != secret
    assert (await pages.send(client, path, f"{path}/revoke", {})).status_code == 409, "the box is not ticked"
    assert (await pages.send(client, path, f"{path}/revoke", {"sure": "yes"})).status_code == 303
    assert "revoked" in await pages.get(client, path)


async def test_a_team_is_made_and_its_keys_are_listed(pages):
    owner = await pages.login()
    answer = await pages.send(owner, f"{HOME}/new-team", f"{HOME}/new-team", {"id": "search", "usd_per_month": "50"})
    assert answer.status_code == 303, answer.text
    await made(pages, owner, team="search")
    page = await pages.get(owner, f"{HOME}/team/search")
    assert "usd_per_month" in page
    assert ">web<" in page.replace("<bdi>", "").replace("</bdi>", "")
    answer = await pages.send(owner, f"{HOME}/team/search", f"{HOME}/team/search/delete", {})
    assert answer.status_code == 409, "a key belongs to it"
    assert (await pages.send(owner, f"{HOME}/new-team", f"{HOME}/new-team", {"id": "no good"})).status_code == 400


def month(usd: float | None, calls: int = 48, unpriced: int = 0) -> UsageRow:
    return UsageRow({}, UsageSums(calls, unpriced_calls=unpriced, nano_usd=int((usd or 0.0) * NANO)))


def test_the_page_is_a_sentence_about_the_month() -> None:
    near = {"scope": "team search", "limit": "usd_per_month", "share": 0.92, "resets_at": 1.0}
    in_flight = {**near, "limit": "concurrency", "resets_at": None}
    assert headline(month(0, calls=0), []) == "No usage in this month"
    assert headline(month(412.1), []) == "$412.10 this month; nobody has a limit"
    said = headline(month(412.1, unpriced=3), [in_flight, near])
    assert said == "At least $412.10 this month; team search has used 92.0 % of usd_per_month"


async def test_gpu_seconds_are_shown_and_limited_by_the_form(pages):
    client = await pages.login("operator")
    assert "GPU-seconds" not in await pages.get(client, HOME)
    id, _ = await made(pages, client, gpu_seconds_per_day="3600")
    cell = UsageCell(utc_day(time.time()), id, "web", "search", "", "", "chat", "local", "llama", "", "", "")
    sums = UsageSums(4, nano_gpu_seconds=1234 * NANO, tiered_calls=3)
    tally = Tally("g1", time.time(), 0, usage=(UsageCount(cell, sums),))
    await pages.store.run(lambda connection: add_usage(connection, tally))
    page = await pages.get(client, HOME)
    assert "gpu_seconds_per_day 3600" in page
    assert "GPU-seconds" in page
    assert "1234.0" in page
    assert "3 moved to a cheaper target" in page
    assert "1234.0" in await pages.get(client, f"{HOME}/key/{id}")


async def test_names_are_shown_as_text(pages):
    client = await pages.login("operator")
    id, _ = await made(pages, client, name=MARKED)
    for path in (HOME, f"{HOME}/key/{id}", "/console/system/audit"):
        page = await pages.get(client, path)
        assert "<script>alert" not in page, path
        assert "\u202e" not in page, path
        assert "⟨U+202E⟩evil" in page, path


async def test_a_viewer_sees_no_forms_and_makes_no_key(pages):
    viewer = await pages.login("viewer")
    assert "/console/keys/new" not in await pages.get(viewer, HOME)
    assert (await viewer.get(f"{HOME}/new")).status_code == 403
    assert (await pages.send(viewer, HOME, f"{HOME}/new", {"name": "web"})).status_code == 403
    assert (await viewer.get(f"{HOME}/key/nobody")).status_code == 404


async def test_keys_are_paged_by_id(pages):
    client = await pages.login("operator")
    ids = {(await made(pages, client, name=f"k{i}"))[0] for i in range(52)}
    first = await pages.get(client, HOME)
    seen = set(re.findall(r"/console/keys/key/(key_\w+)", first))
    assert len(seen) == 50
    [following] = re.findall(r'href="(/console/keys\?after=[^"]+)" rel="next"', first)
    second = await pages.get(client, following.replace("&amp;", "&"))
    assert seen | set(re.findall(r"/console/keys/key/(key_\w+)", second)) == ids
