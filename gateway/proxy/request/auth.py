"""Authentication: API key → Caller, by SHA-256 digest. A key is never stored, compared, logged or forwarded.

The keys of gateway.yaml and those made while the gateway runs are treated alike; where both name the same key, team or
organization, gateway.yaml wins.
"""

from __future__ import annotations

import re
import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Set
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.config.config import ApiKey
from gateway.config.derive import content_of
from gateway.config.privacy import RedactionConfig
from gateway.core.errors import GatewayError, InvalidKey, KeysUnavailable, NotAllowed
from gateway.core.keys import KEY_PREFIX, Directory, KeyRecord, TeamRecord, organization_of, scopes_of
from gateway.core.networks import networks
from gateway.proxy.request.call import Caller, CallerLimit
from gateway.proxy.request.client_address import AddressGuard
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.proxy.request.tokens import TokenVerifier, is_token
from gateway.proxy.types import Headers

T = TypeVar("T")
OPEN = Caller("open", allow=frozenset({"sample", "target", "passthrough"}))
_PREFIX = KEY_PREFIX.encode()
_SEPARATOR = re.compile(rb"[&;]")
_ROUNDS = 4  # of percent-decoding
_MOST_CALLERS = 20_000
"""Number of callers that are remembered, by the digest of their credential."""


def _everyone(name: str, allow: Set[str]) -> bool:
    return True


class KeyNote(Protocol):
    """A holder of the name of a call's key, for the access log."""

    key: str


class KeyRing:
    """The callers of one config, and of the directory that changes while it is in force.

    open: requests without a key are served too (loopback only, or authenticated by a proxy in front). redaction: the
    default for keys that do not configure how much of their content is recorded. origins: of web pages that may send
    forms without a key.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey],
        *,
        open: bool = False,
        redaction: RedactionConfig | None = None,
        limits: dict[str, CallerLimit] | None = None,
        origins: Iterable[str] = (),
        directory: Directory | None = None,
        dynamic: KeyDirectory | None = None,
        expects_dynamic: bool = False,
        guard: AddressGuard | None = None,
        tokens: TokenVerifier | None = None,
        sees_upstreams: Callable[[str, Set[str]], bool] = _everyone,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """limits: of the process, by key name; those of earlier configs stay, with the calls that they count.
        directory: the records of the config: its keys, teams and organizations; None if it has none but these keys.
        dynamic: None: keys are made in the config only. expects_dynamic: until dynamic keys have been read, whether an
        unknown key is valid cannot be known. guard: the addresses that may call. tokens: verifies tokens that stand
        in for keys; None if there are none. sees_upstreams: whether a caller, by its name and what it may control, may
        learn the names of upstreams. clock: Unix seconds."""
        keys = list(keys)
        static = directory or Directory(keys={k.name: _record(k) for k in keys})
        self._dynamic = KeyDirectory() if dynamic is None else dynamic
        self._expects_dynamic = expects_dynamic
        self._static = {bytes.fromhex(k.sha256): static.keys[k.name] for k in keys}
        self._static_names = frozenset(static.keys)
        self._directory = Directory(
            organizations=_first_of(static.organizations, self._dynamic.organizations),
            teams=_first_of(static.teams, self._dynamic.teams),
            default_limits=static.default_limits,
            people=static.people,
        )
        limits = {} if limits is None else limits
        _allow_calls(keys, limits)
        self._limits = {name: limits[name] for name in self._static_names if name in limits}
        self._redaction = redaction
        self._open = open
        self._origins = frozenset(origin.encode() for origin in origins)
        self._clock = clock
        self.guard = guard or AddressGuard()
        self._tokens = tokens
        self._sees_upstreams = sees_upstreams
        self._anyone = OPEN if sees_upstreams(OPEN.name, frozenset()) else replace(OPEN, sees_upstreams=False)
        self._callers: dict[bytes, Caller] = {}  # by digest, once they have called
        self._seen = self._dynamic.changes
        self.on_dynamic_caller: Callable[[Caller], None] = _ignore
        """Called with the caller of each dynamic key before its first call, and again after a change of the keys."""

    def admit(self, peer: str, headers: Headers, fields: Mapping[bytes, bytes], noted: KeyNote | None) -> Caller:
        """The caller of a request, if it may call from its address.

        fields: the headers by name. noted: gets the caller's name once it is known. Raises NotAllowed for the address,
        and as `caller` does.
        """
        if self.guard.limits_all:
            self.guard.check(peer, headers)
        caller = self.caller(fields)
        if noted is not None:
            noted.key = caller.name
        if caller.networks:
            self.guard.check_caller(caller, peer, headers)
        return caller

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Raises InvalidKey when the request carries no key, or one that is unknown, disabled or expired;
        KeysUnavailable when that cannot be known now."""
        key = _key(headers)
        if key:
            if self._seen != self._dynamic.changes:
                self._callers, self._seen = {}, self._dynamic.changes
            digest = sha256(key).digest()
            if digest in self._callers:
                known = self._callers[digest]
                if known.until is None or self._clock() < known.until:
                    return known
            found = self._first_call(digest)
            if found is None and self._tokens is not None and is_token(key):
                found = self._first_call_with_token(self._tokens, key, digest)
            if found is not None:
                return found
        if self._open:
            if b"origin" in headers and self._by_a_foreign_page(headers):
                raise NotAllowed(
                    "without a key, a web page may send application/json only: a page of another site could otherwise "
                    "send this unasked; add its origin to `cors`, or use a key",
                    retry=False,
                )
            return self._anyone
        if not key:
            raise InvalidKey("no API key: send `Authorization: Bearer KEY`", retry=False)
        raise self._unknown(key)

    def without_secrets(self, query: bytes) -> bytes:
        """The query without the parameters whose value, or name, is a key of this gateway, or a token that has called:
        upstreams get no credential of ours, under whatever name."""
        parts = _SEPARATOR.split(query)
        kept = [part for part in parts if not any(self._is_secret(text) for text in (part, *part.split(b"=", 1)))]
        return query if len(kept) == len(parts) else b"&".join(kept)

    def _is_secret(self, text: bytes) -> bool:
        for spelling in _spellings(text):
            digest = sha256(spelling).digest()
            if digest in self._static or digest in self._dynamic.by_digest or digest in self._callers:
                return True
        return False

    def _unknown(self, key: bytes) -> GatewayError:
        """Handles an unknown key. One that may have been made while this process could not read keys is not refused
        permanently."""
        if self._expects_dynamic and self._dynamic.stale and key.startswith(_PREFIX):
            return KeysUnavailable(
                "the key is not among those that this gateway has read, and newer ones cannot be read now; retry",
                retry_after_s=2,
            )
        return InvalidKey("the API key is not known to this gateway", retry=False)

    def _first_call(self, digest: bytes) -> Caller | None:
        """Returns None if the key is unknown. Raises InvalidKey for one that is disabled or expired."""
        record = self._static.get(digest)
        dynamic = record is None
        if record is None:
            record = self._dynamic.by_digest.get(digest)
        if record is None:
            return None
        if dynamic and record.name in self._static_names:
            raise _refused(f"gateway.yaml has another key with the name {record.name}; make one with another name")
        self._check_enabled(record)
        self._check_person(record)
        until = _until(record, digest.hex())
        if until is not None and self._clock() >= until:
            ended = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
            raise InvalidKey(f"the API key expired at {ended}; use a new one", code="key_expired", retry=False)
        caller = self._callers[digest] = self._caller(record, until)
        if dynamic:
            self.on_dynamic_caller(caller)
        return caller

    def _first_call_with_token(self, tokens: TokenVerifier, token: bytes, digest: bytes) -> Caller:
        """Raises InvalidKey, NotAllowed, KeysUnavailable."""
        record = tokens.record(token)
        if len(self._callers) >= _MOST_CALLERS:
            self._forget_expired()
        self._check_enabled(record)
        caller = self._callers[digest] = self._caller(record, record.expires)
        self.on_dynamic_caller(caller)
        return caller

    def _forget_expired(self) -> None:
        """Tokens come without end, keys do not."""
        now = self._clock()
        self._callers = {d: c for d, c in self._callers.items() if c.until is None or c.until > now}
        if len(self._callers) >= _MOST_CALLERS:
            self._callers = {}

    def _check_enabled(self, record: KeyRecord) -> None:
        """Raises InvalidKey. A key whose team or organization is missing is refused, because its limits are unknown."""
        if record.disabled:
            raise _refused("the API key is disabled")
        if record.team is None:
            return
        team = self._directory.teams.get(record.team)
        if team is None or team.disabled:
            raise _refused(
                f"the team of the API key, {record.team}, {'does not exist' if team is None else 'is disabled'}"
            )
        if team.organization is None:
            return
        organization = self._directory.organizations.get(team.organization)
        if organization is None or organization.disabled:
            state = "does not exist" if organization is None else "is disabled"
            raise _refused(f"the organization of the API key, {team.organization}, {state}")

    def _check_person(self, record: KeyRecord) -> None:
        """Raises InvalidKey for a key whose person is missing. A token's caller needs no entry in `people`."""
        if record.person is not None and record.person not in self._directory.people:
            raise _refused(f"the person of the API key, {record.person}, is not in `people` of gateway.yaml")

    def _caller(self, record: KeyRecord, until: float | None) -> Caller:
        team = self._directory.teams.get(record.team or "")
        scopes = scopes_of(self._directory, record)
        return Caller(
            record.name,
            _models(record, team),
            frozenset(record.allow),
            record.sample != "never",
            content_of(record.content, self._redaction),
            self._limits.get(record.name),
            id=record.id,
            team=record.team,
            person=record.person,
            organization=organization_of(self._directory, record),
            tags=tuple(dict.fromkeys((*record.tags, *(team.tags if team else ())))),
            scopes=scopes.base,
            of_call=scopes if scopes else None,
            until=until,
            networks=tuple(
                networks(each.networks) for each in (record, team) if each is not None and each.networks is not None
            ),
            sees_upstreams=self._sees_upstreams(record.name, frozenset(record.allow)),
            traffic_class=record.traffic_class,
            paths=record.paths,
        )

    def _by_a_foreign_page(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a browser sends this request with its body for any page, without asking first (Fetch:
        CORS-safelisted)."""
        has_body = b"content-length" in headers or b"transfer-encoding" in headers
        asked_first = headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"
        return has_body and not asked_first and headers[b"origin"] not in self._origins


PAGE = "gateway.page"
"""The key in an ASGI scope of the notes for the call's access line; it has an attribute `key`."""


def caller_of(keys: KeyRing, scope: Any) -> Caller:
    """The owner of the key of an ASGI request, whose name goes to the access log. Raises InvalidKey, NotAllowed."""
    headers, peer = scope["headers"], (scope.get("client") or ("",))[0]
    return keys.admit(peer, headers, dict(headers), scope.get(PAGE))


def _spellings(text: bytes) -> Iterator[bytes]:
    """The text as a credential, percent-encodings undone however often, with and without the name of a scheme."""
    for _ in range(_ROUNDS):
        bare = text.replace(b"+", b" ").strip()
        yield from (text, bare, bare.rpartition(b" ")[2]) if b" " in bare or bare != text else (text,)
        if b"%" not in text:
            return
        text = unquote_to_bytes(text)


def matches(headers: Mapping[bytes, bytes], digest: str) -> bool:
    """Whether the request carries the key with this SHA-256 (hex)."""
    key = _key(headers)
    return bool(key) and sha256(key).hexdigest() == digest


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key as the clients of OpenAI, Anthropic, Azure, Gemini and Bedrock send it; b"" if there is none."""
    if b"authorization" in headers:
        given = headers[b"authorization"]
        if given[:7] == b"Bearer " or given[:7].lower() == b"bearer ":
            key = given[7:]
            if key:
                return key.strip()
    return headers.get(b"x-api-key") or headers.get(b"api-key") or headers.get(b"x-goog-api-key") or b""


def _ignore(_: Caller) -> None:
    pass


def _refused(reason: str) -> InvalidKey:
    return InvalidKey(f"{reason}; ask the administrator of this gateway", code="key_disabled", retry=False)


def _record(key: ApiKey) -> KeyRecord:
    """The record of a key without a directory."""
    return KeyRecord(
        key.name, key.name, ((key.sha256, None),), {}, models=key.models, allow=key.allow, sample=key.sample,
        content=key.content, disabled=key.disabled, expires=None if key.expires is None else key.expires.timestamp(),
        networks=key.networks,
    )  # fmt: skip


def _first_of(static: Mapping[str, T], dynamic: MutableMapping[str, T]) -> Mapping[str, T]:
    return ChainMap(dict(static), dynamic)


def _until(record: KeyRecord, digest: str) -> float | None:
    """The time at which the secret with this digest expires: the end of a rotation, or of the key."""
    ends = [at for each, at in record.digests if each == digest and at is not None]
    ends += [] if record.expires is None else [record.expires]
    return min(ends, default=None)


def _models(record: KeyRecord, team: TeamRecord | None) -> frozenset[str] | None:
    """A key narrows what its team may use, and never widens it."""
    sets = [frozenset(each.models) for each in (record, team) if each is not None and each.models is not None]
    return frozenset.intersection(*sets) if sets else None


def _allow_calls(keys: Iterable[ApiKey], limits: dict[str, CallerLimit]) -> None:
    """Sets what the config now allows each of its keys in one process."""
    for key in keys:
        limit = limits.get(key.name)
        if limit is None and key.concurrency is not None:
            limit = limits[key.name] = CallerLimit()
        if limit is not None:
            limit.most = key.concurrency
