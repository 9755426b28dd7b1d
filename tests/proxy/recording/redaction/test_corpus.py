"""A corpus of planted secrets through a real gateway, to a real upstream and back: none reaches the stream server.

The entries are read as they lie there, raw, with escapes taken away in every way they could hide something.
"""

from __future__ import annotations

import asyncio
import re
import runpy
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Exchange, from_fields
from gateway.proxy.recording.redaction.leaves import unescape

PLANTED = runpy.run_path(str(Path(__file__).parent / "planted.py"))
SECRETS: dict[str, tuple[str, ...]] = PLANTED["SECRETS"]
ALL: list[tuple[str, str]] = PLANTED["ALL"]
KEY = "test-key"


class Stream:
    """Everything that lies in the stream of a gateway, raw."""

    def __init__(self, corridor: Any) -> None:
        self._corridor = corridor
        self.entries: list[dict[bytes, bytes]] = []

    async def until(self, exchanges: int, feedback: int = 0) -> list[Exchange]:
        async with asyncio.timeout(60):
            while True:
                kinds = [e[b"kind"] for e in self.entries]
                if kinds.count(b"exchange") >= exchanges and kinds.count(b"feedback") >= feedback:
                    return [r for r in map(from_fields, self.entries) if isinstance(r, Exchange)]
                got = await self._corridor.read("raw", 500, 500)
                self.entries += [dict(e.fields) for e in got]
                await self._corridor.ack([e.id for e in got])

    def output(self) -> str:
        raw = "\n".join(value.decode("utf-8", "replace") for entry in self.entries for value in entry.values())
        return f"{raw}\n{unescape(raw)}"


def leaks(output: str) -> list[str]:
    """The planted secrets in a text; of numbers also their digits alone."""
    bare = output.replace(" ", "").replace("-", "").replace("/", "").replace(".", "")
    found = [s for _, s in ALL if s in output]
    found += [s for rule in ("card", "iban", "phone") for s in SECRETS[rule] if _digits(s) in bare]
    return found


def _digits(secret: str) -> str:
    return "".join(c for c in secret if c.isalnum() or c == "+")


@pytest.fixture
async def redacting(start: Callable[..., Any], configured: Callable[..., dict[str, Any]], upstream: Any) -> Any:
    """A gateway that redacts and records everything."""
    keys = [{"name": "tester", "sha256": sha256(KEY.encode()).hexdigest(), "allow": ["sample", "target"]}]
    config = configured(upstream, keys=keys, redaction={"default": "redacted"})
    config["sampling"] = {"rate": 1.0, "unit": "conversation"}
    return await start(config)


def wide(secret: str) -> dict[str, Any]:
    """A request with a secret wherever a client can put one."""
    return {
        "messages": [
            {"role": "system", "content": f"Never say {secret}."},
            {"role": "user", "content": [{"type": "text", "text": f"mine is {secret}"},
                                         {"type": "image_url", "image_url": {"url": f"https://h.example/?k={secret}"}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {
                "name": "f", "arguments": orjson.dumps({"x": f"a\n{secret}\t{secret}"}).decode()}}]},
            {"role": "tool", "tool_call_id": "c", "content": orjson.dumps([{secret: 1, "password": "pa$$"}]).decode()},
        ],
        "metadata": {"who": secret, "conversation_id": f"conversation of {secret}"},
        "user": secret,
    }  # fmt: skip


async def test_chat_plain_and_streamed_with_secrets_everywhere(redacting, upstream):
    stream = Stream(redacting.corridor)
    for _, secret in ALL:
        upstream.says("I heard ", secret, " from you")
        for streamed in (False, True):
            body = {"model": "chat", "stream": streamed, **wide(secret)}
            headers = {"x-request-id": "".join(c for c in secret if c.isascii() and c.isprintable())[:100]}
            answer = await redacting.client.post("/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200
    recorded = await stream.until(2 * len(ALL))
    assert leaks(stream.output()) == []
    assert "pa$$" not in stream.output()
    assert {e.form for e in recorded} == {"assembled"}
    assert await redacting.metric("gateway_redactions_total", rule="email") >= 2 * 9 * len(SECRETS["email"])
    assert secret_in(upstream.received[-1].body, ALL[-1][1]), "the upstream itself was sent what the client said"


def secret_in(body: bytes, secret: str) -> bool:
    return secret in unescape(body.decode())


async def test_a_stream_split_at_every_place_within_a_secret(redacting, upstream):
    stream = Stream(redacting.corridor)
    short = [min(secrets, key=len) for secrets in SECRETS.values()]
    asked = 0
    for secret in short:
        for at in range(1, len(secret)):
            upstream.says("so: ", secret[:at], secret[at:], " it is")
            async with redacting.stream("hi") as answer:
                assert answer.status_code == 200
                await answer.aread()
            asked += 1
    for recorded in await stream.until(asked):
        output = orjson.loads(recorded.response)["text"]
        assert output in {f"so: [{rule}] it is" for rule in SECRETS}
    assert leaks(stream.output()) == []


async def test_every_byte_in_a_write_of_its_own(redacting, upstream):
    """Reasoning, text and a tool call's arguments, in deltas of one character, in writes of one byte."""
    stream = Stream(redacting.corridor)
    for _, secret in ALL:
        deltas = [{"reasoning_content": c} for c in f"Let me see {secret} "]
        deltas += [{"content": c} for c in f"It is {secret} "]
        arguments = orjson.dumps({"to": secret, "n": 4111111111111111}).decode()
        deltas += [
            {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": c}}]} for c in arguments
        ]
        events = [{"id": "x", "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
        events.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        body = b"".join(b"data: %b\n\n" % orjson.dumps(e) for e in events) + b"data: [DONE]\n\n"
        upstream.streams([body[at : at + 97] for at in range(0, len(body), 97)])
        async with redacting.stream("hi") as answer:
            await answer.aread()
    for recorded in await stream.until(len(ALL)):
        output = orjson.loads(recorded.response)
        assert output["reasoning"].startswith("Let me see [")
        assert orjson.loads(output["tool_calls"][0]["arguments"])["n"] == "[card]"
    assert leaks(stream.output()) == []
    assert "4111111111111111" not in stream.output()


async def test_parts_lines_and_ids_hide_nothing_from_redaction(redacting, upstream):
    """Numbers over content parts and lines, and secrets that an upstream puts into ids, finish reason and model."""
    stream = Stream(redacting.corridor)
    divided = [
        {"type": "text", "text": text}
        for text in ("card 4111 11", "11 1111 1111, account DE89 3704", " 0044 0532 0130 00")
    ]
    wrapped = "card 5500-0000\n0000-0004, write to ada@\nexample.org or ada@exam=\nple.org"
    body = {"model": "chat", "messages": [{"role": "user", "content": divided}, {"role": "user", "content": wrapped}]}
    message = {"content": wrapped, "tool_calls": [
        {"id": "ada@example.org", "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": "ada@example.org"}
    upstream.answers(200, orjson.dumps({"id": "ada@example.org", "model": "ada@example.org", "choices": [choice]}))
    assert (await redacting.client.post("/chat/completions", json=body)).status_code == 200
    await stream.until(1)
    output = stream.output()
    parts = ("4111 11", "DE89", "0532", "5500", "0000-0004", "ada@", "ple.org")  # ids and times may hold such digits
    assert not [left for left in parts if re.search(rf"(?<![\w.-]){re.escape(left)}(?![0-9a-f])", output)]
    assert output.count("[email]") >= 8


@pytest.mark.parametrize("streamed", [False, True])
async def test_responses_and_messages_with_text_and_tools(redacting, upstream, streamed):
    stream = Stream(redacting.corridor)
    asked = 0
    for _, secret in ALL:
        for tool in (False, True):
            if tool:
                upstream.tool_call("send", orjson.dumps({"to": secret, "text": f"x\n{secret}"}).decode())
            else:
                upstream.says("It ", "is ", secret[:4], secret[4:], ".")
            responses = {"model": "chat", "instructions": f"be {secret}", "stream": streamed, "input": [
                {"role": "user", "content": [{"type": "input_text", "text": secret}]},
                {"type": "function_call_output", "call_id": "c", "output": f"{{\"v\": \"{secret[:3]}\"}} {secret}"}],
                "metadata": {"a": secret}}  # fmt: skip
            messages = {"model": "chat", "max_tokens": 99, "stream": streamed,
                "system": [{"type": "text", "text": secret}], "messages": [{"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": secret},
                    {"type": "text", "text": f"and {secret}"}]}], "metadata": {"user_id": secret}}  # fmt: skip
            for path, body in (("/responses", responses), ("/messages", messages)):
                answer = await redacting.client.post(path, json=body)
                assert answer.status_code == 200, answer.text
                asked += 1
    recorded = await stream.until(asked)
    assert leaks(stream.output()) == []
    assert {e.api for e in recorded} == {"responses", "messages"}
    texts = [orjson.loads(e.response) for e in recorded]
    assert all("[" in t["text"] + "".join(c["arguments"] for c in t["tool_calls"]) for t in texts)


async def test_errors_and_answers_that_break_off(redacting, upstream):
    stream = Stream(redacting.corridor)
    asked = 0
    for _, secret in ALL:
        upstream.answers(400, orjson.dumps({"error": {"message": f"no account {secret} here", "param": secret}}))
        assert (await redacting.chat(secret)).status_code == 400
        upstream.streams([b'data: {"error": {"message": "lost %b"}}\n\n' % orjson.dumps(secret)[1:-1]])
        async with redacting.stream(secret) as answer:
            await answer.aread()
        upstream.says("right")
        for _ in range(4):  # so that the target is not taken for broken
            assert (await redacting.chat()).status_code == 200
        asked += 6
    upstream.answers(502, f"<html>{ALL[0][1]}</html>".encode(), content_type="text/html")
    assert (await redacting.chat()).status_code == 502
    asked += 1
    recorded = await stream.until(asked)
    assert leaks(stream.output()) == []
    assert "no account [" in stream.output()
    assert {e.outcome for e in recorded} >= {"upstream_error"}


async def test_a_secret_in_a_request_beyond_the_cap_is_not_cut_in_two(start, configured, upstream):
    keys = [{"name": "tester", "sha256": sha256(KEY.encode()).hexdigest(), "content": "redacted"}]
    config = configured(upstream, keys=keys)
    config["sampling"] = {"rate": 1.0, "max_kb": 1}
    running = await start(config)
    stream = Stream(running.corridor)
    secret = SECRETS["key"][1]
    for before in range(880, 1000, 7):
        await running.chat("x" * before + " " + secret + " " + "y" * 2000)
    recorded = await stream.until(18)
    assert all(e.truncated for e in recorded)
    assert secret[:16] not in stream.output()


async def test_a_metadata_key_leaves_no_written_text(start, configured, upstream):
    keys = [{"name": "tester", "sha256": sha256(KEY.encode()).hexdigest(), "content": "metadata"}]
    running = await start(configured(upstream, keys=keys))
    stream = Stream(running.corridor)
    upstream.says("an answer of its own")
    await running.client.post("/chat/completions", json={"model": "chat", **wide("plain words")},
                              headers={"x-request-id": "mine"})  # fmt: skip
    (recorded,) = await stream.until(1)
    output = stream.output()
    assert not [w for w in ("plain words", "an answer of its own", '"mine"', "conversation of") if w in output]
    assert (recorded.status, recorded.outcome, recorded.usage is not None) == (200, "ok", True)
