"""Claude on Vertex AI: Anthropic's body with the model in the path; requests as Anthropic's own client sends them."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.vertex_anthropic import VertexAnthropic

URL = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5"
MODEL = "claude-sonnet-5@20260929"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def dialect(make_upstream: Any) -> VertexAnthropic:
    """The dialect of one upstream; its token is added by the transport."""
    return VertexAnthropic(make_upstream("vertex_anthropic", base_url=URL, api_key=None))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_the_one_of_anthropics_own_client(dialect: Any, make_call: Any, stream: bool) -> None:
    theirs: list[Any] = []

    def send(request: Any) -> Any:
        theirs.append(request)
        raise RuntimeError

    try:
        import httpx
    except ImportError:
        httpx = httpx2  # type: ignore[assignment]
    client = anthropic.AnthropicVertex(
        region="us-east5", project_id="p", access_token="t", max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(send)),
    )  # fmt: skip
    with pytest.raises(Exception):  # noqa: B017, PT011 - nothing is sent
        client.messages.create(model=MODEL, max_tokens=9, messages=HI, stream=stream)
    sent = orjson.loads(theirs[0].content)
    call = make_call("messages", messages=HI, max_tokens=9, **({"stream": True} if stream else {}))
    call.headers.append((b"anthropic-version", sent["anthropic_version"].encode()))
    ours = dialect.request(call, MODEL)
    assert f"{ours.origin}{ours.path.decode()}" == str(theirs[0].url)
    assert {n: v for n, v in orjson.loads(ours.body).items() if v is not False} == {
        name: value for name, value in sent.items() if value is not False
    }
    assert not any(name == b"anthropic-version" for name, _ in ours.headers)


def test_a_chat_is_translated_and_the_record_has_it_as_it_came(dialect: Any, make_call: Any) -> None:
    request = dialect.request(make_call(messages=[{"role": "system", "content": "S"}, *HI], max_tokens=9), MODEL)
    assert orjson.loads(request.body) == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "S"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert orjson.loads(request.recorded)["model"] == MODEL


@pytest.mark.parametrize(("version", "sent"), [("2023-06-01", "vertex-2023-10-16"), ("2026-10-21", "2026-10-21")])
def test_the_version_is_that_of_the_client(dialect: Any, make_call: Any, version: str, sent: str) -> None:
    call = make_call("messages", messages=HI, max_tokens=9)
    call.headers.append((b"anthropic-version", version.encode()))
    assert orjson.loads(dialect.request(call, MODEL).body)["anthropic_version"] == sent


def test_tokens_are_counted_at_an_address_of_its_own(dialect: Any, make_call: Any) -> None:
    request = dialect.request(make_call("count_tokens", messages=HI), MODEL)
    assert request.path.endswith(b"/publishers/anthropic/models/count-tokens:rawPredict")
    assert orjson.loads(request.body)["model"] == MODEL


def test_other_apis_are_refused(dialect: Any, make_call: Any) -> None:
    with pytest.raises(BadRequest, match="has no embeddings"):
        dialect.request(make_call("embeddings", input="x"), MODEL)


def test_its_streams_are_anthropics(sse: Any, make_upstream: Any, make_call: Any, read: Any) -> None:
    dialect = build_dialect(make_upstream("vertex_anthropic", base_url=URL, api_key=None))
    reader = dialect.reader(make_call(stream=True), True)
    read(reader, sse.stream, 5)
    assert (reader.usage, reader.error) == (sse.usage, sse.error)
