"""Streams that wait for guards, without sockets: every place at which a secret can be split, in each API."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from gateway.core.completion import assemble
from gateway.proxy.types import CallEnded

A = "Ab3" * 14
SECRET = "sk-" + f"proj-{A}"
PEM = "-----BEGIN RSA PRIVATE" + f" KEY-----\n{A}\n{A}\n-----END RSA PRIVATE" + " KEY-----"
Make = Callable[..., Any]
REDACT = {"s": {"on": "answer", "scorer": "secrets", "action": "redact", "hold_chars": 1}}
BLOCK = {"s": {"on": "answer", "scorer": "secrets", "action": "block", "hold_chars": 1}}


def event(part: dict[str, Any]) -> bytes:
    name = b"event: %b\n" % part["type"].encode() if "type" in part else b""
    return name + b"data: " + orjson.dumps(part) + b"\n\n"


def stream_of(api: str, pieces: list[str]) -> list[bytes]:
    """A whole stream of one text in these pieces; the last events of Responses repeat the text."""
    text = "".join(pieces)
    if api == "chat":
        chunks = [event({"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
        return [*chunks, event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                b"data: [DONE]\n\n"]  # fmt: skip
    if api == "messages":
        deltas = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces
        ]
        start = {"type": "message_start", "message": {"type": "message", "id": "m", "content": []}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        ends = [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ]
        return [event(part) for part in (start, block, *deltas, *ends, {"type": "message_stop"})]
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    whole = {"id": "r", "object": "response", "status": "completed",
             "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}  # fmt: skip
    parts: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r", "output": []}}]
    parts += [{"type": "response.output_text.delta", **place, "delta": piece} for piece in pieces]
    parts += [
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.completed", "response": whole},
    ]
    return [event(part) for part in parts]


async def through(made: Any, chunks: list[bytes]) -> bytes:
    """The bytes that the caller gets of a stream in these chunks."""
    made.start()
    try:
        for chunk in chunks[:-1]:
            await made.client.write(chunk)
        await made.client.end(chunks[-1])
    except CallEnded:
        assert made.context.outcome == "blocked"
    return bytes(made.sent.body)


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
@pytest.mark.parametrize("secret", [SECRET, PEM], ids=["key", "block"])
async def test_a_secret_that_is_split_anywhere_is_replaced_once(make: Make, api: str, secret: str) -> None:
    text = f"It is {secret} as you know."
    for cut in range(len(text) + 1):
        received = await through(make(api, REDACT), stream_of(api, [text[:cut], text[cut:]]))
        assert assemble(api, True, received).text == "It is [key] as you know.", f"cut at {cut}"
        assert A.encode() not in received
    assert assemble(api, True, await through(make(api, REDACT), stream_of(api, list(text)))).text == (
        "It is [key] as you know."
    )


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_a_secret_that_is_split_anywhere_is_blocked(make: Make, api: str) -> None:
    text = f"It is {SECRET} as you know."
    for cut in range(len(text) + 1):
        made = make(api, BLOCK)
        received = await through(made, stream_of(api, [text[:cut], text[cut:]]))
        assert made.context.outcome == "blocked", f"cut at {cut}"
        assert SECRET[:8].encode() not in received
        assert b"refused by the guard s" in received
        assert made.sent.ended


async def test_no_secret_leaves_in_many_answers(make: Make) -> None:
    """300 answers in pieces of 1 to 9 characters, 20 of them with a secret; all others pass to the letter."""
    rng, planted = random.Random(36), 0
    for i in range(300):
        secret = rng.choice([SECRET, PEM, "AKIA" + "IOSFODNN7EXAMPLE"]) if i % 15 == 0 else ""
        planted += bool(secret)
        words = " ".join(rng.choice(["the", "order", "was", "sent", "on", "Monday,", "number", "4711", "for", "12.50"])
                         for _ in range(rng.randrange(2, 20)))  # fmt: skip
        text, pieces = f"{words} {secret} {words}." if secret else f"{words}.", list[str]()
        while text:
            size = rng.randrange(1, 10)
            pieces.append(text[:size])
            text = text[size:]
        received = await through(make("chat", REDACT), stream_of("chat", pieces))
        answer = assemble("chat", True, received).text
        assert answer == (f"{words} [key] {words}." if secret else f"{words}.")
    assert planted == 20


async def test_chunks_of_several_events_are_judged_as_well(make: Make) -> None:
    chunks = stream_of("chat", ["It is ", SECRET[:10], SECRET[10:], " there."])
    received = await through(
        make("chat", REDACT), [b"".join(chunks[:3]), b": ping\n\n" + chunks[3], b"".join(chunks[4:])]
    )
    assert assemble("chat", True, received).text == "It is [key] there."
    assert b": ping\n\n" in received


async def test_the_tokens_of_a_replaced_text_go_too(make: Make) -> None:
    choice = {"index": 0, "delta": {"content": SECRET}, "logprobs": {"content": [{"token": SECRET, "logprob": -1}]}}
    received = await through(make("chat", REDACT), [event({"choices": [choice]}), *stream_of("chat", [])])
    assert A.encode() not in received


async def test_a_tool_call_in_a_stream_stays_json(make: Make) -> None:
    arguments = json.dumps({"to": "x", "password": "hunter22", "note": SECRET})
    pieces = [arguments[i : i + 5] for i in range(0, len(arguments), 5)]
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    calls[0] |= {"id": "c", "function": {"name": "f", "arguments": pieces[0]}}
    chunks = [event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}) for call in calls]
    received = await through(make("chat", REDACT), [*chunks, *stream_of("chat", [])])
    [call] = assemble("chat", True, received).tool_calls
    assert orjson.loads(call.arguments) == {"to": "x", "password": "[secret]", "note": "[key]"}


async def test_a_text_that_only_comes_whole_is_judged(make: Make) -> None:
    """Some servers send no deltas, and the whole response at the end."""
    made = make("responses", BLOCK)
    received = await through(made, [stream_of("responses", [SECRET])[-1]])
    assert made.context.outcome == "blocked"
    assert A.encode() not in received


class Judge:
    """A scorer that objects to a word, after it was told to answer."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.free = asyncio.Event()
        self.free.set()

    async def ask(self, guard: str, subject: Mapping[str, Any]) -> float:
        self.seen.append(subject["answer"]["text"])
        await self.free.wait()
        return float("forbidden" in subject["answer"]["text"])


JUDGED = {"j": {"on": "answer", "scorer": "own", "action": "block", "hold_chars": 12, "deadline_ms": 30_000}}


async def test_a_scorer_judges_what_has_come_before_it_leaves(make: Make) -> None:
    judge = Judge()
    made = make("chat", JUDGED, judge)
    chunks = stream_of("chat", ["harmless words, ", "then for", "bidden ones."])
    made.start()
    await made.client.write(chunks[0])
    assert b"harmless" in made.sent.body
    await made.client.write(chunks[1])
    with pytest.raises(CallEnded):
        await made.client.write(chunks[2])
    assert b"bidden" not in made.sent.body
    assert judge.seen == ["harmless words, ", "harmless words, then forbidden ones."]


async def test_nothing_leaves_while_a_scorer_judges(make: Make) -> None:
    judge = Judge()
    judge.free.clear()
    made = make("chat", JUDGED, judge)
    made.start()
    writing = asyncio.get_running_loop().create_task(made.client.write(stream_of("chat", ["quite harmless words"])[0]))
    while not judge.seen:
        await asyncio.sleep(0)
    assert made.sent.body == b""
    judge.free.set()
    await writing
    assert b"harmless" in made.sent.body


async def test_a_length_that_is_exceeded_ends_the_stream(make: Make) -> None:
    limited = {"l": {"on": "answer", "scorer": "length", "action": "block", "max_chars": 20, "hold_chars": 1}}
    made = make("chat", limited)
    received = await through(made, stream_of("chat", ["ten chars ", "ten chars ", "more"]))
    assert made.context.outcome == "blocked"
    assert assemble("chat", True, received).text == "ten chars ten chars "
    short = make("chat", limited)
    await through(short, stream_of("chat", ["ten chars "]))
    assert short.context.outcome == "ok"


@pytest.mark.parametrize("guards", [REDACT, JUDGED], ids=["rule", "scorer"])
async def test_half_a_surrogate_pair_hides_nothing(make: Make, guards: Any) -> None:
    """Some servers escape an emoji by halves, and clients read it: it does not evade a guard."""
    said = SECRET if guards is REDACT else "forbidden words"
    text = json.dumps(f"\ud83d {said} ").encode()
    chunk = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":%b}}]}\n\n' % text
    received = await through(make("chat", guards, Judge()), [chunk, *stream_of("chat", [])])
    assert said.encode() not in received


async def test_half_a_surrogate_pair_hides_nothing_in_a_plain_answer(make: Make) -> None:
    pattern = {"name": "staff", "regex": "EMP-[0-9]{6}"}
    guards = {"p": {"on": "answer", "scorer": "patterns", "action": "redact", "patterns": [pattern]}}
    made = make("chat", guards)
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"\\ud83d EMP-123456 \\ude00"}}]}'
    answer = await made.guarded.judge_answer(body)
    assert json.loads(answer)["choices"][0]["message"]["content"] == "\ufffd [staff] \ufffd"
