"""Names that belong to others. Callers own what is stored by name, and the audit tells actors apart by name. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.admin import AdminConfig
from gateway.core.ramp import CONTROLLER

COMMAND_LINE = "command line"
"""The beginning of the actor of a change that a verb of the command line makes."""
OIDC_PREFIX = "oidc:"
"""Begins the name of a person of the identity provider whose own name belongs to another actor."""
KEY_ACTOR = "key:"
"""Begins the name of an actor that is a key, which has rotated itself."""
_TOKENS = "jwt:"
"""Begins the ids of callers with tokens."""


def caller_prefix(name: str, issuers: Iterable[str]) -> str | None:
    """Prefix of the names or ids of callers with tokens that this name has, too; None if it has none. issuers: names in
    section `jwt`."""
    own = [f"{issuer}:" for issuer in issuers]
    return next((prefix for prefix in (*own, *([_TOKENS] if own else [])) if name.startswith(prefix)), None)


def is_other_actor(name: str) -> bool:
    """Whether the audit has entries of another actor with this name."""
    return name == CONTROLLER or name.startswith((COMMAND_LINE, OIDC_PREFIX, KEY_ACTOR))


def person_name(name: str, admin: AdminConfig) -> str:
    """Name in audits and labels of a person of the identity provider. It gets a prefix where a token, a proxy's visitor
    or a program has the same name, since some providers let people choose theirs."""
    others = {token.name for token in admin.tokens}
    if admin.proxy_login is not None:
        others.update(admin.proxy_login.users)
    return f"{OIDC_PREFIX}{name}" if name in others or is_other_actor(name) else name
