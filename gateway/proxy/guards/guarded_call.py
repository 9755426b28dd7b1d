"""The guards of one call: their findings so far, the actions taken, and the entry in the record.

In-process rules are decided at once, on a thread where the text is large. Scorers are asked; those that only observe
are never waited for by the client, but by the record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.core.completion import assemble
from gateway.core.guards import to_json
from gateway.proxy.dialects import lenient_json
from gateway.proxy.guards.coverage import HEAD, PLAIN_CHOICE, PLAIN_MESSAGE, PLAIN_REASONS, is_structure
from gateway.proxy.guards.guard import GuardSet, Verdict, clean_decision, new_verdict, refusing
from gateway.proxy.guards.judged_json import judged_object, judged_value, readable
from gateway.proxy.guards.judged_request import JudgedRequest
from gateway.proxy.guards.judging import (
    LARGE_CHARS,
    MOST_JUDGED_BYTES,
    answer_input,
    fail_all,
    judge,
    note_length,
    refuse_large,
    search_now,
    size_of,
)
from gateway.proxy.guards.refusals import StreamSoFar, blocked_error, refusal_of, stream_refusal
from gateway.proxy.guards.texts import Slot, answer_slots
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.routing.router import Route
from gateway.proxy.types import CallEnded, ClientConnection, Headers
from gateway.runtime.tasks import Tasks

_ABOVE_LARGE = slice(LARGE_CHARS, LARGE_CHARS + 1)
_MAY_BE_JSON = "{[ \t\r\n"  # an empty text is among them


class GuardedCall:
    """State of a call that at least one guard judges."""

    def __init__(
        self, call: Call, client: ClientConnection, context: CallContext, guards: GuardSet, tasks: Tasks
    ) -> None:
        """client: that which the response goes to, past the guards."""
        self.call = call
        self.client = client
        self.context = context
        self.quick = guards.quick and not call.stream and not guards.ramps
        """Whether a search of the plain answer may be enough: verdicts are made where it is not."""
        self.of_request: list[Verdict] = []
        self.of_answer: list[Verdict] = []
        self.blocked: Verdict | None = None
        """The guard that has refused the call; None if none has."""
        self.stream: ResumableStream | None = None
        """The stream that is judged while it arrives; None if none is."""
        self._guards = guards
        self._clean_s: float | None = None  # time of the look in which nothing was found; None if there was none
        self._tasks = tasks
        self._beside: asyncio.Task[None] | None = None  # judges the request while it is under way
        self._later: list[asyncio.Task[Any]] = []  # judgements that nothing but the record waits for
        self._judged_answer = False
        if not self.quick:
            self.make_verdicts()

    def make_verdicts(self) -> None:
        if not (self.of_request or self.of_answer):
            for guard in self._guards.every:
                of = self.of_request if guard.config.on == "request" else self.of_answer
                of.append(new_verdict(guard, self.call))

    # The request

    async def admit(self, call: Call, route: Route) -> Call:
        """The call as it may be sent. Raises CallEnded if it is refused: then the client has its answer."""
        body = call.body_with({})
        small = len(body) <= LARGE_CHARS
        enforced = next((v.guard.name for v in self.of_request if v.enforced), None)
        if small:
            request = JudgedRequest(call, body, enforced)
        else:
            request = await asyncio.to_thread(JudgedRequest, call, body, enforced)
        if len(body) > MOST_JUDGED_BYTES:
            refuse_large(self.of_request, request.slots)
        now = [v for v in self.of_request if self._decides_now(v, small)]
        later = [v for v in self.of_request if v not in now]
        if later:
            slots, subject = request.as_it_came(searched=any(v.hits for v in later))
        changed = await judge(now, request.slots, request.input)
        if (refused := refusing(now)) is not None:
            self.context.target_state = route.candidates[0].target_state if route.candidates else None
            await self._refuse(refused, None)
            raise CallEnded
        if later:
            self._judge_beside(later, slots, subject)
        return request.changed_call() if changed else call

    def _decides_now(self, verdict: Verdict, small: bool) -> bool:
        waits = verdict.enforced and (verdict.guard.config.decides_before or verdict.action == "redact")
        return waits or (small and verdict.guard.config.in_process)

    def _judge_beside(self, verdicts: Sequence[Verdict], slots: Sequence[Slot], subject: Mapping[str, Any]) -> None:
        enforced, observing = [v for v in verdicts if v.enforced], [v for v in verdicts if not v.enforced]
        if enforced:
            self._beside = self._tasks.start(self._beside_request(enforced, slots, subject), "guards of a request")
        if observing:
            judging = judge(observing, slots, lambda: subject)
            self._later.append(self._tasks.start(judging, "observing guards"))

    async def _beside_request(
        self, verdicts: Sequence[Verdict], slots: Sequence[Slot], subject: Mapping[str, Any]
    ) -> None:
        """Judges a request that has already been sent; a refusal ends the call at once."""
        await judge(verdicts, slots, lambda: subject)
        refused = refusing(verdicts)
        if refused is not None and not self.context.ended and not self.context.client_gone:
            await self._refuse(refused, None)
            if self.context.task is not None:
                self.context.task.cancel()

    async def request_decided(self) -> None:
        """Waits until the request may be answered."""
        if self._beside is not None:
            beside, self._beside = self._beside, None
            await asyncio.shield(beside)
        if self.blocked is not None:
            raise CallEnded

    @property
    def holds_request(self) -> bool:
        """Whether the answer's first byte waits for a judgement of the request, or names a guard that flagged it."""
        return self._beside is not None or any(v.enforced for v in self.of_request)

    # The answer

    @property
    def holds_answer(self) -> bool:
        """Whether the client waits for a judgement of the answer."""
        return self._guards.holds_answer if self.quick else any(v.enforced for v in self.of_answer)

    def passes(self, body: bytes) -> bool:
        """Whether no rule finds anything in a plain answer, which then has been judged. False if it must be judged."""
        if body[_ABOVE_LARGE]:
            return False
        guards, began = self._guards, time.perf_counter()
        try:
            answer = orjson.loads(body)
            [choice] = answer["choices"]
            message = choice["message"]
            text = message["content"]
            for name in answer:  # as texts.is_plain; here each call of a function counts
                if name not in HEAD and name != "choices" and answer[name]:
                    return False
            for name in choice:
                if name not in PLAIN_CHOICE and choice[name]:
                    return False
            if choice["finish_reason"] not in PLAIN_REASONS:
                return False
            for name in message:
                if message[name] and (name not in PLAIN_MESSAGE or (name == "role" and message[name] != "assistant")):
                    return False
            if type(text) is not str or text[:1] in _MAY_BE_JSON or "\\" in text:
                return False
            for guard in guards.answer:
                if guard.rule is None or guard.rule.find(text):
                    return False
        except Exception:  # whatever it is, the judgement says
            return False
        seconds = self._clean_s = time.perf_counter() - began
        for guard in guards.answer:
            guard.count(guard.config.action, "pass", seconds)
        return True

    async def judge_answer(self, body: bytes) -> bytes | None:
        """A plain answer as it may leave; None if it is refused."""
        self.make_verdicts()
        part = judged_object(body)
        verdicts = [v for v in self.of_answer if v.enforced or v.guard.config.in_process]
        if part is None:
            return await self._judge_other(body, verdicts)
        slots = answer_slots(part)
        changed = await judge(verdicts, slots, lambda: self._subject_of_body(body))
        self.observe(verdicts, stream=False, answer=body)
        if refusing(verdicts) is not None:
            return None
        if not changed:
            return body
        remove_logprobs(part)
        return lenient_json.dumps(part)

    async def _judge_other(self, body: bytes, verdicts: Sequence[Verdict]) -> bytes | None:
        """A plain answer that is no JSON object: rules judge it as a text, and scorers fail."""
        inner = [v for v in verdicts if v.guard.config.in_process]
        fail_all((v for v in verdicts if not v.guard.config.in_process), ValueError("no JSON object"))
        value = judged_value(body)
        holder: dict[str, Any] = {"": body.decode("utf-8", "replace") if value is None else value}
        changed = await judge(inner, [Slot(holder, "")], lambda: {}) if inner and holder[""] else False
        self.observe(verdicts, stream=False, answer=body)
        if refusing(verdicts) is not None:
            return None
        new = holder[""]
        return body if not changed else str(new).encode() if value is None else lenient_json.dumps(new)

    def answered(self) -> bool:
        """Judges the answer of a call that has ended, if no guard has held it. Returns whether a judgement is
        awaited."""
        context = self.context
        if self._clean_s is not None:
            return False
        if self._guards.answer and not self._judged_answer and self.blocked is None and context.status == 200:
            answer = context.response.bytes()
            if self.quick and self.passes(answer):
                return False
            if answer:
                self.make_verdicts()
                self.observe((), stream=self.call.stream, answer=answer)
        return any(not task.done() for task in self._later)

    def observe(self, judged: Sequence[Verdict], *, stream: bool, answer: bytes) -> None:
        """Judges an answer with the guards that did not hold it."""
        self._judged_answer = True
        others = [v for v in self.of_answer if v not in judged]
        if not others:
            return
        if len(answer) > LARGE_CHARS or any(not v.guard.config.in_process for v in others):
            judging = self._judge_observed(others, stream=stream, answer=answer)
            self._later.append(self._tasks.start(judging, "observing guards"))
            return
        slots = _slots_of_answer(self.call.api, stream=stream, answer=answer)
        search_now([v for v in others if v.hits is not None], slots)
        for verdict in others:
            if verdict.guard.config.max_chars is not None:
                note_length(verdict, size_of(slots), verdict.guard.config.max_chars)
            verdict.count()

    async def _judge_observed(self, others: Sequence[Verdict], *, stream: bool, answer: bytes) -> None:
        slots = await asyncio.to_thread(_slots_of_answer, self.call.api, stream=stream, answer=answer)
        completion = await asyncio.to_thread(assemble, self.call.api, stream, answer)
        await judge(others, slots, lambda: answer_input(self.call, completion))

    def _subject_of_body(self, body: bytes) -> dict[str, Any]:
        return answer_input(self.call, assemble(self.call.api, False, readable(body, stream=False)))

    # What the caller gets

    async def refuse_answer(self, verdict: Verdict | None, head: HeldHead | None, answer: bytes) -> None:
        """Sends a refusal in place of an answer of which nothing has been sent. answer: the plain one; b"": a
        stream."""
        await self._refuse(verdict, head, answer)

    async def _refuse(self, verdict: Verdict | None, head: HeldHead | None, answer: bytes = b"") -> None:
        if verdict is None or self.blocked is not None:
            return
        text, lines = self.note_blocked(verdict), self._lines(None if head is None else head.lines)
        refusal = refusal_of(self.call, verdict.guard.config, text, answer)
        self.context.status = refusal.status
        self.context.notes.error_code = "content_filter" if refusal.status >= 400 else ""
        self.client.start(refusal.status, refusal.headers, len(refusal.body), lines)
        await self.client.end(refusal.body)

    def broken_stream(self, verdict: Verdict, so_far: StreamSoFar) -> bytes:
        """The events that end a stream of which the client has the beginning."""
        text, call, target_state = self.note_blocked(verdict), self.call, self.context.target_state
        if verdict.guard.config.respond == "error" and target_state is not None:
            return target_state.upstream.dialect.broken(call, blocked_error(text))
        return stream_refusal(call.api, text, call.id, call.named or call.alias, so_far)

    def note_blocked(self, verdict: Verdict) -> str:
        """Notes that this guard has refused the call; returns what its caller reads."""
        self.blocked, verdict.acted = verdict, True
        self.context.outcome = "blocked"
        self.context.ended = True
        return verdict.guard.config.blocked_text(verdict.guard.name, self.call.id)

    def _lines(self, lines: bytes | None) -> bytes:
        if lines is None:
            lines = b"x-request-id: " + self.call.id.encode()
            if self.call.api == "messages":
                lines += b"\r\nrequest-id: " + self.call.id.encode()
        return lines + self.header_line()

    def header_line(self) -> bytes:
        """The header line that names the guards that acted, as far as known; b"" if none did."""
        acted = [v for v in (*self.of_request, *self.of_answer) if v.acted]
        if not acted:
            return b""
        named = ", ".join(f"{v.guard.name};action={v.action}" for v in acted)
        return b"\r\nx-gateway-guard: " + named.encode()

    def note_acted(self) -> None:
        """Notes the guards that acted on the text to be sent next."""
        for verdict in (*self.of_request, *self.of_answer):
            if verdict.action == "flag":
                verdict.acted = verdict.hit
            elif verdict.action == "redact":
                verdict.acted = verdict.hits is not None and verdict.hits.matches > 0

    def restart(self) -> str | None:
        """The text of a stream that has been sent, from which another answer continues; the held rest is forgotten.
        None if nothing was held."""
        return None if self.stream is None else self.stream.restart()

    # The record

    async def settled(self) -> None:
        """Waits for the judgements that nothing else waits for: each has its deadline."""
        await asyncio.wait(self._later)

    def record_rate(self) -> tuple[float, str]:
        """The largest `record` of the guards with a hit, or nearly one, and the guard; 1 while a ramp takes its steps:
        what it decides on is of every call."""
        if self._clean_s is not None:
            return 0.0, ""
        judged = self._judged()
        rates = [(v.guard.config.record, v.guard.name) for v in judged if v.result in ("hit", "near")]
        rates += [(1.0, v.guard.name) for v in judged if v.unit]
        return max(rates, default=(0.0, ""))

    def to_json(self) -> str | None:
        """The record's `guards`; None if no guard has decided."""
        if self._clean_s is not None:
            return to_json(clean_decision(guard, self._clean_s) for guard in self._guards.answer)
        judged = self._judged()
        return to_json(v.decision() for v in judged) if judged else None

    def _judged(self) -> list[Verdict]:
        return [v for v in (*self.of_request, *self.of_answer) if v.score is not None or v.failure is not None]


class ResumableStream(Protocol):
    def restart(self) -> str: ...


@dataclass(slots=True)
class HeldHead:
    """The head of a response that has not left."""

    status: int
    headers: Headers
    lines: bytes
    length: int | None = None

    @property
    def streams(self) -> bool:
        return any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in self.headers)


_SPELLING = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids", "prompt_text")


def remove_logprobs(part: dict[str, Any]) -> None:
    """Removes the tokens of a text that was replaced, which would spell it."""
    choices = part.get("choices")
    for holder in (part, *(choices if isinstance(choices, list) else ())):
        for name in _SPELLING if isinstance(holder, dict) else ():
            if holder.get(name):
                holder[name] = None


def _slots_of_answer(api: str, *, stream: bool, answer: bytes) -> list[Slot]:
    """The texts of an answer that has left."""
    if not stream:
        return answer_slots(judged_object(answer) or {})
    found = assemble(api, True, answer)
    texts = [found.text, found.reasoning, found.refusal, *(call.arguments for call in found.tool_calls)]
    texts += [name for call in found.tool_calls for name in (call.name, call.id) if not is_structure("id", name)]
    return [Slot(texts, at) for at, text in enumerate(texts) if text]
