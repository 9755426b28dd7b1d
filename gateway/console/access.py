"""Actors and their rights: admin tokens, their roles, and a bound on failed attempts.

A token travels in the header `Authorization`, which no browser adds by itself to another site's request: cross-site
request forgery does not apply, and no cookie is ever read here. The cookies of pages are in sessions.py.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Literal, get_args

from gateway.config.admin import AdminToken, Rights, Role
from gateway.console.errors import NoToken, NotPermitted, TooManyFailures

ROLES: tuple[Role, ...] = get_args(Role)
"""Roles in ascending order: each includes the rights of those before it."""
FAILURES = 10
WINDOW_S = 60.0
_MAX_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class ActorScope:
    """The team or the organization to which somebody's rights are limited."""

    kind: Literal["team", "organization"]
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True)
class Actor:
    """The holder of an admin token."""

    name: str
    role: Role
    content: bool = False
    """Whether they may read prompts and answers."""
    scope: ActorScope | None = None
    """The team or organization to which the rights are limited; None means that they hold for all teams."""

    @property
    def title(self) -> str:
        """The role and where it holds, as in "operator" or "operator of team search"."""
        return self.role if self.scope is None else f"{self.role} of {self.scope}"

    def has(self, role: Role) -> bool:
        """Tells whether they may do what needs this role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: Role, to: str) -> None:
        """Raises NotPermitted. to: what for, as in "make teams"."""
        if not self.has(role):
            raise NotPermitted(f"{self.name} has the role {self.role}; to {to} needs the role {role}")

    def require_everywhere(self, role: Role, to: str) -> None:
        """Raises NotPermitted for an operation that rights limited to a team or an organization do not include."""
        self.require(role, to)
        if self.scope is not None:
            raise NotPermitted(f"the rights of {self.name} are limited to the {self.scope}; to {to} needs others")


def actor_with(name: str, rights: Rights) -> Actor:
    """Somebody with these rights. A labeller may always read content, because nobody can label an answer unread."""
    scope = scope_of_ids(rights.team, rights.organization)
    return Actor(name, rights.role, rights.content or rights.role == "labeller", scope)


def scope_of_ids(team: str | None, organization: str | None) -> ActorScope | None:
    """The scope of a team or an organization, at most one of which is given."""
    if team is not None:
        return ActorScope("team", team)
    return None if organization is None else ActorScope("organization", organization)


def actor_of(token: AdminToken) -> Actor:
    return actor_with(token.name, token)


class AdminTokens:
    """The tokens of one config, by digest: the time of a comparison reveals nothing about a token."""

    def __init__(self, tokens: Iterable[AdminToken]) -> None:
        self._actors = {bytes.fromhex(t.sha256): actor_of(t) for t in tokens}

    def actor(self, authorization: str, *, basic: bool = False) -> Actor:
        """The holder of the token in the value of an Authorization header. Raises NoToken.

        basic: the token may also be the password of Basic authentication (RFC 7617).
        """
        scheme, _, token = authorization.partition(" ")
        if basic and scheme.lower() == "basic":
            scheme, token = "bearer", _password(token)
        if scheme.lower() != "bearer" or not token.strip():
            raise NoToken("no admin token: send `Authorization: Bearer TOKEN`, with a token of `admin.tokens`")
        found = self._actors.get(sha256(token.strip().encode("utf-8", "surrogateescape")).digest())
        if found is None:
            raise NoToken("the admin token is not known; callers' keys do not open the admin API")
        return found


def bearer(authorization: str) -> str:
    """The token in the value of an Authorization header. Raises NoToken."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NoToken("no key: send `Authorization: Bearer KEY`, with the secret of your key")
    return token.strip()


def _password(credentials: str) -> str:
    """Returns the password of Basic authentication; "" if there is none."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


class FailedLogins:
    """Bounds attempts with wrong tokens: an address that has failed ten times within a minute gets no further answer
    about wrong tokens until the minute is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, what: str = "a wrong admin token") -> None:
        self._clock = clock
        self._what = what
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # begin of the window, failures

    def check(self, address: str) -> None:
        """Raises TooManyFailures."""
        began, failures = self._failures.get(_network(address), (0.0, 0))
        left_s = began + WINDOW_S - self._clock()
        if failures >= FAILURES and left_s > 0:
            raise TooManyFailures(
                f"{failures} attempts with {self._what} came from this address; retry later",
                retry_after_s=max(1, round(left_s)),
            )

    def note(self, address: str) -> None:
        """Counts a failure."""
        key, now = _network(address), self._clock()
        began, failures = self._failures.pop(key, (now, 0))
        if now - began >= WINDOW_S:
            began, failures = now, 0
        self._failures[key] = (began, failures + 1)
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    """The network that counts as one client: a /64 for IPv6, since a client has a whole one to itself."""
    try:
        if ip_address(address).version == 6:
            return str(ip_network(f"{address}/64", strict=False))
    except ValueError:
        pass
    return address
