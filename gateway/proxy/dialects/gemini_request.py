"""Requests for Gemini's generateContent, from chats.

A part that it cannot express is refused by name, never dropped silently. Dropped, because it does not change the
meaning of an answer: store, metadata, service_tier, user, prediction, verbosity and cache hints. Members of Gemini's
own API pass: safetySettings, cachedContent. Source: https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic import data_url
from gateway.proxy.dialects.unsupported import unsupported_parameter

Part = dict[str, Any]

_CONFIG = {
    "temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed", "n": "candidateCount",
    "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}  # fmt: skip
"""Members of a chat → members of generationConfig."""
_NATIVE = frozenset({"safetySettings", "cachedContent"})
_READ = (
    "model messages stream stream_options max_tokens max_completion_tokens stop tools tool_choice parallel_tool_calls "
    "response_format reasoning_effort modalities"
)
_DROPPED = (
    "store metadata service_tier prediction verbosity user safety_identifier prompt_cache_key prompt_cache_retention "
    "prompt_cache_options"
)
_KNOWN = frozenset(_CONFIG) | _NATIVE | frozenset(_READ.split()) | frozenset(_DROPPED.split())
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_EFFORTS = ("minimal", "low", "medium", "high")
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mp3"}


def to_gemini(request: dict[str, Any]) -> dict[str, Any]:
    """request: the members of a chat request. Raises BadRequest with the member as param."""
    for name, value in request.items():
        if name not in _KNOWN and value not in (None, False, 0, "", [], {}):
            raise refused(name)
    if request.get("modalities") not in (None, [], ["text"]):
        raise refused("modalities", "only text answers are supported")
    system, contents = contents_of(request["messages"])
    out: dict[str, Any] = {"contents": contents}
    if system:
        out["systemInstruction"] = {"parts": system}
    config = _config(request)
    if config:
        out["generationConfig"] = config
    _tools(request, out)
    return out | {name: request[name] for name in _NATIVE if request.get(name) is not None}


refused = partial(unsupported_parameter, "Gemini's own API")


def _config(request: dict[str, Any]) -> dict[str, Any]:
    config = {theirs: request[ours] for ours, theirs in _CONFIG.items() if request.get(ours) is not None}
    if config.get("candidateCount") == 1:
        del config["candidateCount"]
    limit = request.get("max_completion_tokens")
    limit = request.get("max_tokens") if limit is None else limit
    if limit is not None:
        config["maxOutputTokens"] = limit
    stop = request.get("stop")
    if stop:
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    return config | _format(request.get("response_format")) | _thinking(request.get("reasoning_effort"))


def _format(form: Any) -> dict[str, Any]:
    kind = as_object(form).get("type", "text")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    schema = as_object(as_object(form).get("json_schema")).get("schema")
    if kind != "json_schema" or not isinstance(schema, dict):
        raise refused("response_format", "expected text, json_object, or json_schema with a schema")
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _thinking(effort: Any) -> dict[str, Any]:
    if effort is None:
        return {}
    if effort == "none":
        return {"thinkingConfig": {"thinkingBudget": 0}}
    if effort not in _EFFORTS:
        raise refused("reasoning_effort", f"expected one of none, {', '.join(_EFFORTS)}")
    return {"thinkingConfig": {"thinkingLevel": effort, "includeThoughts": True}}


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools = request.get("tools")
    if not tools:
        return
    if request.get("parallel_tool_calls") is False:
        raise refused("parallel_tool_calls", "parallel tool calls cannot be disabled")
    out["tools"] = [{"functionDeclarations": [_tool(tool, at) for at, tool in enumerate(as_list(tools))]}]
    choice = request.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, str) and choice in _MODES:
        calling: dict[str, Any] = {"mode": _MODES[choice]}
    elif isinstance(name := as_object(as_object(choice).get("function")).get("name"), str):
        calling = {"mode": "ANY", "allowedFunctionNames": [name]}
    else:
        raise refused("tool_choice", "expected auto, none, required or one function")
    out["toolConfig"] = {"functionCallingConfig": calling}


def _tool(tool: Any, at: int) -> dict[str, Any]:
    function = as_object(tool).get("function")
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise refused(f"tools[{at}].type", "only functions are supported")
    out = {"name": function.get("name")} | ({"description": d} if (d := function.get("description")) else {})
    return out | ({"parametersJsonSchema": p} if (p := function.get("parameters")) else {})


def contents_of(messages: Any) -> tuple[list[Part], list[dict[str, Any]]]:
    """(parts of the system instruction, turns). Consecutive results of tools become one turn."""
    system: list[Part] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # of called functions, by the id of the call
    for at, message in enumerate(as_list(messages)):
        path, role = f"messages[{at}]", as_object(message).get("role")
        if role in ("system", "developer"):
            system += _parts(message.get("content"), path)
        elif role == "user":
            turns.append({"role": "user", "parts": _parts(message.get("content"), path)})
        elif role == "assistant":
            turns.append({"role": "model", "parts": _answered(message, path, names)})
        elif role == "tool":
            _add_result(turns, message, path, names)
        else:
            raise refused(f"{path}.role", f"the role {role!r} has no counterpart")
    return system, turns


def _answered(message: dict[str, Any], path: str, names: dict[str, str]) -> list[Part]:
    parts = _parts(message.get("content"), path)
    for at, call in enumerate(message.get("tool_calls") or ()):
        function = as_object(as_object(call).get("function"))
        given = lenient_json.arguments_of(function)
        if given is None:
            raise refused(f"{path}.tool_calls[{at}].function.arguments", "expected a JSON object")
        names[str(call.get("id"))] = str(function.get("name"))
        part: Part = {"functionCall": {"name": function.get("name"), "args": given}}
        signature = as_object(as_object(call.get("extra_content")).get("google")).get("thought_signature")
        parts.append(part | ({"thoughtSignature": signature} if signature else {}))
    return parts


def _add_result(turns: list[dict[str, Any]], message: dict[str, Any], path: str, names: dict[str, str]) -> None:
    name = names.get(str(message.get("tool_call_id")))
    if name is None:
        raise refused(f"{path}.tool_call_id", "no earlier message has a call of this id, and Gemini needs its name")
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(p.get("text", "") for p in _parts(content, path))
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        given = None
    response = given if isinstance(given, dict) else {"result": text}
    part = {"functionResponse": {"name": name, "response": response}}
    last = turns[-1] if turns else None
    if last is not None and last["role"] == "user" and last["parts"] and "functionResponse" in last["parts"][-1]:
        last["parts"].append(part)
    else:
        turns.append({"role": "user", "parts": [part]})


def _parts(content: Any, path: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [_part(as_object(part), f"{path}.content[{at}]") for at, part in enumerate(as_list(content))]


def _part(part: dict[str, Any], path: str) -> Part:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": part.get(kind)}
    if kind == "image_url":
        image = part.get("image_url")
        return _media(image.get("url") if isinstance(image, dict) else image, f"{path}.image_url")
    if kind == "file":
        return _media(as_object(part.get("file")).get("file_data"), f"{path}.file.file_data")
    if kind == "input_audio":
        audio = as_object(part.get("input_audio"))
        if audio.get("format") not in _AUDIO:
            raise refused(f"{path}.input_audio.format", f"expected one of {', '.join(_AUDIO)}")
        return {"inlineData": {"mimeType": _AUDIO[audio["format"]], "data": audio.get("data")}}
    raise refused(f"{path}.type", f"a part of type {kind!r} has no counterpart")


def _media(url: Any, path: str) -> Part:
    if isinstance(url, str) and url.startswith(("gs://", "https://generativelanguage.googleapis.com/")):
        return {"fileData": {"fileUri": url}}
    if not isinstance(url, str) or not url.startswith("data:"):
        raise refused(path, "only data: URLs, gs:// and files of Gemini's own are supported")
    kind, data = data_url(url, path)
    return {"inlineData": {"mimeType": kind, "data": data}}
