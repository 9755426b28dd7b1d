"""The client that all requests of the evaluation side go through."""

from __future__ import annotations

import pytest

from gateway.scoring.http_opening import opened

pytestmark = pytest.mark.quick


async def test_a_client_follows_no_redirect_and_reads_no_environment() -> None:
    async with opened(1.5, None) as client:
        assert not client.follow_redirects
        assert not client.trust_env
        assert client.timeout.connect == 1.5
        assert client.timeout.read is None, "the deadline is that of the whole call"
