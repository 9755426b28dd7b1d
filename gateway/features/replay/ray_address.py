"""The value of `gateway replay --on`: this process, or a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL = "local"
DEFAULT_PORT = 10001  # of Ray Client's server


@dataclass(frozen=True, slots=True)
class RayAddress:
    """Where Ray Client's server listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"ray://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def address_of(on: str) -> RayAddress | None:
    """None: in this process. Raises ValueError for what is neither "local" nor ray://HOST[:PORT]."""
    if on == LOCAL:
        return None
    parts = urlsplit(on)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme != "ray" or not host or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{on!r}: expected local, or ray://HOST[:PORT] with the port of Ray Client (default: 10001)")
    return RayAddress(host, port or DEFAULT_PORT)
