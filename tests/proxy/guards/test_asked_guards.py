"""Guards whose scorers run in the process of guards, over sockets: a plug-in, an HTTP service, and their failures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.guards import from_json
from gateway.fake import HOLD, FakeAnswer, FakeUpstream

pytestmark = pytest.mark.usefixtures("forked_children")
Configured = Callable[..., dict[str, Any]]
PLUG_IN = """
import os, time
from gateway.core.score import Score

class Obliging:
    version, kind, direction, bounds, heavy = "1", "code", "maximise", (0.0, 1.0), False
    def __init__(self, name): self.name = name
    def golden(self): return ()
    async def score(self, subject):
        text = subject.completion.text
        if "raise" in text: raise RuntimeError("as told")
        if "nan" in text: return Score(float("nan"))
        if "hang" in text: time.sleep(30)
        if "exit" in text: os._exit(3)
        return Score(0.0 if "bad" in text else 1.0)
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A scorer in a module of its own, which does what its text says."""
    (tmp_path / "obliging.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    assert str(tmp_path) in sys.path
    return "obliging:Obliging"


@pytest.fixture
async def service() -> AsyncIterator[FakeUpstream]:
    """An HTTP service that scores: 0 for an answer with `bad` in it."""
    async with FakeUpstream() as fake:

        def score(received: Any) -> FakeAnswer:
            if not received.body:  # it is asked for golden cases
                return FakeAnswer(b"{}", status=404)
            value = 0 if "bad" in str(received.json["completion"]) else 1
            return FakeAnswer(b'{"value": %d}' % value)

        fake.replies(score)
        yield fake


async def ready(gateway: Any) -> None:
    """The process of guards has been built."""
    async with asyncio.timeout(60):
        while gateway.gateway.guards.process.trouble:
            await asyncio.sleep(0.02)


def guard(on: str, action: str, **more: Any) -> dict[str, Any]:
    return {"on": on, "scorer": "own", "action": action, "deadline_ms": 20_000, **more}


def told(upstream: FakeUpstream) -> None:
    """Answers are what the last message says."""
    upstream.replies(lambda received: str(received.json["messages"][-1]["content"]))


async def test_a_plug_in_blocks_answers_and_its_failures_pass(
    start: Any, configured: Configured, upstream: FakeUpstream, plug_in: str
) -> None:
    guards = {"out": guard("answer", "block", if_late="pass", text="No: {guard}, {id}")}
    gateway = await start(configured(upstream, guards=guards, scorers={"own": {"use": plug_in}}))
    await ready(gateway)
    told(upstream)
    good, bad = await gateway.chat("good"), await gateway.chat("bad")
    assert good.json()["choices"][0]["message"]["content"] == "good"
    assert bad.json()["choices"][0]["message"]["refusal"] == f"No: out, {bad.headers['x-request-id']}"
    for text in ("raise", "nan", "exit"):
        reply = await gateway.chat(text)
        assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, text)
    exchanges = {e.id: e for e in await gateway.recorded(5)}
    found = [from_json(e.guards)[0] for e in sorted(exchanges.values(), key=lambda e: e.received)]
    assert [(d.result, d.failure) for d in found] == [
        ("pass", None), ("hit", None), ("failed", "error"), ("failed", "invalid"), ("failed", "crashed"),
    ]  # fmt: skip
    assert found[1].score == 1.0
    assert await gateway.metric("gateway_guard_failures_total", reason="crashed") == 1
    health = (await gateway.client.get(gateway.base_url.removesuffix("/v1") + "/health")).json()
    assert "a guard gives no decision, and if_late decides" in str(health["reasons"])
    assert await gateway.metric("gateway_guard_failing", guard="out") == 1
    await ready(gateway)
    assert (await gateway.chat("good")).status_code == 200
    assert await gateway.metric("gateway_guard_failing", guard="out") == 0


@pytest.mark.parametrize(("action", "refused"), [("block", True), ("flag", False)])
async def test_calls_without_a_score_are_refused_where_the_guard_blocks(
    start: Any, configured: Configured, upstream: FakeUpstream, plug_in: str, action: str, refused: bool
) -> None:
    """An unset `if_late` follows the action."""
    gateway = await start(
        configured(upstream, guards={"out": guard("answer", action)}, scorers={"own": {"use": plug_in}})
    )
    await ready(gateway)
    told(upstream)
    for text in ("raise", "nan"):
        [choice] = (await gateway.chat(text)).json()["choices"]
        assert (choice["finish_reason"] == "content_filter") is refused


async def test_a_hanging_guard_refuses_if_configured_and_stops_no_other(
    start: Any, configured: Configured, upstream: FakeUpstream, plug_in: str
) -> None:
    config = configured(
        upstream,
        guards={"out": guard("answer", "block", if_late="block", deadline_ms=300)},
        scorers={"own": {"use": plug_in, "deadline_s": 60}},
    )
    config["models"]["free"] = config["models"]["chat"]
    config["guards"]["out"]["models"] = ["chat"]
    gateway = await start(config)
    await ready(gateway)
    told(upstream)
    hanging = asyncio.get_running_loop().create_task(gateway.chat("hang"))
    for _ in range(20):
        body = {"model": "free", "messages": [{"role": "user", "content": "hang"}]}
        assert (await gateway.client.post("/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
    refused = await hanging
    assert refused.status_code == 200
    assert refused.json()["choices"][0]["finish_reason"] == "content_filter"


async def test_a_request_is_judged_while_it_is_in_progress(
    start: Any, configured: Configured, upstream: FakeUpstream, service: FakeUpstream
) -> None:
    """The upstream gets it at once; the caller gets nothing before the decision, and the upstream is cancelled."""
    config = configured(
        upstream,
        guards={"in": guard("request", "block")},
        scorers={"own": {"use": f"{service.origin}/score"}},
    )
    gateway = await start(config)
    await ready(gateway)
    upstream.says("fine ", HOLD, "never")
    refused = await gateway.chat("a bad request", stream=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_filter"
    await upstream.until(lambda u: u.cancelled == 1 or not u.calls)
    upstream.says("fine")
    answered = await gateway.chat("a nice request")
    assert answered.json()["choices"][0]["message"]["content"] == "fine"
    first, second = await gateway.recorded(2)
    assert {first.outcome, second.outcome} == {"ok", "blocked"}


async def test_records_wait_for_observing_guards_and_callers_do_not(
    start: Any, configured: Configured, upstream: FakeUpstream, service: FakeUpstream
) -> None:
    config = configured(
        upstream,
        guards={"out": guard("answer", "observe"), "in": guard("request", "observe")},
        scorers={"own": {"use": f"{service.origin}/score"}},
    )
    gateway = await start(config)
    await ready(gateway)
    told(upstream)
    assert (await gateway.chat("bad")).json()["choices"][0]["message"]["content"] == "bad"
    async with gateway.stream("bad as well") as stream:
        assert b"[DONE]" in await stream.aread()
    for exchange in await gateway.recorded(2):
        assert {d.guard: (d.result, d.acted) for d in from_json(exchange.guards)} == {
            "out": ("hit", False), "in": ("hit", False),
        }  # fmt: skip
        assert exchange.outcome == "ok"


async def test_a_dead_service_passes_and_is_not_asked_for_long(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(
        upstream,
        guards={"out": guard("answer", "block", if_late="pass")},
        scorers={"own": {"use": "http://127.0.0.1:9/score"}},
    )
    gateway = await start(config)
    await ready(gateway)
    told(upstream)
    for _ in range(8):
        assert (await gateway.chat("anything")).status_code == 200
    assert await gateway.metric("gateway_guard_failures_total", reason="breaker_open") >= 1
    assert await gateway.metric("gateway_requests_total", outcome="ok") == 8


async def test_a_reload_keeps_the_process_or_replaces_it(
    start: Any, configured: Configured, upstream: FakeUpstream, plug_in: str
) -> None:
    config = configured(upstream, guards={"out": guard("answer", "block")}, scorers={"own": {"use": plug_in}})
    gateway = await start(config)
    await ready(gateway)
    first = gateway.gateway
    gateway.write({**config, "sampling": {"rate": 0.5}})
    await gateway.until(lambda: gateway.gateway is not first)
    assert gateway.gateway.guards.process is first.guards.process
    second = gateway.gateway
    gateway.write({**config, "guards": {"other": guard("answer", "block")}})
    await gateway.until(lambda: gateway.gateway is not second)
    assert gateway.gateway.guards.process is not first.guards.process
    await ready(gateway)
    told(upstream)
    assert (await gateway.chat("bad")).json()["choices"][0]["finish_reason"] == "content_filter"
    old = first.guards.process
    await gateway.until(lambda: old._process is None)


async def test_a_call_that_is_judged_after_a_reload_is_counted_and_recorded(
    start: Any, configured: Configured, upstream: FakeUpstream, service: FakeUpstream
) -> None:
    """The series of the old config's calls end with it, so it stays in use until the last of them is settled."""
    config = configured(
        upstream, guards={"out": guard("answer", "observe")}, scorers={"own": {"use": f"{service.origin}/score"}}
    )
    gateway = await start(config)
    await ready(gateway)
    asked = len(service.calls)
    held = FakeAnswer(b'{"value": 1}', pauses=(HOLD,))
    service.replies(lambda received: held if received.body else FakeAnswer(b"{}", status=404))
    async with gateway.stream() as stream:
        assert b"[DONE]" in await stream.aread()
    await service.until(lambda s: any(call.body for call in s.calls[asked:]))
    old, app = gateway.gateway, gateway.process.app
    gateway.write({**config, "sampling": {"rate": 0.5}})
    await gateway.until(lambda old=old: gateway.gateway is not old)
    assert old.calls.total() == 0
    assert old.in_use
    assert app.gateways == [old, gateway.gateway]
    service.release()
    await gateway.until(lambda: app.gateways == [gateway.gateway])
    del old
    gc.collect()
    assert await gateway.metric("gen_ai_server_time_to_first_token_seconds_count") == 1
    assert await gateway.metric("gateway_requests_total", outcome="ok") == 1
    [exchange] = await gateway.recorded(1)
    assert [(d.guard, d.result) for d in from_json(exchange.guards)] == [("out", "pass")]


async def test_a_call_that_is_judged_when_the_gateway_stops_is_recorded(
    start: Any, configured: Configured, upstream: FakeUpstream, service: FakeUpstream
) -> None:
    config = configured(
        upstream, guards={"out": guard("answer", "observe")}, scorers={"own": {"use": f"{service.origin}/score"}}
    )
    other = await start({**config, "guards": {}})
    held = FakeAnswer(b'{"value": 1}', pauses=(HOLD,))
    async with contextlib.AsyncExitStack() as stack:
        gateway = await start(config, stack=stack)
        await ready(gateway)
        service.replies(lambda received: held if received.body else FakeAnswer(b"{}", status=404))
        asked = len(service.calls)
        assert (await gateway.chat()).status_code == 200
        await service.until(lambda s: any(call.body for call in s.calls[asked:]))
    [exchange] = await other.recorded(1)
    assert (exchange.outcome, exchange.guards) == ("ok", None)


async def test_a_killed_process_is_started_again(
    start: Any, configured: Configured, upstream: FakeUpstream, plug_in: str
) -> None:
    gateway = await start(
        configured(upstream, guards={"out": guard("answer", "block")}, scorers={"own": {"use": plug_in}})
    )
    await ready(gateway)
    told(upstream)
    process = gateway.gateway.guards.process
    os.kill(process._process.pid, signal.SIGKILL)
    await gateway.until(lambda: process.trouble)
    await ready(gateway)
    assert (await gateway.chat("bad")).json()["choices"][0]["finish_reason"] == "content_filter"


async def test_guards_of_one_section_share_a_decision(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """Both questions are asked in one call for each answer; the guard whose question is answered badly refuses it."""

    def decides(received: Any) -> FakeAnswer:
        rude = "rude" in str(received.json["input"])
        at = {"asked.polite": 0.02 if rude else 0.97, "asked.on_topic": 0.9}
        answers = [
            {"type": "predicate", "name": q["name"], "probability": at[q["name"]]} for q in received.json["questions"]
        ]
        return FakeAnswer(json.dumps({"answers": answers, "usage": {"input_tokens": 9, "output_tokens": 0}}).encode())

    questions = {name: {"predicate": f"The answer is {name}."} for name in ("polite", "on_topic")}
    guards = {name: guard("answer", "block", scorer=f"asked.{name}", threshold=0.9) for name in ("polite", "on_topic")}
    async with FakeUpstream() as model:
        model.replies(decides)
        gateway = await start(
            configured(
                upstream,
                guards=guards,
                scorers={"asked": {"use": "decision", "model": "decide", "questions": questions}},
                evals={"base_url": model.base_url, "api_key": "sk-evals"},
            )
        )
        await ready(gateway)
        told(upstream)
        good, bad = await gateway.chat("friendly"), await gateway.chat("rude")
        assert good.json()["choices"][0]["message"]["content"] == "friendly"
        assert bad.json()["choices"][0]["finish_reason"] == "content_filter"
        both = ["asked.on_topic", "asked.polite"]
        asked = [received for received in model.calls if received.path == "/v1/decisions"]
        assert [sorted(q["name"] for q in received.json["questions"]) for received in asked] == 2 * [both]
        assert {received.header("x-gateway-scorer") for received in asked} == {"guards%20asked"}
    exchanges = sorted(await gateway.recorded(2), key=lambda e: e.received)
    scores = {d.guard: d.score for d in from_json(exchanges[1].guards)}
    assert scores == pytest.approx({"polite": 0.98, "on_topic": 0.1})
