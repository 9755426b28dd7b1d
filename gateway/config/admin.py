"""Section `admin`: who may change keys, teams and organizations while the gateways run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.types import Digest, Name, Section

Role = Literal["viewer", "labeller", "operator", "owner"]


class AdminToken(Section):
    """A token of the admin API. It opens nothing else, and no caller's key opens the admin API."""

    name: Name
    """Who holds it, as the audit names them."""
    sha256: Digest
    """SHA-256 of the token's bytes, in lower-case hexadecimal: `printf %s "$TOKEN" | sha256sum`."""
    role: Role
    """`viewer` reads; `labeller` also reads prompts and answers, and labels them; `operator` also makes, changes and
    revokes keys, and disables teams and organizations; `owner` may do everything."""
    content: bool = False
    """Whether it may read prompts and answers."""


class AdminConfig(Section):
    """The admin API, which `gateway console` serves. With this section, gateways expect keys from there and may start
    without `keys`."""

    tokens: Annotated[tuple[AdminToken, ...], Field(min_length=1)]
    """Who may use it."""
