"""Anthropic's dialect: requests of Anthropic's clients pass unchanged, those of OpenAI's clients are translated.

A part of a chat request that Anthropic's API cannot express is refused by name, never dropped silently. Dropped,
because they do not change the meaning of an answer: seed, store, metadata, service_tier, prediction, verbosity and
cache hints; and vLLM's continue_final_message, which is Anthropic's behaviour anyway. Capped: temperature at 1, where
Anthropic's range ends. Members of Anthropic's own API (thinking, top_k, …) pass. Answers are read in
anthropic_reader.py. Source: https://platform.claude.com/docs/en/api/messages and …/api/openai-sdk.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.json_values import as_list, as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic_reader import MessagesReader, ToChatReader, to_chat, to_openai_error
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.plain_answer import read_answer
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_api, unsupported_parameter
from gateway.proxy.dialects.upstream_address import UpstreamAddress
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.output_limit import output_limit
from gateway.proxy.types import Headers

_VERSION: tuple[bytes, bytes] = (b"anthropic-version", b"2023-06-01")
_NATIVE_APIS = ("messages", "count_tokens")


def limited(fields: dict[str, Any], default: int | None) -> dict[str, Any]:
    return fields if default is None or output_limit("chat", fields) else {**fields, "max_tokens": default}


class Anthropic:
    """One upstream that speaks the Messages API."""

    def __init__(self, upstream: Upstream) -> None:
        key = upstream.api_key
        self._address = UpstreamAddress(upstream, (b"x-api-key", key.encode()) if key else None)
        self.origin = self._address.origin
        self._passes = frozenset(name.lower().encode() for name in upstream.pass_headers) - self._address.fixed_names

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api in _NATIVE_APIS:
            body = call.sent_with({"model": orjson.dumps(model)})
            headers = self._with_passed(call, call.headers)
            return self.raw(UpstreamRequest(call.method, "", call.path, headers, body, stream=call.stream))
        if call.api != "chat":
            raise unsupported_api(
                f"the upstream of {call.alias!r} speaks Anthropic's Messages API, which has no {call.api}; "
                "use /v1/chat/completions or /v1/messages"
            )
        _, body = translated(call, lambda fields: to_anthropic(limited(fields, call.default_output), model))
        headers = self._with_passed(call, [h for h in call.headers if not h[0].startswith(b"openai-")])
        return self.raw(UpstreamRequest(b"POST", "", b"/messages", headers, body, stream=call.stream))

    def _with_passed(self, call: Call, headers: Headers) -> Headers:
        passed = [h for h in call.passed if h[0] in self._passes and h not in headers]
        return [*headers, *passed] if passed else headers

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        sent = self._address.raw(request)
        if any(name == b"anthropic-version" for name, _ in sent.headers):
            return sent
        return replace(sent, headers=[*sent.headers, _VERSION])

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return MessagesReader() if call.api in _NATIVE_APIS else ToChatReader(call, keep_text=keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        usage = read_answer(body)
        if call.api in _NATIVE_APIS:
            return PlainReply(body, usage)
        message = lenient_json.loads(body)
        if not isinstance(message.get("content"), list):
            raise ValueError("the body is not a message: it has no content")
        return PlainReply(lenient_json.dumps(to_chat(message, int(call.received))), usage)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return body if call.api in _NATIVE_APIS else lenient_json.dumps(to_openai_error(status, body))

    def broken(self, call: Call, error: GatewayError) -> bytes:
        if call.api in _NATIVE_APIS:
            return b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"
        return b"\n\ndata: " + error.body() + b"\n\n"


Block = dict[str, Any]

MAX_TOKENS = 8192  # Anthropic requires a limit; every model since 2024 accepts this one

_NATIVE = frozenset(
    {"thinking", "top_k", "top_p", "output_config", "cache_control", "mcp_servers", "container", "context_management"}
    | {"inference_geo", "speed"}
)
_READ = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "stop"}
    | {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "user",
        "safety_identifier",
        "reasoning_effort",
        "response_format",
    }
)
_DROPPED = frozenset(
    {"seed", "store", "metadata", "service_tier", "prediction", "verbosity", "prompt_cache_key"}
    | {"prompt_cache_retention", "prompt_cache_options", "continue_final_message", "add_generation_prompt"}
)
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=-]+)*;base64,", re.A)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def to_anthropic(request: dict[str, Any], model: str) -> dict[str, Any]:
    """request: the members of a chat request. Raises BadRequest with the member as param."""
    _refuse(request)
    system, messages = messages_of(request["messages"])
    out: dict[str, Any] = {"model": model, "max_tokens": _limit(request), "messages": messages}
    out |= {name: request[name] for name in request if name in _NATIVE and request[name] is not None}
    if system:
        out["system"] = system
    if request.get("stream"):
        out["stream"] = True
    _sampling(request, out)
    _tools(request, out)
    _effort(request, out)
    _format(request, out)
    user = request.get("user") or request.get("safety_identifier")
    if isinstance(user, str):
        out["metadata"] = {"user_id": user}
    return out


refused = partial(unsupported_parameter, "Anthropic's Messages API")


def _refuse(request: dict[str, Any]) -> None:
    if request.get("n") not in (None, 1):
        raise refused("n", "it gives one choice")
    if request.get("modalities") not in (None, [], ["text"]):
        raise refused("modalities", "it answers in text")
    for name, value in request.items():
        known = name in _READ or name in _DROPPED or name in _NATIVE or name in ("n", "modalities")
        if not known and value not in (None, False, 0, "", [], {}):
            raise refused(name)


def _limit(request: dict[str, Any]) -> Any:
    given = request.get("max_completion_tokens")
    given = request.get("max_tokens") if given is None else given
    return MAX_TOKENS if given is None else given


def _sampling(request: dict[str, Any], out: dict[str, Any]) -> None:
    temperature = request.get("temperature")
    if temperature is not None:
        high = isinstance(temperature, int | float) and temperature > 1
        out["temperature"] = 1 if high else temperature
    stop = request.get("stop")
    if stop:
        out["stop_sequences"] = [stop] if isinstance(stop, str) else stop


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools = request.get("tools")
    if not tools:
        return
    out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = _choice(request.get("tool_choice"))
    if request.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        out["tool_choice"] = choice


def _tool(tool: Any, at: int) -> dict[str, Any]:
    function = as_object(tool).get("function")
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise refused(f"tools[{at}].type", "only functions are supported")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    out = {"name": function.get("name"), "input_schema": schema}
    out |= {name: function[name] for name in ("description", "strict") if function.get(name)}
    return out | {name: tool[name] for name in ("cache_control",) if name in tool}


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    function = as_object(choice).get("function")
    if isinstance(function, dict):
        return {"type": "tool", "name": function.get("name")}
    raise refused("tool_choice", "expected auto, none, required or one function")


def _effort(request: dict[str, Any], out: dict[str, Any]) -> None:
    """Sets the effort of thinking. Current models take an effort and decide themselves how much they think; an older
    model needs `thinking` with a budget, which the client can send in addition to the OpenAI members."""
    effort = request.get("reasoning_effort")
    if effort is None:
        return
    if effort == "none":
        out.setdefault("thinking", {"type": "disabled"})
        return
    if effort not in _EFFORTS:
        raise refused("reasoning_effort", f"expected one of none, {', '.join(_EFFORTS)}")
    out["output_config"] = {"effort": _EFFORTS[effort], **(out.get("output_config") or {})}
    if effort != "minimal":
        out.setdefault("thinking", {"type": "adaptive"})


def _format(request: dict[str, Any], out: dict[str, Any]) -> None:
    form = request.get("response_format")
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return
    schema = (form.get("json_schema") or {}).get("schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict):
        raise refused("response_format", "a schema is required: use type json_schema")
    out["output_config"] = {"format": {"type": "json_schema", "schema": schema}, **(out.get("output_config") or {})}


def messages_of(messages: Any) -> tuple[list[Block], list[dict[str, Any]]]:
    """(system blocks, turns).

    System messages from anywhere in the conversation go to the top, because Anthropic has no others. Consecutive tool
    results become one turn. Raises BadRequest with the path of the offending value as param.
    """
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for at, message in enumerate(as_list(messages)):
        path = f"messages[{at}]"
        role = as_object(message).get("role")
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), path, texts_only=True)
        elif role == "user":
            turns.append({"role": "user", "content": _blocks(message.get("content"), path)})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message, path)})
        elif role == "tool":
            _add_result(turns, message, path)
        else:
            raise _unsupported(f"{path}.role", f"the role {role!r} has no counterpart in Anthropic's Messages API")
    return system, turns


def _unsupported(param: str, why: str) -> BadRequest:
    return BadRequest(f"{param}: {why}", param=param, code="unsupported_value")


def _add_result(turns: list[dict[str, Any]], message: dict[str, Any], path: str) -> None:
    content = message.get("content")
    result: Block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    result["content"] = content if isinstance(content, str) else _blocks(content, path)
    last = turns[-1] if turns else None
    if last and last["role"] == "user" and last["content"] and last["content"][-1]["type"] == "tool_result":
        last["content"].append(result)
    else:
        turns.append({"role": "user", "content": [result]})


def _assistant(message: dict[str, Any], path: str) -> list[Block]:
    """Translates an assistant's turn. Reasoning of earlier turns is left out: Anthropic accepts only thinking that it
    has signed."""
    if message.get("audio"):
        raise _unsupported(f"{path}.audio", "Anthropic does not support audio")
    blocks = _blocks(message.get("content"), path, texts_only=True)
    if isinstance(message.get("refusal"), str) and not blocks:
        blocks.append({"type": "text", "text": message["refusal"]})
    calls = message.get("tool_calls") or ()
    return blocks + [_call(call, f"{path}.tool_calls[{at}]") for at, call in enumerate(calls)]


def _call(call: Any, path: str) -> Block:
    function = as_object(call).get("function")
    if not isinstance(function, dict):
        raise _unsupported(path, "only function calls are supported")
    given = lenient_json.arguments_of(function)
    if given is None:
        raise _unsupported(f"{path}.function.arguments", "expected a JSON object")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def _blocks(content: Any, path: str, *, texts_only: bool = False) -> list[Block]:
    """Empty texts are left out: Anthropic refuses them."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        raise _unsupported(f"{path}.content", "expected a string or a list of parts")
    blocks = []
    for at, part in enumerate(content):
        part_path = f"{path}.content[{at}]"
        block = _block(part, part_path)
        if texts_only and block["type"] != "text":
            raise _unsupported(part_path, "only text is supported here")
        if block.get("text") != "":
            blocks.append(block)
    return blocks


def _block(part: Any, path: str) -> Block:
    kind = as_object(part).get("type")
    block: Block
    if kind == "text":
        block = {"type": "text", "text": part.get("text")}
    elif kind == "refusal":
        block = {"type": "text", "text": part.get("refusal")}
    elif kind == "image_url":
        block = _image(part.get("image_url"), f"{path}.image_url")
    elif kind == "file":
        block = _document(part.get("file"), f"{path}.file")
    else:
        raise _unsupported(f"{path}.type", f"a part of type {kind!r} has no counterpart in Anthropic's Messages API")
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _image(image: Any, path: str) -> Block:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise _unsupported(path, "expected a URL")
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = data_url(url, path)
    if kind not in _IMAGES:
        raise _unsupported(path, f"an image of type {kind}; Anthropic takes {', '.join(sorted(_IMAGES))}")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _document(file: Any, path: str) -> Block:
    given = as_object(file).get("file_data")
    if not isinstance(given, str):
        raise _unsupported(path, "only file_data is supported; a file_id is valid only at the provider that issued it")
    kind, data = data_url(given, f"{path}.file_data")
    if kind != "application/pdf":
        raise _unsupported(f"{path}.file_data", f"a file of type {kind}; Anthropic takes application/pdf")
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": kind, "data": data}}
    if isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block


def data_url(url: str, path: str) -> tuple[str, str]:
    """(media type, base64 text) of a data: URL."""
    head = _DATA_URL.match(url)
    if head is None:
        raise _unsupported(path, "expected data:TYPE;base64,…")
    return head[1].lower(), url[head.end() :]
