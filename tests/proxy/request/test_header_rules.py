"""Only named headers pass, in either direction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.request.header_rules import for_client, for_upstream, sane_id

NEVER_UPSTREAM = [
    b"authorization", b"x-api-key", b"api-key", b"cookie", b"proxy-authorization", b"host", b"connection",
    b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"accept-encoding",
    b"x-forwarded-for", b"x-gateway-target", b"x-gateway-sample", b"x-request-id", b"expect", b"x-unknown",
]  # fmt: skip
UPSTREAM = [
    b"traceparent", b"tracestate", b"user-agent", b"content-type",
    b"openai-beta", b"anthropic-version", b"anthropic-beta", b"idempotency-key", b"x-stainless-lang",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_UPSTREAM, ids=bytes.decode)
def test_no_credential_cookie_or_hop_header_goes_upstream(name: bytes) -> None:
    assert for_upstream([(name, b"x")], None) == []


@pytest.mark.parametrize("name", UPSTREAM, ids=bytes.decode)
def test_headers_that_upstreams_understand_are_sent(name: bytes) -> None:
    assert for_upstream([(name, b"x")], None) == [(name, b"x")]


def test_a_valid_client_request_id_is_forwarded() -> None:
    assert for_upstream([(b"x-request-id", b"a\tb")], "mine-1") == [(b"x-request-id", b"mine-1")]


NEVER_TO_CLIENT = [
    b"set-cookie", b"server", b"date", b"connection", b"transfer-encoding", b"content-length", b"content-encoding",
    b"www-authenticate", b"location", b"via", b"x-internal", b"openai-processing-ms",
]  # fmt: skip
TO_CLIENT = [
    b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"content-disposition",
    b"openai-version", b"x-ratelimit-remaining-requests", b"anthropic-ratelimit-tokens-limit",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_TO_CLIENT, ids=bytes.decode)
def test_hop_by_hop_headers_stay_here(name: bytes) -> None:
    assert for_client([(name, b"x")]) == []


@pytest.mark.parametrize("name", [b"x-request-id", b"request-id", b"x-amzn-requestid"], ids=bytes.decode)
def test_the_upstreams_own_id_comes_under_another_name(name: bytes) -> None:
    assert for_client([(name, b"theirs"), (b"request-id", b"later")]) == [(b"x-gateway-upstream-request-id", b"theirs")]


@pytest.mark.parametrize("name", TO_CLIENT, ids=bytes.decode)
def test_headers_that_sdks_read_reach_the_client(name: bytes) -> None:
    assert for_client([(name, b"x")]) == [(name, b"x")]


def test_events_are_told_not_to_be_cached_or_buffered() -> None:
    out = dict(for_client([(b"content-type", b"text/event-stream; charset=utf-8")]))
    assert (out[b"cache-control"], out[b"x-accel-buffering"]) == (b"no-cache", b"no")
    assert b"cache-control" not in dict(for_client([(b"content-type", b"application/json")]))


@given(st.binary(max_size=200))
def test_an_id_is_taken_only_when_it_is_short_printable_ascii(value: bytes) -> None:
    sane = 0 < len(value) <= 128 and all(33 <= c <= 126 for c in value)
    assert sane_id(value) == (value.decode("ascii") if sane else None)


def test_no_id_is_none() -> None:
    assert sane_id(None) is None
    assert sane_id(b"x" * 129) is None


@pytest.mark.parametrize("name", [b"openai-organization", b"openai-project"])
def test_a_client_does_not_choose_who_pays(name: bytes) -> None:
    assert for_upstream([(name, b"org-other")], None) == []


def test_the_upstreams_account_is_not_told() -> None:
    assert for_client([(b"openai-organization", b"org-ours")]) == []
