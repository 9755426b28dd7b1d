"""Requests for Amazon Bedrock's Converse API, from messages in Anthropic's form, which is nearly the same.

A part that Converse cannot express is refused by name. Source: the API reference of Bedrock's runtime, operations
Converse and ConverseStream; a test holds the requests against the model of that API in botocore.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object
from gateway.proxy.dialects.unsupported import unsupported_parameter

Block = dict[str, Any]

_READ = frozenset(
    {"model", "messages", "system", "max_tokens", "temperature", "top_p", "stop_sequences", "tools", "tool_choice"}
    | {"stream", "metadata", "output_config", "thinking", "top_k", "cache_control"}
)
_DROPPED = frozenset({"service_tier", "metadata", "speed", "inference_geo"})
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/html": "html",
}
_CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 \-()\[\]]+")


def to_converse(request: dict[str, Any], model: str) -> dict[str, Any]:
    """request: the members of a request for messages. Raises BadRequest with the member as param."""
    for name, value in request.items():
        if name not in _READ | _DROPPED and value not in (None, False, "", [], {}):
            raise refused(name)
    out: dict[str, Any] = {"messages": [_turn(m, f"messages[{n}]") for n, m in enumerate(as_list(request["messages"]))]}
    system = _blocks(request.get("system"), "system")
    if system:
        out["system"] = system
    limits = {"maxTokens": request.get("max_tokens"), "temperature": request.get("temperature")}
    limits |= {"topP": request.get("top_p"), "stopSequences": request.get("stop_sequences") or None}
    given = {name: value for name, value in limits.items() if value is not None}
    if given:
        out["inferenceConfig"] = given
    _tools(request, out)
    _output(request, out)
    _more(request, out, model)
    return out


refused = partial(unsupported_parameter, "Bedrock's Converse API")


def _turn(message: Any, path: str) -> dict[str, Any]:
    role = as_object(message).get("role")
    if role not in ("user", "assistant"):
        raise refused(f"{path}.role", "expected user or assistant")
    return {"role": role, "content": _blocks(message.get("content"), f"{path}.content")}


def _blocks(content: Any, path: str) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}] if content else []
    out: list[Block] = []
    for at, block in enumerate(as_list(content)):
        out.append(_block(as_object(block), f"{path}[{at}]"))
        if as_object(block).get("cache_control"):
            out.append(_CACHE_POINT)
    return out


def _block(block: Block, path: str) -> Block:
    kind = block.get("type")
    if kind == "text":
        return {"text": block.get("text")}
    if kind == "image":
        return {"image": _file(block, _IMAGES, path)}
    if kind == "document":
        name = _NOT_IN_NAMES.sub(" ", str(block.get("title") or "document")).strip() or "document"
        return {"document": {"name": name[:200], **_file(block, _DOCUMENTS, path)}}
    if kind == "tool_use":
        return {"toolUse": {"toolUseId": block.get("id"), "name": block.get("name"), "input": block.get("input") or {}}}
    if kind == "tool_result":
        return {"toolResult": _result(block, path)}
    if kind == "thinking":
        text = {"text": block.get("thinking") or ""} | ({"signature": s} if (s := block.get("signature")) else {})
        return {"reasoningContent": {"reasoningText": text}}
    if kind == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": block.get("data")}}
    raise refused(f"{path}.type", f"a part of type {kind!r} has no counterpart")


def _file(block: Block, formats: dict[str, str], path: str) -> Block:
    source = as_object(block.get("source"))
    kind, media = source.get("type"), str(source.get("media_type"))
    if kind != "base64":
        raise refused(f"{path}.source", "only data within the request is supported, such as a data: URL")
    if media not in formats:
        raise refused(f"{path}.source.media_type", f"{media}; expected one of {', '.join(sorted(formats))}")
    return {"format": formats[media], "source": {"bytes": source.get("data")}}


def _result(block: Block, path: str) -> Block:
    content = _blocks(block.get("content"), f"{path}.content")
    status = {"status": "error"} if block.get("is_error") else {}
    return {"toolUseId": block.get("tool_use_id"), "content": content or [{"text": ""}], **status}


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools, choice = request.get("tools"), as_object(request.get("tool_choice"))
    if not tools:
        return
    if choice.get("disable_parallel_tool_use"):
        raise refused("parallel_tool_calls", "parallel tool calls cannot be disabled")
    if choice.get("type") == "none":
        if any("toolUse" in block or "toolResult" in block for turn in out["messages"] for block in turn["content"]):
            raise refused("tool_choice", "none cannot be expressed in a conversation with calls of tools")
        return
    config: dict[str, Any] = {"tools": [_tool(as_object(tool), f"tools[{at}]") for at, tool in enumerate(tools)]}
    if choice.get("type") == "tool":
        config["toolChoice"] = {"tool": {"name": choice.get("name")}}
    elif choice.get("type") in ("auto", "any"):
        config["toolChoice"] = {choice["type"]: {}}
    out["toolConfig"] = config


def _tool(tool: dict[str, Any], path: str) -> dict[str, Any]:
    if "input_schema" not in tool:
        raise refused(f"{path}.type", "only tools that the client runs are supported")
    spec = {"name": tool.get("name"), "inputSchema": {"json": tool["input_schema"]}}
    spec |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    return {"toolSpec": spec}


def _output(request: dict[str, Any], out: dict[str, Any]) -> None:
    config = as_object(request.get("output_config"))
    found: dict[str, Any] = {}
    if config.get("effort"):
        found["effort"] = config["effort"]
    schema = as_object(config.get("format")).get("schema")
    if schema is not None:
        text = orjson.dumps(schema).decode()
        found["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": {"name": "answer", "schema": text}}}
    if found:
        out["outputConfig"] = found


def _more(request: dict[str, Any], out: dict[str, Any], model: str) -> None:
    """Members that Converse passes on to the model as they are, by the model's maker."""
    top_k, thinking = request.get("top_k"), as_object(request.get("thinking"))
    if "anthropic." in model:
        more = {name: request[name] for name in ("top_k", "thinking") if request.get(name) is not None}
    elif top_k is not None and "amazon.nova" in model:
        more = {"inferenceConfig": {"topK": top_k}}
    elif top_k is not None:
        raise refused("top_k", "this model's own name for it is not known here")
    else:
        more = {}
    if thinking and "anthropic." not in model and thinking.get("type") == "enabled":
        raise refused("thinking", "only Claude has it; reasoning_effort sets outputConfig.effort")
    if more:
        out["additionalModelRequestFields"] = more
