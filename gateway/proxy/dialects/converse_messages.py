"""Requests of Bedrock's own clients for Converse as messages in Anthropic's form, for records: the inverse of
converse_request.py. Pure. What that form has no place for becomes a text with its JSON."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object
from gateway.proxy.dialects.converse_reader import to_block

Block = dict[str, Any]

_LIMITS = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop_sequences"}
_IMAGES = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_DOCUMENTS = {"pdf": "application/pdf", "md": "text/markdown", "csv": "text/csv", "html": "text/html"}
_READ = frozenset(
    {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields", "model"}
)


def messages_of(request: dict[str, Any], model: str, *, stream: bool) -> dict[str, Any]:
    """request: the members of a request of Converse."""
    turns = [
        {"role": turn.get("role"), "content": _blocks(turn.get("content"))}
        for turn in map(as_object, as_list(request.get("messages")))
    ]
    out: dict[str, Any] = {"model": model, "messages": turns}
    if stream:
        out["stream"] = True
    if system := _blocks(request.get("system")):
        out["system"] = system
    limits = as_object(request.get("inferenceConfig"))
    out |= {ours: limits[theirs] for theirs, ours in _LIMITS.items() if theirs in limits}
    _tools(as_object(request.get("toolConfig")), out)
    if output := _output(as_object(request.get("outputConfig"))):
        out["output_config"] = output
    more = as_object(request.get("additionalModelRequestFields"))
    return out | more | {name: value for name, value in request.items() if name not in _READ}


def _blocks(content: Any) -> list[Block]:
    out: list[Block] = []
    for block in map(as_object, as_list(content)):
        if "cachePoint" in block:
            if out:
                out[-1]["cache_control"] = {"type": "ephemeral"}
        else:
            out.append(_block(block))
    return out


def _block(block: Block) -> Block:
    if "image" in block:
        return {"type": "image", "source": _source(as_object(block["image"]), _IMAGES)}
    if "document" in block:
        document = as_object(block["document"])
        return {"type": "document", "title": document.get("name"), "source": _source(document, _DOCUMENTS)}
    if "toolResult" in block:
        result = as_object(block["toolResult"])
        failed = {"is_error": True} if result.get("status") == "error" else {}
        content = _blocks(result.get("content"))
        return {"type": "tool_result", "tool_use_id": result.get("toolUseId"), "content": content, **failed}
    return to_block(block) or {"type": "text", "text": orjson.dumps(block).decode()}


def _source(file: Block, types: dict[str, str]) -> Block:
    data = as_object(file.get("source")).get("bytes")
    kind = types.get(str(file.get("format")), "text/plain")
    return {"type": "base64", "media_type": kind, "data": data} if data else as_object(file.get("source"))


def _tools(config: dict[str, Any], out: dict[str, Any]) -> None:
    tools = [tool for each in as_list(config.get("tools")) if (tool := _tool(as_object(each)))]
    if tools:
        out["tools"] = tools
    for kind, chosen in as_object(config.get("toolChoice")).items():
        named = {"name": as_object(chosen).get("name")} if kind == "tool" else {}
        out["tool_choice"] = {"type": kind, **named}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    spec = as_object(tool.get("toolSpec"))
    found = {name: spec[name] for name in ("name", "description", "strict") if name in spec}
    return found | ({"input_schema": as_object(spec.get("inputSchema")).get("json")} if spec else {})


def _output(config: dict[str, Any]) -> dict[str, Any]:
    found = {"effort": config["effort"]} if "effort" in config else {}
    structure = as_object(as_object(config.get("textFormat")).get("structure"))
    schema = as_object(structure.get("jsonSchema")).get("schema")
    return found | ({"format": {"type": "json_schema", "schema": orjson.loads(schema)}} if schema else {})
