"""The address and the fixed headers of an upstream whose path names the model."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.proxy.dialects.upstream_address import UpstreamAddress, bearer
from gateway.proxy.http.client.transport import UpstreamRequest

URL = "https://x.example/v1beta/"


def test_a_request_goes_below_the_base_url_with_the_upstreams_headers(make_upstream: Any, make_call: Any) -> None:
    upstream = make_upstream("gemini_native", base_url=URL, headers={"X-Extra": "1"})
    address = UpstreamAddress(upstream, bearer("sk-up"))
    call = make_call(messages=[])
    call.headers += [(b"openai-beta", b"x"), (b"anthropic-beta", b"y"), (b"authorization", b"Bearer mine")]
    request = address.request(call, "m", b"/models/m:x", b"{}")
    headers = dict(request.headers)
    assert (request.origin, request.path) == ("https://x.example", b"/v1beta/models/m:x")
    assert (headers[b"authorization"], headers[b"x-extra"]) == (b"Bearer sk-up", b"1")
    assert headers[b"content-type"] == b"application/json"
    assert not {b"openai-beta", b"anthropic-beta"} & headers.keys()
    assert orjson.loads(request.recorded) == {"model": "m", "messages": []}


def test_without_a_body_there_is_no_content_type(make_upstream: Any) -> None:
    address = UpstreamAddress(make_upstream("gemini_native", base_url=URL), bearer(None))
    sent = address.raw(UpstreamRequest(b"GET", "", b"/files"))
    assert sent.path == b"/v1beta/files"
    assert not {b"content-type", b"authorization"} & dict(sent.headers).keys()
