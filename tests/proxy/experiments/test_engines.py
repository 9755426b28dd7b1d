"""Engines that `mode: likelihood` asks: one request at a time, no adapters, and none that contradicts its own text.

The doubles are scripted after vLLM's documentation and its issues 16668 and 51594; vLLM itself does not run here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.core.likelihood import AnswerToken, likelihood_from_json
from gateway.fake import FakeUpstream
from gateway.proxy.experiments.engines import Generation, differs, generation_of

Configured = Callable[..., dict[str, Any]]
TEXT = "The sea is cold and deep while ships wait."
SAME: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "u0", "model": "model-u0"}, "mode": "likelihood", "shadow": 1.0,
    "repeat_control": 1.0, "gate": {"latency": False}, "budget": {"concurrency": 256},
}  # fmt: skip


class FragileEngine:
    """An engine with adapters that ends when two requests for log-probabilities of prompts are in it at a time."""

    def __init__(self, adapters: dict[str, str]) -> None:
        self.base_url = ""
        self.adapters = adapters
        self.most = self.scored = self.listed = 0
        self.dead = False
        self._now = 0
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield
        finally:
            server.close()
            for writer in self._open:
                writer.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not self.dead:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
                answer = json.dumps(await self._answer(json.loads(await reader.readexactly(length) or "{}"))).encode()
                if self.dead:
                    break
                fields = f"content-type: application/json\r\ncontent-length: {len(answer)}"
                writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + answer)
        writer.close()

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not asked:
            self.listed += 1
            models = [{"id": "model-u0"}, *({"id": name, "parent": base} for name, base in self.adapters.items())]
            return {"object": "list", "data": models}
        answer = {
            "model": asked["model"],
            "choices": [choice(None)],
            "usage": {"prompt_tokens": 3, "completion_tokens": 9},
        }
        if "prompt_logprobs" not in asked:
            return answer
        self.scored, self._now = self.scored + 1, self._now + 1
        self.most = max(self.most, self._now)
        self.dead = self.dead or bool(self.adapters and self._now > 1)
        await asyncio.sleep(0.005)  # the time of a prefill
        self._now -= 1
        words = [None, *({str(at): entry(word)} for at, word in enumerate(split(TEXT)))]
        return answer | {"prompt_logprobs": words, "prompt_token_ids": None}


def split(text: str) -> list[str]:
    return [word if at == 0 else f" {word}" for at, word in enumerate(text.split())]


def entry(word: str) -> dict[str, Any]:
    return {"logprob": -0.125, "rank": 1, "decoded_token": word}


def choice(logprobs: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}


def on_one_engine(configured: Configured, engine: Any, **candidate: Any) -> dict[str, Any]:
    """A config whose control and candidate are models of one engine, by two names of it."""
    config = configured(engine, engine, chat={"fallback": []}, sampling={"rate": 0.0})
    for upstream in config["upstreams"].values():
        upstream["kind"] = "vllm"
    config["experiments"] = {"same": SAME | {"candidate": {"upstream": "u1", "model": "new"} | candidate}}
    return config


async def test_one_request_at_a_time_asks_an_engine(start: Any, configured: Configured) -> None:
    """Two gateways on one stream server, three requests for each call."""
    engine = FragileEngine({})
    async with engine.running():
        gateways = [await start(on_one_engine(configured, engine)) for _ in range(2)]
        for _ in range(6):
            replies = await asyncio.gather(*(gateway.chat("Where?") for gateway in gateways for _ in range(2)))
            assert [reply.status_code for reply in replies] == [200] * 4
        await gateways[0].until(lambda: engine.scored >= 3 * 24)
        assert engine.most == 1


async def test_an_adapter_beside_its_base_model_is_not_asked(start: Any, configured: Configured) -> None:
    """The engine goes on serving, and the record has the reason."""
    engine = FragileEngine({"tuned": "model-u0"})
    async with engine.running():
        gateway = await start(on_one_engine(configured, engine, model="tuned"))
        await gateway.chat("Where?")
        arms = {e.arm: e for e in await gateway.recorded(4)}
        refused = likelihood_from_json(arms["candidate"].likelihood)
        assert refused is not None
        assert refused.refused == "adapter"
        assert (arms["candidate"].status, arms["candidate"].attempts, arms["candidate"].response) == (0, (), b"")
        asked = engine.scored
        for _ in range(5):
            assert (await gateway.chat("Where?")).status_code == 200
        counted = gateway.gateway.metrics
        await gateway.until(lambda: counted.counts.of(counted.shadow, "same", "", "not_offered_adapter").n == 5)
        assert (engine.scored, engine.most, engine.dead) == (asked, 1, False)


async def test_a_model_that_becomes_an_adapter_is_no_longer_asked(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    """Adapters are loaded while an engine runs: the list is asked again after a minute."""
    upstream.vllm = True
    passed = 0.0
    gateway = await start(on_one_engine(configured, upstream), passed_s=lambda: passed)
    gateway.process.app.gateway.settler.shadow.shadow_state.engines.clock = lambda: passed
    await gateway.chat("Where?")
    assert all(not likelihood_from_json(e.likelihood).refused for e in (await gateway.recorded(4))[1:] if e.likelihood)
    upstream.adapters = {"new": "model-u0"}
    passed = 61.0
    await gateway.chat("Where?")
    found = [likelihood_from_json(e.likelihood) for e in (await gateway.recorded(8))[4:] if e.arm == "candidate"]
    assert [each.refused for each in found if each is not None] == ["adapter"]


TOKENS = tuple((word, -0.5) for word in split(TEXT))


def scored(shift: float = 0.0, words: list[str] | None = None) -> list[AnswerToken]:
    return [AnswerToken(word, -0.5 + shift, 1, word, -0.5) for word in words or split(TEXT)]


def test_small_differences_are_those_of_kernels() -> None:
    assert not differs(Generation(TEXT, TOKENS), scored(0.05))
    assert differs(Generation(TEXT, TOKENS), scored(0.2))
    assert differs(Generation(TEXT, (*TOKENS, ("<|im_end|>", -0.1))), scored(-0.2))


def test_tokens_that_cannot_be_compared_say_nothing() -> None:
    assert not differs(Generation(TEXT, TOKENS), scored(9.0, ["Another", *split(TEXT)[1:]]))
    assert not differs(Generation(TEXT, TOKENS), scored(9.0, split(TEXT)[2:]))
    assert not differs(Generation("a b", (("a", -0.5), (" b", -0.5))), scored(9.0, ["a", " b"]))


@pytest.mark.parametrize(
    "response",
    [b"", b"{}", b"[]", b'{"choices":[]}', json.dumps({"choices": [choice(None)]}).encode(),
     json.dumps({"choices": [choice({"content": [{"token": "a"}] * 9})]}).encode(),
     json.dumps({"choices": [choice({"content": [{"token": "a", "logprob": -1}]})]}).encode()],
)  # fmt: skip
def test_an_answer_without_log_probabilities_is_not_compared(response: bytes) -> None:
    assert generation_of(response) is None
