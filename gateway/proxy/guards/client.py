"""The client of a guarded call: the relay's output waits here until the guards release it.

It is between the relay and the client's connection, and is a ClientConnection itself, so that the relay knows nothing
of guards. A plain answer waits until it is judged. Of a stream, text waits until `hold_chars` of it have arrived or
`hold_ms` have passed, and then leaves as far as no match may be open in it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.completion import assemble
from gateway.core.sse import Event, events, parse
from gateway.proxy.dialects import lenient_json
from gateway.proxy.guards.guard import Verdict, refusing
from gateway.proxy.guards.guarded_call import GuardedCall, HeldHead, remove_logprobs
from gateway.proxy.guards.judged_json import judged_object, judged_value, readable
from gateway.proxy.guards.judging import LARGE_CHARS, answer_input, ask, fail_all, note_length, note_matches
from gateway.proxy.guards.refusals import StreamSoFar
from gateway.proxy.guards.search import RuleHits, search
from gateway.proxy.guards.texts import Channel, Slot, event_slots, read_event
from gateway.proxy.guards.window import TextWindow, WholeText
from gateway.proxy.relay.state import HeldBytes
from gateway.proxy.types import CallEnded, ClientConnection, Headers
from gateway.runtime.tasks import Tasks

_MOST_BYTES = 16 << 20  # of a stream that scorers judge; of a longer one they see the beginning


class GuardedBytes:
    """The response's bytes for the record where guards hold the answer: those that left, and of a refused answer those
    that did not. A ResponseBytes."""

    __slots__ = ("_kept", "keep")

    enabled = True

    def __init__(self, cap_bytes: int) -> None:
        """cap_bytes: of the record, as in HeldBytes."""
        self._kept = HeldBytes(True, cap_bytes)
        self.keep = self._kept.add
        """Called by the guards with what has left."""

    @property
    def truncated(self) -> bool:
        return self._kept.truncated

    def relayed(self, data: bytes) -> None:
        """Keeps nothing: the relay's client is the guards', which have not judged the bytes."""

    def bytes(self) -> bytes:
        return self._kept.bytes()


class GuardedClient:
    """A ClientConnection."""

    __slots__ = ("_client", "_guarded", "_head", "_judging", "_kept", "_passes", "_tasks", "started")

    def __init__(self, guarded: GuardedCall, kept: GuardedBytes | None, tasks: Tasks) -> None:
        """kept: gets the recorded bytes; None if the answer is not held, so that the record has what is relayed."""
        self.started = False
        self._client: ClientConnection = guarded.client
        self._guarded = guarded
        self._kept = kept
        self._tasks = tasks
        self._head: HeldHead | None = None
        self._judging: GuardedStream | None = None
        self._passes = False  # nothing is judged any more: bytes pass as they come

    @property
    def writable(self) -> bool:
        return self._passes and self._client.writable

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started = True
        self._head = HeldHead(status, headers, extra_lines, length)

    async def write(self, data: bytes) -> None:
        if not self._passes:
            await self._begin()
        if self._judging is not None:
            await self._judging.add(data)
        else:
            await self._client.write(data)

    def write_nowait(self, data: bytes) -> None:
        self._client.write_nowait(data)

    async def end(self, data: bytes = b"") -> None:
        guarded, head = self._guarded, self._head
        if guarded.quick and head is not None and head.status == 200 and guarded.passes(data):
            if self._kept is not None:  # as _keep; here each call of a function counts
                self._kept.keep(data)
            self._client.start(200, head.headers, head.length, head.lines)
            await self._client.end(data)
        elif self._judging is not None:
            await self._judging.end(data)
        elif self._passes:
            await self._client.end(data)
        elif head is not None and head.streams:
            await self._begin()
            await self.end(data)
        else:
            await guarded.request_decided()
            await self._end_plain(data, head)

    async def _begin(self) -> None:
        """Decides, before the first bytes of a stream, whether its answer is judged."""
        guarded, head = self._guarded, self._head
        await guarded.request_decided()
        guarded.make_verdicts()
        if head is not None and head.streams and guarded.holds_answer and self._kept is not None:
            if self._judging is None:
                guarded.stream = self._judging = GuardedStream(guarded, head, self._kept, self._tasks)
        elif not self._passes:
            self._passes = True
            if head is not None:
                guarded.note_acted()
                self._client.start(head.status, head.headers, None, head.lines + guarded.header_line())

    async def _end_plain(self, data: bytes, head: HeldHead | None) -> None:
        guarded = self._guarded
        if head is not None and head.status < 400 and guarded.holds_answer:
            answer = await guarded.judge_answer(data)
            if answer is None:
                self._keep(data)
                await guarded.refuse_answer(refusing(guarded.of_answer), head, data)
                return
            data = answer
        self._keep(data)
        if head is not None:
            guarded.note_acted()
            self._client.start(head.status, head.headers, len(data), head.lines + guarded.header_line())
        await self._client.end(data)

    def _keep(self, data: bytes) -> None:
        if self._kept is not None:
            self._kept.keep(data)

    async def end_nowait(self, data: bytes) -> None:
        """Ends a broken response: unjudged text is not sent."""
        if self._guarded.blocked is not None:
            return
        if self._judging is not None:
            before = self._judging.cut()
            self._keep(data)
            data = before + data
        elif not self._passes and self._head is not None:
            self._client.start(self._head.status, self._head.headers, None, self._head.lines)
        await self._client.end_nowait(data)


_OTHER, _LINES = "other", "lines"
_NAMED = re.compile(rb"(?:event|id|retry): ?[A-Za-z][a-z_.]{0,63}|retry: ?\d{1,9}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(slots=True)
class _HeldEvent:
    """An event that waits, and where its texts are in theirs."""

    raw: bytes
    event: Event
    part: dict[str, Any] | None
    """Parsed data of the event; None if it is not a JSON object."""
    pieces: list[tuple[TextWindow | WholeText, Slot, int, int]] = field(default_factory=list)
    repeats: bool = False
    """Whether it holds whole texts, which have not been searched."""
    changed: bool = False
    other: Any = None
    """Data that is not a JSON object: a JSON value, or the text of what is not JSON; None if it is an object."""
    lines: str = ""
    """Lines of the event that hold no data and no name."""

    def slots(self) -> list[Slot]:
        """The whole texts of the event."""
        slots = event_slots(self.part) if self.part is not None else []
        if self.other is not None:
            slots.append(Slot(self, _OTHER))
        if self.lines:
            slots.append(Slot(self, _LINES))
        return slots

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    @property
    def may_leave(self) -> bool:
        return not self.repeats and all(end <= window.released for window, _, _, end in self.pieces)


class GuardedStream:
    """A stream that is judged while it arrives."""

    def __init__(self, guarded: GuardedCall, head: HeldHead, response: GuardedBytes, tasks: Tasks) -> None:
        self._guarded, self._head, self._response, self._tasks = guarded, head, response, tasks
        self._client, self._api = guarded.client, guarded.call.api
        self._verdicts = [v for v in guarded.of_answer if v.enforced or v.guard.config.in_process]
        self._ruled = [v for v in self._verdicts if v.hits is not None]
        self._measured = [v for v in self._verdicts if v.guard.config.max_chars is not None]
        self._asked = [v for v in self._verdicts if not v.guard.config.in_process]
        self._hits: list[RuleHits] = [v.hits for v in self._ruled if v.hits is not None]
        held = [v.guard.config for v in self._verdicts if v.enforced]
        self._hold_s = min(config.hold_ms for config in held) / 1000
        self._hold_chars = max(config.hold_chars for config in held)
        self._most_match = max(config.max_match_chars for config in held)
        self._queue: deque[_HeldEvent] = deque()
        self._left: list[str] = []  # pieces of the first choice's text, as they left: a continuation needs them
        self._windows: dict[Channel, TextWindow | WholeText] = {}
        self._ended: set[Channel] = set()
        self._so_far = StreamSoFar()
        self._all: list[bytes] = []  # what scorers judge
        self._all_bytes = 0
        self._chars = 0  # of the whole answer
        self._unjudged = 0  # characters that have arrived since the last judgement
        self._now = False  # a text is complete, so that nothing is gained by waiting
        self._begun = False  # the head has left
        self._done = False
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    async def add(self, data: bytes) -> None:
        """Takes further events. Raises CallEnded if the answer is refused."""
        async with self._turn:
            self._take(data)
            if self._now or self._unjudged >= self._hold_chars or not self._unjudged:
                await self._release(final=False)
            elif self._timer is None and not self._done:
                self._timer = asyncio.get_running_loop().call_later(self._hold_s, self._due)
        if self._guarded.blocked is not None:
            raise CallEnded

    async def end(self, data: bytes) -> None:
        """Judges and sends the rest. The response ends with it, or with a refusal."""
        async with self._turn:
            self._take(data)
            await self._release(final=True)
            if not self._done:
                self._done = True
                self._start()
                await self._client.end()
                self._count()
                self._guarded.observe(self._verdicts, stream=True, answer=b"".join(self._all))

    def cut(self) -> bytes:
        """Returns the rest of a stream that broke off: the bytes that rules let pass, if no scorer has to judge
        them."""
        self._stop_timer()
        out = b""
        if not self._done and not self._asked:
            self._search(final=True)
            self._search_repeats(self._repeats())
            if refusing(self._verdicts) is None:
                out = self._leaving()
        self._done = True
        self._start()
        self._response.keep(out)
        self._count()
        return out

    def restart(self) -> str:
        """Forgets the held text, since another answer continues the text that was sent; returns the latter."""
        self._queue.clear()
        for window in self._windows.values():
            window.drop_held()
        self._all = [self._response.bytes()]
        self._all_bytes = len(self._all[0])
        self._unjudged, self._now = 0, False
        return "".join(self._left)

    def _count(self) -> None:
        for verdict in self._verdicts:
            verdict.count()

    def _due(self) -> None:
        """The text that waits has waited long enough."""
        self._timer = None
        if not self._done:
            self._tasks.start(self._release_late(), "a held stream")

    async def _release_late(self) -> None:
        async with self._turn:
            if not self._done and not self._guarded.context.ended and not self._guarded.context.client_gone:
                await self._release(final=False)
        task = self._guarded.context.task
        if self._guarded.blocked is not None and task is not None:
            task.cancel()  # the upstream is not waited for any longer

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _take(self, data: bytes) -> None:
        if self._all_bytes < _MOST_BYTES:
            self._all.append(data)
            self._all_bytes += len(data)
        done = 0
        for event in events(data):
            done += len(event.raw)
            self._queue.append(self._read(event))
        if rest := data[done:]:
            self._queue.append(self._read(parse(rest)))  # an event without its blank line: some clients read it

    def _read(self, event: Event) -> _HeldEvent:
        last = event.data == b"[DONE]"
        part = None if last or not event.data else judged_object(event.data)
        held = _HeldEvent(event.raw, event, part)
        if not event.raw.startswith(b"data: ") or event.raw.count(b"\n") != 2:
            held.lines = _other_lines(event.raw)
            held.repeats = bool(held.lines)
        if last:
            self._end_channels(())
        elif part is None and event.data:
            fail_all((v for v in self._asked if v.failure is None), ValueError("no JSON object"))
            value = judged_value(event.data)
            held.other, held.repeats = event.data.decode("utf-8", "replace") if value is None else value, True
        if part is None:
            return held
        found = read_event(self._api, part)
        for channel, slot in found.pieces:
            window = self._windows.get(channel) or self._opened(channel, whole=found.arguments)
            text = slot.value
            held.pieces.append((window, slot, *window.add(text)))
            self._unjudged += len(text)
            self._chars += len(text)
        held.repeats = held.repeats or found.repeats
        if found.ended is not None:
            self._end_channels(found.ended)
        return held

    def _opened(self, channel: Channel, *, whole: bool) -> TextWindow | WholeText:
        window = WholeText(self._hits) if whole else TextWindow(self._hits, self._most_match)
        self._windows[channel] = window
        return window

    def _end_channels(self, path: Channel) -> None:
        self._ended.update(channel for channel in self._windows if channel[: len(path)] == path)
        self._now = True

    async def _release(self, *, final: bool) -> None:
        """Judges what has arrived, and sends what may leave, or a refusal."""
        if self._done:
            return
        self._stop_timer()
        await self._judge(final=final)
        refused = refusing(self._verdicts)
        if refused is not None:
            await self._refuse(refused)
            return
        out = self._leaving()
        if out:
            self._start()
            self._response.keep(out)
            await self._client.write(out)

    async def _judge(self, *, final: bool) -> None:
        began = time.perf_counter()
        try:
            self._search(final=final)
            repeats = self._repeats()
            large = sum(len(held.raw) for held in repeats) > LARGE_CHARS
            if large:
                await asyncio.to_thread(self._search_repeats, repeats)
            else:
                self._search_repeats(repeats)
        except Exception as error:  # whatever is wrong with a rule is its failure, and not the call's
            self._fail(error)
        seconds = time.perf_counter() - began
        for verdict in self._ruled:
            if verdict.failure is None:
                note_matches(verdict, seconds)
        for verdict in self._measured:
            note_length(verdict, self._chars, verdict.guard.config.max_chars or 0)
        if self._asked and (self._unjudged or final) and refusing(self._verdicts) is None:
            await self._ask()
        self._unjudged, self._now = 0, False

    def _search(self, *, final: bool) -> None:
        for channel, window in self._windows.items():
            if window.pending:
                window.advance(final=final or channel in self._ended)

    def _repeats(self) -> list[_HeldEvent]:
        return [held for held in self._queue if held.repeats]

    def _search_repeats(self, repeats: Sequence[_HeldEvent]) -> None:
        """Searches events that hold whole texts. Texts that came in pieces before have been counted."""
        for held in repeats:
            again = [RuleHits(hits.rule, hits.redacts) for hits in self._hits]
            held.changed = search(held.slots(), again)
            held.repeats = False
            for hits, found in zip(self._hits, again, strict=True):
                if found.matches and not hits.matches:
                    hits.matches = found.matches
                    hits.found.update(found.found)

    def _fail(self, error: Exception) -> None:
        """Handles a rule that has raised: the text that it had to judge is sent, unless `if_late` refuses it."""
        fail_all(self._ruled, error)
        for window in self._windows.values():
            window.released = window.end
        for held in self._queue:
            held.repeats = False

    async def _ask(self) -> None:
        data = b"".join(self._all)
        self._all = [data]
        data = readable(data, stream=True)
        if len(data) > LARGE_CHARS:
            answer = await asyncio.to_thread(assemble, self._api, True, data)
        else:
            answer = assemble(self._api, True, data)
        await ask(self._asked, (), lambda: answer_input(self._guarded.call, answer))

    async def _refuse(self, verdict: Verdict) -> None:
        self._done = True
        self._response.keep(b"".join(held.raw for held in self._queue))
        self._queue.clear()
        if self._begun:
            await self._client.end(self._guarded.broken_stream(verdict, self._so_far))
        else:
            await self._guarded.refuse_answer(verdict, self._head, b"")
        self._count()

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self._guarded.note_acted()
            lines = self._head.lines + self._guarded.header_line()
            self._client.start(self._head.status, self._head.headers, None, lines)

    def _leaving(self) -> bytes:
        out: list[bytes] = []
        while self._queue and self._queue[0].may_leave:
            out.append(self._sent(self._queue.popleft()))
        self._guarded.note_acted()
        return b"".join(out)

    def _sent(self, held: _HeldEvent) -> bytes:
        """The bytes of an event for the client: its own where nothing in it is replaced."""
        part, changed = held.part, held.changed
        if part is None:
            return _without_part(held) if changed else held.raw
        for window, slot, start, end in held.pieces:
            text = window.text(start, end)
            window.leave(end)
            if slot.key == "content" and not slot.holder.get("index"):
                self._left.append(text)
            if text != slot.value:
                slot.replace(text)
                changed = True
        self._so_far.note(self._api, part)
        if not changed:
            return held.raw
        remove_logprobs(part)
        name = b"event: %b\n" % held.event.name
        name = name if _NAMED.fullmatch(name[:-1]) else b""
        return name + b"data: " + lenient_json.dumps(part) + b"\n\n"


def _other_lines(raw: bytes) -> str:
    """The lines of an event, such as comments, which hold no data and no name; "" if there are none."""
    lines = (line for line in _LINE_END.split(raw) if line and not line.startswith(b"data:"))
    return b"\n".join(line for line in lines if line != b"data" and not _NAMED.fullmatch(line)).decode(
        "utf-8", "replace"
    )


def _without_part(held: _HeldEvent) -> bytes:
    """An event with marks whose data is not a JSON object. Lines that hold no data are left out."""
    if held.other is None:
        return b"data: " + held.event.data + b"\n\n" if held.event.data else b":\n\n"
    text = held.other if isinstance(held.other, str) else lenient_json.dumps(held.other).decode()
    if held.event.data[:1] == b'"' and judged_value(held.event.data) is not None:
        text = lenient_json.dumps(text).decode()
    return b"".join(b"data: " + line + b"\n" for line in text.encode("utf-8", "replace").split(b"\n")) + b"\n"
