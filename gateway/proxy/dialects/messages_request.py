"""A Messages request in chat's words. Pure. What chat cannot say is refused by name, never dropped in silence.

Dropped, because they change no answer's meaning: cache_control, service_tier, speed, diagnostics, a tool result's
is_error, and the thinking of earlier turns, which only Anthropic can read back.
"""

from __future__ import annotations

from typing import Any

from gateway.core.errors import BadRequest
from gateway.proxy.dialects import lenient_json

_PASSED = ("temperature", "top_p", "top_k", "stream")
_READ = frozenset(
    {"model", "messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "thinking"}
    | {"output_config", "metadata", *_PASSED}
)
_DROPPED = frozenset({"cache_control", "service_tier", "speed", "diagnostics", "user_profile_id", "workspace_id"})
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_BUDGETS = ((4096, "low"), (16384, "medium"))  # thinking tokens up to which an effort is meant

Part = dict[str, Any]


def to_chat_request(asked: dict[str, Any], limit_name: str) -> dict[str, Any]:
    """asked: a Messages request's members. limit_name: the upstream's word for max_tokens. Raises BadRequest."""
    for name, value in asked.items():
        if name not in _READ and name not in _DROPPED and value is not None:
            raise _refused(name)
    out: dict[str, Any] = {"model": asked.get("model"), "messages": _messages(asked)}
    out |= {name: asked[name] for name in _PASSED if asked.get(name) is not None}
    if asked.get("max_tokens") is not None:
        out[limit_name] = asked["max_tokens"]
    if asked.get("stop_sequences"):
        out["stop"] = asked["stop_sequences"]
    _tools(asked, out)
    _effort(asked, out)
    user = (asked.get("metadata") or {}).get("user_id")
    if user:
        out["user"] = user
    return out


def _refused(param: str, why: str = "") -> BadRequest:
    text = f"\"{param}\" cannot be said to this model's upstream, which speaks OpenAI's chat API"
    return BadRequest(f"{text}{': ' + why if why else ''}", param=param, code="unsupported_parameter")


def _messages(asked: dict[str, Any]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    system = _text(asked.get("system"), "system")
    if system:
        out.append({"role": "system", "content": system})
    for at, message in enumerate(asked.get("messages") or ()):
        where = f"messages[{at}]"
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            out.append(_assistant(content, where))
        elif role == "user":
            out += _user(content, where)
        elif role == "system":
            out.append({"role": "system", "content": _text(content, where)})
        else:
            raise _refused(f"{where}.role", "expected user or assistant")
    return out


def _listed(content: Any, where: str) -> list[tuple[str, Part]]:
    """(place, block) of each block; a string is one text block."""
    if isinstance(content, str):
        return [(where, {"type": "text", "text": content})]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _refused(f"{where}.content", "expected a string or a list of blocks")
    return [(f"{where}.content[{at}]", block) for at, block in enumerate(content)]


def _text(content: Any, where: str) -> str:
    texts = []
    for place, block in _listed(content or "", where):
        if block.get("type") != "text":
            raise _refused(place, "only text can be said here")
        texts.append(block.get("text") or "")
    return "\n\n".join(texts)


def _assistant(content: Any, where: str) -> dict[str, Any]:
    texts, calls = [], []
    for place, block in _listed(content, where):
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": lenient_json.dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise _refused(place, f"a block of type {kind!r}")
    out: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return out | ({"tool_calls": calls} if calls else {})


def _user(content: Any, where: str) -> list[dict[str, Any]]:
    """Tool results come first, as messages of their own; what they show as images follows among the user's parts."""
    results: list[dict[str, Any]] = []
    parts: list[Part] = []
    for place, block in _listed(content, where):
        if block.get("type") == "tool_result":
            text, images = _result(block.get("content"), place)
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
            parts += images
        else:
            parts.append(_part(block, place))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _result(content: Any, where: str) -> tuple[str, list[Part]]:
    parts = [_part(block, place) for place, block in _listed(content or "", where)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: Part, where: str) -> Part:
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        return {"type": "text", "text": block.get("text") or ""}
    if isinstance(source, dict) and kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(source, where)}}
    if isinstance(source, dict) and kind == "document":
        if source.get("type") == "text":
            return {"type": "text", "text": source.get("data") or ""}
        if source.get("type") == "base64":
            file = {"filename": block.get("title") or "document.pdf", "file_data": _url(source, where)}
            return {"type": "file", "file": file}
    raise _refused(where, f"a block of type {kind!r} with this source")


def _url(source: dict[str, Any], where: str) -> str:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return str(source.get("url"))
    raise _refused(f"{where}.source", "a file id is known to its own vendor alone")


def _tools(asked: dict[str, Any], out: dict[str, Any]) -> None:
    tools = asked.get("tools")
    if tools:
        out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = asked.get("tool_choice")
    if not tools or not choice:
        return
    kind = choice.get("type")
    if kind == "tool":
        out["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif kind in _CHOICES:
        out["tool_choice"] = _CHOICES[kind]
    else:
        raise _refused("tool_choice", f"a choice of type {kind!r}")
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = False


def _tool(tool: dict[str, Any], at: int) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise _refused(f"tools[{at}].type", "Anthropic's own tools run at Anthropic alone")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema")}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    return {"type": "function", "function": function}


def _effort(asked: dict[str, Any], out: dict[str, Any]) -> None:
    thinking, config = asked.get("thinking") or {}, asked.get("output_config") or {}
    if config.get("effort"):
        out["reasoning_effort"] = config["effort"]
    elif thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens") or 0
        out["reasoning_effort"] = next((effort for most, effort in _BUDGETS if budget <= most), "high")
    form = config.get("format")
    if form:
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        out["response_format"] = {"type": "json_schema", "json_schema": schema}
