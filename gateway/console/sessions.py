"""Sessions of signed-in visitors. The store keeps them: they outlive a restart and hold for all of its consoles.

The cookie has 32 random bytes, the store their SHA-256. A session depends on what began it, by the config in force. One
of an admin token ends with the token and has the token's role. One of an identity provider ends when `admin.oidc`
changes, since nothing else says which role the person would get now. One of a proxy ends when the config no longer
believes the proxy, or when the proxy names somebody else. The CSRF token of a session is derived from its cookie and
stored nowhere.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from gateway.config.admin import OidcConfig, Role
from gateway.config.config import Config
from gateway.console.access import Actor, actor_of, actor_with, scope_of_ids
from gateway.console.errors import StoreAway
from gateway.console.store import ConsoleStore
from gateway.store.sessions import SessionRow, add_session, delete_session, find_session, use_link

SESSION_S = 12 * 3600.0
PROXY = "proxy"
"""Stands for a token's digest in sessions that a proxy began."""
_KEY = "key:"
"""Begins what stands for a token's digest in sessions of the holders of keys: the SHA-256 of the secret follows."""
_FRESH_S = 3.0  # for which a session that was read is not read again
_MOST_FRESH = 1000
_HELD_S = 600.0  # for which it holds while the store does not answer, so that pages can say so


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in user."""

    actor: Actor
    csrf: str
    """The CSRF token, which each form contains."""
    expires: float

    @property
    def limited(self) -> bool:
        """Whether their rights are limited to a team or an organization."""
        return self.actor.scope is not None

    def may(self, role: Role, content: bool = False) -> bool:
        """Tells whether they may do what needs this role, and read prompts and answers if content."""
        return self.actor.has(role) and (self.actor.content or not content)


@dataclass(frozen=True, slots=True)
class KeySession:
    """The session of somebody who has shown the secret of a key. It opens that key's own page and no other."""

    digest: str
    """SHA-256 of the secret."""
    csrf: str
    expires: float


def oidc_token(config: OidcConfig) -> str:
    """Stands for a token's digest in sessions of an identity provider: a digest of all of the section but the secret,
    which may be rotated without signing everybody out."""
    section = config.model_dump_json(exclude={"client_secret"})
    return f"oidc:{sha256(section.encode()).hexdigest()}"


def csrf_token(cookie: str) -> str:
    return sha256(f"csrf {cookie}".encode()).hexdigest()[:40]


def same_csrf(cookie: str, given: str) -> bool:
    return compare_digest(csrf_token(cookie).encode(), given.encode("utf-8", "surrogateescape"))


class Sessions:
    """The sessions of one process; all of its state is in the store."""

    def __init__(self, store: ConsoleStore, config: Callable[[], Config], clock: Callable[[], float]) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._fresh: OrderedDict[str, tuple[float, SessionRow | None]] = OrderedDict()
        self._of_proxy: dict[str, str] = {}
        """Cookies of sessions that proxies began, by the visitor's name."""

    async def begin(self, actor: Actor, token: str = "", lasts_s: float = SESSION_S) -> str:
        """The cookie of a new session. token: what it depends on: the SHA-256 of an admin token, in hexadecimal,
        oidc_token() or PROXY, or "" for nothing: then the actor stays as they are until the session expires."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        scope = {} if actor.scope is None else {actor.scope.kind: actor.scope.id}
        row = SessionRow(_digest(cookie), actor.name, actor.role, actor.content, token, now, now + lasts_s, **scope)
        await self._store.run(lambda c: add_session(c, row, now))
        return cookie

    async def begin_by_proxy(self, actor: Actor) -> str:
        """The cookie of a session of somebody whom a proxy names: the same one for all of their browsers while half of
        its time is left. A program that keeps no cookies would otherwise begin a session with every request."""
        cookie = self._of_proxy.get(actor.name, "")
        visitor = await self.visitor(cookie, actor.name) if cookie else None
        if visitor is None or visitor.expires - self._clock() < SESSION_S / 2:
            cookie = self._of_proxy[actor.name] = await self.begin(actor, PROXY)
        return cookie

    async def begin_with_link(self, link: str, expires: float, token: str) -> str | None:
        """The cookie of a session that a login link begins, once. None if the link has been used."""
        actor = self._of_token(token)
        if actor is None or expires <= self._clock():
            return None
        if not await self._store.run(lambda c: use_link(c, _digest(link), expires, self._clock())):
            return None
        return await self.begin(actor, token)

    async def visitor(self, cookie: str, proxied: str | None = None) -> Visitor | None:
        """The visitor of a session; None if it does not exist, has expired, or what it depends on is gone.

        proxied: the user that a trusted proxy names; None: no user.
        """
        row = await self._row(cookie)
        if row is None or row.expires <= self._clock():
            return None
        actor = self._actor(row, proxied)
        return None if actor is None else Visitor(actor, csrf_token(cookie), row.expires)

    async def begin_of_key(self, digest: str, name: str) -> str:
        """The cookie of a new session of the holder of a key. digest: SHA-256 of its secret."""
        return await self.begin(Actor(name, "viewer"), f"{_KEY}{digest}")

    async def of_key(self, cookie: str) -> KeySession | None:
        """The session of the holder of a key; None if it does not exist, or has expired."""
        row = await self._row(cookie)
        if row is None or row.expires <= self._clock() or not row.token.startswith(_KEY):
            return None
        return KeySession(row.token.removeprefix(_KEY), csrf_token(cookie), row.expires)

    async def end(self, cookie: str) -> None:
        digest = _digest(cookie)
        self._fresh.pop(digest, None)
        await self._store.run(lambda c: delete_session(c, digest))

    async def _row(self, cookie: str) -> SessionRow | None:
        digest = _digest(cookie)
        read, row = self._fresh.get(digest, (float("-inf"), None))
        if self._clock() - read < _FRESH_S:
            return row
        try:
            row = await self._store.read(lambda c: find_session(c, digest))
        except StoreAway:
            if row is None or self._clock() - read >= _HELD_S:
                raise
            return row
        self._fresh[digest] = (self._clock(), row)
        if len(self._fresh) > _MOST_FRESH:
            self._fresh.popitem(last=False)
        return row

    def _actor(self, row: SessionRow, proxied: str | None) -> Actor | None:
        admin = self._config().admin
        if row.token.startswith(_KEY):
            return None
        if row.token.startswith("oidc"):
            believed = admin is not None and admin.oidc is not None and row.token == oidc_token(admin.oidc)
            return _stored_actor(row) if believed else None
        if row.token == PROXY:
            return self.of_proxy(proxied) if proxied == row.name else None
        return self._of_token(row.token) if row.token else _stored_actor(row)

    def of_proxy(self, name: str | None) -> Actor | None:
        """The actor for the user that a trusted proxy names; None if they may not enter."""
        admin = self._config().admin
        login = None if admin is None else admin.proxy_login
        user = None if login is None or name is None else login.users.get(name)
        if user is None or name is None:
            return None
        return actor_with(name, user)

    def _of_token(self, digest: str) -> Actor | None:
        admin = self._config().admin
        return next((actor_of(t) for t in (admin.tokens if admin else ()) if t.sha256 == digest), None)


def _stored_actor(row: SessionRow) -> Actor:
    return Actor(row.name, row.role, row.content, scope_of_ids(row.team, row.organization))


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
