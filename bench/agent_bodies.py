"""Requests as coding agents send them: a system prompt, eight tool schemas, a history of tool calls and results.

The same bytes in every run. Sizes and shares are those that Langfuse published for its gateway (November 2026).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

SIZES = {"103 KB": 103_000, "570 KB": 570_000, "5.9 MB": 5_900_000}
SHARES = {"103 KB": 6, "570 KB": 3, "5.9 MB": 1}
"""Requests of each size in ten."""

_TOOLS = ("read_file", "write_file", "edit_file", "list_files", "search", "run_command", "fetch", "update_plan")
_LINES = (
    'def load(path: str) -> dict[str, "Entry"]:\n    """Reads “entries” — one a line."""\n',
    "    with open(path, encoding='utf-8') as file:\n        return {e.name: e for e in map(parse, file)}\n\n",
    'logger.warning("row %d: \\"%s\\" has\\tno value", n, name)\n',
    "  File \"C:\\src\\app\\main.py\", line 88, in <module>\nKeyError: 'größe'\n",
    '{"path": "src/app.ts", "lines": [12, 48], "note": "a \\u00e9 and a / slash"}\n',
    "- the parser keeps its state between two calls, so that a line may end in the next one\n",
    "+ a second worker reads the same file; nothing says which of both writes the result first\n",
)


@cache
def body(size: str, *, stream: bool = False, model: str = "fake-model") -> bytes:
    """A chat request with exactly as many bytes as SIZES says."""
    asked: dict[str, Any] = {"model": model, "messages": [], "tools": [_schema(name) for name in _TOOLS]}
    asked |= {"tool_choice": "auto", "temperature": 0.2, "max_tokens": 4096}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    messages, length = asked["messages"], len(_encoded(asked))
    for message in _history(random.Random(size)):
        length += len(_encoded(message)) + 1
        if length > SIZES[size] - 200:
            break
        messages.append(message)
    last = {"role": "user", "content": ""}
    messages.append(last)
    last["content"] = "y" * (SIZES[size] - len(_encoded(asked)))
    return _encoded(asked)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _history(chance: random.Random) -> Iterator[dict[str, Any]]:
    yield {"role": "system", "content": "You are a coding agent. Use the tools.\n" + _text(chance, 6000)}
    yield {"role": "user", "content": "Please find out why the tests of the parser fail, and repair it."}
    n = 0
    while True:
        n += 1
        call, name = f"call_{n:08x}", chance.choice(_TOOLS)
        arguments = _encoded({"path": f"src/part_{n}.py", "text": _text(chance, chance.randrange(20, 300))}).decode()
        tool_call = {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
        yield {"role": "assistant", "content": "I will look at this part next.", "tool_calls": [tool_call]}
        [most] = chance.choices((300, 1500, 6000), (6, 3, 1))  # most results are short, and a few are whole files
        yield {"role": "tool", "tool_call_id": call, "content": _text(chance, chance.randrange(most // 6, most))}


def _text(chance: random.Random, at_least: int) -> str:
    found: list[str] = []
    length = 0
    while length < at_least:
        found.append(chance.choice(_LINES))
        length += len(found[-1])
    return "".join(found)


def _schema(name: str) -> dict[str, Any]:
    properties = {
        field: {"type": "string", "description": f"The {field} that {name} uses. " + _LINES[5] * 2}
        for field in ("path", "text", "pattern", "encoding")
    }
    properties["options"] = {"type": "object", "properties": {"recursive": {"type": "boolean"}}, "required": []}
    parameters = {"type": "object", "properties": properties, "required": ["path"], "additionalProperties": False}
    description = f"Runs {name} in the working tree.\n" + _LINES[6] * 3
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
