"""The reasons of failed attempts, and the consequences: the table of the upstream faults a caller must survive."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.errors import (
    BadResponse,
    BodyCut,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    GatewayError,
    Overloaded,
    QueueFull,
    TransportError,
    UpstreamFailed,
    UpstreamTimedOut,
)
from gateway.proxy.relay.deadlines import DeadlineExceeded
from gateway.proxy.relay.failures import (
    ErrorReply,
    FailedAttempt,
    Failure,
    error_code,
    of_deadline,
    of_full_queue,
    of_status,
    of_transport,
    retry_after,
    verdict,
)


def an_error(code: Any = None, message: str = "no", kind: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


STATUSES: list[tuple[str, int, bytes, str | None, bool, bool, bool]] = [
    # what, status, body, cause, asked again, the target's fault, its words may reach the client
    ("429", 429, an_error("rate_limit_exceeded"), "rate_limit", True, False, True),
    ("429 without a body", 429, b"", "rate_limit", True, False, True),
    ("quota", 429, an_error("insufficient_quota"), "rate_limit", False, False, True),
    ("500", 500, an_error(), "error", True, True, True),
    ("500 without JSON", 500, b"<html>", "error", True, True, True),
    ("502", 502, b"", "error", True, True, True),
    ("503", 503, b"", "error", True, True, True),
    ("529 of Anthropic", 529, b"", "error", True, True, True),
    ("501", 501, b"", "error", False, True, True),
    ("408", 408, b"", "error", True, True, True),
    ("401 of our own key", 401, an_error("invalid_api_key"), "error", False, True, False),
    ("context by code", 400, an_error("context_length_exceeded"), "context_length", False, False, True),
    ("of llama.cpp", 400, an_error(400, kind="exceed_context_size_error"), "context_length", False, False, True),
    ("context by words", 400, an_error(400, "maximum context length is 4096"), "context_length", False, False, True),
    ("context of Anthropic", 400, an_error(None, "prompt is too long: 9 tokens"), "context_length", False, False, True),
    ("a policy", 400, an_error("content_policy_violation"), "content_filter", False, False, True),
    ("Azure's filter", 400, an_error("content_filter"), "content_filter", False, False, True),
    ("a policy by words only", 400, an_error(None, "content_policy_violation"), None, False, False, True),
    ("a bad request", 400, an_error(400), None, False, False, True),
    ("not found", 404, an_error("model_not_found"), None, False, False, True),
    ("too large", 413, b"", None, False, False, True),
    ("unprocessable", 422, b"[]", None, False, False, True),
]  # fmt: skip


@pytest.mark.parametrize("row", STATUSES, ids=[s[0] for s in STATUSES])
def test_a_status_decides_which_target_may_follow(row: tuple[Any, ...]) -> None:
    _, status, body, cause, again, fault, heard = row
    failure = of_status(status, [], body)
    assert (failure.cause, failure.retryable, failure.target_fault) == (cause, again, fault)
    assert failure.status == status
    assert (failure.answer is not None) == heard
    if failure.answer is not None:
        assert failure.answer == ErrorReply(status, [], body)
    assert failure.text.startswith(f"HTTP {status}")


WIRE: list[tuple[TransportError, str, str, bool]] = [
    (ConnectTimeout("10.0.0.7:8001"), "timeout", "timeout", False),
    (ConnectFailed("10.0.0.7:8001 refused"), "error", "upstream_error", False),
    (ConnectionLost("10.0.0.7:8001"), "error", "upstream_error", True),
    (BodyCut("10.0.0.7:8001"), "error", "cut", True),
    (BadResponse("10.0.0.7:8001"), "error", "upstream_error", True),
]


@pytest.mark.parametrize(("error", "cause", "outcome", "again"), WIRE, ids=[type(w[0]).__name__ for w in WIRE])
def test_transport_errors_count_and_name_no_address(
    error: TransportError, cause: str, outcome: str, again: bool
) -> None:
    failure = of_transport(error)
    assert (failure.cause, failure.outcome, failure.retryable, failure.target_fault) == (cause, outcome, again, True)
    assert "10.0.0.7" not in failure.text


def test_a_target_that_timed_out_is_not_retried() -> None:
    failure = of_deadline(DeadlineExceeded("first token", 10))
    assert (failure.cause, failure.outcome, failure.retryable) == ("timeout", "timeout", False)
    assert failure.text == "timed out: no first token within 10 s"


@pytest.mark.parametrize(
    ("total", "shortened", "fault"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_a_shortened_total_is_not_the_targets_fault(total: bool, shortened: bool, fault: bool) -> None:
    error = DeadlineExceeded("end of the call", 0.05, total=total)
    assert of_deadline(error, shortened=shortened).target_fault is fault


@given(st.binary(max_size=60))
def test_no_error_body_makes_the_gateway_fail(body: bytes) -> None:
    assert of_status(400, [], body).answer == ErrorReply(400, [], body)
    assert error_code(body) is None or len(str(error_code(body))) <= 100


CODES: list[tuple[bytes, str | None]] = [
    (an_error("a"), "a"),
    (an_error(42, kind="BadRequestError"), "BadRequestError"),
    (an_error("c" * 500), "c" * 100),
    (b'{"error": "text"}', None),
    (b'{"error": {"code": {}}}', None),
    (b"[1]", None),
]


@pytest.mark.parametrize(("body", "code"), CODES, ids=[str(at) for at in range(len(CODES))])
def test_a_code_is_text_and_short(body: bytes, code: str | None) -> None:
    assert error_code(body) == code


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
AFTERS: list[tuple[dict[bytes, bytes], float | None]] = [
    ({}, None),
    ({b"retry-after": b"7"}, 7.0),
    ({b"retry-after": b"1.5"}, 1.5),
    ({b"retry-after": b" 2 "}, 2.0),
    ({b"retry-after": b"-3"}, 0.0),
    ({b"retry-after-ms": b"250"}, 0.25),
    ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
    ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9.0),
    ({b"retry-after": b"Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
    ({b"retry-after": b"Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
    ({b"retry-after": b"Thu, 01 Jan 2026 12:00:30"}, 30.0),
    ({b"retry-after": b"inf"}, None),
    ({b"retry-after": b"1e999"}, None),
    ({b"retry-after": b"nan"}, None),
    ({b"retry-after-ms": b"inf"}, None),
    ({b"retry-after": b"soon"}, None),
    ({b"retry-after": b""}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), AFTERS, ids=[str(a[0]) for a in AFTERS])
def test_retry_after_may_be_seconds_milliseconds_or_a_date(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after(list(headers.items()), NOW) == seconds


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)), st.binary(max_size=20))
@example(b"1E100", b"")
def test_any_retry_after_gives_a_finite_pause_or_none(value: bytes, ms: bytes) -> None:
    for headers in ([(b"retry-after", value)], [(b"retry-after-ms", ms), (b"retry-after", value)]):
        after = retry_after(headers, NOW)
        assert after is None or 0 <= after < 1e12
        error = Overloaded("x", retry_after_s=after)
        assert error.headers() is not None


def failed(*failures: Failure) -> list[FailedAttempt]:
    return [FailedAttempt(f"u{i}/m", f, 0.4) for i, f in enumerate(failures)]


BUSY = of_status(429, [(b"retry-after", b"3")], an_error("rate_limit_exceeded"))
DOWN = of_status(503, [(b"retry-after", b"7")], b"")
BROKEN = of_status(500, [], an_error("server_error"))
SILENT = of_deadline(DeadlineExceeded("first token", 30))
CONTEXT = of_status(400, [], an_error("context_length_exceeded"))
REFUSED = of_status(400, [], an_error("unsupported"))
POLICY = of_status(400, [], an_error("content_policy_violation"))
GONE = of_transport(ConnectFailed("x"))
FULL = of_full_queue()
OUR_KEY = of_status(401, [], an_error("invalid_api_key"))

VERDICTS: list[tuple[str, list[Failure], Any]] = [
    ("the refusal of a request is the client's", [REFUSED], REFUSED.answer),
    ("the first refusal is not hidden by a later one", [CONTEXT, REFUSED], CONTEXT.answer),
    ("nor by a later fault", [CONTEXT, BROKEN], CONTEXT.answer),
    ("nor by a later deadline", [POLICY, SILENT], POLICY.answer),
    ("all were busy: their 429", [BUSY, BUSY], BUSY.answer),
    ("one busy: its 429 says nothing of the others", [BUSY, BROKEN], UpstreamFailed),
    ("busy, then a refusal: neither is the whole truth", [BUSY, REFUSED], UpstreamFailed),
    ("all said 503", [DOWN, DOWN], Overloaded),
    ("all were full", [FULL, FULL], QueueFull),
    ("full, or told to wait", [FULL, BUSY], QueueFull),
    ("full, or 503", [FULL, DOWN], Overloaded),
    ("full says nothing of another fault", [FULL, BROKEN], UpstreamFailed),
    ("503 and another fault", [DOWN, BROKEN], UpstreamFailed),
    ("the last was silent", [BROKEN, SILENT], UpstreamTimedOut),
    ("silent before a fault", [SILENT, BROKEN], UpstreamFailed),
    ("no connection", [GONE], UpstreamFailed),
    ("our own key refused is not the client's 401", [OUR_KEY], UpstreamFailed),
]


@pytest.mark.parametrize(("failures", "wanted"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_the_verdict(failures: list[Failure], wanted: Any) -> None:
    found = verdict("chat", failed(*failures), None)
    if isinstance(wanted, ErrorReply):
        assert found == wanted
    else:
        assert type(found) is wanted
        assert isinstance(found, GatewayError)
        spent = None if wanted is QueueFull else False  # the gateway has spent its own retries; of a queue, none
        assert found.retry is spent


def test_the_message_lists_targets_failures_and_times() -> None:
    found = verdict("chat", failed(BROKEN, GONE, SILENT), None)
    assert str(found) == (
        'all 3 targets of "chat" failed: u0/m HTTP 500 server_error (no) after 0.4 s; u1/m could not be connected '
        "to after 0.4 s; u2/m timed out: no first token within 30 s after 0.4 s"
    )


def test_a_target_tried_twice_is_listed_as_one() -> None:
    again = [FailedAttempt("u/m", BROKEN, 0.1), FailedAttempt("u/m", GONE, 0.2)]
    assert str(verdict("chat", again, None)).startswith('the only target of "chat" failed: u/m HTTP 500')


def test_a_503_says_when_to_retry() -> None:
    for found, seconds in (
        (verdict("chat", failed(DOWN, DOWN), None), 7.0),
        (verdict("chat", [], 4.5), 4.5),
        (verdict("chat", [], None), 1.0),
        (verdict("chat", failed(of_status(503, [(b"retry-after", b"inf")], b"")), None), 1.0),
    ):
        assert isinstance(found, Overloaded)
        assert found.retry_after_s == seconds
        assert dict(found.headers())[b"retry-after"]


def test_the_sentence_counts_the_targets_that_were_not_asked() -> None:
    failed = [FailedAttempt("u/m", Failure("error", "HTTP 500", status=500), 0.1)]
    for targets, words in ((3, "1 of the 3 targets of"), (1, "the only target of"), (None, "the only target of")):
        answer = verdict("chat", failed, 1.0, targets)
        assert isinstance(answer, GatewayError)
        assert str(answer).startswith(words)
