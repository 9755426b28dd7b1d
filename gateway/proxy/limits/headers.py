"""The rate-limit headers of a response: the remainders of the caller's smallest limits per minute. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.limits import MEASURES
from gateway.proxy.limits.book import Account
from gateway.proxy.limits.lease import Lease


def rate_headers(account: Account, now: float) -> list[tuple[bytes, bytes]]:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}, of the caller's smallest limits per minute."""
    lines = rate_lines(account.rate_leases, now)
    return (
        [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n"))] if lines else []
    )


def rate_lines(leases: Sequence[Lease | None], now: float) -> bytes:
    """The headers as lines on the wire; b"" if the caller has no such limit."""
    lines = b""
    for lease in leases:
        if lease is not None:
            left = lease.left + lease.free
            values = (lease.amount, left if left > 0 else 0, lease.ends - now)
            lines += (b"\r\n" if lines else b"") + RATE_LINES[lease.measure] % values
    return lines


RATE_LINES = tuple(
    b"\r\n".join(
        (
            b"x-ratelimit-limit-%b: %%d" % name.encode(),
            b"x-ratelimit-remaining-%b: %%d" % name.encode(),
            b"x-ratelimit-reset-%b: %%.0fs" % name.encode(),
        )
    )
    for name in MEASURES
)
