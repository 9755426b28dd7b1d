"""The guards of one call: their findings so far, the actions taken, and the entry in the record.

In-process rules are decided at once, on a thread where the text is large. Scorers are asked; those that only observe
are never waited for by the client, but by the record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from gateway.config.guards import REFUSING
from gateway.core.completion import Completion, assemble
from gateway.core.errors import TooLarge
from gateway.core.guards import GuardFailure, to_json
from gateway.core.json_values import parse_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.guards.coverage import ENDPOINTS, HEAD, PLAIN_CHOICE, PLAIN_MESSAGE, PLAIN_REASONS, is_structure
from gateway.proxy.guards.guard import GuardFailed, GuardSet, Verdict, clean_decision, new_verdict, refusing
from gateway.proxy.guards.judged_request import read_request, with_texts
from gateway.proxy.guards.refusals import StreamSoFar, blocked_error, plain_refusal, stream_refusal
from gateway.proxy.guards.search import RuleHits, search
from gateway.proxy.guards.texts import (
    Slot,
    answer_slots,
    judged_object,
    judged_value,
    readable,
    request_slots,
)
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call
from gateway.proxy.routing.router import Route
from gateway.proxy.types import CallEnded, ClientConnection, Headers
from gateway.runtime.tasks import Tasks

LARGE_CHARS = 65_536
"""Characters whose search takes a millisecond or more: it is done on a thread."""
MOST_JUDGED_BYTES = 16_000_000
"""Bytes of the texts of a request, or of a plain answer, that rules judge, however long it takes: they are linear.
Larger texts are refused where a rule could redact or block."""
_ABOVE_LARGE = slice(LARGE_CHARS, LARGE_CHARS + 1)
_MOST_CHAR_BYTES = 4  # of UTF-8
_MAY_BE_JSON = "{[ \t\r\n"  # an empty text is among them
_MOST_REQUEST_BYTES = 262_144  # of a request that a scorer on answers sees; it sees none of a larger one
_JSON: Headers = [(b"content-type", b"application/json")]
_EVENTS: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


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
            fields, slots = read_request(body, enforced)
        else:
            fields, slots = await asyncio.to_thread(read_request, body, enforced)
        if len(body) > MOST_JUDGED_BYTES:
            _refuse_large(self.of_request, slots)
        now = [v for v in self.of_request if self._decides_now(v, small)]
        rest = [v for v in self.of_request if v not in now]
        if rest:  # they see the request as it came
            subject = self._subject(_texts_of(slots), None)
            copied = request_slots(judged_object(body) or {}) if any(v.hits for v in rest) else slots
        changed = await self._judge(now, slots, lambda: self._subject(_texts_of(slots), None))
        if refusing(now) is not None:
            context = self.context
            context.target_state = route.candidates[0].target_state if route.candidates else None
            await self._refuse(refusing(now), None)
            raise CallEnded
        if rest:
            self._judge_beside(rest, copied, subject)
        return with_texts(call, fields, slots) if changed else call

    def _decides_now(self, verdict: Verdict, small: bool) -> bool:
        waits = verdict.enforced and (verdict.guard.config.decides_before or verdict.action == "redact")
        return waits or (small and verdict.guard.config.in_process)

    def _judge_beside(self, rest: Sequence[Verdict], slots: Sequence[Slot], subject: Mapping[str, Any]) -> None:
        enforced, observing = [v for v in rest if v.enforced], [v for v in rest if not v.enforced]
        if enforced:
            self._beside = self._tasks.start(self._beside_request(enforced, slots, subject), "guards of a request")
        if observing:
            judging = self._judge(observing, slots, lambda: subject)
            self._later.append(self._tasks.start(judging, "observing guards"))

    async def _beside_request(
        self, verdicts: Sequence[Verdict], slots: Sequence[Slot], subject: Mapping[str, Any]
    ) -> None:
        """Judges a request that has already been sent; a refusal ends the call at once."""
        await self._judge(verdicts, slots, lambda: subject)
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
        changed = await self._judge(verdicts, slots, lambda: self._subject_of_body(body))
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
        changed = await self._judge(inner, [Slot(holder, "")], lambda: {}) if inner and holder[""] else False
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
        rest = [v for v in self.of_answer if v not in judged]
        if not rest:
            return
        if len(answer) > LARGE_CHARS or any(not v.guard.config.in_process for v in rest):
            judging = self._judge_observed(rest, stream=stream, answer=answer)
            self._later.append(self._tasks.start(judging, "observing guards"))
            return
        slots = _slots_of_answer(self.call.api, stream=stream, answer=answer)
        self._search_now([v for v in rest if v.hits is not None], slots)
        for verdict in rest:
            if verdict.guard.config.max_chars is not None:
                note_length(verdict, _size(slots), verdict.guard.config.max_chars)
            verdict.count()

    async def _judge_observed(self, rest: Sequence[Verdict], *, stream: bool, answer: bytes) -> None:
        slots = await asyncio.to_thread(_slots_of_answer, self.call.api, stream=stream, answer=answer)
        completion = await asyncio.to_thread(assemble, self.call.api, stream, answer)
        await self._judge(rest, slots, lambda: self.subject_of(completion))

    def subject_of(self, answer: Completion) -> dict[str, Any]:
        """Builds the input of a scorer of answers."""
        return self._subject("", answer)

    def _subject_of_body(self, body: bytes) -> dict[str, Any]:
        return self.subject_of(assemble(self.call.api, False, readable(body, stream=False)))

    def _subject(self, text: str, answer: Completion | None) -> dict[str, Any]:
        """Builds a scorer's input. For a guard on requests, the request's text is in the place of the answer."""
        call = self.call
        named = {"id": call.id, "api": call.api, "alias": call.alias, "stream": call.stream, "received": call.received}
        given: dict[str, Any] = {"text": text} if answer is None else asdict(answer)
        request = parse_object(call.body) if answer is not None and len(call.body) <= _MOST_REQUEST_BYTES else None
        return {"call": {**named, "caller": call.caller.name}, "request": request or {}, "answer": given}

    # Judging

    async def _judge(self, verdicts: Sequence[Verdict], slots: Sequence[Slot], subject: Any) -> bool:
        """Judges once, and counts. Returns whether a text of the slots was replaced. subject: makes it, for scorers."""
        ruled = [v for v in verdicts if v.hits is not None]
        changed = await self.search(ruled, slots) if ruled else False
        asked = [v for v in verdicts if v.hits is None]
        if asked:
            await self.ask(asked, slots, subject)
        for verdict in verdicts:
            verdict.count()
        return changed

    async def search(self, ruled: Sequence[Verdict], slots: Sequence[Slot]) -> bool:
        """Searches the texts with in-process rules; returns whether one was replaced."""
        if _size(slots) <= LARGE_CHARS:
            return self._search_now(ruled, slots)
        if _too_large(slots):
            for verdict in ruled:
                verdict.fail(GuardFailed("too_large"))
            return False
        began = time.perf_counter()
        try:
            changed = await asyncio.to_thread(search, slots, _hits(ruled))
        except Exception as error:  # whatever is wrong with a rule is its failure, and not the call's
            fail_all(ruled, error)
            return False
        _note_all(ruled, time.perf_counter() - began)
        return changed

    def _search_now(self, ruled: Sequence[Verdict], slots: Sequence[Slot]) -> bool:
        began = time.perf_counter()
        try:
            changed = search(slots, _hits(ruled))
        except Exception as error:  # the same
            fail_all(ruled, error)
            return False
        _note_all(ruled, time.perf_counter() - began)
        return changed

    async def ask(self, asked: Sequence[Verdict], slots: Sequence[Slot], subject: Any) -> None:
        """Asks the scorers of these guards, and measures lengths."""
        for verdict in asked:
            if verdict.guard.config.max_chars is not None:
                note_length(verdict, _size(slots), verdict.guard.config.max_chars)
        waiting = [v for v in asked if v.guard.config.max_chars is None]
        if waiting:
            given = subject()
            await asyncio.gather(*(_asked(verdict, given) for verdict in waiting))

    # What the caller gets

    async def refuse_answer(self, verdict: Verdict | None, head: HeldHead | None, answer: bytes) -> None:
        """Sends a refusal in place of an answer of which nothing has been sent. answer: the plain one; b"": a
        stream."""
        await self._refuse(verdict, head, answer)

    async def _refuse(self, verdict: Verdict | None, head: HeldHead | None, answer: bytes = b"") -> None:
        if verdict is None or self.blocked is not None:
            return
        text = self.note_blocked(verdict)
        call = self.call
        model = call.named or call.alias
        lines = self._lines(None if head is None else head.lines)
        if self._responds_with_error(verdict):
            error = blocked_error(text)
            body = error.anthropic_body() if call.api in ("messages", "count_tokens") else error.body()
            status, headers = error.status, [*_JSON, *error.headers()]
        elif call.stream and not answer:
            body, status, headers = stream_refusal(call.api, text, call.id, model, None), 200, _EVENTS
        else:
            body = plain_refusal(call.api, text, call.id, model, parse_object(answer) if answer else None)
            status, headers = 200, _JSON
        self.context.status = status
        self.context.notes.error_code = "content_filter" if status >= 400 else ""
        self.client.start(status, headers, len(body), lines)
        await self.client.end(body)

    def _responds_with_error(self, verdict: Verdict) -> bool:
        config = verdict.guard.config
        if ENDPOINTS[self.call.api] != "judged":
            return True  # an API without refusals
        if config.respond is not None:
            return config.respond == "error"
        return config.on == "request" and self.call.api != "messages"

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


async def _asked(verdict: Verdict, subject: Mapping[str, Any]) -> None:
    began = time.perf_counter()
    try:
        verdict.score = max(verdict.score or 0.0, await verdict.guard.ask(subject))
    except GuardFailed as failed:
        verdict.fail(failed)
    except Exception as error:  # whatever is wrong with a guard is its failure, and not the call's
        verdict.fail(GuardFailed("error", f"{type(error).__name__}: {error}"))
    verdict.seconds += time.perf_counter() - began


def note_matches(verdict: Verdict, seconds: float) -> None:
    hits = verdict.hits
    verdict.score = 1.0 if hits is not None and hits.matches else 0.0
    verdict.seconds += seconds


def note_length(verdict: Verdict, size: int, most: int) -> None:
    """A text above its maximum is a hit; below, the score says how near it is."""
    worst = verdict.guard.config.threshold
    verdict.score = max(worst, 1.0) if size > most else min(worst * size / most, worst * 0.999)


def _refuse_large(verdicts: Iterable[Verdict], slots: Sequence[Slot]) -> None:
    """Raises TooLarge for a request with larger texts than a rule judges that could redact or block."""
    rule = next((v for v in verdicts if v.hits is not None and v.action in REFUSING), None)
    if rule is not None and _too_large(slots):
        raise TooLarge(
            f"the texts of the request have more than {MOST_JUDGED_BYTES / 1e6:g} MB, which is the most that the guard "
            f'"{rule.guard.name}" judges; send less text in one request',
            retry=False,
        )


def fail_all(verdicts: Iterable[Verdict], error: Exception) -> None:
    reason: GuardFailure = "timeout" if isinstance(error, TimeoutError) else "error"
    for verdict in verdicts:
        verdict.fail(GuardFailed(reason, type(error).__name__))


def _hits(verdicts: Sequence[Verdict]) -> list[RuleHits]:
    return [v.hits for v in verdicts if v.hits is not None]


def _note_all(verdicts: Sequence[Verdict], seconds: float) -> None:
    for verdict in verdicts:
        note_matches(verdict, seconds)


_SPELLING = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids", "prompt_text")


def remove_logprobs(part: dict[str, Any]) -> None:
    """Removes the tokens of a text that was replaced, which would spell it."""
    choices = part.get("choices")
    for holder in (part, *(choices if isinstance(choices, list) else ())):
        for name in _SPELLING if isinstance(holder, dict) else ():
            if holder.get(name):
                holder[name] = None


def _size(slots: Sequence[Slot]) -> int:
    return sum(slot.size for slot in slots)


def _too_large(slots: Sequence[Slot]) -> bool:
    """Whether the texts have more bytes than rules judge."""
    size = _size(slots)
    if size <= MOST_JUDGED_BYTES // _MOST_CHAR_BYTES:
        return False
    exact = (len(slot.text.encode("utf-8", "replace")) for slot in slots)
    return size > MOST_JUDGED_BYTES or sum(exact) > MOST_JUDGED_BYTES


def _texts_of(slots: Iterable[Slot]) -> str:
    return "\n".join(text for slot in slots if (text := slot.text))


def _slots_of_answer(api: str, *, stream: bool, answer: bytes) -> list[Slot]:
    """The texts of an answer that has left."""
    if not stream:
        return answer_slots(judged_object(answer) or {})
    found = assemble(api, True, answer)
    texts = [found.text, found.reasoning, found.refusal, *(call.arguments for call in found.tool_calls)]
    texts += [name for call in found.tool_calls for name in (call.name, call.id) if not is_structure("id", name)]
    return [Slot(texts, at) for at, text in enumerate(texts) if text]
