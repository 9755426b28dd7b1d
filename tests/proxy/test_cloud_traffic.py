"""Upstreams with credentials of a cloud: every call carries a valid one, while they expire and are renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.clouds import Issuer, accept_only_valid, auth_of, signer_of

from gateway.fake import FakeAnswer, FakeUpstream

Configured = Callable[..., dict[str, Any]]
KINDS = ["sigv4", "google", "entra"]


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """A server of cloud credentials."""
    made = Issuer()
    async with made.server:
        yield made


def cloudy(configured: Configured, upstream: FakeUpstream, auth: dict[str, str], **more: Any) -> dict[str, Any]:
    config = configured(upstream, chat={"retries": {"attempts": 1}}, **more)
    config["upstreams"]["u0"]["auth"] = auth
    return config


@pytest.mark.parametrize("kind", KINDS)
async def test_a_renewal_during_traffic_loses_no_call(
    kind: str, start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    issuer.life_s = 4.0
    accept_only_valid(upstream, issuer)
    gateway = await start(cloudy(configured, upstream, auth_of(kind, issuer, tmp_path, monkeypatch.setenv)))
    used: set[str] = set()
    async with asyncio.timeout(60):
        while len(used) < 3:
            answers = await asyncio.gather(*(gateway.chat() for _ in range(4)))
            assert [a.status_code for a in answers] == [200] * 4, answers[0].text
            used |= {a.json()["choices"][0]["message"]["content"] for a in answers}
            await asyncio.sleep(0.05)
    assert not [name for name in issuer.issued if name in caplog.text], "no token, and no access key's id, in the log"
    assert "secret of" not in caplog.text
    assert "AWS4-HMAC" not in caplog.text


@pytest.mark.parametrize("life_s", [200.0, 3600.0])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_revoked_credential_is_replaced_within_the_call(
    kind: str, life_s: float, start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    issuer.life_s = life_s  # the clouds' libraries keep what has long to live
    accept_only_valid(upstream, issuer)
    gateway = await start(cloudy(configured, upstream, auth_of(kind, issuer, tmp_path, monkeypatch.setenv)))
    assert (await gateway.chat()).status_code == 200
    issuer.revoke()
    answer = await gateway.chat()
    assert answer.status_code == 200, answer.text
    assert len(issuer.issued) >= 2


async def test_a_replaced_profile_is_read_again(
    start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A static access key has no end at which it would be fetched again."""
    auth_of("sigv4", issuer, tmp_path, monkeypatch.setenv)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    profile = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    text = "[team]\naws_access_key_id = {0}\naws_secret_access_key = secret of {0}\n"
    profile.write_text(text.format("OLD"))
    accepted = ["OLD"]
    secrets = {name: f"secret of {name}" for name in ("OLD", "NEW")}
    wrong = FakeAnswer(b'{"message": "The security token included in the request is invalid."}', status=403)
    upstream.replies(lambda r: name if (name := signer_of(r, secrets) or "") in accepted else wrong)
    auth = {"kind": "sigv4", "region": "us-east-1", "profile": "team"}
    gateway = await start(cloudy(configured, upstream, auth))
    assert (await gateway.chat()).status_code == 200
    accepted[:] = ["NEW"]
    profile.write_text(text.format("NEW"))
    answer = await gateway.chat()
    assert answer.status_code == 200, answer.text


async def test_a_wrong_clock_is_named(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The fault is the gateway's and not the request's, so a fallback answers."""
    config = configured(upstream, second)
    config["upstreams"]["u0"]["auth"] = auth_of("sigv4", issuer, tmp_path, monkeypatch.setenv)
    gateway = await start(config)
    said = b'{"message": "Signature expired: 20261128T200000Z is now earlier than 20261128T210000Z"}'
    upstream.answers(403, said, (("date", "Sat, 28 Nov 2026 21:05:00 GMT"),))
    answer = await gateway.chat()
    assert (answer.status_code, answer.headers["x-gateway-upstream"]) == (200, "u1")
    assert "set the clock of the gateway's machine: its clock: Sat, 28 Nov 2026 21:05:00 GMT" in caplog.text


async def test_without_a_credential_the_fallback_answers(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    issuer.broken = True
    config = configured(upstream, second)
    config["upstreams"]["u0"]["auth"] = auth_of("google", issuer, tmp_path, monkeypatch.setenv)
    gateway = await start(config)
    answer = await gateway.chat()
    assert (answer.status_code, answer.headers["x-gateway-upstream"]) == (200, "u1")
    assert upstream.calls == []


async def test_the_clients_key_never_reaches_the_cloud(
    start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    gateway = await start(cloudy(configured, upstream, auth_of("google", issuer, tmp_path, monkeypatch.setenv)))
    await gateway.chat()
    assert [r.header("authorization") for r in upstream.calls] == ["Bearer TOKEN0000"]


async def test_a_reload_asks_for_no_new_token(
    start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    issuer.life_s = 3600.0
    config = cloudy(configured, upstream, auth_of("google", issuer, tmp_path, monkeypatch.setenv))
    gateway = await start(config)
    await gateway.chat()
    before = gateway.gateway
    config["upstreams"]["u0"]["concurrency"] = 7
    gateway.write(config)
    await gateway.until(lambda: gateway.gateway is not before)
    assert (await gateway.chat()).status_code == 200
    assert issuer.issued == ["TOKEN0000"]


async def test_azures_deployments_take_a_token_of_entra(
    start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = cloudy(configured, upstream, auth_of("entra", issuer, tmp_path, monkeypatch.setenv))
    config["upstreams"]["u0"] |= {"kind": "azure", "base_url": upstream.origin}
    gateway = await start(config)
    await gateway.chat()
    [received] = upstream.calls
    assert received.path == "/openai/deployments/model-u0/chat/completions"
    assert received.header("authorization") == "Bearer TOKEN0000"
    assert received.header("api-key") is None


async def test_a_stream_is_signed_too(
    start: Any, configured: Configured, upstream: FakeUpstream, issuer: Issuer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    accept_only_valid(upstream, issuer)
    gateway = await start(cloudy(configured, upstream, auth_of("sigv4", issuer, tmp_path, monkeypatch.setenv)))
    async with gateway.stream() as answer:
        body = await answer.aread()
    assert b"seen TOKEN" in body
    assert body.endswith(b"data: [DONE]\n\n")
