"""Guards the engines that `mode: likelihood` asks for log-probabilities of prompts.

vLLM computes them wrongly, or ends, when it computes several at a time with a LoRA adapter loaded (vllm#16668), and
leaves out an adapter's lm_head without a word (vllm#51594). So one request at a time asks an engine, over all processes
of a stream server; targets that the engine lists as adapters (`parent` in /v1/models) are not asked; and now and then
the control writes some tokens itself, whose log-probabilities must be those that it then gives them as a prompt.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Protocol

import orjson

from gateway.core.errors import StreamDown, TransportError
from gateway.core.exchange import new_id
from gateway.core.json_values import as_list, as_object, as_text, parse_object
from gateway.core.likelihood import AnswerToken
from gateway.proxy.experiments.shadow_request import FRESH
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.routing.variants import PROMPT_FIELDS

_TIMEOUT_S = 2.0
_MOST_BYTES = 4 << 20
_KNOWN_S = 60.0  # adapters are loaded and unloaded while an engine runs
_LOOK_S = 0.02  # between two tries to get an engine's turn
_SPARE_S = 30  # a turn expires this much later than its request
_CHECK_EACH = 50  # answers of a control
_CHECK_TOKENS = 16
_FEWEST_TOKENS = 4
_TOLERANCE = 0.1  # nats per token, in the mean; kernels of different batches differ by a tenth of it
_SAMPLED = {"max_tokens": _CHECK_TOKENS, "logprobs": True, "temperature": 1.0, "top_p": 1.0}


class Claims(Protocol):
    """Names that one process of all holds at a time."""

    async def claim(self, name: str, keep_s: int) -> bool: ...

    async def release_claim(self, name: str) -> None: ...


@dataclass(slots=True)
class Engines:
    """The engines that this process asks, by the origin of their URL. It outlives configs."""

    claims: Claims | None = None
    """Shared by all processes; None if this one is alone."""
    clock: Callable[[], float] = time.monotonic
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), init=False)
    _parents: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict, init=False)
    _scored: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    @asynccontextmanager
    async def turn(self, target_state: TargetState, most_s: float) -> AsyncIterator[None]:
        """Waits until nobody else asks this engine, and holds it. most_s: the longest that it is held. Raises
        StreamDown."""
        origin = target_state.upstream.dialect.origin
        name = f"likelihood:{sha256(origin.encode()).hexdigest()[:16]}"
        async with self._locks[origin]:
            if self.claims is None:
                yield
                return
            while not await self.claims.claim(name, int(most_s) + _SPARE_S):  # noqa: ASYNC110 - held by another process
                await asyncio.sleep(_LOOK_S)
            try:
                yield
            finally:
                with suppress(StreamDown):  # it expires
                    await self.claims.release_claim(name)

    def is_adapter(self, target_state: TargetState) -> bool:
        """Whether the engine was found to serve this target as an adapter of another model."""
        return bool(self._parents.get(_key(target_state), (0.0, ""))[1])

    async def parent(self, target_state: TargetState) -> str:
        """The model of which the engine lists this target as an adapter; "" if it lists none."""
        key, now = _key(target_state), self.clock()
        known = self._parents.get(key)
        if known is None or now - known[0] >= _KNOWN_S:
            known = self._parents[key] = now, await _parent(target_state)
        return known[1]

    def due(self, target_state: TargetState) -> bool:
        """Counts an answer that a control scores; whether its own generation is to be compared now."""
        key = _key(target_state)
        self._scored[key] += 1
        return self._scored[key] % _CHECK_EACH == 1


def _key(target_state: TargetState) -> tuple[str, str]:
    return target_state.upstream.dialect.origin, target_state.model


async def _parent(target_state: TargetState) -> str:
    """Asks for the list of models, which is free. An engine without one has no adapters that could be known."""
    upstream = target_state.upstream
    request = upstream.dialect.raw(UpstreamRequest(b"GET", "", b"/models"))
    body = b""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reply = await upstream.transport.send(request, _TIMEOUT_S)
            try:
                while len(body) < _MOST_BYTES and (data := await reply.chunk()):
                    body += data
            finally:
                reply.close()
    except (TransportError, TimeoutError):
        return ""
    listed = map(as_object, as_list((parse_object(body) or {}).get("data")))
    return next((as_text(each.get("parent")) for each in listed if each.get("id") == target_state.model), "")


def generation_request(call: Call) -> Call:
    """The call that lets a control write some tokens to the same prompt, with their log-probabilities.

    Raises ValueError for a body that is not a JSON object.
    """
    raw = orjson.loads(call.body)
    fields = {name: value for name, value in raw.items() if name in PROMPT_FIELDS} | _SAMPLED
    return replace(
        call.with_body(orjson.dumps(fields), fields),
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        stream=False,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + FRESH,
    )


@dataclass(frozen=True, slots=True)
class Generation:
    """A text that an engine has written, with the tokens and their log-probabilities as it wrote them."""

    text: str
    tokens: tuple[tuple[str, float], ...]


def generation_of(response: bytes) -> Generation | None:
    """Reads an answer; None if it holds no text, or no log-probabilities."""
    raw = parse_object(response) or {}
    choice = as_object(next(iter(as_list(raw.get("choices"))), None))
    text = as_text(as_object(choice.get("message")).get("content"))
    found = [as_object(each) for each in as_list(as_object(choice.get("logprobs")).get("content"))]
    tokens = [(as_text(each.get("token")), each.get("logprob")) for each in found]
    kept = tuple((name, float(value)) for name, value in tokens if isinstance(value, int | float))
    return Generation(text, kept) if text.strip() and len(kept) == len(tokens) >= _FEWEST_TOKENS else None


def differs(generation: Generation, scored: Sequence[AnswerToken]) -> bool:
    """Whether an engine gives tokens other log-probabilities as a prompt than it had when it wrote them. False where
    the tokens cannot be compared: a template may have changed the ends of the text."""
    written = generation.tokens
    if len(written) == len(scored) + 1:  # with the token that ends the answer
        written = written[:-1]
    if len(written) != len(scored) or len(scored) < _FEWEST_TOKENS:
        return False
    if any(name.strip() != token.text.strip() for (name, _), token in zip(written, scored, strict=True)):
        return False
    apart = sum(abs(value - token.logprob) for (_, value), token in zip(written, scored, strict=True))
    return apart / len(scored) > _TOLERANCE
