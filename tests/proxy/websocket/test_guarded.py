"""Guards over WebSocket: what leaves, and that a connection goes on after a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from proxy.guards.evasions import CARD, FORMS, NOT_IN_STREAMS, leaks
from proxy.guards.test_evasions import Tried, guards, stream_of_form

from gateway.fake import FakeUpstream

SECRET = "sk-" + "proj-" + "Ab3" * 14


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_a_secret_leaves_in_no_message(
    start: Any, configured: Any, opened: Any, upstream: FakeUpstream, action: str
) -> None:
    guards = {"secrets": {"on": "answer", "scorer": "secrets", "action": action}}
    ws = await opened(await start(configured(upstream, guards=guards)))
    upstream.says("It is ", *SECRET, " here.")
    last = await ws.answer()
    assert SECRET[:12] not in str(ws.events)
    if action == "redact":
        assert last["response"]["output"][0]["content"][0]["text"] == "It is [key] here."
    else:
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"]["reason"] == "content_filter"
    upstream.says("clean")
    done = await ws.answer()
    assert done["response"]["output"][0]["content"][0]["text"] == "clean"


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_no_form_of_a_message_goes_through(
    start: Any, configured: Any, opened: Any, upstream: FakeUpstream, action: str
) -> None:
    ws = await opened(await start(configured(upstream, guards=guards("request", action))))
    tried = Tried()
    twice = f'{{"role": "user", "content": "{CARD}", "content": "x"}}'
    inputs = {form: json.dumps(text) for form, text in FORMS.items()} | {"a member twice": f"[{twice}]"}
    for form, text in inputs.items():
        before = len(upstream.calls)
        await ws.send(f'{{"type": "response.create", "model": "chat", "input": {text}}}')
        await ws.until("response.completed", "response.incomplete", "response.failed", "error")
        tried.note(form, any(leaks(call.body) for call in upstream.calls[before:]))
    tried.check(f"messages of a WebSocket, {action}", 50)
    assert (await ws.answer("harmless"))["type"] == "response.completed"


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_no_form_of_an_event_goes_through(
    start: Any, configured: Any, opened: Any, upstream: FakeUpstream, action: str
) -> None:
    ws = await opened(await start(configured(upstream, guards=guards("answer", action))))
    tried = Tried()
    for form in FORMS.keys() - NOT_IN_STREAMS:
        upstream.streams(stream_of_form("responses", FORMS[form]))
        ws.events.clear()
        await ws.answer()
        tried.note(form, leaks(json.dumps(ws.events).encode()))
    tried.check(f"events of a WebSocket, {action}", 45)
    upstream.streams(stream_of_form("responses", "harmless"))
    assert "harmless" in json.dumps(await ws.answer())
