"""Every spelling of a path means what the most lenient server would serve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.request.paths import path_allowed, resolved, segments, single_slashes

SPELLINGS = [
    b"/v1//chat/completions", b"//v1/chat/completions", b"/v1/chat/completions/", b"/v1/./chat/completions",
    b"/v1/x/../chat/completions", b"/v1/%63hat/completions", b"/v1/chat%2fcompletions", b"/v1/chat%252Fcompletions",
    b"/v1/x/%2e%2E/chat/completions", b"/v1/x/..;a=b/chat/completions", b"/v1/x/..%5cchat/completions",
    b"/v1/chat/completions;x", b"/v1/chat\\\\completions", b"/v1/chat/completions%3Fx=1", b"/v1/chat/completions%20",
    b"/v1/chat/completions%00", b"/../v1/chat/completions",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_every_spelling_resolves_to_the_same_path(path: bytes) -> None:
    assert resolved(path) == b"/v1/chat/completions"


def test_single_slashes_leave_the_rest_as_it_was() -> None:
    assert single_slashes(b"/v1//files/a%2Fb%20c//") == b"/v1/files/a%2Fb%20c"
    assert single_slashes(b"//") == b"/"


@given(st.binary(max_size=60))
def test_a_resolved_path_has_nothing_left_to_resolve(path: bytes) -> None:
    assert not {b".", b"..", b""} & set(resolved(path).split(b"/")[1:]) or resolved(path) == b"/"
    assert all(b"/" not in segment for segment in segments(path))


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
