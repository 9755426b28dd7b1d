"""The digest by which the comparison of two models knows calls of the same prompt. Pure.

It is a message authentication code under the deployment's secret, so that a reader of the store cannot find a prompt by
trying texts, and it includes the plan's hash, so that digests of two plans have nothing in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from gateway.core.json_values import as_list

DIGEST_BYTES = 8
_TURNS = ("messages", "input", "contents")
"""Members that hold the turns of a request, in the dialects of the gateway."""


def prompt_digest(body: bytes, secret: bytes, plan: str) -> str | None:
    """16 hex digits of a call's prompt; None if the body holds none.

    The keyed mode of BLAKE2 (RFC 7693, section 2.9) takes the place of HMAC. body: as the client sent it. secret: of
    the deployment, of 1 to 64 bytes. plan: the plan's hash.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    prompt = last_prompt(request) if isinstance(request, dict) else None
    if prompt is None:
        return None
    return blake2b(plan.encode() + b"\0" + prompt, key=secret, digest_size=DIGEST_BYTES).hexdigest()


def last_prompt(request: Mapping[str, Any]) -> bytes | None:
    """The last user message as it is compared: its text, decoded and otherwise unchanged, and other parts as JSON. None
    if there is none."""
    if "prompt" in request:
        return _bytes(request["prompt"])
    turns = next((request[name] for name in _TURNS if name in request), None)
    if isinstance(turns, str):
        return _bytes(turns)
    for turn in reversed(as_list(turns)):
        if isinstance(turn, dict) and turn.get("role") == "user":
            return _bytes(turn.get("content", turn.get("parts")))
    return None


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    parts = content if isinstance(content, list) else [content]
    return b"\0".join(_part(part) for part in parts)


def _part(part: Any) -> bytes:
    text = part.get("text") if isinstance(part, dict) else part
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else orjson.dumps(part)
