"""A route computes the same numbers from a client's request and from its record."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.request_features import (
    FEATURES,
    LARGE_BYTES,
    MANY,
    SCRIPTS,
    TASKS,
    TEXT_BYTES,
    condition_text,
    last_message,
    request_features,
)


def features(text: Any, *, before: int = 0, **fields: Any) -> tuple[dict[str, float], str]:
    turns = [{"role": "user", "content": "x"}] * before + [{"role": "user", "content": text}]
    body = orjson.dumps({"messages": turns, **fields})
    values, script = request_features(len(body), False, {"messages": ..., **fields}, orjson.dumps(turns))
    return dict(zip(FEATURES, values, strict=True)), SCRIPTS[script]


CODE = (
    "Write a Python function that reverses a list.",
    "Why does `x = foo();` not compile?",
    "```\nint main() { return 0; }\n```",
)


@pytest.mark.parametrize("text", CODE)
def test_code_is_seen(text: str) -> None:
    assert features(text)[0]["code"]


def test_a_task_is_told_by_its_first_word() -> None:
    asked = {
        "translation": "Translate to French: good morning",
        "summary": "Please summarize this article.",
        "classification": "Classify the sentiment of: what a day",
        "extraction": "Extract all dates.",
        "arithmetic": "How many apples are left? 12 - 5",
        "reasoning": "Why is the sky blue?",
        "writing": "Draft a polite reply.",
    }
    assert set(asked) == set(TASKS)
    for task, text in asked.items():
        found = features(text)[0]
        assert [name for name in TASKS if found[name]] == [task], text


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Grüße aus Köln — naïve café 🙂", "latin"),
        ("The ratio π is irrational", "latin"),
        ("Привет, как дела?", "cyrillic"),
        ("Γειά σου κόσμε", "greek"),
        ("שלום עולם", "semitic"),
        ("ข้อความภาษาไทย", "indic_thai"),
        ("请翻译这句话", "cjk"),
        ("안녕하세요 여러분", "hangul"),
    ],
)
def test_the_script_is_that_of_the_last_message(text: str, script: str) -> None:
    assert features(text)[1] == script


def test_the_form_of_a_request_is_known() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    found, _ = features("hi", before=2, tools=[tool], max_tokens=7, response_format={"type": "json_object"})
    assert (found["messages"], found["tools"], found["json"], found["max_tokens"]) == (3, True, True, 7)
    plain, _ = features("hi", tools=[], response_format={"type": "text"})
    assert (plain["tools"], plain["json"], plain["max_tokens"]) == (False, False, -1)


def test_large_members_that_were_not_decoded_count_as_there() -> None:
    turns = b'[{"role":"user","content":"hi"}]'
    values, _ = request_features(90_000, True, {"tools": ..., "response_format": ...}, turns)
    found = dict(zip(FEATURES, values, strict=True))
    assert (found["tools"], found["json"], found["stream"], found["messages"]) == (True, True, True, MANY)


def test_a_system_message_and_a_result_of_a_tool_are_seen() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    values, _ = request_features(100, False, {}, orjson.dumps(turns))
    found = dict(zip(FEATURES, values, strict=True))
    assert (found["system"], found["tool_result"], found["digits"]) == (True, True, 2)


PARTS = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "What is it?"}]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "plain"}, b"plain"),
        ({"content": "before", "role": "user"}, b"before"),
        ({"role": "user", "content": PARTS}, b"What is it?"),
        ({"role": "assistant", "content": None, "tool_calls": []}, b""),
        ({"role": "user", "content": 'he said \\"role\\": "user" and "content": "no"'}, None),
        ({"role": "user", "name": "a", "content": ""}, b""),
    ],
)
def test_the_last_message_is_found_in_every_form(message: dict[str, Any], text: bytes | None) -> None:
    turns = [{"role": "user", "content": "first"}, message]
    wanted = message["content"].encode() if text is None else text
    for written in (orjson.dumps(turns), json.dumps(turns, indent=2).encode()):
        assert last_message(written)[0] == wanted


def test_a_prompt_of_completions_is_read_too() -> None:
    assert last_message(orjson.dumps("Once upon a time"))[0] == b"Once upon a time"


@given(st.text(max_size=600), st.booleans())
def test_spelling_of_the_json_changes_nothing(text: str, ascii_only: bool) -> None:
    """Clients escape what they like; the record of a request may be written again."""
    if any(0xD800 <= ord(char) < 0xE000 for char in text):
        return
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": text}]
    as_sent = json.dumps(turns, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    recorded = orjson.dumps(orjson.loads(as_sent))
    assert last_message(as_sent)[0] == last_message(recorded)[0]
    assert text.encode().startswith(last_message(as_sent)[0].decode(errors="ignore").encode())


@given(st.binary(max_size=300), st.integers(0, 40_000))
def test_no_bytes_raise(turns: bytes, size: int) -> None:
    """A body is JSON when it comes here; whatever it is, a route must not fail a call."""
    values, script = request_features(size, False, {}, turns)
    assert len(values) == len(FEATURES)
    assert 0 <= script < len(SCRIPTS)


def test_only_the_end_of_a_large_body_is_read() -> None:
    history = [{"role": "user", "content": "z" * 1000}] * 570
    turns = orjson.dumps([*history, {"role": "user", "content": "Translate: good morning"}])
    values, _ = request_features(len(turns), False, {}, turns)
    found = dict(zip(FEATURES, values, strict=True))
    assert (found["translation"], found["messages"]) == (True, MANY)
    hidden = orjson.dumps([*history, {"role": "user", "content": "Translate: " + "good " * LARGE_BYTES}])
    values, _ = request_features(len(hidden), False, {}, hidden)
    assert not dict(zip(FEATURES, values, strict=True))["translation"], "the message begins before what is read"


def test_no_more_than_the_beginning_of_a_message_is_read() -> None:
    assert len(last_message(orjson.dumps([{"role": "user", "content": "ä" * 4000}]))[0]) == TEXT_BYTES
    assert len(last_message(json.dumps([{"role": "user", "content": "ä" * 4000}]).encode())[0]) == TEXT_BYTES


def test_conditions_read_as_words() -> None:
    assert condition_text("tools", 0.5, above=False) == "no tools"
    assert condition_text("code", 0.5, above=True) == "code"
    assert condition_text("request_bytes", 2150.0, above=False) == "request up to 2.1 KB"
    assert condition_text("questions", 0.5, above=False) == "no question marks"
    assert condition_text("messages", 3.5, above=True) == "more than 4 messages"
    assert all(condition_text(name, 0.5, above=True) for name in FEATURES)


def test_backslashes_do_not_take_time() -> None:
    """A pattern that went back over them would need years; this fails by the test's own deadline."""
    began = time.process_time()
    turns = b'[{"role":"user","content":"' + b"\\\\" * 2_000 + b'"}]'
    for _ in range(100):
        last_message(turns)
    assert time.process_time() - began < 30
