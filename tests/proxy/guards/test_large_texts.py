"""Large texts: rules judge them however long it takes, up to a number of bytes; larger ones are refused by size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.guards import from_json
from gateway.fake import FakeUpstream

Configured = Callable[..., dict[str, Any]]
MOST = 16_000_000
"""Bytes of text that rules judge, as docs/guards.md says."""
RULES: dict[str, dict[str, Any]] = {
    "secrets": {},
    "personal_data": {},
    "prompt_injection": {},
    "patterns": {"patterns": [{"name": "case", "regex": "AC-[0-9]{1,20}"}]},
    "length": {"max_chars": 100_000_000},
}
NO_TIME = {"deadline_ms": 0.001, "action": "block"}
"""A deadline that every decision misses which has one."""
PROSE = "Harmless words of prose go on, and on, without anything to object to. "


def rules(side: str) -> dict[str, Any]:
    return {f"{side}-{rule}": {"on": side, "scorer": rule, **NO_TIME, **more} for rule, more in RULES.items()}


def patient(config: dict[str, Any]) -> dict[str, Any]:
    """The config with timeouts of an hour: the machine may be slow."""
    names = "connect_s", "first_token_s", "answer_s", "idle_s", "total_s"
    config["models"]["chat"]["timeouts"] = dict.fromkeys(names, 3600.0)
    return config


def prose(size: int) -> str:
    return (PROSE * (size // len(PROSE) + 1))[:size]


@pytest.mark.timeout(900)  # 6 MB through ten rules: a quarter of a minute of CPU
@pytest.mark.parametrize("size", [100_000, 570_000, 6_000_000])
async def test_no_rule_is_late_for_a_harmless_text(
    start: Any, configured: Configured, upstream: FakeUpstream, size: int
) -> None:
    gateway = await start(patient(configured(upstream, guards={**rules("request"), **rules("answer")})))
    gateway.client.timeout = None
    upstream.says(prose(size))
    reply = await gateway.chat(prose(size))
    assert reply.status_code == 200
    assert len(reply.json()["choices"][0]["message"]["content"]) == size
    [exchange] = await gateway.recorded()
    decided = {decision.guard: (decision.result, decision.failure) for decision in from_json(exchange.guards)}
    assert set(decided.values()) <= {("pass", None)}
    assert len(decided) == 2 * len(RULES)


async def post(gateway: Any, text: bytes) -> Any:
    """Sends a request with a text of one message. Nothing of it is kept, so that this process stays small."""
    body = b'{"model":"chat","messages":[{"role":"user","content":"%b"}]}' % text
    return await gateway.client.post("/chat/completions", content=body, headers={"x-gateway-sample": "never"})


@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("text", [b"x" * (MOST + 1), "ä".encode() * (MOST // 2 + 1)], ids=["ASCII", "two bytes each"])
async def test_a_larger_request_is_refused_by_its_size(
    start: Any, configured: Configured, upstream: FakeUpstream, action: str, text: bytes
) -> None:
    """Bytes are counted, and not characters."""
    guards = {"in": {"on": "request", "scorer": "secrets", "action": action, "if_late": "pass"}}
    gateway = await start(patient(configured(upstream, guards=guards)))
    reply = await post(gateway, text)
    assert reply.status_code == 413
    assert 'more than 16 MB, which is the most that the guard "in" judges' in reply.json()["error"]["message"]
    assert not upstream.calls


async def test_a_larger_answer_is_refused_where_a_rule_could_block(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    guards = {"out": {"on": "answer", "scorer": "secrets", "action": "block", "if_late": "pass"}}
    gateway = await start(patient(configured(upstream, guards=guards)))
    upstream.says(prose(MOST + 1))
    reply = await post(gateway, b"hi")
    assert reply.json()["choices"][0]["finish_reason"] == "content_filter"
    assert reply.headers["x-gateway-guard"] == "out;action=block"
    assert await gateway.metric("gateway_guard_failures_total", guard="out", reason="too_large") == 1
    assert await gateway.metric("gateway_guard_decisions_total", guard="out", result="failed") == 1


async def test_the_size_of_a_tools_input_is_that_of_its_json(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(patient(configured(upstream, guards=rules("request"))))
    use = b'[{"type":"tool_use","id":"t","name":"write","input":{"text":"%b"}}]' % (b"x" * MOST)
    body = b'{"model":"chat","max_tokens":9,"messages":[{"role":"assistant","content":%b}]}' % use
    assert (await gateway.client.post("/messages", content=body)).status_code == 413


async def test_an_observing_rule_lets_a_larger_text_pass(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    guards = {"in": {"on": "request", "scorer": "secrets"}}
    gateway = await start(patient(configured(upstream, guards=guards)))
    assert (await post(gateway, b"x" * (MOST + 1))).status_code == 200
    assert await gateway.metric("gateway_guard_failures_total", guard="in", reason="too_large") == 1
