"""Requests of Gemini's own clients as chats, for records: the inverse of gemini_request.py. Pure.

What a chat has no place for stays under Gemini's own name. Members may be spelled in either of the two ways that the
API reads: `maxOutputTokens` and `max_output_tokens`.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object

Part = dict[str, Any]

_CONFIG = {
    "temperature": "temperature", "topP": "top_p", "topK": "top_k", "seed": "seed", "candidateCount": "n",
    "presencePenalty": "presence_penalty", "frequencyPenalty": "frequency_penalty", "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
}  # fmt: skip
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
_AUDIO = {"audio/wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_UPPER = re.compile(r"[A-Z]")
_READ = ("contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "model")


def chat_of(request: dict[str, Any], model: str, *, stream: bool) -> dict[str, Any]:
    """request: the members of a request of generateContent."""
    calls: list[tuple[str, str]] = []  # (name, id) of the calls of functions whose results are still to come
    system = [_text(part) for part in _parts(_of(request, "systemInstruction"))]
    messages: list[dict[str, Any]] = [{"role": "system", "content": "".join(system)}] if system else []
    for content in map(as_object, as_list(request.get("contents"))):
        messages += _messages(content, calls)
    out: dict[str, Any] = {"model": model, "messages": messages}
    if stream:
        out["stream"] = True
    out |= _config(as_object(_of(request, "generationConfig")))
    _tools(request, out)
    read = {name for each in _READ for name in (each, _snake(each))}
    return out | {name: value for name, value in request.items() if name not in read}


def _of(found: dict[str, Any], name: str) -> Any:
    return found[name] if name in found else found.get(_snake(name))


def _snake(name: str) -> str:
    return _UPPER.sub(lambda upper: "_" + upper[0].lower(), name)


def _parts(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [{"text": content}]
    return [as_object(part) for part in as_list(as_object(content).get("parts"))]


def _messages(content: dict[str, Any], calls: list[tuple[str, str]]) -> list[dict[str, Any]]:
    parts = _parts(content)
    if content.get("role") == "model":
        return [_answered(parts, calls)]
    results = [_result(as_object(found), calls) for part in parts if (found := _of(part, "functionResponse"))]
    others = [_part(part) for part in parts if not _of(part, "functionResponse")]
    texts = [part["text"] for part in others if part["type"] == "text"]
    said: Any = "".join(texts) if len(texts) == len(others) else others
    return [*results, {"role": "user", "content": said}] if others else results


def _answered(parts: list[Part], calls: list[tuple[str, str]]) -> dict[str, Any]:
    texts = [_text(part) for part in parts if "text" in part and not part.get("thought")]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    found = [_call(part, calls) for part in parts if _of(part, "functionCall")]
    return message | ({"tool_calls": found} if found else {})


def _call(part: Part, calls: list[tuple[str, str]]) -> dict[str, Any]:
    call = as_object(_of(part, "functionCall"))
    name, id = str(call.get("name")), str(call.get("id") or f"call_{len(calls)}")
    calls.append((name, id))
    function = {"name": name, "arguments": orjson.dumps(call.get("args") or {}).decode()}
    out: dict[str, Any] = {"id": id, "type": "function", "function": function}
    signature = _of(part, "thoughtSignature")
    return out | ({"extra_content": {"google": {"thought_signature": signature}}} if signature else {})


def _result(response: dict[str, Any], calls: list[tuple[str, str]]) -> dict[str, Any]:
    """The result of the earliest call of that function that has none yet."""
    name = str(response.get("name"))
    at = next((n for n, call in enumerate(calls) if call[0] == name), None)
    id = str(response.get("id") or (calls.pop(at)[1] if at is not None else name))
    content = orjson.dumps(response.get("response") or {}).decode()
    return {"role": "tool", "tool_call_id": id, "content": content}


def _part(part: Part) -> Part:
    data, file = as_object(_of(part, "inlineData")), as_object(_of(part, "fileData"))
    kind = str(_of(data, "mimeType"))
    if data and kind in _AUDIO:
        return {"type": "input_audio", "input_audio": {"format": _AUDIO[kind], "data": data.get("data")}}
    url = f"data:{kind};base64,{data.get('data')}" if data else _of(file, "fileUri")
    if data and kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if data or file:
        return {"type": "file", "file": {"file_data": url}}
    return {"type": "text", "text": _text(part)}


def _text(part: Part) -> str:
    """The text of a part; of one that a chat cannot have, its JSON."""
    text = part.get("text")
    return text if isinstance(text, str) else orjson.dumps(part).decode()


def _config(config: dict[str, Any]) -> dict[str, Any]:
    out = {ours: value for theirs, ours in _CONFIG.items() if (value := _of(config, theirs)) is not None}
    schema = _of(config, "responseJsonSchema") or _of(config, "responseSchema")
    if schema:
        out["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    elif _of(config, "responseMimeType") == "application/json":
        out["response_format"] = {"type": "json_object"}
    thinking = as_object(_of(config, "thinkingConfig"))
    level = _of(thinking, "thinkingLevel")
    if isinstance(level, str):
        out["reasoning_effort"] = level.lower()
    elif _of(thinking, "thinkingBudget") == 0:
        out["reasoning_effort"] = "none"
    return out


def _tools(request: dict[str, Any], out: dict[str, Any]) -> None:
    tools: list[dict[str, Any]] = []
    for tool in map(as_object, as_list(request.get("tools"))):
        tools += [_tool(as_object(each)) for each in as_list(_of(tool, "functionDeclarations"))]
        tools += [{"type": name} for name in tool if name not in ("functionDeclarations", "function_declarations")]
    if tools:
        out["tools"] = tools
    calling = as_object(_of(as_object(_of(request, "toolConfig")), "functionCallingConfig"))
    names = as_list(_of(calling, "allowedFunctionNames"))
    if len(names) == 1:
        out["tool_choice"] = {"type": "function", "function": {"name": names[0]}}
    elif (mode := str(calling.get("mode") or "").upper()) in _MODES:
        out["tool_choice"] = _MODES[mode]


def _tool(declared: dict[str, Any]) -> dict[str, Any]:
    function = {name: declared[name] for name in ("name", "description") if name in declared}
    parameters = _of(declared, "parametersJsonSchema") or declared.get("parameters")
    return {"type": "function", "function": function | ({"parameters": parameters} if parameters else {})}
