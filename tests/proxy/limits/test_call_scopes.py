"""Budgets of models within a team, of tags and of end users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.config.stream import StreamConfig
from gateway.core.call_scopes import CallScopes
from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import Account, LeaseBook
from gateway.proxy.limits.lease import Lease
from gateway.stream.connect import close, connect
from gateway.stream.leases import LeaseServer

Limited = Callable[..., dict[str, Any]]
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


async def ask(gateway: Any, model: str = "chat", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"model": model, **CHAT, **fields}
    return await gateway.client.post("/chat/completions", json=body, headers=headers or {})


async def statuses(gateway: Any, n: int, **how: Any) -> list[int]:
    return [(await ask(gateway, **how)).status_code for _ in range(n)]


async def test_a_model_within_a_team_has_its_own_limit(start: Any, limited: Limited) -> None:
    config = limited(team={"requests_per_day": 5, "models": {"chat": {"requests_per_day": 2}}})
    config["models"]["other"] = config["models"]["chat"]
    gateway = await start(config)
    refused = (await statuses(gateway, 2), await ask(gateway))[1]
    assert (refused.status_code, refused.json()["error"]["scope"]) == (429, "model team-search/chat")
    assert await statuses(gateway, 4, model="other") == [200, 200, 200, 429], "the team's own limit holds, too"


async def test_a_tag_of_a_request_has_its_own_limit(start: Any, limited: Limited) -> None:
    limits = {"tags": {"project=alpha": {"requests_per_day": 1}}}
    gateway = await start(limited(key=limits, tags={"keys": ["project"]}))
    alpha, beta = {"x-gateway-tags": "project=alpha"}, {"x-gateway-tags": "project=beta"}
    assert await statuses(gateway, 2, headers=alpha) == [200, 429]
    assert await statuses(gateway, 3, headers=beta) == [200, 200, 200]
    assert await statuses(gateway, 2) == [200, 200]


async def test_each_end_user_has_a_budget_however_it_is_named(start: Any, limited: Limited) -> None:
    """Calls that name nobody share one; the digest alone is in the answer."""
    gateway = await start(limited(key={"per_user": {"requests_per_day": 2}}))
    assert await statuses(gateway, 1, user="ada@example.org") == [200]
    assert await statuses(gateway, 1, safety_identifier="ada@example.org") == [200]
    refused = await ask(gateway, headers={"x-gateway-user": "ada@example.org"})
    assert refused.status_code == 429
    assert refused.json()["error"]["scope"].startswith("user key-tester/")
    assert "ada" not in refused.text
    assert await statuses(gateway, 3, user="bob") == [200, 200, 429]
    assert await statuses(gateway, 3) == [200, 200, 429]
    shared = (await ask(gateway)).json()["error"]["message"]
    assert "the limit of user key-tester/- (all calls that name no user; send `user` or x-gateway-user) is 2" in shared
    assert "name no user" not in refused.text


async def test_a_users_budget_never_exceeds_its_keys(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"requests_per_day": 3, "per_user": {"requests_per_day": 2}}))
    assert await statuses(gateway, 2, user="ada") == [200, 200]
    assert await statuses(gateway, 2, user="bob") == [200, 429]


async def test_above_the_most_users_share_one_budget(start: Any, limited: Limited) -> None:
    gateway = await start(limited(key={"per_user": {"requests_per_day": 2}}, budgets={"most_users": 2}))
    for user in ("a", "b"):
        assert await statuses(gateway, 3, user=user) == [200, 200, 429]
    assert [(await ask(gateway, user=user)).status_code for user in ("c", "d", "e")] == [200, 200, 429]


async def test_a_returning_user_keeps_the_used_amount(stream_url: str, stream_name: str) -> None:
    """The user's lease is forgotten after a minute; then the stream server says what this worker had spent of it."""
    client = connect(stream_url, StreamConfig())
    server, book = LeaseServer(client, stream_name, "w1"), LeaseBook()
    scope = LimitScope("user", "key-a/1234", (Limit("requests", 10, "month"),))
    of = CallScopes((), users=(scope,))

    async def exchange(lease: Lease) -> None:
        reply = await server.exchange([lease.report(book.now())])
        assert reply is not None
        lease.accept(reply.grants[0], book.now())
        book.reported(lease)

    async def spend(n: int) -> Lease:
        (lease,) = book.call_account(("a", "1234"), of, lambda: Account((scope,))).leases
        for _ in range(n):
            lease.wait(1, book.now())
            await exchange(lease)
            lease.free, lease.spent, lease.busy = lease.free - 1, lease.spent + 1, True
        lease.used_at = book.now() - 100
        for _ in range(3):  # what is free goes back, and so does the share
            lease.busy = False
            await exchange(lease)
        return lease

    first = await spend(4)
    book.due(book.now() + 120, 2.0)
    assert (book.leases, book.call_accounts) == ({}, {})
    second = await spend(3)
    assert second is not first
    assert (second.spent, await server.spent([second.name])) == (7, {second.name: (7, 0)})
    await close(client)


async def test_two_gateways_share_the_budget_of_a_user(start: Any, limited: Limited) -> None:
    config = limited(key={"per_user": {"requests_per_day": 4}})
    gateways = [await start(config), await start(config)]
    found = [(await ask(gateways[n % 2], user="ada")).status_code for n in range(6)]
    assert sorted(found) == [200] * 4 + [429] * 2


async def test_keys_without_a_limit_have_that_of_every_key(start: Any, limited: Limited) -> None:
    gateway = await start(limited(budgets={"default_limits": {"requests_per_day": 2}}))
    assert await statuses(gateway, 3) == [200, 200, 429]
    own = await start(
        limited(key={"requests_per_day": 4}, budgets={"default_limits": {"requests_per_day": 2, "usd_per_day": 9}})
    )
    figures = (await own.client.get("/key")).json()["limits"]
    assert {each["limit"]: each["amount"] for each in figures} == {"requests_per_day": 4, "usd_per_day": 9}
