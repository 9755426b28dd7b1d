"""Networks, and the addresses within them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def networks(values: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(each) for each in values)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or by address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks. An IPv4 address is the same in IPv6 notation (`::ffff:10.0.0.1`).
    An invalid address is in no network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
