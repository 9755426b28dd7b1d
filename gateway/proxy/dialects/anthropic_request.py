"""A chat request in Anthropic's words. Pure. What Anthropic cannot say is refused by name, never dropped in silence.

Dropped, because they change no answer's meaning: seed, store, metadata, service_tier, prediction, verbosity and cache
hints; and vLLM's continue_final_message, which is what Anthropic does anyway. Capped: temperature at 1, where
Anthropic's range ends. Members of Anthropic's own API (thinking, top_k, …) pass.
Source: https://platform.claude.com/docs/en/api/messages and …/api/openai-sdk.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.errors import BadRequest

Block = dict[str, Any]

MAX_TOKENS = 8192  # Anthropic wants a limit; every model of it since 2024 takes this one

_ITS_OWN = frozenset(
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


def to_anthropic(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """asked: a chat request's members. Raises BadRequest with the member as param."""
    _refuse(asked)
    system, messages = messages_of(asked["messages"])
    out: dict[str, Any] = {"model": model, "max_tokens": _limit(asked), "messages": messages}
    out |= {name: asked[name] for name in asked if name in _ITS_OWN and asked[name] is not None}
    if system:
        out["system"] = system
    if asked.get("stream"):
        out["stream"] = True
    _sampling(asked, out)
    _tools(asked, out)
    _effort(asked, out)
    _format(asked, out)
    user = asked.get("user") or asked.get("safety_identifier")
    if isinstance(user, str):
        out["metadata"] = {"user_id": user}
    return out


def refused(param: str, why: str = "") -> BadRequest:
    """What to raise for a member that Anthropic has no word for."""
    text = f"\"{param}\" cannot be said to this model's upstream, which speaks Anthropic's Messages API"
    return BadRequest(f"{text}{': ' + why if why else ''}", param=param, code="unsupported_parameter")


def _refuse(asked: dict[str, Any]) -> None:
    if asked.get("n") not in (None, 1):
        raise refused("n", "it gives one choice")
    if asked.get("modalities") not in (None, [], ["text"]):
        raise refused("modalities", "it answers in text")
    for name, value in asked.items():
        known = name in _READ or name in _DROPPED or name in _ITS_OWN or name in ("n", "modalities")
        if not known and value not in (None, False, 0, "", [], {}):
            raise refused(name)


def _limit(asked: dict[str, Any]) -> Any:
    given = asked.get("max_completion_tokens")
    given = asked.get("max_tokens") if given is None else given
    return MAX_TOKENS if given is None else given


def _sampling(asked: dict[str, Any], out: dict[str, Any]) -> None:
    temperature = asked.get("temperature")
    if temperature is not None:
        high = isinstance(temperature, int | float) and temperature > 1
        out["temperature"] = 1 if high else temperature
    stop = asked.get("stop")
    if stop:
        out["stop_sequences"] = [stop] if isinstance(stop, str) else stop


def _tools(asked: dict[str, Any], out: dict[str, Any]) -> None:
    tools = asked.get("tools")
    if not tools:
        return
    out["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    choice = _choice(asked.get("tool_choice"))
    if asked.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        out["tool_choice"] = choice


def _tool(tool: Any, at: int) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise refused(f"tools[{at}].type", "only functions can be offered")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    out = {"name": function.get("name"), "input_schema": schema}
    out |= {name: function[name] for name in ("description", "strict") if function.get(name)}
    return out | {name: tool[name] for name in ("cache_control",) if name in tool}


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict):
        return {"type": "tool", "name": function.get("name")}
    raise refused("tool_choice", "expected auto, none, required or one function")


def _effort(asked: dict[str, Any], out: dict[str, Any]) -> None:
    """Effort is Anthropic's own measure since its models choose their thinking themselves; an older model wants
    `thinking` with a budget instead, which the client can give beside the OpenAI members."""
    effort = asked.get("reasoning_effort")
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


def _format(asked: dict[str, Any], out: dict[str, Any]) -> None:
    form = asked.get("response_format")
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return
    schema = (form.get("json_schema") or {}).get("schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict):
        raise refused("response_format", "it wants a schema: use type json_schema")
    out["output_config"] = {"format": {"type": "json_schema", "schema": schema}, **(out.get("output_config") or {})}


def messages_of(messages: Any) -> tuple[list[Block], list[dict[str, Any]]]:
    """(system blocks, turns). Instructions from anywhere in the conversation go to its head, where Anthropic has them;
    tool results that follow each other become one turn, as it wants them. Raises BadRequest with the place as param."""
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for at, message in enumerate(messages if isinstance(messages, list) else ()):
        where = f"messages[{at}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), where, texts_only=True)
        elif role == "user":
            turns.append({"role": "user", "content": _blocks(message.get("content"), where)})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message, where)})
        elif role == "tool":
            _add_result(turns, message, where)
        else:
            raise _bad(f"{where}.role", f"the role {role!r} has no counterpart in Anthropic's Messages API")
    return system, turns


def _bad(param: str, why: str) -> BadRequest:
    return BadRequest(f"{param}: {why}", param=param, code="unsupported_value")


def _add_result(turns: list[dict[str, Any]], message: dict[str, Any], where: str) -> None:
    content = message.get("content")
    result: Block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    result["content"] = content if isinstance(content, str) else _blocks(content, where)
    last = turns[-1] if turns else None
    if last and last["role"] == "user" and last["content"] and last["content"][-1]["type"] == "tool_result":
        last["content"].append(result)
    else:
        turns.append({"role": "user", "content": [result]})


def _assistant(message: dict[str, Any], where: str) -> list[Block]:
    """Reasoning of earlier turns is left out: Anthropic takes back only what it has signed."""
    if message.get("audio"):
        raise _bad(f"{where}.audio", "Anthropic has no audio")
    blocks = _blocks(message.get("content"), where, texts_only=True)
    if isinstance(message.get("refusal"), str) and not blocks:
        blocks.append({"type": "text", "text": message["refusal"]})
    calls = message.get("tool_calls") or ()
    return blocks + [_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)]


def _call(call: Any, where: str) -> Block:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise _bad(where, "only calls of functions can be said")
    try:
        given = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        given = None
    if not isinstance(given, dict):
        raise _bad(f"{where}.function.arguments", "Anthropic wants a JSON object here")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def _blocks(content: Any, where: str, *, texts_only: bool = False) -> list[Block]:
    """Empty texts are left out: Anthropic refuses them."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        raise _bad(f"{where}.content", "expected a string or a list of parts")
    blocks = []
    for at, part in enumerate(content):
        place = f"{where}.content[{at}]"
        block = _block(part, place)
        if texts_only and block["type"] != "text":
            raise _bad(place, "only text can be said here")
        if block.get("text") != "":
            blocks.append(block)
    return blocks


def _block(part: Any, where: str) -> Block:
    kind = part.get("type") if isinstance(part, dict) else None
    block: Block
    if kind == "text":
        block = {"type": "text", "text": part.get("text")}
    elif kind == "refusal":
        block = {"type": "text", "text": part.get("refusal")}
    elif kind == "image_url":
        block = _image(part.get("image_url"), f"{where}.image_url")
    elif kind == "file":
        block = _document(part.get("file"), f"{where}.file")
    else:
        raise _bad(f"{where}.type", f"a part of type {kind!r} has no counterpart in Anthropic's Messages API")
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _image(image: Any, where: str) -> Block:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise _bad(where, "expected a URL")
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = _data(url, where)
    if kind not in _IMAGES:
        raise _bad(where, f"an image of type {kind}; Anthropic takes {', '.join(sorted(_IMAGES))}")
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _document(file: Any, where: str) -> Block:
    given = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(given, str):
        raise _bad(where, "only file_data can be passed on; a file_id is known to its own vendor alone")
    kind, data = _data(given, f"{where}.file_data")
    if kind != "application/pdf":
        raise _bad(f"{where}.file_data", f"a file of type {kind}; Anthropic takes application/pdf")
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": kind, "data": data}}
    if isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block


def _data(url: str, where: str) -> tuple[str, str]:
    """(media type, base64 text) of a data: URL."""
    head = _DATA_URL.match(url)
    if head is None:
        raise _bad(where, "expected data:TYPE;base64,…")
    return head[1].lower(), url[head.end() :]
