"""The statuses of an upstream that are about the request and not about the upstream."""

from __future__ import annotations

import pytest

from gateway.core.request_refusals import REFUSING_STATUSES


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_request_is_refused_for_itself(status: int) -> None:
    assert status in REFUSING_STATUSES


@pytest.mark.parametrize("status", [200, 401, 402, 403, 404, 408, 409, 429, 500, 503])
def test_credentials_limits_and_models_are_the_upstreams(status: int) -> None:
    assert status not in REFUSING_STATUSES
