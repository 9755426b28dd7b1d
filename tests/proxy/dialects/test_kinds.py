"""Every kind of upstream has a dialect, and each is asked in its client's language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import orjson
import pytest

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, NotImplementedHere, UpstreamFailed
from gateway.core.providers import PROVIDERS
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
ASKED = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_every_provider_can_be_asked_by_both_kinds_of_clients(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str
) -> None:
    base = PROVIDERS[kind].base_url or "https://name.example.com/openai/v1"
    dialect = build_dialect(make_upstream(kind, base_url=base))
    for api in ("chat", "messages"):
        request = dialect.request(make_call(api, **ASKED), "m")
        assert isinstance(request.body, bytes)
        assert orjson.loads(request.body).get("model") == "m" or b"/m" in request.path
        assert request.origin == dialect.origin


@pytest.mark.parametrize(
    ("kind", "api", "path"),
    [
        ("vllm", "chat", b"/v1/chat/completions"),
        ("vllm", "messages", b"/v1/chat/completions"),
        ("anthropic", "chat", b"/v1/messages"),
        ("anthropic", "messages", b"/v1/messages"),
        ("anthropic", "count_tokens", b"/v1/messages/count_tokens"),
    ],
)
def test_both_sides_get_their_own_format(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str, api: str, path: bytes
) -> None:
    dialect = build_dialect(make_upstream(kind))
    assert dialect.request(make_call(api, **ASKED), "m").path == path
    broken = dialect.broken(make_call(api, stream=True, **ASKED), UpstreamFailed("no"))
    assert broken.startswith(b"\n\ndata:" if api == "chat" else b"\n\nevent: error\n")
    error = orjson.loads(dialect.error(make_call(api, **ASKED), 400, b'{"type":"error","error":{"message":"no"}}'))
    assert error["error"]["message"] == "no"


@pytest.mark.parametrize("api", ["completions", "embeddings", "speech", "rerank"])
def test_anthropic_has_no_other_api(make_upstream: MakeUpstream, make_call: MakeCall, api: str) -> None:
    with pytest.raises(BadRequest, match=f"has no {api}"):
        build_dialect(make_upstream("anthropic")).request(make_call(api), "m")


def test_an_openai_upstream_cannot_count_tokens(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    with pytest.raises(NotImplementedHere, match="cannot count tokens"):
        build_dialect(make_upstream("vllm")).request(make_call("count_tokens", **ASKED), "m")


@pytest.mark.parametrize(
    ("kind", "header", "path"),
    [
        ("openai", (b"authorization", b"Bearer sk-up"), b"/v1/files"),
        ("anthropic", (b"x-api-key", b"sk-up"), b"/v1/files"),
    ],
)
def test_raw_requests_carry_the_upstreams_credential(
    make_upstream: MakeUpstream, kind: str, header: tuple[bytes, bytes], path: bytes
) -> None:
    request = build_dialect(make_upstream(kind)).raw(UpstreamRequest(b"GET", "", b"/files", [(b"accept", b"*/*")]))
    assert request.path == path
    assert header in request.headers
    assert not any(name == b"content-type" for name, _ in request.headers)


SERVES = """
import sys
import gateway.proxy.serve
from gateway.config.upstreams import Upstream
from gateway.proxy.dialects.kinds import build_dialect
for kind in ("openai", "vllm"):
    dialect = build_dialect(Upstream(kind=kind, base_url="http://127.0.0.1:1/v1", api_key="k"))
    assert dialect.by_api["chat"]
names = ("core.decision", "openai_decisions", "systemone_decisions", "decision_reads", "translated_decisions",
         "emulated_decisions")
print([name for name in names if any(module.endswith(name) for module in sys.modules)])
dialect.by_api["decisions"]
print("gateway.core.decision" in sys.modules)
"""


def test_decisions_are_imported_with_the_first_that_is_translated() -> None:
    done = subprocess.run([sys.executable, "-c", SERVES], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stderr[-2000:]
