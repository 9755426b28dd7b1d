"""Signing in with OpenID Connect: the authorization code flow with PKCE.

Authlib builds the requests and checks the claims, joserfc (on which it is built) the signature; this module knows which
keys and algorithms may be used, and sends. What belongs to one attempt is in a cookie of the browser that began it.

Source: OpenID Connect Core 1.0, sections 3.1 and 3.1.3.7; RFC 7636 (PKCE); RFC 9207 is not needed with one provider.
"""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any
from urllib.parse import quote

from gateway.config.admin import OidcConfig
from gateway.config.egress import Egress
from gateway.console.access import Actor, actor_with
from gateway.console.errors import AdminError, NotPermitted
from gateway.core.json_values import value_at
from gateway.scoring.http_client import HttpConnections, HttpReply, Unreachable

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Accepted signature algorithms: never one with a shared secret, and never `none`."""
_DEADLINE_S = 10.0
_MOST_BYTES = 1 << 20
_KEPT_S = 600.0
_LEEWAY_S = 60


class LoginRefused(NotPermitted):
    """The provider refused the login, or its answer admits nobody."""


class LoginNotBegun(LoginRefused):
    """The browser did not begin this login: any page can send it to the callback, so it counts as no guess."""

    def __init__(self) -> None:
        super().__init__("this login was not begun in this browser, or too long ago: begin again")


class ProviderAway(AdminError):
    """The provider does not answer as it should."""

    status = 502
    code = "identity_provider_unavailable"


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The values that must come back from the provider, and the one that is sent for the code."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> LoginAttempt:
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    @classmethod
    def of(cls, cookie: str) -> LoginAttempt | None:
        parts = cookie.split(".")
        return cls(*parts) if len(parts) == 3 and all(len(part) == 43 for part in parts) else None

    @property
    def cookie(self) -> str:
        return f"{self.state}.{self.nonce}.{self.verifier}"


class IdentityProvider:
    """The provider of one config. Its metadata and keys are read when they are needed, and kept for ten minutes."""

    def __init__(self, config: OidcConfig, egress: Egress | None = None) -> None:
        """egress: the proxy on the way to it; None if there is none."""
        self.config = config
        self.egress = egress
        self._http = HttpConnections(egress=egress)
        self._metadata: tuple[float, Mapping[str, Any]] = (float("-inf"), {})
        self._keys: tuple[float, Any] = (float("-inf"), None)

    @property
    def redirect_uri(self) -> str:
        return f"{self.config.url.rstrip('/')}/console/login/callback"

    async def address(self, attempt: LoginAttempt) -> str:
        """The URL that the browser is sent to. Raises ProviderAway."""
        from authlib.oauth2.client import OAuth2Client

        metadata = await self._discovered()
        of_client = {"scope": " ".join(self.config.scopes), "redirect_uri": self.redirect_uri}
        client = OAuth2Client(None, self.config.client_id, code_challenge_method="S256", **of_client)
        address, _ = client.create_authorization_url(
            metadata["authorization_endpoint"], state=attempt.state, code_verifier=attempt.verifier, nonce=attempt.nonce
        )
        return str(address)

    async def actor(self, attempt: LoginAttempt, query: Mapping[str, str]) -> Actor:
        """The person who came back from the provider. Raises LoginNotBegun, LoginRefused, ProviderAway."""
        if not compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            raise LoginNotBegun
        if "error" in query:
            raise LoginRefused(f"the identity provider refused: {query.get('error', '')[:100]}")
        claims = await self._claims(await self._token(query.get("code", ""), attempt), attempt)
        return actor_of_claims(self.config, claims)

    async def _token(self, code: str, attempt: LoginAttempt) -> str:
        """Exchanges the code for the ID token."""
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        metadata = await self._discovered()
        sent = {"code": code, "redirect_uri": self.redirect_uri, "code_verifier": attempt.verifier}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self.config.client_secret is None:
            sent["client_id"] = self.config.client_id
        else:
            pair = f"{quote(self.config.client_id, safe='')}:{quote(self.config.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        body = prepare_token_request("authorization_code", **sent)
        reply = await self._send("POST", metadata["token_endpoint"], body.encode(), headers)
        if reply.status >= 500:
            raise ProviderAway(f"the identity provider answered HTTP {reply.status}; retry later")
        token = _object(reply).get("id_token") if reply.status < 400 else None
        if not isinstance(token, str):
            raise LoginRefused(f"the identity provider gave no identity for this login (HTTP {reply.status})")
        return token

    async def _claims(self, token: str, attempt: LoginAttempt) -> Mapping[str, Any]:
        """The claims of a token that the provider signed for us, now, and for this attempt."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError

        config = self.config
        expected = {"iss": config.issuer, "aud": config.client_id}
        options: dict[str, Any] = {name: {"essential": True, "value": value} for name, value in expected.items()}
        for again in (False, True):
            try:
                decoded = jwt.decode(token, await self._signing_keys(again=again), algorithms=list(ALGORITHMS))
                claims = CodeIDToken(
                    decoded.claims, decoded.header, options, {"nonce": attempt.nonce, "client_id": config.client_id}
                )
                claims.validate(now=int(time.time()), leeway=_LEEWAY_S)
                return dict(claims)
            except (JoseError, ValueError, KeyError, TypeError) as error:
                trouble = f"{type(error).__name__}: {error}"
            except Exception as error:  # claims' errors of Authlib have no common class with those of joserfc
                trouble = f"{type(error).__name__}: {error}"
                break
        log.warning("admin: an ID token was refused: %s", ascii(trouble[:200]))
        raise LoginRefused("the provider's identity is not valid here; the console's log has the reason")

    async def _discovered(self) -> Mapping[str, Any]:
        """The provider's metadata. Raises ProviderAway."""
        read, metadata = self._metadata
        if time.monotonic() - read < _KEPT_S:
            return metadata
        reply = await self._send("GET", f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration")
        metadata = _object(reply)
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if metadata.get("issuer") != self.config.issuer or not all(isinstance(metadata.get(n), str) for n in wanted):
            raise ProviderAway("the identity provider's metadata names another issuer, or lacks an endpoint")
        self._metadata = (time.monotonic(), metadata)
        return metadata

    async def _signing_keys(self, *, again: bool) -> Any:
        from joserfc.jwk import KeySet

        read, keys = self._keys
        if keys is None or again or time.monotonic() - read >= _KEPT_S:
            metadata = await self._discovered()
            try:
                keys = KeySet.import_key_set(dict(_object(await self._send("GET", metadata["jwks_uri"]))))  # type: ignore[arg-type]
            except (ValueError, KeyError, TypeError) as error:
                raise ProviderAway(f"the identity provider's keys cannot be read: {type(error).__name__}") from error
            self._keys = (time.monotonic(), keys)
        return keys

    async def _send(
        self, method: str, url: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        try:
            return await self._http.send(
                method, url, content, deadline_s=_DEADLINE_S, headers=headers or {}, most_bytes=_MOST_BYTES
            )
        except Unreachable as error:
            raise ProviderAway(f"the identity provider: {error}") from error


def _object(reply: HttpReply) -> dict[str, Any]:
    try:
        return reply.object()
    except ValueError:
        raise ProviderAway(f"the identity provider answered HTTP {reply.status} without a JSON object") from None


def actor_of_claims(config: OidcConfig, claims: Mapping[str, Any]) -> Actor:
    """The role of the first entry of `roles` that matches. Raises LoginRefused."""
    verified = claims.get("email_verified") is True
    name = _name(config, claims, verified=verified)
    for entry in config.roles:
        if "email" in entry.claims and not verified:  # an address that somebody only claims to have gives no role
            continue
        if all(_holds(value_at(claims, wanted), value) for wanted, value in entry.claims.items()):
            return actor_with(name, entry)
    raise LoginRefused(f"{name} has no role here: no entry of admin.oidc.roles matches")


def _name(config: OidcConfig, claims: Mapping[str, Any], *, verified: bool) -> str:
    """The claim that names the person. By default an e-mail address that is verified; where the provider verifies none,
    what it calls the person, with the claim `sub`, which nobody else can have. Raises LoginRefused."""
    if config.name != "email" or verified:
        return _printable(claims, config.name)
    if "name" in config.model_fields_set or "email_verified" in claims:
        raise LoginRefused(
            "the identity provider does not say that it has verified this e-mail address (email_verified); "
            "admin.oidc.name may name another claim, such as preferred_username"
        )
    shown = next((each for each in ("preferred_username", "email") if value_at(claims, each)), None)
    sub = _printable(claims, "sub")
    return sub if shown is None else f"{_printable(claims, shown)} (sub {sub})"


def _printable(claims: Mapping[str, Any], claim: str) -> str:
    name = value_at(claims, claim)
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise LoginRefused(f'the identity has no claim "{claim}" that could be a name')
    return name


def _holds(found: Any, expected: str | bool | int) -> bool:
    """Tells whether the claim has the expected value, or is a list that contains it. 1 does not equal true."""
    values = found if isinstance(found, list) else [found]
    return any(type(value) is type(expected) and value == expected for value in values)
