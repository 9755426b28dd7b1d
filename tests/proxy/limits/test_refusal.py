"""The content of a refusal."""

from __future__ import annotations

import pytest

from gateway.core.errors import QuotaExceeded, RateLimited
from gateway.core.limits import Limit, LimitScope
from gateway.proxy.limits.book import Account
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.refusal import refusal, unavailable, used

NOW = 1_764_115_200.0  # 2025-11-26T00:00:00Z


def a_lease(limit: Limit, left: int, seconds: float = 60.0) -> Lease:
    lease = Lease(LimitScope("team", "search", (limit,)), limit, "x", NOW, NOW + seconds)
    lease.left = left
    return lease


@pytest.mark.parametrize(
    ("limit", "left", "kind", "words", "retry_after"),
    [
        (Limit("requests", 60, "minute"), 0, RateLimited, "60 requests per minute; 60 requests are used", b"60"),
        (Limit("tokens", 9000, "day"), 500, QuotaExceeded, "9,000 tokens per day; 8,500 tokens are used", b"60"),
        (Limit("usd", 0.5, "month"), 250_000_000, QuotaExceeded, "0.5 USD per month; 0.25 USD are used", b"60"),
        (Limit("concurrency", 8), 0, RateLimited, "8 requests in flight; 8 requests in flight are used", b"1"),
    ],
)
def test_a_refusal_says_what_is_used_and_when_to_come_back(
    limit: Limit, left: int, kind: type, words: str, retry_after: bytes
) -> None:
    lease = a_lease(limit, left)
    error = refusal(Account(()), lease, 1, NOW, 402)
    assert type(error) is kind
    assert words in error.message
    assert error.status == (402 if kind is QuotaExceeded else 429)
    assert dict(error.headers())[b"retry-after"] == retry_after
    assert error.details["scope"] == "team search"
    assert error.details["reset"] == (None if limit.window is None else "2025-11-26T00:01:00Z")


def test_the_minutes_that_are_left_are_in_the_headers() -> None:
    account = Account(())
    requests = a_lease(Limit("requests", 60, "minute"), 12, 42.0)
    account.rate_leases = (requests, None)
    error = refusal(account, a_lease(Limit("usd", 1, "day"), 0), 1, NOW, 429)
    headers = dict(error.headers())
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"12"
    assert headers[b"x-ratelimit-reset-requests"] == b"42s"
    assert headers[b"x-should-retry"] == b"false"


def test_a_call_above_the_limit_is_not_told_to_come_back() -> None:
    error = refusal(Account(()), a_lease(Limit("tokens", 100, "minute"), 100), 101, NOW, 429)
    assert "101 tokens" in error.message
    assert b"retry-after" not in dict(error.headers())


def test_an_outage_is_not_a_fault_of_the_key() -> None:
    error = unavailable(a_lease(Limit("usd", 1, "day", on_outage="closed"), 1))
    assert (error.status, error.code) == (503, "limits_unavailable")
    assert dict(error.headers())[b"retry-after"] == b"1"


def test_usage_beyond_the_limit_is_shown() -> None:
    assert used(a_lease(Limit("tokens", 100, "day"), -30)) == 130
