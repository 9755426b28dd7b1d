"""The clouds' own libraries, asked for a credential of a double of their token endpoints."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from fixtures.clouds import Issuer, auth_of

from gateway.config.cloud_auth import CloudAuth
from gateway.proxy.http.auth.sigv4 import AwsKeys
from gateway.proxy.http.auth.sources import AwsSource, EntraSource, GoogleSource


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """A server of cloud credentials with an hour of life."""
    made = Issuer(life_s=3600)
    async with made.server:
        yield made


async def test_google_issues_a_token_for_a_service_account(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = CloudAuth.model_validate(auth_of("google", issuer, tmp_path, monkeypatch.setenv))
    got = await asyncio.to_thread(GoogleSource(auth).fetch)
    assert got.value == b"Bearer TOKEN0000"
    assert time.time() + 3000 < got.renew_at < got.expires - 200, "renewed minutes before its end"
    assert b"jwt-bearer" in issuer.server.received[0].body


def account_of(assertion: bytes) -> str:
    """The account that a request for a token names."""
    claims = parse_qs(assertion.decode())["assertion"][0].split(".")[1]
    return str(json.loads(urlsafe_b64decode(claims + "=="))["iss"])


async def test_googles_replaced_key_file_is_read_again(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = CloudAuth.model_validate(auth_of("google", issuer, tmp_path, monkeypatch.setenv))
    source = GoogleSource(auth)
    await asyncio.to_thread(source.fetch)
    file = tmp_path / "sa.json"
    file.write_text(file.read_text().replace("a@p.iam", "b@p.iam"))
    await asyncio.to_thread(source.fetch)
    assert [account_of(r.body)[:1] for r in issuer.server.received] == ["a", "b"]


async def test_forgetting_asks_for_another_token(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """azure-identity returns the token that it has until five minutes before its end, revoked or not."""
    auth = CloudAuth.model_validate(auth_of("entra", issuer, tmp_path, monkeypatch.setenv))
    source = EntraSource(auth)
    first = await asyncio.to_thread(source.fetch)
    assert (await asyncio.to_thread(source.fetch)).value == first.value
    source.forget()
    assert (await asyncio.to_thread(source.fetch)).value == b"Bearer TOKEN0001"


async def test_entra_issues_a_token_for_a_managed_identity(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = CloudAuth.model_validate(auth_of("entra", issuer, tmp_path, monkeypatch.setenv))
    got = await asyncio.to_thread(EntraSource(auth).fetch)
    assert got.value == b"Bearer TOKEN0000"
    assert time.time() + 3000 < got.renew_at < got.expires - 200
    assert "cognitiveservices.azure.com" in issuer.server.received[0].query


async def test_a_container_issues_access_keys(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = CloudAuth.model_validate(auth_of("sigv4", issuer, tmp_path, monkeypatch.setenv))
    got = await asyncio.to_thread(AwsSource(auth).fetch)
    assert got.value == AwsKeys("TOKEN0000", "secret of TOKEN0000", "session")
    assert got.renew_at < got.expires <= time.time() + 3600


async def test_given_access_keys_never_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    keys = {"access_key_id": "AK", "secret_access_key": "S"}
    auth = CloudAuth.model_validate({"kind": "sigv4", "region": "r", **keys})
    got = await asyncio.to_thread(AwsSource(auth).fetch)
    assert (got.value, got.renew_at) == (AwsKeys("AK", "S"), float("inf"))


async def test_a_role_is_assumed_with_given_keys(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        "<AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>RS</SecretAccessKey><SessionToken>RT</SessionToken>"
        "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
    issuer.server.answers(200, answer.encode(), content_type="text/xml")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", issuer.server.origin)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    keys = {"access_key_id": "AK", "secret_access_key": "S", "role_arn": "arn:aws:iam::1:role/gateway"}
    auth = CloudAuth.model_validate({"kind": "sigv4", "region": "us-east-1", **keys})
    got = await asyncio.to_thread(AwsSource(auth).fetch)
    assert got.value == AwsKeys("ROLE", "RS", "RT")
    assert b"role%2Fgateway" in issuer.server.received[0].body


async def test_without_credentials_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    auth: Any = CloudAuth.model_validate({"kind": "sigv4", "region": "us-east-1"})
    with pytest.raises(LookupError, match="AWS's usual places hold no credentials"):
        await asyncio.to_thread(AwsSource(auth).fetch)


PROXIED = {
    "google": ({"kind": "google"}, "token.example:443"),
    "entra": (
        {"kind": "entra", "tenant_id": "t", "client_id": "c", "client_secret": "s"},
        "login.microsoftonline.com:443",
    ),
    "sigv4": (
        {
            "kind": "sigv4",
            "region": "eu-west-1",
            "access_key_id": "AKID",
            "secret_access_key": "s",
            "role_arn": "arn:aws:iam::1:role/r",
        },
        "sts.eu-west-1.amazonaws.com:443",
    ),
}


@pytest.mark.parametrize("kind", PROXIED)
async def test_credentials_are_asked_for_through_the_proxy(
    kind: str, proxy_double: Any, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy refuses, so that nothing leaves this machine."""
    fields, server = PROXIED[kind]
    proxy_double.answer = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    if kind == "google":
        fields = auth_of("google", issuer, tmp_path, monkeypatch.setenv)
        file = tmp_path / "sa.json"
        key = json.loads(file.read_text()) | {"token_uri": "https://token.example/token"}
        file.write_text(json.dumps(key))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    source = {"google": GoogleSource, "entra": EntraSource, "sigv4": AwsSource}[kind]
    auth = CloudAuth.model_validate(fields)
    with pytest.raises(Exception, match=r"(?i)proxy|tunnel|forbidden"):
        await asyncio.to_thread(source(auth, proxy_double.url).fetch)
    assert set(proxy_double.tunnels) == {server}
