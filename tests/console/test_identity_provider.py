"""Signing in with OpenID Connect against a double of a provider, and by a proxy's header. Over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from gateway.core.json_values import value_at

pytest.importorskip("authlib", reason="needs the extra oidc")
from joserfc import jwk, jwt

from gateway.config.admin import OidcConfig, ProxyLogin
from gateway.console.access import Actor
from gateway.console.identity_provider import LoginAttempt, LoginRefused, actor_of_claims
from gateway.runtime.tasks import Tasks

EVE: dict[str, Any] = {"email": "eve@example.com", "email_verified": True}


@dataclass
class Provider:
    """An identity provider that signs whom `claims` names. It checks the client, the code and PKCE."""

    url: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {**EVE, "groups": ["ml", "staff"]})
    changed: dict[str, Any] = field(default_factory=dict)
    """Claims that are not as they should be."""
    key: Any = None
    signed_by: Any = None
    algorithm: str = "ES256"
    asked: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens_given: int = 0

    async def discovery(self, request):
        return JSONResponse({
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/jwks",
        })  # fmt: skip

    async def authorize(self, request):
        query = dict(request.query_params)
        self.asked.append(query)
        code = f"code-{len(self.asked)}"
        self.codes[code] = query
        back = {"code": code, "state": query["state"]}
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(back)}", 303)

    async def token(self, request):
        form = dict(parse_qsl((await request.body()).decode()))
        expected = "Basic " + base64.b64encode(b"console:s3cret").decode()
        asked = self.codes.pop(form.get("code", ""), None)
        digest = base64.urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        right = (
            request.headers.get("authorization") == expected
            and asked is not None
            and asked["code_challenge_method"] == "S256"
            and asked["code_challenge"] == digest
            and asked["redirect_uri"] == form.get("redirect_uri")
            and form.get("grant_type") == "authorization_code"
        )
        if not right or asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        self.tokens_given += 1
        now = int(time.time())
        claims = {"iss": self.url, "sub": "42", "aud": "console", "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        signed = jwt.encode(header, {**claims, **self.claims, **self.changed}, self.signed_by or self.key,
                            algorithms=[self.algorithm])  # fmt: skip
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": signed})

    async def jwks(self, request):
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})


def a_key(name: str) -> Any:
    return jwk.ECKey.generate_key("P-256", {"kid": name, "use": "sig"})


@pytest.fixture
async def provider():
    """A running identity provider with one signing key."""
    found = Provider(key=a_key("first"))
    routes = [
        Route("/.well-known/openid-configuration", found.discovery),
        Route("/authorize", found.authorize),
        Route("/token", found.token, methods=["POST"]),
        Route("/jwks", found.jwks),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    async with Tasks() as tasks:
        with contextlib.closing(config.bind_socket()) as sock:
            running = tasks.start(server._serve([sock]), "provider")
            while not server.started:
                await asyncio.sleep(0.005)
            found.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            yield found
            server.should_exit = True
            await running


def configured(pages, **sections):
    config = pages.config[-1]
    pages.config.append(config.model_copy(update={"admin": config.admin.model_copy(update=sections)}))


@pytest.fixture
def oidc(pages, provider):
    """The config that trusts `provider`, set on `pages`: admins are owners, ml are labellers."""
    roles = [
        {"claims": {"groups": "admins"}, "role": "owner", "content": True},
        {"claims": {"groups": "ml"}, "role": "labeller"},
    ]
    config = OidcConfig.model_validate(
        {"issuer": provider.url, "client_id": "console", "client_secret": "s3cret", "url": pages.url, "roles": roles}
    )
    configured(pages, oidc=config)
    return config


async def signed_in(pages, client, provider):
    """The answer to the browser's return from the provider."""
    begun = await client.get("/console/login/oidc")
    assert begun.status_code == 303, begun.text
    assert begun.headers["location"].startswith(f"{provider.url}/authorize?")
    there = await client.get(begun.headers["location"])
    assert there.headers["location"].startswith(f"{pages.url}/console/login/callback?")
    return await client.get(there.headers["location"])


async def test_a_person_signs_in_at_the_provider(pages, provider, oidc):
    client = await pages.client()
    assert 'href="/console/login/oidc"' in (await client.get("/console/login")).text
    back = await signed_in(pages, client, provider)
    assert back.status_code == 200
    assert '<a href="/console"' in back.text, "a redirect would arrive without the cookie, which is of this site only"
    cookies = [c.lower() for c in back.headers.get_list("set-cookie") if c.startswith("assay_console=")]
    assert all("samesite=strict" in c and "httponly" in c and "max-age=28800" in c for c in cookies)
    assert cookies
    assert ">eve@example.com</bdi>, labeller" in await pages.get(client, "/console")
    [asked] = provider.asked
    assert asked["response_type"] == "code"
    assert asked["scope"] == "openid profile email"
    assert len(asked["state"]) >= 43
    assert len(asked["nonce"]) >= 43
    assert "s3cret" not in repr(asked)


async def test_the_cookie_of_an_attempt_comes_back_from_another_site(pages, provider, oidc):
    client = await pages.client()
    begun = await client.get("/console/login/oidc")
    cookie = begun.headers["set-cookie"].lower()
    assert "samesite=lax" in cookie
    assert "httponly" in cookie
    assert "path=/console/login" in cookie


async def test_a_session_ends_when_the_provider_is_no_longer_believed(pages, provider, oidc):
    client = await pages.client()
    await signed_in(pages, client, provider)
    assert (await client.get("/console")).status_code == 200
    configured(pages, oidc=None)
    assert (await client.get("/console")).status_code == 303
    assert (await client.get("/console/login/oidc")).status_code == 404


@pytest.mark.parametrize(
    ("changed", "stays"),
    [
        ({"session_h": 1.0}, False),
        ({"client_id": "another"}, False),
        ({"issuer": "https://other.example"}, False),
        ({"roles": ()}, False),
        ({"client_secret": "rotated"}, True),
    ],
)
async def test_a_session_ends_when_its_section_changes(pages, provider, oidc, changed, stays):
    """The role of a session came from the section as it was; the person signs in again, and gets today's."""
    client = await pages.client()
    await signed_in(pages, client, provider)
    assert (await client.get("/console")).status_code == 200
    configured(pages, oidc=oidc.model_copy(update=changed))
    assert ((await client.get("/console")).status_code == 200) is stays


WRONG = (
    {"iss": "https://other.example"},
    {"aud": "another-client"},
    {"exp": 1_700_000_000},
    {"nonce": "another"},
    {"groups": ["nobody"]},
    {"email": None},
    {"email_verified": False},
    {"email_verified": None},
    {"email_verified": "true"},
)


async def test_an_identity_that_is_not_right_is_refused(pages, provider, oidc):
    for n, changed in enumerate(WRONG, 1):
        provider.changed = changed
        client = await pages.client()
        back = await signed_in(pages, client, provider)
        assert back.status_code == 403, changed
        assert provider.tokens_given == n, "the console was the one who refused"
        assert "assay_console" not in client.cookies


async def test_a_signature_of_another_key_is_refused(pages, provider, oidc):
    provider.signed_by = a_key("stranger")
    client = await pages.client()
    assert (await signed_in(pages, client, provider)).status_code == 403
    assert "assay_console" not in client.cookies


async def test_a_token_signed_with_a_shared_secret_is_refused(pages, provider, oidc):
    """The public key as the secret of an HMAC, as if the console let the token choose."""
    provider.signed_by = jwk.OctKey.import_key("s3cret" * 8)
    provider.algorithm = "HS256"
    client = await pages.client()
    assert (await signed_in(pages, client, provider)).status_code == 403


async def test_a_new_key_of_the_provider_is_read(pages, provider, oidc):
    first = await pages.client()
    assert (await signed_in(pages, first, provider)).status_code == 200
    provider.key = a_key("second")
    second = await pages.client()
    assert (await signed_in(pages, second, provider)).status_code == 200


async def test_a_code_of_another_browser_is_refused(pages, provider, oidc):
    """Login CSRF: the attacker's own code, brought to somebody else's browser."""
    attacker, victim = await pages.client(), await pages.client()
    begun = await attacker.get("/console/login/oidc")
    there = await attacker.get(begun.headers["location"])
    assert (await victim.get(there.headers["location"])).status_code == 403
    await victim.get("/console/login/oidc")
    assert (await victim.get(there.headers["location"])).status_code == 403
    assert "assay_console" not in victim.cookies
    assert provider.tokens_given == 0


async def test_a_code_works_once(pages, provider, oidc):
    client = await pages.client()
    begun = await client.get("/console/login/oidc")
    there = await client.get(begun.headers["location"])
    attempt = client.cookies["assay_login"]
    assert (await client.get(there.headers["location"])).status_code == 200
    again = await pages.client(cookie=f"assay_login={attempt}")
    assert (await again.get(there.headers["location"])).status_code == 403


async def test_an_error_of_the_provider_is_shown_as_text(pages, provider, oidc):
    client = await pages.client()
    begun = await client.get("/console/login/oidc")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    back = await client.get("/console/login/callback", params={"state": state, "error": "<script>x</script>"})
    assert back.status_code == 403
    assert "<script>x" not in back.text


async def test_an_unreachable_provider_is_reported(pages, provider, oidc):
    gone = oidc.model_copy(update={"issuer": "http://127.0.0.1:1"})
    configured(pages, oidc=gone)
    answer = await (await pages.client()).get("/console/login/oidc")
    assert answer.status_code == 502
    assert "cannot be reached" in answer.text
    other = oidc.model_copy(update={"issuer": provider.url + "/"})
    configured(pages, oidc=other)
    answer = await (await pages.client()).get("/console/login/oidc")
    assert "names another issuer" in answer.text


def test_roles_follow_the_first_entry_that_matches():
    config = OidcConfig.model_validate({
        "issuer": "https://idp", "client_id": "c", "url": "https://c", "name": "sub",
        "roles": [
            {"claims": {"realm.roles": "a", "n": 1}, "role": "owner"}, {"claims": {"ok": True}, "role": "viewer"},
        ],
    })  # fmt: skip
    assert actor_of_claims(config, {"sub": "s", "realm": {"roles": ["x", "a"]}, "n": 1, "ok": True}) == Actor(
        "s", "owner"
    )
    assert actor_of_claims(config, {"sub": "s", "realm": {"roles": "a"}, "n": True, "ok": True}) == Actor("s", "viewer")
    for claims in ({"sub": "s", "ok": 1}, {"ok": True}, {"sub": "", "ok": True}, {"sub": "a\nb", "ok": True}):
        with pytest.raises(LoginRefused):
            actor_of_claims(config, claims)
    assert value_at({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert value_at({"a": [1]}, "a.b") is None


def test_an_attempt_is_read_from_its_own_cookie_only():
    attempt = LoginAttempt.new()
    assert LoginAttempt.of(attempt.cookie) == attempt
    for cookie in ("", "a.b.c", f"{attempt.cookie}.x"):
        assert LoginAttempt.of(cookie) is None


PROXY = {
    "networks": ["127.0.0.1/32"],
    "users": {"pia": {"role": "viewer"}, "otto": {"role": "operator", "content": True}},
}


async def test_no_header_is_believed_by_default(pages):
    client = await pages.client(**{"x-forwarded-user": "otto"})
    assert (await client.get("/console")).status_code == 303
    configured(pages, proxy_login=ProxyLogin.model_validate({**PROXY, "networks": ["10.0.0.0/8"]}))
    answer = await client.get("/console")
    assert answer.headers["location"] == "/console/login", "it did not come from the proxy's network"


async def test_a_proxy_names_who_is_signed_in(pages, csrf_of):
    configured(pages, proxy_login=ProxyLogin.model_validate(PROXY))
    client = await pages.client(**{"x-forwarded-user": "otto"})
    first = await client.get("/console/calls?alias=chat")
    assert (first.status_code, first.headers["location"]) == (303, "/console/calls?alias=chat")
    page = await pages.get(client, "/console/calls?alias=chat")
    assert ">otto</bdi>, operator" in page
    assert re.fullmatch("[0-9a-f]{40}", csrf_of(page))
    other = await client.get("/console", headers={"x-forwarded-user": "pia"})
    assert other.status_code == 303, "somebody else, with a session of their own"
    assert ">pia</bdi>, viewer" in (await client.get("/console", headers={"x-forwarded-user": "pia"})).text
    assert (await client.get("/console", headers={"x-forwarded-user": "eve"})).status_code == 403
    two = [("x-forwarded-user", "otto"), ("x-forwarded-user", "pia")]
    without = await pages.client()
    assert (await without.get("/console", headers=two)).headers["location"] == "/console/login"
    cookie = f"assay_console={client.cookies['assay_console']}"
    assert (await without.get("/console", headers={"cookie": cookie})).status_code == 303, "the header is gone"


async def test_a_program_behind_the_proxy_begins_one_session(pages):
    """Programs keep no cookies, and would fill the store with a session for each request."""
    configured(pages, proxy_login=ProxyLogin.model_validate(PROXY))
    cookies = set()
    for _ in range(20):
        client = await pages.client(**{"x-forwarded-user": "otto"})
        assert (await client.get("/console")).status_code == 303
        cookies.add(client.cookies["assay_console"])
    assert len(cookies) == 1
    count = "SELECT count(*) FROM console_sessions WHERE name = 'otto'"
    assert await pages.store.read(lambda c: c.exec_driver_sql(count).scalar()) == 1


async def test_a_proxys_visitor_who_signs_out_begins_again(pages, csrf_of):
    configured(pages, proxy_login=ProxyLogin.model_validate(PROXY))
    client = await pages.client(**{"x-forwarded-user": "otto"})
    await client.get("/console")
    before = client.cookies["assay_console"]
    await client.post("/console/logout", data={"csrf": csrf_of(await pages.get(client, "/console"))})
    await client.get("/console")
    assert client.cookies["assay_console"] != before


async def test_a_browser_that_others_send_here_counts_as_no_guess(pages, oidc):
    """Any page can make a reader's browser open the callback; that must not lock the reader out."""
    client = await pages.client()
    for _ in range(15):
        answer = await client.get("/console/login/callback?code=x&state=y")
        assert answer.status_code == 403


async def test_a_browser_that_others_let_begin_counts_as_no_guess(pages, provider, oidc):
    """A page that opens the way to the provider first gives the browser the cookie of an attempt, of another state."""
    client = await pages.client()
    await client.get("/console/login/oidc")
    for _ in range(15):
        answer = await client.get("/console/login/callback?code=x&state=y")
        assert answer.status_code == 403
    assert (await client.post("/console/login", data={"token": "wrong"})).status_code == 401, "nothing was counted"
    assert provider.tokens_given == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ada", "oidc:ada"),  # there is a token with this name
        ("petra", "oidc:petra"),  # a proxy names somebody so
        ("oidc:ada", "oidc:oidc:ada"),
        ("controller", "oidc:controller"),
        ("command line (root)", "oidc:command line (root)"),
        ("eve", "eve"),
    ],
)
async def test_a_person_does_not_take_the_name_of_another_actor(pages, provider, oidc, name, shown):
    """Audits, labels and the playground's runs tell people apart by name, and some providers let people choose it."""
    login = {"networks": ["10.0.0.0/8"], "users": {"petra": {"role": "viewer"}}}
    configured(
        pages,
        oidc=oidc.model_copy(update={"name": "preferred_username"}),
        proxy_login=ProxyLogin.model_validate(login),
    )
    provider.claims["preferred_username"] = name
    client = await pages.client()
    assert (await signed_in(pages, client, provider)).status_code == 200
    assert f">{shown}</bdi>" in await pages.get(client, "/console")


def test_an_address_that_nobody_verified_gives_no_role():
    roles = [{"claims": {"email": "eve@example.com"}, "role": "owner"}, {"claims": {"groups": "ml"}, "role": "viewer"}]
    config = OidcConfig.model_validate({
        "issuer": "https://login.example.com", "client_id": "c", "url": "https://console.example.com", "name": "sub",
        "roles": roles,
    })  # fmt: skip
    claims = {"sub": "eve", "groups": ["ml"], "email": "eve@example.com"}
    assert actor_of_claims(config, claims).role == "viewer"
    assert actor_of_claims(config, {**claims, "email_verified": False}).role == "viewer"
    assert actor_of_claims(config, {**claims, "email_verified": True}).role == "owner"


async def test_a_group_gives_rights_in_one_team(pages, provider, oidc):
    """The session keeps the scope, and the role of another group comes with the next login."""
    roles = [
        {"claims": {"groups": "ml-leads"}, "role": "operator", "organization": "acme"},
        {"claims": {"groups": "ml"}, "role": "viewer", "team": "search"},
    ]
    configured(pages, oidc=OidcConfig.model_validate({**oidc.model_dump(), "roles": roles}))
    client = await pages.client()
    await signed_in(pages, client, provider)
    assert ">eve@example.com</bdi>, viewer of team search" in await pages.get(client, "/console/keys")
    assert (await client.get("/console/system")).status_code == 403
    provider.claims["groups"] = ["ml", "ml-leads"]
    await signed_in(pages, client, provider)
    assert "operator of organization acme" in await pages.get(client, "/console/keys")
    provider.claims["groups"] = ["staff"]
    again = await pages.client()
    assert (await signed_in(pages, again, provider)).status_code == 403


async def test_a_visitor_of_a_proxy_has_rights_in_one_team(pages):
    users = {"lena": {"role": "operator", "team": "search"}}
    login = ProxyLogin.model_validate({"networks": ["127.0.0.1/32"], "users": users})
    configured(pages, proxy_login=login)
    client = await pages.client(**{"x-forwarded-user": "lena"})
    assert (await client.get("/console/keys")).status_code == 303
    assert "operator of team search" in await pages.get(client, "/console/keys")


ENTRA = {"sub": "8f3c", "preferred_username": "ada@contoso.com", "email": "ada@contoso.com", "roles": ["ml"]}


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        (ENTRA, "ada@contoso.com (sub 8f3c)"),
        ({**ENTRA, "email_verified": False}, None),
        ({**ENTRA, "email_verified": True}, "ada@contoso.com"),
        ({"sub": "8f3c", "roles": ["ml"]}, "8f3c"),
        ({"sub": "8f3c", "roles": ["ml"], "email": "a@b"}, "a@b (sub 8f3c)"),
    ],
)
def test_a_person_without_a_verified_address_is_named_with_sub(claims: dict[str, Any], name: str | None) -> None:
    """Entra sends no `email_verified`. The names of two people are never the same, whatever they call themselves."""
    config = OidcConfig.model_validate(
        {
            "issuer": "https://i",
            "client_id": "c",
            "url": "https://c",
            "roles": [{"claims": {"roles": "ml"}, "role": "viewer"}],
        }
    )
    chosen = OidcConfig.model_validate({**config.model_dump(exclude_unset=True), "name": "email"})
    for of in (config, chosen):
        if name is None or (of is chosen and "email_verified" not in claims):
            with pytest.raises(LoginRefused, match="email_verified"):
                actor_of_claims(of, claims)
        else:
            assert actor_of_claims(of, claims) == Actor(name, "viewer")
