"""Shared parts of the fake upstream: the errors of each API, and the marks in a script."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from gateway.fake import FakeUpstream, Fault
from gateway.fake.answers import Dialect, error, error_event

Chat = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.context_length(), 400, "context_length_exceeded"),
        (Fault.content_policy(), 400, "content_policy_violation"),
        (Fault.status(429, error_code="insufficient_quota"), 429, "insufficient_quota"),
        (Fault.status(500, message="m"), 500, None),
    ],
)
async def test_errors_carry_their_code(
    upstream: FakeUpstream, fault: Fault, status: int, code: str | None, chat: Chat
) -> None:
    upstream.then(fault)
    async with httpx2.AsyncClient(base_url=upstream.base_url) as http:
        reply = await http.post("/chat/completions", json=chat(stream=True))
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


async def test_an_error_can_have_any_body(http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat) -> None:
    upstream.then(Fault.status(502, body=b"<html>bad gateway</html>"))
    assert (await http.post("/chat/completions", json=chat())).content == b"<html>bad gateway</html>"


@pytest.mark.parametrize(
    ("dialect", "status", "kind"),
    [
        ("openai", 400, "invalid_request_error"),
        ("openai", 429, "rate_limit_error"),
        ("openai", 503, "server_error"),
        ("responses", 503, "server_error"),
        ("anthropic", 429, "rate_limit_error"),
        ("anthropic", 529, "overloaded_error"),
        ("anthropic", 503, "api_error"),
    ],
)
def test_an_error_has_the_type_its_api_gives_that_status(dialect: Dialect, status: int, kind: str) -> None:
    answer = error(dialect, status, "m")
    assert (answer.status, answer.dialect) == (status, dialect)
    assert json.loads(answer.body)["error"]["type"] == kind


@pytest.mark.parametrize(("dialect", "named"), [("openai", False), ("responses", True), ("anthropic", True)])
def test_an_error_event_is_named_where_the_apis_events_are(dialect: Dialect, named: bool) -> None:
    assert error_event(dialect, "m").startswith(b"event: error\n") is named
