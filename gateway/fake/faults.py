"""The faults: how each changes the correct answer on the wire, and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.core.did_you_mean import did_you_mean
from gateway.fake.answers import CUT, EVENT_STREAM, HOLD, Delay, Delta, FakeAnswer, StreamDone, error, error_event
from gateway.fake.wire import (
    LAST_CHUNK,
    NEVER,
    RESET,
    Received,
    Step,
    chunk,
    correct_steps,
    framed,
    halved,
    head,
    interrupted,
)

HALF_EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "hal\n\n'
Bend = Callable[[Received, FakeAnswer], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: turns the correct answer into the steps on the wire.

    name: as parse_fault reads it. bend: the request and its correct answer → the steps on the wire.
    """

    name: str
    bend: Bend = field(repr=False, compare=False)

    @classmethod
    def status(
        cls,
        code: int,
        *,
        error_code: str | None = None,
        message: str | None = None,
        retry_after: float | None = None,
        body: bytes | None = None,
    ) -> Fault:
        """An error status. error_code: OpenAI's `error.code`. body: sent unchanged instead of the error object."""
        headers = () if retry_after is None else (("retry-after", f"{retry_after:g}"),)
        message = message or f"The fake upstream is set to answer {code}."

        def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            reply = error(answer.dialect, code, message, code=error_code, headers=headers)
            if body is not None:
                reply = FakeAnswer(body, status=code, headers=headers)
            return correct_steps(received, reply)

        return cls(f"status:{code}", bend)

    @classmethod
    def rate_limited(cls, retry_after: float | None = None) -> Fault:
        status_fault = cls.status(
            429, error_code="rate_limit_exceeded", message="Rate limit reached for requests.", retry_after=retry_after
        )
        return cls("rate_limited" if retry_after is None else f"rate_limited:{retry_after:g}", status_fault.bend)

    @classmethod
    def context_length(cls) -> Fault:
        message = "This model's maximum context length is 4096 tokens. Please reduce the length of the messages."
        return cls("context_length", cls.status(400, error_code="context_length_exceeded", message=message).bend)

    @classmethod
    def content_policy(cls) -> Fault:
        message = "Your request was rejected by our safety system: it asks for help with violence."
        return cls("content_policy", cls.status(400, error_code="content_policy_violation", message=message).bend)

    @classmethod
    def refuse_prefill(cls) -> Fault:
        """400 to a request to continue the last assistant message; the correct answer to other requests."""
        refusal = cls.status(400, message="continue_final_message is not supported by this model.")

        def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            wanted = b"continue_final_message" in received.body and received.json.get("continue_final_message")
            return (refusal.bend if wanted else correct_steps)(received, answer)

        return cls("refuse_prefill", bend)

    @classmethod
    def reset(cls) -> Fault:
        """Reads the request, then resets the connection before any header."""
        return cls("reset", lambda received, answer: [RESET])

    @classmethod
    def silence(cls) -> Fault:
        """Reads the request and never answers."""
        return cls("silence", lambda received, answer: [NEVER])

    @classmethod
    def slow_head(cls, seconds: float) -> Fault:
        """The correct answer after a delay."""
        return cls(
            f"slow_head:{seconds:g}", lambda received, answer: [Delay(seconds), *correct_steps(received, answer)]
        )

    @classmethod
    def slow_first_token(cls, seconds: float) -> Fault:
        """The headers at once, then a pause, then the rest."""

        def bend(received: Received, answer: FakeAnswer) -> Iterator[Step]:
            yield head(received, answer)
            yield Delay(seconds)
            yield from [*framed(answer.events), LAST_CHUNK] if answer.stream else [*answer.pauses, answer.body]

        return cls(f"slow_first_token:{seconds:g}", bend)

    @classmethod
    def cut_after(cls, n_deltas: int) -> Fault:
        """Closes the connection after n content deltas; a plain answer: after half of the body."""
        return _after(f"cut_after:{n_deltas}", n_deltas, CUT, plain=_halved(CUT))

    @classmethod
    def stall_after(cls, n_deltas: int) -> Fault:
        """Stops like cut_after, but the connection stays open; `release()` sends the rest."""
        return _after(f"stall_after:{n_deltas}", n_deltas, HOLD, rest=True, plain=_halved(HOLD))

    @classmethod
    def malformed_after(cls, n: int) -> Fault:
        """One event of invalid JSON after n deltas, then the rest. A plain answer: half of its JSON, well framed."""

        def half(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            body = answer.body[: len(answer.body) // 2]
            return correct_steps(received, FakeAnswer(body, status=answer.status, headers=answer.headers))

        return _after(f"malformed_after:{n}", n, chunk(HALF_EVENT), rest=True, plain=half)

    @classmethod
    def broken_chunk_after(cls, n: int) -> Fault:
        """A chunk with an invalid size after n deltas. A plain answer: half of the body, then closed."""
        broken = b"zz\r\nno chunk\r\n"
        return _after(f"broken_chunk_after:{n}", n, broken, NEVER, plain=_halved(CUT))

    @classmethod
    def no_done(cls, *, close: bool = False) -> Fault:
        """A complete stream without its last event, `[DONE]`. close: ends it cleanly; else the stream stays open."""

        def bend(received: Received, answer: FakeAnswer) -> Iterator[Step]:
            if not answer.stream:
                yield from correct_steps(received, answer)
                return
            yield head(received, answer, "connection: close\r\n" if close else "")
            yield from framed(event for event in answer.events if not isinstance(event, StreamDone))
            if close:
                yield LAST_CHUNK
            yield CUT if close else NEVER

        return cls("no_done_close" if close else "no_done", bend)

    @classmethod
    def short(cls) -> Fault:
        """A clean HTTP end after half of the deltas: no finish_reason, no `[DONE]`. A plain answer: an empty body."""

        def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            if not answer.stream:
                return correct_steps(received, FakeAnswer())
            deltas = sum(isinstance(event, Delta) for event in answer.events)
            return interrupted(received, answer, max(1, deltas // 2), LAST_CHUNK)

        return cls("short", bend)

    @classmethod
    def error_body(cls) -> Fault:
        """200 with an error object: as the body, or as the first event."""

        def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            message = "The fake upstream failed behind a 200."
            if not answer.stream:
                reply = error(answer.dialect, 500, message, code="server_error")
                return correct_steps(received, FakeAnswer(reply.body))
            return [head(received, answer), chunk(error_event(answer.dialect, message)), LAST_CHUNK]

        return cls("error_body", bend)

    @classmethod
    def error_event_after(cls, n: int) -> Fault:
        """An error event after n deltas, then a clean HTTP end. A plain answer: as error_body."""

        def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
            if not answer.stream:
                return cls.error_body().bend(received, answer)
            event = error_event(answer.dialect, "The fake upstream failed in the middle.")
            return interrupted(received, answer, n, chunk(event), LAST_CHUNK)

        return cls(f"error_event_after:{n}", bend)

    @classmethod
    def header_drip(cls, seconds_between: float) -> Fault:
        """A response head that never ends: one more header after each pause."""

        def bend(received: Received, answer: FakeAnswer) -> Iterator[Step]:
            yield b"HTTP/1.1 200 OK\r\n"
            number = 0
            while True:
                yield b"x-drip-%d: drip\r\n" % number
                yield Delay(seconds_between)
                number += 1

        return cls(f"header_drip:{seconds_between:g}", bend)

    @classmethod
    def comments_forever(cls, seconds_between: float) -> Fault:
        """An endless stream of `: keep-alive` comments. A plain answer: an endless body of spaces."""

        def bend(received: Received, answer: FakeAnswer) -> Iterator[Step]:
            kind = EVENT_STREAM if answer.stream else answer.content_type
            yield head(received, FakeAnswer(stream=True, content_type=kind))
            while True:
                yield chunk(b": keep-alive\n\n" if answer.stream else b" ")
                yield Delay(seconds_between)

        return cls(f"comments_forever:{seconds_between:g}", bend)

    @classmethod
    def garbage(cls) -> Fault:
        """Bytes that are not HTTP, then closed."""
        return cls("garbage", lambda received, answer: [b"\x16\x03\x01 220 mail.example ESMTP\r\n\r\n", CUT])


def _halved(between: Step) -> Bend:
    return lambda received, answer: halved(received, answer, between)


def _after(name: str, deltas: int, *steps: Step, plain: Bend, rest: bool = False) -> Fault:
    """A fault that puts these steps after n content deltas of a stream. plain: bends a plain answer."""

    def bend(received: Received, answer: FakeAnswer) -> Iterable[Step]:
        if not answer.stream:
            return plain(received, answer)
        return interrupted(received, answer, deltas, *steps, rest=rest)

    return Fault(name, bend)


_NUMBERS: Mapping[str, Callable[[float], Fault]] = {
    "status": lambda n: Fault.status(int(n)),
    "rate_limited": Fault.rate_limited,
    "slow_head": Fault.slow_head,
    "slow_first_token": Fault.slow_first_token,
    "cut_after": lambda n: Fault.cut_after(int(n)),
    "stall_after": lambda n: Fault.stall_after(int(n)),
    "malformed_after": lambda n: Fault.malformed_after(int(n)),
    "broken_chunk_after": lambda n: Fault.broken_chunk_after(int(n)),
    "error_event_after": lambda n: Fault.error_event_after(int(n)),
    "header_drip": Fault.header_drip,
    "comments_forever": Fault.comments_forever,
}
_BARE: Mapping[str, Callable[[], Fault]] = {
    "rate_limited": Fault.rate_limited,
    "context_length": Fault.context_length,
    "content_policy": Fault.content_policy,
    "refuse_prefill": Fault.refuse_prefill,
    "reset": Fault.reset,
    "silence": Fault.silence,
    "no_done": Fault.no_done,
    "no_done_close": lambda: Fault.no_done(close=True),
    "short": Fault.short,
    "error_body": Fault.error_body,
    "garbage": Fault.garbage,
}


def parse_fault(text: str) -> Fault:
    """The fault of that name, such as `cut_after:3` or `silence`. Raises ValueError with a hint."""
    name, colon, number = text.strip().partition(":")
    if name not in _NUMBERS and name not in _BARE:
        known = sorted({*_NUMBERS, *_BARE})
        raise ValueError(
            f"unknown fault {name!r}{did_you_mean(name, known) or '; expected one of ' + ', '.join(known)}"
        )
    if not colon and name in _BARE:
        return _BARE[name]()
    if name not in _NUMBERS:
        raise ValueError(f"{name} takes no number; write {name!r} instead of {text!r}")
    try:
        return _NUMBERS[name](float(number))
    except ValueError:
        raise ValueError(f"{name} needs a number, such as '{name}:3', not {number!r}") from None
