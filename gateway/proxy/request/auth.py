"""Authentication: API key → Caller, by SHA-256 digest. A key is never stored, compared, logged or forwarded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from gateway.config.derive import content_of
from gateway.config.models import ApiKey
from gateway.config.privacy import RedactionConfig
from gateway.core.errors import InvalidKey, NotAllowed
from gateway.core.keys import Directory, KeyRecord, organization_of, scopes_of
from gateway.proxy.request.call import Caller, CallerLimit

OPEN = Caller("open", allow=frozenset({"sample", "target", "passthrough"}))


class KeyRing:
    """The callers of one config. origins: of web pages that may send forms without a key.

    open: requests without a key are served too (loopback only, or authenticated by something in front).
    redaction: the default for keys that do not configure how much of their content is recorded.
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
    ) -> None:
        """limits: of the process, by key name; those of earlier configs stay, with the calls that they count.
        directory: where teams, organizations and their limits are found; None: there are none."""
        limits = {} if limits is None else limits
        self._callers = {bytes.fromhex(k.sha256): _caller(k, redaction, limits, directory) for k in keys}
        self._open = open
        self._origins = frozenset(origin.encode() for origin in origins)

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Raises InvalidKey when the request carries no key, or one that is not configured."""
        key = _key(headers)
        if key:
            found = self._callers.get(sha256(key).digest())
            if found is not None:
                return found
        if self._open:
            if b"origin" in headers and self._by_a_foreign_page(headers):
                raise NotAllowed(
                    "without a key, a web page may send application/json only: a page of another site could otherwise "
                    "send this unasked; add its origin to `cors`, or use a key",
                    retry=False,
                )
            return OPEN
        if not key:
            raise InvalidKey("no API key: send `Authorization: Bearer KEY`", retry=False)
        raise InvalidKey("the API key is not known to this gateway", retry=False)

    def _by_a_foreign_page(self, headers: Mapping[bytes, bytes]) -> bool:
        """A request with a body that a browser sends for any page, without asking first (Fetch: CORS-safelisted)."""
        has_body = b"content-length" in headers or b"transfer-encoding" in headers
        asked_first = headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"
        return has_body and not asked_first and headers[b"origin"] not in self._origins


PAGE = "gateway.page"
"""Where an ASGI scope holds what the access log will say of the call; it has an attribute `key`."""


def caller_of(keys: KeyRing, scope: Any) -> Caller:
    """The owner of the key of an ASGI request, whose name goes to the access log. Raises InvalidKey."""
    caller = keys.caller(dict(scope["headers"]))
    if PAGE in scope:
        scope[PAGE].key = caller.name
    return caller


def matches(headers: Mapping[bytes, bytes], digest: str) -> bool:
    """Whether the request carries the key with this SHA-256 (hex)."""
    key = _key(headers)
    return bool(key) and sha256(key).hexdigest() == digest


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    """The key as OpenAI's, Anthropic's and Azure's clients send it; b"" if there is none."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and key:
        return key.strip()
    return headers.get(b"x-api-key") or headers.get(b"api-key") or b""


def _caller(
    key: ApiKey, redaction: RedactionConfig | None, limits: dict[str, CallerLimit], directory: Directory | None
) -> Caller:
    models = None if key.models is None else frozenset(key.models)
    content = content_of(key.content, redaction)
    limit = limits.get(key.name)
    if limit is None and key.concurrency is not None:
        limit = limits[key.name] = CallerLimit()
    if limit is not None:
        limit.most = key.concurrency
    caller = Caller(key.name, models, frozenset(key.allow), key.sample != "never", content, limit, id=key.name)
    record = None if directory is None else directory.keys.get(key.name)
    return caller if directory is None or record is None else _in_directory(caller, record, directory)


def _in_directory(caller: Caller, record: KeyRecord, directory: Directory) -> Caller:
    """The caller with its team, organization and limits."""
    team = directory.teams.get(record.team or "")
    return replace(
        caller,
        team=record.team,
        organization=organization_of(directory, record),
        tags=tuple(dict.fromkeys((*record.tags, *(team.tags if team else ())))),
        scopes=scopes_of(directory, record),
    )
