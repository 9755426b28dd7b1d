"""A client of the admin API, for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from gateway.core.errors import CannotRun

_TIMEOUT_S = 15.0


class AdminRefused(CannotRun):
    """The console refused a request; the message lists every mistake that it reported."""


class AdminClient:
    """A client of one console. url: as in "http://127.0.0.1:9102". token: an admin token; below `/me/v1`, a key."""

    def __init__(self, url: str, token: str, root: str = "/admin/v1") -> None:
        """root: URL that the paths are relative to."""
        self._url = url.rstrip("/")
        self._root = root
        self._connected: httpx2.Client | None = None
        self._headers = {"authorization": f"Bearer {token}"}

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON of the answer. path: below the root, as in "/keys". Raises AdminRefused, CannotRun."""
        params = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        try:
            with self._http() as http:
                url = f"{self._url}{self._root}{path}"
                answer = http.request(method, url, params=params, json=body, headers=self._headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise CannotRun(
                f"the console at {self._url} cannot be reached: {error}. `gateway console` and `gateway up` run one; "
                "$GATEWAY_ADMIN_URL names another"
            ) from error
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            status = answer.status_code
            raise CannotRun(f"{self._url} is not a console: it answered HTTP {status} without a JSON object")
        if answer.status_code >= 400:
            raise AdminRefused(_refusal(value, answer.status_code))
        return value

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Keeps one connection for all calls within."""
        with httpx2.Client(timeout=_TIMEOUT_S, trust_env=False) as self._connected:
            yield
        self._connected = None

    @contextmanager
    def _http(self) -> Iterator[httpx2.Client]:
        if self._connected is not None:
            yield self._connected
            return
        with httpx2.Client(timeout=_TIMEOUT_S, trust_env=False) as http:
            yield http

    def all_of(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of every page of a list."""
        after: str | None = ""
        while after is not None:
            page = self.call("GET", path, query={**query, "after": after, "limit": 1000})
            yield from page["data"]
            after = page["next"]

    def key_id(self, key: str) -> str:
        """The id of a key that is named by its id or its name. Raises AdminRefused."""
        if key.startswith("key_"):
            return key
        found = self.call("GET", "/keys", query={"name": key})["data"]
        if not found:
            raise AdminRefused(f'there is no key "{key}" that the console manages; `gateway keys list` shows them')
        return str(found[0]["id"])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(value: dict[str, Any], status: int) -> str:
    error = value.get("error")
    if not isinstance(error, dict):
        return f"the console answered HTTP {status}"
    mistakes = error.get("mistakes") or []
    return "\n".join(map(str, mistakes)) if len(mistakes) > 1 else str(error.get("message", f"HTTP {status}"))
