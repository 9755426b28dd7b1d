"""The types of this package: the elements of a script, a request, and an answer; and each API's errors and events.

Pure: nothing here knows sockets or faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

CREATED = 1_700_000_000
EVENT_STREAM = "text/event-stream"


class HOLD:
    """Stops the answer of a script here until `release()` or the end."""


class CUT:
    """Closes the connection of a script here, in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float


class Delta(bytes):
    """An event with content: `cut_after(n)` and similar faults count these."""


class StreamDone(bytes):
    """The event that ends a stream: `[DONE]`, or the API's equivalent."""


Part = str | Delay | type[HOLD] | type[CUT]
Event = bytes | Delay | type[HOLD] | type[CUT]
Dialect = Literal["openai", "anthropic", "responses"]


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """One correct answer, before it is framed for the wire."""

    body: bytes = b""  # of a plain answer
    events: Sequence[Event] = ()  # of a stream, in order
    pauses: Sequence[Event] = ()  # before the first byte of a plain answer; a CUT among them halves the body
    stream: bool = False
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = "openai"  # the format of this API's errors


@dataclass(frozen=True, slots=True)
class FakeToolCall:
    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Script:
    """The content of answers of chat, completions, responses and messages."""

    parts: tuple[Part, ...]
    custom: bool = True  # a test wrote it; False: the default script
    tool: FakeToolCall | None = None


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\s*\S+", text)


@dataclass(frozen=True, slots=True)
class PromptScores:
    """Scores of a prompt's tokens for `prompt_logprobs`, as vLLM gives them."""

    logprob: Callable[[int, str], float] = lambda place, text: -0.25
    """Natural logarithm of the probability of the token at a place of the prompt, counted from 0."""
    tokenize: Callable[[str], Sequence[str]] = _words
    """Splits a text; joined, the parts are the text."""
    returned: bool = True
    """Whether the engine knows the field; False if it ignores it."""
    written: Callable[[int, str], float] | None = None
    """The same of the tokens that it writes, where they differ; None: as those of a prompt."""


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request, as the functions that build answers need it."""

    serial: int
    method: str
    path: str  # without /v1
    content_type: str
    body: bytes
    fields: dict[str, Any]
    script: Script
    default_model: str
    vllm: bool
    orca: str | None  # the requested format of the load report; None: none requested
    load: Mapping[str, float]
    scores: PromptScores = PromptScores()
    adapters: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return str(self.fields.get("model") or self.default_model)

    @property
    def stream(self) -> bool:
        return bool(self.fields.get("stream"))

    @property
    def logprobs(self) -> bool:
        return bool(self.fields.get("logprobs"))

    @property
    def choices(self) -> int:
        return int(self.fields.get("n") or 1)

    @property
    def usage_requested(self) -> bool:
        return bool((self.fields.get("stream_options") or {}).get("include_usage"))


def streamed(events: list[Event], dialect: Dialect = "openai") -> FakeAnswer:
    return FakeAnswer(events=events, stream=True, content_type=EVENT_STREAM, dialect=dialect)


def named_event(event: dict[str, Any]) -> bytes:
    """An event whose SSE name is its `type`, as in the APIs responses and messages."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def error(
    dialect: Dialect,
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> FakeAnswer:
    """An error as the complete answer."""
    body = orjson.dumps(_error_object(dialect, status, message, code, param))
    return FakeAnswer(body, status=status, headers=headers, dialect=dialect)


def error_event(dialect: Dialect, message: str) -> bytes:
    """An error as an event inside a stream."""
    if dialect == "responses":
        return named_event({"type": "error", "code": "server_error", "message": message, "param": None})
    error_object = _error_object(dialect, 500, message, "server_error", None)
    return named_event(error_object) if dialect == "anthropic" else b"data: " + orjson.dumps(error_object) + b"\n\n"


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _error_object(dialect: Dialect, status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    if dialect == "anthropic":
        kind = _ANTHROPIC_ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req-fake"}
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
