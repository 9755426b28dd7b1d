from __future__ import annotations

import pytest

from gateway.core.forwarded_paths import path_allowed

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("pattern", "method", "path", "fits"),
    [
        ("/v1/files", "GET", "/v1/files", True),
        ("/v1/files", "GET", "/v1/files/f1", False),
        ("/v1/files*", "DELETE", "/v1/files/f1", True),
        ("/v1/files/*", "GET", "/v1/files", False),
        ("GET /v1/batches*", "GET", "/v1/batches/b", True),
        ("GET /v1/batches*", "HEAD", "/v1/batches/b", True),
        ("GET /v1/batches*", "POST", "/v1/batches", False),
        ("/v1/*", "PUT", "/v1/anything", True),
    ],
)
def test_a_pattern_is_a_method_and_a_path_or_its_beginning(pattern: str, method: str, path: str, fits: bool) -> None:
    assert path_allowed([pattern], method, path) is fits


def test_no_pattern_fits_nothing() -> None:
    assert not path_allowed([], "GET", "/v1/files")
