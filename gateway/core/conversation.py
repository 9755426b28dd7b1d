"""Reads the turns of a conversation from a request body of any API. Pure."""

from __future__ import annotations

from typing import Any

import orjson


def turns(request: bytes) -> list[tuple[str, str]]:
    """(role, text) of each turn, system prompts first. A body of another shape is one turn of the role "request"."""
    try:
        body = orjson.loads(request)
    except orjson.JSONDecodeError:
        return [("request", request.decode("utf-8", "replace"))]
    given = body.get("messages", body.get("input", body.get("prompt"))) if isinstance(body, dict) else None
    if not given:
        return [("request", orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())]
    system = [("system", _text(body[name])) for name in ("system", "instructions") if body.get(name)]
    if isinstance(given, list) and all(isinstance(turn, dict) for turn in given):
        return system + [(str(turn.get("role", turn.get("type"))), _text(turn)) for turn in given]
    return [*system, ("user", _text(given))]


def _text(turn: Any) -> str:
    """The text of a turn. Members that are not text are appended as JSON."""
    if isinstance(turn, str):
        return turn
    if isinstance(turn, list):
        return "\n".join(_text(part) for part in turn)
    if isinstance(turn, dict):
        inner = turn.get("content", turn.get("text"))
        rest = {k: v for k, v in turn.items() if k not in ("role", "content", "text", "type") and v}
        text = [_text(inner)] if inner is not None else []
        return "\n".join([*text, *([orjson.dumps(rest).decode()] if rest else [])])
    return orjson.dumps(turn).decode()
