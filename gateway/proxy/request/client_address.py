"""The address of a request's client, and whether its key may be used from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from gateway.core.errors import NotAllowed
from gateway.core.networks import Network, is_loopback, networks, within
from gateway.proxy.request.call import Caller
from gateway.proxy.types import Headers


def address_of(peer: str, headers: Headers, trusted: Sequence[Network]) -> str:
    """The address of the client of a request with these headers."""
    return client_address(peer, [v for n, v in headers if n == b"x-forwarded-for"], trusted) if trusted else peer


def client_address(peer: str, forwarded: Iterable[bytes], trusted: Sequence[Network]) -> str:
    """The address of the client, behind proxies that are trusted: the last one that is not a trusted proxy.

    peer: of the connection. forwarded: the values of X-Forwarded-For, in order; each proxy appends the address that it
    was reached from, so entries before the last untrusted address may be invented.
    """
    address = peer
    named = [each.strip() for value in forwarded for each in value.decode("latin-1").split(",")]
    while named and within(address, trusted):
        try:
            address = str(ip_address(named.pop()))
        except ValueError:
            break
    return address


class AddressGuard:
    """The addresses that may call, by one config."""

    def __init__(self, allowed: Iterable[str] | None = None, trusted: Iterable[str] = ()) -> None:
        """allowed: networks from which calls are accepted; None: everywhere. trusted: networks of proxies whose
        X-Forwarded-For is believed."""
        self._allowed = None if allowed is None else networks(allowed)
        self._trusted = networks(trusted)
        self.limits_all = self._allowed is not None
        """Whether `check` has anything to look at."""

    def check(self, peer: str, headers: Headers) -> None:
        """Raises NotAllowed for a request that the gateway does not accept from there, whatever its key."""
        if self._allowed is not None:
            address = address_of(peer, headers, self._trusted)
            if not within(address, self._allowed):
                raise _refused(f"this gateway does not accept requests from {address}")

    def check_caller(self, caller: Caller, peer: str, headers: Headers) -> None:
        """Raises NotAllowed if the caller's key may not be used from there."""
        address = address_of(peer, headers, self._trusted)
        if not all(within(address, allowed) for allowed in caller.networks):
            raise _refused(f"this API key may not be used from {address}")


_PROXIED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})


def from_this_machine(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request that came over loopback was sent from this machine: no proxy passed it on, and its Host is a
    loopback name, so that it does not come from a web page whose name was rebound to 127.0.0.1."""
    if not _PROXIED.isdisjoint(headers):
        return False
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name)


def _refused(reason: str) -> NotAllowed:
    text = f"{reason}; ask the administrator of this gateway"
    return NotAllowed(text, code="address_not_allowed", retry=False)
