"""Section `admin`: who may change keys, teams and organizations while the gateways run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.types import Digest, IpNetwork, Name, NonEmpty, Section, Url

Role = Literal["viewer", "labeller", "operator", "owner"]


class Rights(Section):
    """A role, and where it holds."""

    role: Role
    """`viewer` reads; `labeller` also reads prompts and answers, and labels them; `operator` also makes, changes and
    revokes keys, and disables teams and organizations; `owner` may do everything."""
    content: bool = False
    """Allow reading prompts and answers."""
    team: Name | None = None
    """Team of this file or of the console to which the rights are limited: its keys, calls and usage. Default: the
    rights are not limited."""
    organization: Name | None = None
    """Organization to whose teams the rights are limited. Default: the rights are not limited."""

    @model_validator(mode="after")
    def _check_scope(self) -> Self:
        if self.team is not None and self.organization is not None:
            raise ValueError("team, organization: expected one of the two; an organization has all of its teams")
        if self.team is not None and self.role == "owner":
            raise ValueError(
                "role: a team's administrator is an `operator`, who makes its keys within its limits; `owner` needs an "
                "organization, or neither"
            )
        return self


class AdminToken(Rights):
    """A token of the admin API. It is valid for nothing else, and no caller's key is valid for the admin API."""

    name: Name
    """The holder's name in the audit."""
    sha256: Digest
    """SHA-256 of the token's bytes, in lower-case hexadecimal: `printf %s "$TOKEN" | sha256sum`."""


class OidcRole(Rights):
    """Rights in the console of people whose identity has certain claims."""

    claims: Annotated[dict[NonEmpty, str | bool | int], Field(min_length=1)]
    """Claims that the identity must have, such as `{groups: ml-team}`. If a claim is a list, one of its items must be
    equal. `realm_access.roles` names a claim within another."""


class OidcConfig(Section):
    """An OpenID Connect provider at which people sign in to the console. Needs the extra `oidc`."""

    issuer: Url
    """The provider, exactly as its metadata name it, such as `https://login.example.com/realms/ml`."""
    client_id: NonEmpty
    """The console's name at the provider."""
    client_secret: NonEmpty | None = None
    """The console's secret at the provider. Default: none, as for a public client."""
    url: Url
    """URL at which people reach the console, such as `https://console.example.com`. The provider must know
    URL/console/login/callback."""
    scopes: Annotated[tuple[NonEmpty, ...], Field(min_length=1)] = ("openid", "profile", "email")
    """Scopes that the console requests from the provider."""
    name: NonEmpty = "email"
    """The claim that names a person in audits and labels. `email` needs `email_verified`; where it is not set and the
    provider does not send that, as Entra, people are named `preferred_username (sub …)`."""
    roles: Annotated[tuple[OidcRole, ...], Field(min_length=1)]
    """Rights by claims; the first entry that matches applies. A person who matches none is refused."""
    session_h: Annotated[float, Field(gt=0, le=24)] = 8.0
    """Hours until a person has to sign in again. Changes at the provider count from then on."""


class ProxyUser(Rights):
    """A person whom a proxy names."""


class ProxyLogin(Section):
    """A proxy in front of the console that signs people in, and names them in a header which it removes from what
    clients send."""

    networks: Annotated[tuple[IpNetwork, ...], Field(min_length=1)]
    """Networks of the proxy; the header is ignored from elsewhere. Nothing but the proxy may reach the console from
    these networks."""
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "X-Forwarded-User"
    """The header with the person's name."""
    users: Annotated[dict[NonEmpty, ProxyUser], Field(min_length=1)]
    """Rights by the person's name. Others are refused."""


class SelfService(Section):
    """Rights of a key's holder at the console, by its secret alone."""

    enabled: bool = True
    """Show a key's own use and what is left of its limits, at `/console/me` and `/me/v1/key`."""
    rotate: bool = False
    """Let the newest secret of a key of the console be replaced by its holder. The present one stays for `grace_h`."""
    grace_h: Annotated[float, Field(ge=1, le=720)] = 24.0
    """Hours for which a secret that its holder replaced opens the key, too. Until then, only an admin token can rotate
    the key again.
    """


class AdminConfig(Section):
    """The admin API, which `gateway console` serves. With this section, gateways expect keys from there and may start
    without `keys`."""

    tokens: Annotated[tuple[AdminToken, ...], Field(min_length=1)]
    """Tokens that open the admin API."""
    oidc: OidcConfig | None = None
    """Sign in to the console's pages with OpenID Connect, too. Default: with tokens only."""
    proxy_login: ProxyLogin | None = None
    """Trust a proxy to say who is signed in to the console's pages. Default: no."""
    self_service: SelfService = SelfService()
    """Rights of callers over their own keys at the console."""
    grafana_url: Url | None = None
    """URL at which people reach Grafana, such as `https://grafana.example.com`: the console's pages link to the
    dashboards there. Default: no links."""
