"""A Messages request → a chat request. Pure.

What a chat request cannot express is refused by name, never dropped silently. Dropped, because they do not change what
an answer means: cache_control, service_tier, speed, diagnostics, a tool result's is_error, and the
thinking of earlier turns, which only Anthropic can verify; with it goes a context_management that only clears thinking.
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
_BUDGETS = ((4096, "low"), (16384, "medium"))  # (thinking tokens up to, reasoning_effort)

Part = dict[str, Any]


def to_chat_request(request: dict[str, Any], limit_name: str) -> dict[str, Any]:
    """request: the members of a Messages request. limit_name: the upstream's name for max_tokens. Raises BadRequest."""
    for name, value in request.items():
        if name not in _READ and name not in _DROPPED and value is not None:
            _check_unknown(name, value)
    out: dict[str, Any] = {"model": request.get("model"), "messages": _messages(request)}
    out |= {name: request[name] for name in _PASSED if request.get(name) is not None}
    if request.get("max_tokens") is not None:
        out[limit_name] = request["max_tokens"]
    if request.get("stop_sequences"):
        out["stop"] = request["stop_sequences"]
    _tools(request, out)
    _effort(request, out)
    user = (request.get("metadata") or {}).get("user_id")
    if user:
        out["user"] = user
    return out


def _check_unknown(name: str, value: Any) -> None:
    """Raises BadRequest, unless the member asks for nothing."""
    if name == "context_management" and _clears_only_thinking(value):
        return
    error = _refused(name)
    if name == "thread":  # Anthropic's clients go on without a thread if the refusal has this code
        code = "thread_not_found" if _continues(value) else "thread_unsupported_request"
        error.details = {"details": {"error_code": code}}
    raise error


def _clears_only_thinking(management: Any) -> bool:
    """Whether its edits concern nothing but the thinking of earlier turns, which is not translated anyway.

    Claude Code sends `{"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}`."""
    edits = management.get("edits") or () if isinstance(management, dict) else None
    return isinstance(edits, list | tuple) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking_") for edit in edits
    )


def _continues(thread: Any) -> bool:
    return isinstance(thread, dict) and thread.get("previous_message_id") is not None


def _refused(param: str, why: str = "") -> BadRequest:
    text = f'"{param}" is not supported by the upstream of this model, which speaks OpenAI\'s chat API'
    return BadRequest(f"{text}{': ' + why if why else ''}", param=param, code="unsupported_parameter")


def _messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    system = _text(request.get("system"), "system")
    if system:
        out.append({"role": "system", "content": system})
    for at, message in enumerate(request.get("messages") or ()):
        path = f"messages[{at}]"
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            out.append(_assistant(content, path))
        elif role == "user":
            out += _user(content, path)
        elif role == "system":
            out.append({"role": "system", "content": _text(content, path)})
        else:
            raise _refused(f"{path}.role", "expected user or assistant")
    return out


def _listed(content: Any, path: str) -> list[tuple[str, Part]]:
    """(path, block) of each block; a string is one text block."""
    if isinstance(content, str):
        return [(path, {"type": "text", "text": content})]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _refused(f"{path}.content", "expected a string or a list of blocks")
    return [(f"{path}.content[{at}]", block) for at, block in enumerate(content)]


def _text(content: Any, path: str) -> str:
    texts = []
    for block_path, block in _listed(content or "", path):
        if block.get("type") != "text":
            raise _refused(block_path, "only text is supported here")
        texts.append(block.get("text") or "")
    return "\n\n".join(texts)


def _assistant(content: Any, path: str) -> dict[str, Any]:
    texts, calls = [], []
    for block_path, block in _listed(content, path):
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": lenient_json.dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):
            raise _refused(block_path, f"a block of type {kind!r}")
    out: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return out | ({"tool_calls": calls} if calls else {})


def _user(content: Any, path: str) -> list[dict[str, Any]]:
    """Tool results come first, as separate messages; images in them follow as parts of the user's message."""
    results: list[dict[str, Any]] = []
    parts: list[Part] = []
    for block_path, block in _listed(content, path):
        if block.get("type") == "tool_result":
            text, images = _result(block.get("content"), block_path)
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
            parts += images
        else:
            parts.append(_part(block, block_path))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _result(content: Any, path: str) -> tuple[str, list[Part]]:
    parts = [_part(block, block_path) for block_path, block in _listed(content or "", path)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: Part, path: str) -> Part:
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        return {"type": "text", "text": block.get("text") or ""}
    if isinstance(source, dict) and kind == "image":
        return {"type": "image_url", "image_url": {"url": _url(source, path)}}
    if isinstance(source, dict) and kind == "document":
        if source.get("type") == "text":
            return {"type": "text", "text": source.get("data") or ""}
        if source.get("type") == "base64":
            file = {"filename": block.get("title") or "document.pdf", "file_data": _url(source, path)}
            return {"type": "file", "file": file}
    raise _refused(path, f"a block of type {kind!r} with this source")


def _url(source: dict[str, Any], path: str) -> str:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return str(source.get("url"))
    raise _refused(f"{path}.source", "a file id is valid only at the provider that issued it")


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools = request.get("tools")
    if tools:
        out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = request.get("tool_choice")
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
        raise _refused(f"tools[{at}].type", "Anthropic's own tools run only at Anthropic")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema")}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    return {"type": "function", "function": function}


def _effort(request: dict[str, Any], out: dict[str, Any]) -> None:
    thinking, config = request.get("thinking") or {}, request.get("output_config") or {}
    if config.get("effort"):
        out["reasoning_effort"] = config["effort"]
    elif thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens") or 0
        out["reasoning_effort"] = next((effort for most, effort in _BUDGETS if budget <= most), "high")
    form = config.get("format")
    if form:
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        out["response_format"] = {"type": "json_schema", "json_schema": schema}
