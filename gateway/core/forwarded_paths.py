"""The paths outside the routed endpoints that a key may use: `/v1/files*`, `GET /v1/batches/*`. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def path_allowed(patterns: Iterable[str], method: str, path: str) -> bool:
    """Whether one of the patterns fits: a method (else all of them), and a path, or its beginning before a star."""
    return any(_fits(pattern, method, path) for pattern in patterns)


def _fits(pattern: str, method: str, path: str) -> bool:
    named, _, meant = pattern.rpartition(" ")
    if named and named != method and not (named == "GET" and method == "HEAD"):
        return False
    return path.startswith(meant[:-1]) if meant.endswith("*") else path == meant
