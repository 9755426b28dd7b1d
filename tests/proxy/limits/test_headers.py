"""The rate-limit headers: the same figures on answers and on refusals."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import Account
from gateway.proxy.limits.headers import rate_headers, rate_lines
from gateway.proxy.limits.lease import Lease

NOW = 1_764_115_200.0


def a_lease(measure: str, amount: int, left: int) -> Lease:
    limit = Limit(measure, amount, "minute")  # type: ignore[arg-type]
    lease = Lease(LimitScope("team", "search", (limit,)), limit, "x", NOW, NOW + 42.0)
    lease.left = left
    return lease


@pytest.mark.parametrize(("left", "remaining"), [(12, b"12"), (-30, b"0")], ids=["some left", "overdrawn"])
def test_lines_and_headers_have_the_same_figures(left: int, remaining: bytes) -> None:
    account = Account(())
    account.rate_leases = (a_lease("requests", 60, left), a_lease("tokens", 9000, 9000))
    headers = rate_headers(account, NOW)
    assert b"\r\n".join(b"%b: %b" % header for header in headers) == rate_lines(account.rate_leases, NOW)
    assert dict(headers)[b"x-ratelimit-remaining-requests"] == remaining
    assert dict(headers)[b"x-ratelimit-reset-tokens"] == b"42s"


def test_a_caller_without_limits_per_minute_gets_none() -> None:
    assert rate_headers(Account(()), NOW) == []
    assert rate_lines((None, None), NOW) == b""
