"""Calls of one prompt have one digest, which nobody can compute without the secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.prompt_digest import last_prompt, prompt_digest

SECRET = b"s" * 32


def digest(secret: bytes = SECRET, plan: str = "p", **request: Any) -> str | None:
    return prompt_digest(json.dumps(request).encode(), secret, plan)


def asked(text: Any, *before: str) -> list[dict[str, Any]]:
    return [*({"role": "user", "content": each} for each in before), {"role": "user", "content": text}]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("request_", "prompt"),
    [
        ({"messages": asked("hello")}, b"hello"),
        ({"messages": [*asked("hello"), {"role": "assistant", "content": "hi"}]}, b"hello"),
        ({"messages": asked([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])}, b"a\0b"),
        ({"messages": asked([{"type": "text", "text": "a"}, {"k": 1}])}, b'a\0{"k":1}'),
        ({"prompt": "hello"}, b"hello"),
        ({"prompt": [1, 2]}, b"1\x002"),
        ({"input": "hello"}, b"hello"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}, b"hello"),
        ({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}, b"hello"),
        ({"messages": [{"role": "user", "content": [{"text": "hello"}]}]}, b"hello"),
        ({"messages": asked(" Hello")}, b" Hello"),
        ({"messages": asked("\ud800")}, "\ud800".encode("utf-8", "surrogatepass")),
        ({"messages": [{"role": "user"}]}, b"null"),
        ({"messages": [{"role": "system", "content": "x"}]}, None),
        ({"messages": "x" * 3}, b"xxx"),
        ({"messages": 3}, None),
        ({}, None),
    ],
)
def test_the_last_user_message_is_the_prompt(request_: dict[str, Any], prompt: bytes | None) -> None:
    assert last_prompt(request_) == prompt


def test_one_prompt_has_one_digest_in_a_plan_and_a_deployment() -> None:
    first = digest(messages=asked("hello"))
    assert first is not None
    assert len(first) == 16
    assert first == digest(model="other", temperature=1, messages=asked("hello", "a turn before"))
    unescaped = b'{"messages":[{"role":"user","content":"\xc3\xa9"}]}'
    assert digest(messages=asked("é")) == prompt_digest(unescaped, SECRET, "p")
    others = {
        digest(messages=asked("hello ")),
        digest(messages=asked("hello"), plan="q"),
        digest(messages=asked("hello"), secret=b"t" * 32),
        digest(messages=asked(["hello", IMAGE])),
    }
    assert len({first, *others}) == 5


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'"x"', b"{}", b'{"messages":[]}'])
def test_a_body_without_a_prompt_has_none(body: bytes) -> None:
    assert prompt_digest(body, SECRET, "p") is None
