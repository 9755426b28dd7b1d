"""Azure takes OpenAI's bytes below a deployment, or under the newer /openai/v1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config.upstreams import Upstream
from gateway.proxy.dialects.azure import Azure
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
BASE = "https://name.openai.azure.com"


@pytest.mark.parametrize(
    ("base", "version", "path", "expected"),
    [
        (BASE, None, b"/chat/completions", b"/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
        (BASE + "/", "2025-04-01", b"/embeddings?a=1",
         b"/openai/deployments/my%20gpt/embeddings?a=1&api-version=2025-04-01"),
        (BASE + "/openai", None, b"/completions", b"/openai/deployments/my%20gpt/completions?api-version=2024-10-21"),
        (BASE, "2025-04-01-preview", b"/responses", b"/openai/responses?api-version=2025-04-01-preview"),
        (BASE + "/openai/v1", None, b"/chat/completions", b"/openai/v1/chat/completions"),
        (BASE + "/openai/v1/", "preview", b"/responses", b"/openai/v1/responses?api-version=preview"),
    ],
)  # fmt: skip
def test_paths(
    make_upstream: MakeUpstream, make_call: MakeCall, base: str, version: str | None, path: bytes, expected: bytes
) -> None:
    azure = Azure(make_upstream("azure", base_url=base, api_version=version))
    request = azure.request(make_call(path=path), "my gpt")
    assert (request.origin, request.path) == (BASE, expected)


def test_the_key_goes_into_its_own_header(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    headers = dict(Azure(make_upstream("azure", base_url=BASE)).request(make_call(), "d").headers)
    assert headers[b"api-key"] == b"sk-up"
    assert b"authorization" not in headers


def test_raw_paths_get_the_version_too(make_upstream: MakeUpstream) -> None:
    request = Azure(make_upstream("azure", base_url=BASE)).raw(UpstreamRequest(b"GET", "", b"/files?limit=2"))
    assert request.path == b"/openai/files?limit=2&api-version=2024-10-21"


def test_streams_are_read_as_openais(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    """Azure's first chunk has no choices and no usage, and stays."""
    first = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    reader = Azure(make_upstream("azure", base_url=BASE)).reader(make_call(stream=True), False)
    assert reader.feed(first) == first
