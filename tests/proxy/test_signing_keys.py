"""Callers with tokens, over real sockets: an issuer whose keys change, fail and come back while calls go on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from fixtures.identity import AUDIENCE, IdentityProvider, identity_provider, public, signing_key, token

from gateway.config.jwt import JwtIssuer
from gateway.core.errors import InvalidKey, KeysUnavailable
from gateway.fake import FakeUpstream
from gateway.proxy.request.auth import KeyRing
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.proxy.request.tokens import SigningKeys, TokenVerifier
from gateway.proxy.signing_keys import SigningKeyPoller
from gateway.runtime.tasks import Tasks

Configured = Callable[..., dict[str, Any]]


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    """A running identity provider."""
    async with identity_provider() as found:
        yield found


@pytest.fixture
def served(start: Any, configured: Configured, upstream: FakeUpstream, provider: IdentityProvider) -> Any:
    """Starts a gateway that trusts the provider's tokens."""

    async def go(callers: list[dict[str, Any]] | None = None, **sections: Any) -> Any:
        issuer = {"issuer": provider.issuer, "audience": [AUDIENCE], "callers": callers or [{}]}
        return await start(configured(upstream, jwt={"sso": issuer}, **sections), key=None)

    return go


async def ask(gateway: Any, bearer: str, **fields: Any) -> Any:
    gateway.client.headers["authorization"] = f"Bearer {bearer}"
    return await gateway.chat(**fields)


async def test_a_token_is_a_key(served: Any, provider: IdentityProvider, upstream: FakeUpstream) -> None:
    limits = {"requests_per_day": 3}
    gateway = await served([{"claims": {"groups": "ml"}, "team": "lab", "limits": limits}], teams={"lab": {}})
    ours = token(provider.issuer, groups=["ml"])
    assert (await ask(gateway, ours)).status_code == 200
    (exchange,) = await gateway.recorded()
    assert exchange.caller == "sso:alice"
    about = (await gateway.client.get("/key")).json()
    assert (about["id"], about["name"], about["team"]) == ("jwt:sso:alice", "sso:alice", "lab")
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]
    for _ in range(2):  # another token of the same caller has the same limits
        assert (await ask(gateway, token(provider.issuer, groups=["ml"], jti=str(_)))).status_code == 200
    assert (await ask(gateway, ours)).status_code == 429
    assert (await ask(gateway, token(provider.issuer, sub="bob", groups=["ml"]))).status_code == 200
    sent = upstream.received[0]
    assert ours not in str(sent.headers), "the token stays here"


async def test_keys_still_work_next_to_tokens(served: Any, provider: IdentityProvider) -> None:
    gateway = await served()
    assert (await ask(gateway, "test-key")).status_code == 200
    assert (await ask(gateway, "another-key")).status_code == 401
    assert (await ask(gateway, token(provider.issuer))).status_code == 200


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"exp": 1_000}, 401), ({"aud": "other"}, 401), ({"iss": "https://other"}, 401), ({"groups": []}, 403)],
)
async def test_a_bad_token_gets_no_answer(
    served: Any, provider: IdentityProvider, upstream: FakeUpstream, claims: dict[str, Any], status: int
) -> None:
    gateway = await served([{"claims": {"groups": "ml"}}])
    answer = await ask(gateway, token(provider.issuer, **{"groups": ["ml"], **claims}))
    assert answer.status_code == status
    assert upstream.received == []


async def test_a_verified_token_ends_when_it_expires(served: Any, provider: IdentityProvider) -> None:
    gateway = await served()
    issuer = gateway.gateway.config.jwt["sso"]
    ends = time.time() - issuer.leeway_s + 2
    ours = jwt.encode(
        {"iss": provider.issuer, "aud": AUDIENCE, "sub": "alice", "exp": int(ends) + 1}, signing_key("ES256"), "ES256",
        headers={"kid": "k1"},
    )  # fmt: skip
    async with asyncio.timeout(30):
        statuses = [(await ask(gateway, ours)).status_code]
        while statuses[-1] == 200:
            await asyncio.sleep(0.05)
            statuses.append((await ask(gateway, ours)).status_code)
    assert statuses[0] == 200
    assert statuses[-1] == 401


async def test_a_key_that_the_issuer_withdraws_verifies_nothing_more(
    served: Any, provider: IdentityProvider, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await served()
    old = token(provider.issuer)
    assert (await ask(gateway, old)).status_code == 200
    provider.keys = [public(signing_key("ES256", "next"), "k2")]
    issuer = {"issuer": provider.issuer, "audience": [AUDIENCE], "callers": [{}], "refresh_s": 10}
    gateway.write(configured(upstream, jwt={"sso": issuer}))  # a changed issuer is read again
    async with asyncio.timeout(30):
        while (await ask(gateway, old)).status_code == 200:
            await asyncio.sleep(0.02)
    new = token(provider.issuer, signing_key("ES256", "next"), "k2")
    async with asyncio.timeout(30):
        while (await ask(gateway, new)).status_code != 200:
            await asyncio.sleep(0.02)
    assert (await ask(gateway, old)).status_code in (401, 503)


async def test_an_issuer_that_is_unreachable_does_not_stop_the_gateway(
    start: Any, configured: Configured, upstream: FakeUpstream, provider: IdentityProvider
) -> None:
    provider.answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
    issuer = {"issuer": provider.issuer, "audience": [AUDIENCE], "callers": [{}]}
    gateway = await start(configured(upstream, jwt={"sso": issuer}))
    assert (await ask(gateway, "test-key")).status_code == 200
    answer = await ask(gateway, token(provider.issuer))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    provider.answer = None
    async with asyncio.timeout(30):
        while (await ask(gateway, token(provider.issuer))).status_code != 200:
            await asyncio.sleep(0.05)


def issuer_of(provider: IdentityProvider, **changed: Any) -> JwtIssuer:
    return JwtIssuer.model_validate({"issuer": provider.issuer, "audience": ["a"], "callers": [{}], **changed})


async def test_a_token_with_a_new_key_has_the_keys_read_again(provider: IdentityProvider) -> None:
    keys, changes = SigningKeys(), list[int]()
    async with Tasks() as tasks:
        poller = SigningKeyPoller(keys, lambda: changes.append(1), tasks, asked_s=0.05)
        await poller.start({"sso": issuer_of(provider)})
        assert [key.id for key in keys.of["sso"]] == ["k1"]
        provider.keys.append(public(signing_key("ES256", "next"), "k2"))
        async with asyncio.timeout(30):
            while not keys.ask("sso") or len(keys.of["sso"]) < 2:
                await asyncio.sleep(0.01)
        assert len(changes) == 2
        reads = provider.asked.count("/keys")
        assert reads == 2
        poller.follow({})
        assert keys.of == {}


async def test_verified_tokens_are_forgotten_with_their_key(provider: IdentityProvider) -> None:
    keys, directory = SigningKeys(), KeyDirectory()
    issuers = {"sso": issuer_of(provider, audience=[AUDIENCE])}
    async with Tasks() as tasks:
        poller = SigningKeyPoller(keys, directory.touch, tasks, asked_s=0.05)
        await poller.start(issuers)
        ring = KeyRing([], dynamic=directory, tokens=TokenVerifier(issuers, keys))
        headers = {b"authorization": b"Bearer " + token(provider.issuer).encode()}
        assert ring.caller(headers) is ring.caller(headers), "verified once"
        provider.keys = [public(signing_key("ES256", "next"), "k2")]
        async with asyncio.timeout(30):
            while not keys.ask("sso") or keys.of["sso"][0].id != "k2":
                await asyncio.sleep(0.01)
        with pytest.raises((InvalidKey, KeysUnavailable)):
            ring.caller(headers)


async def test_tokens_cannot_have_an_issuer_asked_without_end(provider: IdentityProvider) -> None:
    keys = SigningKeys()
    async with Tasks() as tasks:
        poller = SigningKeyPoller(keys, lambda: None, tasks, asked_s=3600.0)
        await poller.start({"sso": issuer_of(provider)})
        assert not any([keys.ask("sso") for _ in range(1000)])
        assert provider.asked.count("/keys") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: /keys\r\ncontent-length: 0\r\n\r\n", "HTTP 302"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "names no jwks_uri"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000001\r\n\r\n" + b" " * 2_000_001, "more than"),
        (b"", "jwt.sso"),
    ],
)
async def test_a_failing_issuer_is_logged(
    provider: IdentityProvider, answer: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answer = answer
    keys = SigningKeys()
    async with Tasks() as tasks:
        poller = SigningKeyPoller(keys, lambda: None, tasks)
        await poller.start({"sso": issuer_of(provider)})
    assert said in caplog.text
    assert keys.of == {}


async def test_a_discovery_document_of_another_issuer_is_refused(
    provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.claims_to_be = "https://evil.example"
    async with Tasks() as tasks:
        await SigningKeyPoller(SigningKeys(), lambda: None, tasks).start({"sso": issuer_of(provider)})
    assert "is of another issuer" in caplog.text


async def test_keys_may_stand_in_a_file(provider: IdentityProvider, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": provider.keys}))
    keys = SigningKeys()
    async with Tasks() as tasks:
        issuer = issuer_of(provider, issuer="https://offline.example", jwks_file=str(file))
        await SigningKeyPoller(keys, lambda: None, tasks).start({"sso": issuer})
    assert [key.id for key in keys.of["sso"]] == ["k1"]
    assert provider.asked == []
