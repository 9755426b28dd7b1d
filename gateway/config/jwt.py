"""Section `jwt` of gateway.yaml: whose JSON Web Tokens are accepted instead of a key, and what their claims allow."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from gateway.config.egress import ProxyUrl
from gateway.config.limits import LimitsConfig
from gateway.config.privacy import Content
from gateway.config.types import IpNetwork, Name, NonEmpty, Positive, Section, Url
from gateway.core.networks import is_loopback

SignatureAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class TokenCaller(Section):
    """Rights of callers whose token has certain claims."""

    claims: dict[NonEmpty, str | bool | int] = Field({})
    """Claims that the token must have, such as `{groups: ml-team}`. If a claim is a list, one of its items must be
    equal, and of `scope` and `scp` one of the words; any other text must be equal as a whole. `realm_access.roles`
    names a claim within another. Default: every token of the issuer."""
    team: Name | None = None
    """The team in `teams` whose limits it shares. Default: none."""
    models: tuple[str, ...] | None = None
    """The models that it may use. Default: all."""
    allow: tuple[Literal["sample", "target", "passthrough"], ...] = ()
    """Rights of its requests, as `keys[].allow`."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of each caller, by its name, over all gateways. Default: no limit."""
    tags: tuple[Name, ...] = ()
    """Labels under which its usage is summed, in addition to its team's."""
    sample: Literal["rules", "never"] = "rules"
    """`never` excludes its calls from the population that is sampled and scored."""
    content: Content | None = None
    """Recorded part of its prompts and answers. Default: `redaction.default`; `full` without that section."""
    networks: tuple[IpNetwork, ...] | None = None
    """Networks from which it may call. Default: everywhere."""


class JwtIssuer(Section):
    """An issuer of tokens, such as an OpenID Connect provider. A token is accepted if the issuer's key signed it, if it
    is in force (`exp`, `nbf`), and if `iss` and `aud` are right. Tokens signed with a shared secret never are."""

    issuer: NonEmpty
    """The claim `iss`, exactly as the tokens have it, such as `https://login.example.com/`."""
    audience: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    """Accepted values of the claim `aud`."""
    jwks_url: Url | None = None
    """URL of the issuer's public keys (JWKS). Default: the one in ISSUER/.well-known/openid-configuration."""
    jwks_file: str | None = None
    """File with the issuer's public keys (JWKS), instead of a URL."""
    ca_file: str | None = None
    """PEM file of the CA that signed the certificate of the issuer's server. Default: the system's CAs."""
    algorithms: Annotated[tuple[SignatureAlgorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """Accepted signature algorithms."""
    refresh_s: Annotated[float, Field(ge=10)] = 300.0
    """Seconds between two reads of the keys. A token signed with an unknown key has them read at once, at most every
    ten seconds."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """Seconds by which clocks may differ."""
    name: NonEmpty = "sub"
    """The claim that names the caller in logs, records and limits, after the issuer's name: `sso:alice`."""
    callers: Annotated[tuple[TokenCaller, ...], Field(min_length=1)]
    """Rights by the token's claims; the first entry that matches applies. A token that none matches gets HTTP
    403."""
    timeout_s: Positive = 5.0
    """Deadline of one read of the keys."""
    proxy: ProxyUrl | Literal["none"] | None = None
    """URL of an outbound HTTP proxy to the issuer, or `none`. Default: `egress.proxy`."""

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise ValueError("jwks_url and jwks_file both name the keys; remove one of them")
        if self.jwks_file is None:
            url = self.jwks_url or self.issuer
            if not is_safe(url):
                raise ValueError(
                    f"{url}: keys are read over https:// only (or from this machine); set jwks_url or jwks_file"
                )
        return self


def is_safe(url: str) -> bool:
    """Whether nobody on the way can replace what is read there: https, or this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")
