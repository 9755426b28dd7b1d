"""The Responses API around the dialects of chats: what is sent, what is recorded, and who decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.core.providers import PROVIDERS
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.responses import ResponsesAsChat, chat_form
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
WITHOUT = {"anthropic", "llamafile", "llama_cpp_python", "ray_serve", "tgi", "mistral", "gemini", "bedrock", "vertex"}
WITHOUT |= {"bedrock_anthropic", "bedrock_converse", "gemini_native", "vertex_anthropic", "perplexity"}
CHAT = {
    "id": "chatcmpl-1", "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "model": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": 2},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_the_kind_decides_who_gets_a_chat(make_upstream: MakeUpstream, make_call: MakeCall, kind: str) -> None:
    base = PROVIDERS[kind].base_url or "https://name.example.com/openai/v1"
    request = build_dialect(make_upstream(kind, base_url=base)).request(make_call("responses", input="Hi"), "m")
    assert isinstance(request.body, bytes)
    native = request.path.partition(b"?")[0].endswith(b"/responses")
    assert native == (kind not in WITHOUT)
    assert native == (orjson.loads(request.body) == {"model": "m", "input": "Hi"})


def test_the_config_overrides_the_kind(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call = make_call("responses", input="Hi")
    assert build_dialect(make_upstream("openai", responses="chat")).request(call, "m").path == b"/v1/chat/completions"
    assert build_dialect(make_upstream("mistral", responses="native")).request(call, "m").path == b"/v1/responses"
    with pytest.raises(ValidationError, match="responses: Anthropic's API has none of its own"):
        make_upstream("anthropic", responses="native")


@pytest.mark.parametrize("kind", ["vllm", "anthropic"])
def test_the_record_is_of_the_clients_api(make_upstream: MakeUpstream, make_call: MakeCall, kind: str) -> None:
    upstream = make_upstream(kind, responses="chat")
    call = make_call("responses", input="Hi", stream=True, store=False)
    request = build_dialect(upstream).request(call, "m")
    assert orjson.loads(request.recorded) == {"model": "m", "input": "Hi", "stream": True, "store": False}
    assert isinstance(request.body, bytes)
    sent = orjson.loads(request.body)
    assert request.stream
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert (sent.get("stream_options") == {"include_usage": True}) == (kind == "vllm")


def test_the_default_limit_reaches_the_chat(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    from dataclasses import replace

    for kind, name in (("vllm", "max_tokens"), ("anthropic", "max_tokens"), ("openai", "max_completion_tokens")):
        call = replace(make_call("responses", input="Hi"), default_output=77)
        body = build_dialect(make_upstream(kind, responses="chat")).request(call, "m").body
        assert isinstance(body, bytes)
        assert orjson.loads(body)[name] == 77


@pytest.mark.parametrize(("kind", "body"), [("vllm", CHAT), ("anthropic", MESSAGE)])
def test_a_plain_answer_is_a_response(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str, body: dict[str, Any]
) -> None:
    from openai.types.responses import Response

    dialect = build_dialect(make_upstream(kind, responses="chat"))
    reply = dialect.answer(make_call("responses", input="Hi"), orjson.dumps(body))
    response = Response.model_validate_json(reply.body)
    assert (response.output_text, response.model, response.created_at) == ("Hi", "m", 1764000000)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 2)
    assert reply.usage is not None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":"no"}', b'{"choices":[7]}'])
def test_a_body_without_an_answer_is_refused(make_upstream: MakeUpstream, make_call: MakeCall, body: bytes) -> None:
    for kind in ("vllm", "anthropic"):
        with pytest.raises(ValueError, match="the body"):
            build_dialect(make_upstream(kind, responses="chat")).answer(make_call("responses", input="Hi"), body)


def test_errors_are_openais(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call, error = make_call("responses", input="Hi", stream=True), UpstreamFailed("it broke off")
    overloaded = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    for kind in ("vllm", "anthropic"):
        dialect = build_dialect(make_upstream(kind, responses="chat"))
        assert dialect.broken(call, error) == OpenAI(make_upstream("openai")).broken(call, error)
        assert orjson.loads(dialect.error(call, 529, overloaded))["error"]["message"] == "Overloaded"


@pytest.mark.parametrize("api", ["compact", "input_tokens"])
def test_its_other_endpoints_are_refused(make_upstream: MakeUpstream, make_call: MakeCall, api: str) -> None:
    call = make_call(api, path=b"/responses/" + api.encode(), input="Hi")
    for kind in ("anthropic", "mistral"):
        with pytest.raises(BadRequest, match=f"/v1/responses/{api} cannot be translated"):
            build_dialect(make_upstream(kind)).request(call, "m")


def test_a_query_of_another_api_is_not_sent(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call = make_call("responses", path=b"/responses?include=x", input="Hi")
    assert build_dialect(make_upstream("mistral")).request(call, "m").path == b"/v1/chat/completions"


def test_a_large_body_is_read_for_its_tools(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    """The members of a large request are not parsed, and are represented by `...`."""
    upstream = make_upstream("vllm", responses="chat")
    dialect = ResponsesAsChat(upstream, OpenAI(upstream))
    call = make_call("responses", input="Hi", tools=[{"type": "custom", "name": "patch"}], stream=True)
    call.fields["tools"] = call.fields["input"] = ...
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "patch", "arguments": '{"input":"a"}'}}]}
    chunk = b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]})
    out = dialect.reader(call, False).feed(chunk + b"\n\ndata: [DONE]\n\n")
    assert b'"type":"custom_tool_call"' in out
    assert b'"input":"a"' in out


def test_the_form_of_a_chat_is_the_upstreams(make_upstream: MakeUpstream) -> None:
    assert chat_form(make_upstream("azure", base_url="https://x")).openais
    assert chat_form(make_upstream("deepseek")).reasoning_name == "reasoning_content"
    assert chat_form(make_upstream("anthropic")).tool_images
