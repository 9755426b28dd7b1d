"""Chat messages in Anthropic's words: blocks instead of parts, and system text apart from the turns. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.errors import BadRequest

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=-]+)*;base64,", re.A)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

Block = dict[str, Any]


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
