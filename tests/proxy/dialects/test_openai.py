"""OpenAI's dialect: what is spliced into a request, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.plain_answer import read_answer
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.upload import begin_upload

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]


@pytest.fixture
def openai(make_upstream: MakeUpstream) -> OpenAI:
    """The dialect of OpenAI's API."""
    return OpenAI(make_upstream())


def test_only_the_model_is_spliced(openai: OpenAI, make_call: MakeCall) -> None:
    body = b'{ "model" : "alias", "temperature":0.70, "seed":123456789012345678901, "x":"\\u00e9" }'
    request = openai.request(make_call(body=body), "gpt-x")
    assert request.body == body.replace(b'"alias"', b'"gpt-x"')


def test_a_model_of_the_same_name_leaves_the_bytes_alone(openai: OpenAI, make_call: MakeCall) -> None:
    call = make_call()
    assert openai.request(call, "alias").body is call.body


def test_a_second_model_member_cannot_ask_for_another_model(openai: OpenAI, make_call: MakeCall) -> None:
    """Parsers differ in which duplicate they take."""
    with pytest.raises(BadRequest, match='more than one member "model"'):
        openai.request(make_call(body=b'{"model":"secret","model":"alias"}'), "alias")


@pytest.mark.parametrize(
    ("kind", "api", "members", "asked"),
    [
        ("openai", "chat", {"stream": True}, True),
        ("openai", "completions", {"stream": True, "prompt": "x"}, True),
        ("openai", "chat", {}, False),
        ("openai", "responses", {"stream": True}, False),
        ("mistral", "chat", {"stream": True}, False),
        ("llama_cpp_python", "chat", {"stream": True}, False),
        ("openai", "chat", {"stream": True, "stream_options": {"include_usage": True}}, True),
        ("openai", "chat", {"stream": True, "stream_options": {"include_usage": False, "x": 1}}, True),
        ("openai", "chat", {"stream": True, "stream_options": None}, True),
    ],
)
def test_usage_is_asked_for_where_the_upstream_understands_it(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str, api: str, members: dict[str, object], asked: bool
) -> None:
    request = OpenAI(make_upstream(kind)).request(make_call(api, **members), "m")
    assert isinstance(request.body, bytes)
    options = orjson.loads(request.body).get("stream_options") or {}
    assert options.get("include_usage", False) is asked
    assert options.get("x") == (members.get("stream_options") or {}).get("x")  # type: ignore[attr-defined]


def test_a_usage_chunk_that_was_not_asked_for_is_the_providers_own(
    make_upstream: MakeUpstream, make_call: MakeCall
) -> None:
    chunk = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    reader = OpenAI(make_upstream("mistral")).reader(make_call(stream=True), False)
    assert reader.feed(chunk) == chunk


def test_headers_are_the_clients_and_ours(openai: OpenAI, make_call: MakeCall) -> None:
    assert openai.request(make_call(), "m").headers == [
        (b"content-type", b"application/json"),
        (b"user-agent", b"test"),
        (b"accept-encoding", b"identity"),
        (b"authorization", b"Bearer sk-up"),
    ]


def test_a_header_of_the_config_wins(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    upstream = make_upstream(headers={"User-Agent": "mine", "Authorization": "Basic x"})
    headers = OpenAI(upstream).request(make_call(), "m").headers
    assert [v for n, v in headers if n == b"user-agent"] == [b"mine"]
    assert [v for n, v in headers if n == b"authorization"] == [b"Basic x"]


def test_no_key_means_no_credential(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    headers = OpenAI(make_upstream("vllm", api_key=None)).request(make_call(), "m").headers
    assert not any(n == b"authorization" for n, _ in headers)


def test_a_body_without_a_type_is_json(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call = make_call()
    call.headers.clear()
    assert (b"content-type", b"application/json") in OpenAI(make_upstream()).request(call, "m").headers


@pytest.mark.parametrize(
    ("kind", "stream", "load", "asked"),
    [
        ("vllm", False, None, True),
        ("vllm", True, None, False),
        ("vllm", False, "none", False),
        ("openai", False, None, False),
    ],
)
def test_load_is_asked_for_with_plain_answers_of_vllm(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str, stream: bool, load: str | None, asked: bool
) -> None:
    request = OpenAI(make_upstream(kind, load=load)).request(make_call(stream=stream), "m")
    assert ((b"endpoint-load-metrics-format", b"JSON") in request.headers) is asked


@pytest.mark.parametrize(
    ("kind", "base", "path", "origin", "expected"),
    [
        ("openai", None, b"/chat/completions", "https://api.openai.com", b"/v1/chat/completions"),
        ("vllm", "http://h:8001/v1/", b"/embeddings?a=1", "http://h:8001", b"/v1/embeddings?a=1"),
        ("vllm", "http://h:8001/v1", b"/tokenize", "http://h:8001", b"/tokenize"),
        ("together", None, b"/rerank", "https://api.together.xyz", b"/v1/rerank"),
        ("groq", None, b"/models", "https://api.groq.com", b"/openai/v1/models"),
        ("fake", "http://[::1]:9000", b"/models", "http://[::1]:9000", b"/models"),
    ],
)
def test_paths_stand_below_the_upstreams_base(
    make_upstream: MakeUpstream,
    make_call: MakeCall,
    kind: str,
    base: str | None,
    path: bytes,
    origin: str,
    expected: bytes,
) -> None:
    request = OpenAI(make_upstream(kind, base_url=base)).request(make_call(path=path), "m")
    assert (request.origin, request.path) == (origin, expected)


async def test_a_form_has_its_model_rewritten(openai: OpenAI, make_call: MakeCall) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nalias\r\n--b--\r\n'

    async def receive() -> Any:
        return {"type": "http.request", "body": form}

    call = make_call("embeddings", body=b"")
    call.fields.clear()
    call.upload = await begin_upload(receive, {b"content-type": b"multipart/form-data; boundary=b"}, 1000)
    for model in ("whisper-1", "alias"):
        request = openai.request(call, model)
        assert not isinstance(request.body, bytes)
        assert b"".join([part async for part in request.body]) == form.replace(b"alias", model.encode())
        assert request.length == len(form) - len("alias") + len(model)
    call.upload.close()


def test_raw_requests_get_the_base_and_the_credential(openai: OpenAI) -> None:
    request = openai.raw(UpstreamRequest(b"GET", "", b"/files?limit=2", [(b"accept", b"*/*")]))
    assert (request.method, request.path) == (b"GET", b"/v1/files?limit=2")
    assert (b"authorization", b"Bearer sk-up") in request.headers


CHAT = b'{"id":"1","choices":[{"message":{"content":"the \\"error\\" {"}}],"error":null}'


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("chat", CHAT),
        ("chat", b" " + CHAT + b"\n"),
        ("chat", b'{"choices":[{"x":1}],"error":{"message":"partial"}}'),
        ("chat", CHAT.replace(b"the", b"t" * 20_000)),
        ("embeddings", b'{"data":[' + b",".join([b"[0.5,1]"] * 5000) + b"]}"),
        ("rerank", b'[{"index":0,"score":0.5}]'),
        ("speech", b"RIFF"),
        ("speech", b""),
    ],
)
def test_an_answer_is_the_same_bytes(openai: OpenAI, make_call: MakeCall, api: str, body: bytes) -> None:
    assert openai.answer(make_call(api), body).body is body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"null", b"[]", b"<html>", b'"x"', CHAT[:-1], CHAT[:20], b'{"error":"no"}',
        b'{"error":{"message":"no"}}',
        b'{"object":"error","message":"no"}', b'{"type":"error","error":{"type":"api_error","message":"no"}}',
        b'{"choices":[],"error":{"message":"no"}}', CHAT.replace(b"the", b"t" * 20_000)[:-1],
        b'{"data":[' + b'{"x":[1,2]},' * 5000 + b'{"x":[1]}',
        b'{"x":"' + b"y" * 20_000 + b'","error":{"message":"no"}}',
        b"[" + b"1," * 10_000 + b"1]",
    ],
)  # fmt: skip
def test_a_body_that_is_not_an_answer_is_refused(openai: OpenAI, make_call: MakeCall, body: bytes) -> None:
    with pytest.raises(ValueError, match="body is"):
        openai.answer(make_call(), body)


JSON = st.recursive(
    st.one_of(st.integers(0, 9), st.sampled_from(["error", "}", "{[", "choices"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["error", "choices", "x"]), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.sampled_from(["error", "choices", "object", "x"]), JSON, max_size=4), st.booleans())
def test_a_large_answer_is_judged_as_a_small_one(members: dict[str, object], large: bool) -> None:
    body = orjson.dumps(members | ({"pad": "p" * 17_000} if large else {}))
    if not members.get("choices") and (members.get("error") or members.get("object") == "error"):
        with pytest.raises(ValueError, match="is an error"):
            read_answer(body)
    else:
        read_answer(body)


def test_an_upstreams_error_passes_unchanged(openai: OpenAI, make_call: MakeCall) -> None:
    body = b'{"error":{"code":404}}'
    assert openai.error(make_call(), 404, body) is body


def test_a_broken_stream_ends_in_an_error_event(openai: OpenAI, make_call: MakeCall) -> None:
    """A blank line first, because a half event would swallow it; no [DONE] after it."""
    error = UpstreamFailed("it broke off", code="stream_cut")
    ended = openai.broken(make_call(stream=True), error)
    assert ended == b"\n\ndata: " + error.body() + b"\n\n"


def test_a_broken_response_ends_in_its_own_error_event(openai: OpenAI, make_call: MakeCall) -> None:
    ended = openai.broken(make_call("responses", stream=True), UpstreamFailed("it broke off", code="stream_cut"))
    blank, _, event = ended.partition(b"\n\n")
    assert blank == b""
    name, _, data = event.rstrip().partition(b"\ndata: ")
    assert name == b"event: error"
    assert orjson.loads(data) | {"sequence_number": 0} == {
        "type": "error", "code": "stream_cut", "message": "it broke off", "param": None, "sequence_number": 0
    }  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_the_request_says_whether_its_reply_is_a_stream(openai: OpenAI, make_call: MakeCall, stream: bool) -> None:
    call = make_call(stream=stream, messages=[{"role": "user", "content": "hi"}])
    assert openai.request(call, "m").stream is stream
