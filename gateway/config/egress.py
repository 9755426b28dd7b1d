"""The section `egress` of gateway.yaml: the outbound proxy of everything that the gateway calls outside."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from gateway.config.types import NonEmpty, Section

_INSIDE = (".svc", ".local", ".internal", ".localhost")
ProxyUrl = Annotated[str, Field(pattern=r"^http://[^\s/]+/?$")]


class Egress(Section):
    """The way to servers outside: upstreams, issuers of tokens, credentials of clouds, services that score, webhooks,
    and the console's identity provider."""

    proxy: ProxyUrl
    """URL of an HTTP proxy, `http://[USER:PASSWORD@]HOST:PORT`. Servers with `https://` are reached through a tunnel
    (CONNECT), in which the proxy sees the server's name only. `HTTPS_PROXY` is not read."""
    direct: tuple[NonEmpty, ...] = ()
    """Servers that are reached without the proxy: host names, suffixes such as `.example.com`, addresses and networks.
    This machine, private addresses, names without a dot, and those that end in `.svc`, `.local` and `.internal` always
    are."""

    def proxy_to(self, url: str) -> str | None:
        """The proxy for a server; None means that it is reached without one."""
        host = urlsplit(url).hostname
        return None if host is None or is_direct(host, self.direct) else self.proxy


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
