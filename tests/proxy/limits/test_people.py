"""Budgets of a person over all of the person's keys, at several gateways at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx2
from fixtures.identity import AUDIENCE, identity_provider, token

Limited = Callable[..., dict[str, Any]]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def keys_of(config: dict[str, Any], names: tuple[str, ...], person: str) -> dict[str, Any]:
    """The config with these keys of one person, each in a team of its own."""
    config["keys"] += [
        {"name": name, "sha256": sha256(name.encode()).hexdigest(), "team": f"of-{name}", "person": person}
        for name in names
    ]
    config["teams"] |= {f"of-{name}": {} for name in names}
    return config


async def answers(gateway: Any, key: str, n: int = 1, **fields: Any) -> list[httpx2.Response]:
    """Asks with one key, one call after the other."""
    headers = {"authorization": f"Bearer {key}"}
    return [await gateway.client.post("/chat/completions", json={**BODY, **fields}, headers=headers) for _ in range(n)]


async def statuses(gateway: Any, key: str, n: int = 1, **fields: Any) -> list[int]:
    return [answer.status_code for answer in await answers(gateway, key, n, **fields)]


async def test_every_key_of_a_person_counts_and_no_other(start: Any, limited: Limited) -> None:
    """`user` of a request names an end user, who is told apart from the person."""
    config = keys_of(limited(person={"requests_per_day": 5}), ("laptop", "notebook"), "ann")
    gateway = await start(keys_of(config, ("bobs",), "bob") | {"people": {**config["people"], "bob": {}}})
    assert await statuses(gateway, "laptop", 3) + await statuses(gateway, "notebook", 2) == [200] * 5
    assert await statuses(gateway, "bobs", 2, user="ann") == [200, 200]
    for key in ("laptop", "notebook", "test-key"):
        [refused] = await answers(gateway, key)
        error = refused.json()["error"]
        assert (refused.status_code, error["scope"], error["limit"]) == (429, "person ann", "requests_per_day")
        assert error["message"].startswith("the limit of person ann is 5 requests per day; 5 requests are used")
    assert await gateway.metric("gateway_limit_refused_total", kind="person", limit="requests_per_day") == 3


async def test_a_persons_models_have_limits_and_end_users_too(start: Any, limited: Limited) -> None:
    limits = {"models": {"chat": {"requests_per_day": 3}}, "per_user": {"requests_per_day": 2}}
    gateway = await start(keys_of(limited(person=limits), ("laptop",), "ann"))
    assert await statuses(gateway, "laptop", user="ada") + await statuses(gateway, "test-key", user="ada") == [200, 200]
    [of_user] = await answers(gateway, "laptop", user="ada")
    assert of_user.json()["error"]["scope"].startswith("user person-ann/")
    assert await statuses(gateway, "test-key", user="bob") == [200]
    [of_model] = await answers(gateway, "laptop", user="cyd")
    assert of_model.json()["error"]["scope"] == "model person-ann/chat"


async def test_keys_of_a_person_never_use_more_than_the_limit(
    start: Any, limited: Limited, stream_url: str, stream_name: str
) -> None:
    """Six keys in six teams call three gateways at once: the sum is the limit, to the request."""
    most, names = 120, tuple(f"key-{n}" for n in range(6))
    config = limited(person={"requests_per_day": most}, stream={"url": stream_url, "name": stream_name})
    gateways = [await start(keys_of({**config, "keys": [], "teams": {}}, names, "ann")) for _ in range(3)]
    passed: list[str] = []

    async def caller(gateway: Any, key: str) -> None:
        """Calls until the limit is used up: near its end, what other workers hold comes back within two seconds."""
        while len(passed) < most:
            [answer] = await answers(gateway, key)
            assert answer.status_code in (200, 429, 503), "503: an exchange took longer than 50 ms"
            passed.extend([key] if answer.status_code == 200 else [])

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for gateway in gateways:
            for name in names:
                group.create_task(caller(gateway, name))
    last = await asyncio.gather(*(statuses(gateway, name) for gateway in gateways for name in names))
    assert {status for found in last for status in found} <= {429, 503}
    assert len(passed) == most
    assert set(passed) == set(names)


async def test_a_tokens_caller_is_the_person_whom_keys_name(start: Any, limited: Limited) -> None:
    async with identity_provider() as provider:
        issuer = {"issuer": provider.issuer, "audience": [AUDIENCE], "callers": [{}]}
        config = keys_of(limited(), ("laptop",), "sso:alice")
        people = {"sso:alice": {"limits": {"requests_per_day": 3}}}
        gateway = await start({**config, "people": people, "jwt": {"sso": issuer}})
        alice = token(provider.issuer)
        assert await statuses(gateway, alice, 2) + await statuses(gateway, "laptop") == [200] * 3
        for credential in (alice, "laptop"):
            [refused] = await answers(gateway, credential)
            assert refused.json()["error"]["scope"] == "person sso:alice"
        bob = token(provider.issuer, sub="bob")
        assert await statuses(gateway, bob) == [200], "a token's caller needs no entry in `people`"
