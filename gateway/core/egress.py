"""The way out: which hosts are reached without the outbound proxy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

_INSIDE = (".svc", ".local", ".internal", ".localhost")


def is_direct(host: str, more: Iterable[str] = ()) -> bool:
    """Whether a host is reached without the proxy: this machine, private addresses, names without a dot or of a
    cluster, and those of `more`, which are host names, suffixes such as `.example.com`, addresses and networks."""
    host = host.lower().rstrip(".")
    with suppress(ValueError):
        address = ip_address(host)
        return address.is_private or any(address in network for network in map(_network, more) if network is not None)
    if "." not in host or host.endswith(_INSIDE):
        return True
    return any(host == each or (each.startswith(".") and host.endswith(each)) for each in (e.lower() for e in more))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    with suppress(ValueError):
        return ip_network(text, strict=False)
    return None
