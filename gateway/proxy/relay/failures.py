"""The meaning of a failed attempt: whether it is retried, whether another target follows, and the client's error.

Pure. The table in tests/proxy/test_faults.py lists the upstream faults that a call must survive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from gateway.config.config import Cause
from gateway.core.errors import (
    BadRequest,
    BodyCut,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    GatewayError,
    MessageTooLarge,
    NoFilesLeft,
    NotFound,
    Overloaded,
    QueueFull,
    TransportError,
    UpstreamFailed,
    UpstreamTimedOut,
)
from gateway.core.exchange import DECLINED as DECLINED_TEXT
from gateway.core.exchange import Outcome
from gateway.core.json_values import as_object, parse_object
from gateway.proxy.dialects.types import UnreadableEngine
from gateway.proxy.limits.endings import (
    BROKEN_OFF,
    CLIENT_DEADLINE,
    DECLINED,
    NO_CONNECTION_IN_TIME,
    NOT_SENT,
    REFUSED,
    TIMED_OUT,
    UNREADABLE,
    AttemptEnding,
)
from gateway.proxy.relay.deadlines import DeadlineExceeded
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_CONTEXT_WORDS = ("maximum context length", "context window", "prompt is too long", "max_model_len")
_SAID_CHARACTERS = 200
_JSON: Headers = [(b"content-type", b"application/json")]
_FILTER_CODES = frozenset({"content_policy_violation", "content_filter", "moderation_blocked"})


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An upstream's error response in the client's dialect, which is passed on when no target answers."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason why one attempt gave no answer."""

    cause: Cause | None
    """Decides which fallbacks may follow; None if none may, so that the client gets this answer."""
    text: str
    """The words for the sentence that lists the failures; it names no address, since it may reach the client."""
    outcome: Outcome = "upstream_error"
    retryable: bool = False
    """Whether the same target may be tried again."""
    retry_after_s: float | None = None
    """The value of the upstream's Retry-After header."""
    target_fault: bool = True
    """Whether the failure counts against the target's circuit breaker; the refusal of one request does not."""
    answer: ErrorReply | None = None
    status: int | None = None
    detail: str = ""
    """The error's own words, for the log alone, with addresses and names; "": `text` says it all."""
    said: str = ""
    """The upstream's own words, for the client alone, which may repeat a part of the prompt; no log has them."""
    queue_full: bool = False
    """Whether nothing was sent: the concurrency limit was reached and the queue full, or the wait in it too long."""
    sent: bool = True
    """Whether the request was sent; False if no connection was established."""
    answer_bytes: int | None = None
    """Bytes of a complete response with HTTP 200 that is not an answer; None if the response was not complete."""
    vendor_wait_s: float | None = None
    """Seconds until the target is asked again, of which its vendor's headers said that nothing is left; None if they
    are not the reason."""
    declined: bool = False
    """Whether a complete answer came that a cascade did not accept."""
    ineligible: bool = False
    """Whether a target that answers decisions alone was not asked, since the call asks for something else."""
    undecided: bool = False
    """Whether the target has no API of decisions, or none for its model."""
    refuses_key: bool = False
    """Whether the upstream refused the credential of the gateway, or what it may do."""

    @property
    def result(self) -> str:
        """The label `result` of gateway_attempts_total."""
        if self.outcome == "client_deadline":
            return self.outcome
        if self.declined:
            return "declined"
        if self.ineligible:
            return "ineligible"
        return "queue_full" if self.queue_full else self.cause or "refused"

    @property
    def ending(self) -> AttemptEnding:
        """The ending of the attempt, which decides its charge and the outcome of the call."""
        if self.declined:
            return DECLINED
        if not self.sent:
            return NO_CONNECTION_IN_TIME if self.outcome == "timeout" else NOT_SENT
        if self.status is not None:
            return REFUSED
        if self.outcome in _DEADLINES:
            return _DEADLINES[self.outcome]
        return BROKEN_OFF if self.answer_bytes is None else UNREADABLE

    @property
    def full_text(self) -> str:
        """The log's words: `text`, and why."""
        return f"{self.text}: {self.detail}" if self.detail else self.text


_DEADLINES: Mapping[Outcome, AttemptEnding] = {"timeout": TIMED_OUT, "client_deadline": CLIENT_DEADLINE}


class AttemptFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def of_full_queue() -> Failure:
    return Failure("error", "has a full queue", target_fault=False, retry_after_s=1.0, queue_full=True, sent=False)


def of_vendor_limit(header: str, wait_s: float) -> Failure:
    """header: of the last response, with its value; it names the vendor's API, which not every client may know."""
    return Failure(
        "error",
        "has used up its vendor's limit",
        target_fault=False,
        detail=header,
        said=f" ({header})",
        queue_full=True,
        sent=False,
        vendor_wait_s=wait_s,
    )


def of_declined(answer_bytes: int | None) -> Failure:
    """answer_bytes: of an answer whose usage the upstream has not reported; None if it has."""
    return Failure("error", DECLINED_TEXT, target_fault=False, status=200, answer_bytes=answer_bytes, declined=True)


def of_transport(error: TransportError) -> Failure:
    return replace(_of_transport(error), detail=str(error)[:300])


def _of_transport(error: TransportError) -> Failure:
    if isinstance(error, ConnectTimeout):
        return Failure("timeout", "could not be connected to in time", "timeout", sent=False)
    if isinstance(error, NoFilesLeft):
        return Failure("error", "could not be connected to", target_fault=False, sent=False)
    if isinstance(error, ConnectFailed):
        return Failure("error", "could not be connected to", sent=False)
    if isinstance(error, MessageTooLarge):  # the answer's size says nothing about the target
        return Failure("error", str(error), "cut", target_fault=False)
    if isinstance(error, BodyCut):
        return Failure("error", "cut its answer", "cut", retryable=True)
    if isinstance(error, ConnectionLost):
        return Failure("error", "closed the connection before it answered", retryable=True)
    return Failure("error", "sent bytes that are not HTTP", retryable=True)


def of_deadline(error: DeadlineExceeded, *, shortened: bool = False, by_client: bool = False) -> Failure:
    """A target that timed out is not retried: it would probably time out again, and the client pays for the wait.

    shortened: the target had less than the configured total, because the caller asked for less or because earlier
    attempts used a part. If the total passed then, the target is not at fault: no configured limit of its own had.
    by_client: the caller had asked for the shorter total; once it has passed, that is an outcome of its own.
    """
    fault = not (error.paused or (error.total and shortened))
    outcome: Outcome = "client_deadline" if error.total and by_client else "timeout"
    return Failure("timeout", f"timed out: {error}", outcome, target_fault=fault)


def of_redirect(status: int, location: bytes) -> Failure:
    """A redirect is not followed: it would repeat the request, with the credential, at an address that no config names.

    location: for the log alone.
    """
    text = f"HTTP {status}: it redirects to another address, which is not followed; its base_url is not right"
    return Failure("error", text, status=status, detail=f"location: {location[:200].decode('latin-1')}")


def of_refused_time(status: int, date: bytes) -> Failure:
    """A signature that is refused for its time, which is this machine's clock: no request can succeed until it is set.

    date: the server's, for the log alone."""
    text = f"HTTP {status}: it refuses the time of the gateway's signature; set the clock of the gateway's machine"
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    detail = f"its clock: {date[:40].decode('latin-1') or 'not given'}, this machine's: {now}"
    return Failure("error", text, status=status, detail=detail)


def lacks_endpoint(body: bytes) -> bool:
    """Whether a 404 is about the path and not about the model: as llama.cpp, FastAPI and Go's servers report it."""
    if len(body) > _SAID_CHARACTERS:
        return False
    return any(words in body.lower() for words in (b"file not found", b'"detail":"not found"', b"404 page not found"))


def of_missing_endpoint(upstream: str, path: bytes, *, anthropic: bool) -> Failure:
    """upstream: as the client may know it."""
    bare = path.partition(b"?")[0].decode("latin-1")
    hint = "; with `responses: chat` in its config it gets these requests as chats" if bare == "/responses" else ""
    error = NotFound(f"{upstream} has no /v1{bare}{hint}", code="unsupported_api")
    answer = ErrorReply(404, _JSON, error.anthropic_body() if anthropic else error.body())
    return Failure(None, "HTTP 404: it has no such endpoint", target_fault=False, answer=answer, status=404)


UNDECIDED_S = 600.0
"""Seconds for which a target that has no decisions is not asked for any."""


def lacks_decisions(status: int, body: bytes) -> bool:
    """Whether a reply says that the server has no decisions, or none for its model."""
    return status == 501 or (status == 404 and (lacks_endpoint(body) or b"invalid url" in body[:1000].lower()))


def of_no_decisions(status: int | None = None) -> Failure:
    """A target without decisions. status: its reply's; None if it was not asked. The client never gets this reply:
    clients of both APIs repeat requests that end in HTTP 501."""
    text = "has no decisions" if status is None else f"HTTP {status}: it has no decisions for this model"
    return Failure("error", text, target_fault=False, status=status, sent=status is not None, undecided=True)


def of_unreadable_engine(error: UnreadableEngine, call: Call, answer_bytes: int) -> Failure:
    """A target from whose chats no decision can be read; another one may be readable. Else the client gets the reason:
    a repetition would not help."""
    refused = BadRequest(
        f'the only reading of decisions that "{call.named or call.alias}" has gives no answer: it {error}; run '
        f"`gateway decisions probe {call.alias}`",
        param="model",
        code="decisions_not_supported",
    )
    answer = ErrorReply(400, _JSON, refused.body_for("systemone" if call.api == "systemone" else "openai"))
    return Failure("error", str(error), target_fault=False, answer=answer, answer_bytes=answer_bytes)


def of_ineligible(reason: str) -> Failure:
    """A call that a target for decisions is not asked. reason: in words for the sentence that lists the failures."""
    text = f"was not asked for a decision: {reason}"
    return Failure("error", text, target_fault=False, sent=False, ineligible=True)


def of_untranslatable(error: BadRequest, call: Call) -> Failure:
    """A decision that this target's API cannot express; another target may. Else the client gets the reason."""
    answer = ErrorReply(error.status, _JSON, error.body_for("systemone" if call.api == "systemone" else "openai"))
    return Failure("error", "cannot be asked this", target_fault=False, answer=answer, status=error.status, sent=False)


def of_status(status: int, headers: Headers, body: bytes, plain: bytes | None = None) -> Failure:
    """A 4xx about the request goes to the client; the gateway handles 429, 408, 401 and 5xx itself.

    body: the error in the client's dialect. plain: the same in OpenAI's; None: `body` can be read as that.
    """
    answer = ErrorReply(status, headers, body)
    body = body if plain is None else plain
    code = error_code(body)
    text = f"HTTP {status}" + (f" {code}" if code else "")
    if status == 429:
        quota = code == "insufficient_quota"
        return Failure(
            "rate_limit",
            text,
            retryable=not quota,
            retry_after_s=retry_after(headers),
            target_fault=False,
            answer=answer,
            status=status,
        )
    if status == 401:
        said = f"{text}: the upstream refused the gateway's own key"
        return Failure("error", said, status=status, refuses_key=True)
    if status >= 500 or status == 408:
        after_s = retry_after(headers)
        return Failure(
            "error",
            text,
            retryable=status != 501,
            retry_after_s=after_s,
            answer=answer,
            status=status,
            said=_said(body),
        )
    cause: Cause | None = None
    if _is_context(status, code, body):
        cause = "context_length"
    elif code in _FILTER_CODES:
        cause = "content_filter"
    refuses = status == 403 and cause is None
    return Failure(cause, text, target_fault=False, answer=answer, status=status, refuses_key=refuses)


def _said(body: bytes) -> str:
    """The upstream's own words, which often say what to do."""
    message = _error(body).get("message")
    words = " ".join(message.split()) if isinstance(message, str) else ""
    return f" ({words[:_SAID_CHARACTERS]})" if words else ""


def _is_context(status: int, code: str | None, body: bytes) -> bool:
    if code in _CONTEXT_CODES:
        return True
    message = _error(body).get("message")
    return status == 400 and isinstance(message, str) and any(words in message for words in _CONTEXT_WORDS)


def _error(body: bytes) -> dict[str, Any]:
    return as_object((parse_object(body) or {}).get("error"))


def error_code(body: bytes) -> str | None:
    """`error.code`, or `error.type` where the code is not text (vLLM's is a number)."""
    error = _error(body)
    for name in ("code", "type"):
        if isinstance(error.get(name), str):
            return str(error[name])[:100]
    return None


def retry_after(headers: Headers, now: datetime | None = None) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (seconds, or a date: RFC 9110, section 10.2.3)."""
    given = dict(headers)
    ms = _seconds(given.get(b"retry-after-ms", b""))
    if ms is not None:
        return ms / 1000
    value = given.get(b"retry-after", b"")
    seconds = _seconds(value)
    return seconds if seconds is not None else _until(value, now or datetime.now(UTC))


_LONGEST = 1e9  # 31 years; larger numbers count as this one


def _seconds(value: bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return min(max(0.0, number), _LONGEST) if isfinite(number) else None


def _until(value: bytes, now: datetime) -> float | None:
    try:
        at = parsedate_to_datetime(value.decode("latin-1"))
    except (TypeError, ValueError):
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp())


@dataclass(frozen=True, slots=True)
class AttemptNote:
    """The end of one attempt, as it is noted in the call's context."""

    result: str
    """The label `result` of gateway_attempts_total."""
    ending: AttemptEnding
    failure: str | None
    """The failure in words; None if it answered."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failure with its target and duration, for the sentence that lists them."""

    name: str
    """The target, as "upstream/model"."""
    failure: Failure
    seconds: float


def client_deadline(text: str) -> UpstreamTimedOut:
    """The error for a call that its client's own deadline has ended."""
    return UpstreamTimedOut(f"x-gateway-timeout-s: {text}", code="client_deadline", retry=False)


def verdict(
    alias: str,
    failed: Sequence[FailedAttempt],
    blocked_s: float | None,
    targets: int | None = None,
    *,
    named: bool = True,
) -> ErrorReply | GatewayError:
    """The client's answer when no target answered.

    An upstream's refusal of the request itself is passed on: the first one, so that a later target's complaint does not
    hide it. blocked_s: seconds until the first target that was skipped may be tried; None if none was skipped.
    targets: of the alias; None if those that failed are all. named: False calls the targets "target 1", "target 2", ….
    """
    if not failed:
        return Overloaded(
            f'all targets of "{alias}" are unavailable after recent failures or rate limits',
            retry_after_s=blocked_s or 1.0,
        )
    if all(f.failure.undecided for f in failed) and blocked_s is None:
        return BadRequest(
            f'no target of "{alias}" answers decisions; set `decisions` of an upstream that does, or ask another model',
            param="model",
            code="decisions_not_supported",
            retry=False,
        )
    refusal = next((f.failure.answer for f in failed if f.failure.answer and not f.failure.target_fault), None)
    if refusal is not None and (refusal.status != 429 or all(f.failure.cause == "rate_limit" for f in failed)):
        return refusal
    shown = {name: name if named else f"target {i}" for i, name in enumerate(dict.fromkeys(f.name for f in failed), 1)}
    words = [(shown[f.name], f.failure.text, f.failure.said if named else "", f.seconds) for f in failed]
    attempts = "; ".join(f"{name} {text}{said} after {seconds:.1f} s" for name, text, said, seconds in words)
    names = len(shown)
    if targets is not None and targets > names:
        who = f"{names} of the {targets} targets"
    else:
        who = "the only target" if names == 1 else f"all {names} targets"
    text = f'{who} of "{alias}" failed: {attempts}'
    waits = [f.failure.vendor_wait_s for f in failed if f.failure.vendor_wait_s is not None]
    if len(waits) == len(failed):
        again_s = max(1.0, min(waits))
        return QueueFull(f"{text}; the vendor is asked again in {again_s:.0f} s: retry then", retry_after_s=again_s)
    if all(f.failure.queue_full or f.failure.cause == "rate_limit" for f in failed):
        return QueueFull(f"{text}; retry, or raise `concurrency` or `queue` of the upstream", retry_after_s=1.0)
    if failed[-1].failure.outcome == "client_deadline":
        return client_deadline(f"no answer in time from {attempts}")
    if failed[-1].failure.outcome == "timeout":
        return UpstreamTimedOut(text, retry=False)
    if all(f.failure.status == 503 or f.failure.queue_full for f in failed):
        after_s = next((f.failure.retry_after_s for f in failed if f.failure.retry_after_s), None)
        return Overloaded(text, retry_after_s=after_s or 1.0, retry=False)
    return UpstreamFailed(text, retry=False)
