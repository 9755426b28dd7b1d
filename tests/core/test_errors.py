"""Every error: what a client sees of it, and that the drawing in the docstring is the truth."""

from __future__ import annotations

import errno
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import errors
from gateway.core.errors import (
    CannotRun,
    ConfigError,
    GatewayError,
    StreamDown,
    TransportError,
    disk_line,
    is_disk_error,
)
from gateway.proxy.limits.refusal import RunEnded, RunReserved

ANSWERS = [
    (errors.BadRequest, 400, "invalid_request_error", None),
    (errors.BlockedByGuard, 400, "invalid_request_error", "content_filter"),
    (errors.TooManyMembers, 400, "invalid_request_error", None),
    (errors.InvalidKey, 401, "invalid_request_error", "invalid_api_key"),
    (errors.NotAllowed, 403, "invalid_request_error", "permission_denied"),
    (errors.NotFound, 404, "invalid_request_error", "not_found"),
    (errors.ModelNotFound, 404, "invalid_request_error", "model_not_found"),
    (errors.WrongMethod, 405, "invalid_request_error", "method_not_allowed"),
    (errors.TooLarge, 413, "invalid_request_error", "request_too_large"),
    (errors.UnsupportedEncoding, 415, "invalid_request_error", "unsupported_content_encoding"),
    (errors.NotImplementedHere, 501, "invalid_request_error", "not_implemented"),
    (errors.UpstreamFailed, 502, "upstream_error", "upstream_failed"),
    (errors.RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.QuotaExceeded, 429, "insufficient_quota", "insufficient_quota"),
    (RunEnded, 429, "insufficient_quota", "insufficient_quota"),
    (RunReserved, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.LimitsUnavailable, 503, "service_unavailable_error", "limits_unavailable"),
    (errors.KeyBusy, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.QueueFull, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.Overloaded, 503, "service_unavailable_error", "no_healthy_upstream"),
    (errors.KeysUnavailable, 503, "service_unavailable_error", "keys_unavailable"),
    (errors.UpstreamTimedOut, 504, "upstream_error", "upstream_timeout"),
]


def subclasses(kind: type) -> set[type]:
    return {c for each in kind.__subclasses__() for c in (each, *subclasses(each))}


def test_the_table_names_every_error_that_may_be_an_answer() -> None:
    assert {a[0] for a in ANSWERS} == subclasses(GatewayError)


@pytest.mark.parametrize(("kind", "status", "type_", "code"), ANSWERS, ids=[a[0].__name__ for a in ANSWERS])
def test_each_error_has_its_status_type_and_code(
    kind: type[GatewayError], status: int, type_: str, code: str | None
) -> None:
    error = kind("what was wrong", param="model")
    assert error.status == status
    assert json.loads(error.body()) == {
        "error": {"message": "what was wrong", "type": type_, "param": "model", "code": code}
    }
    assert str(error) == "what was wrong"
    assert error.headers() == []


def test_the_tree_in_the_docstring_lists_every_error() -> None:
    drawn = dict(re.findall(r"^[│├└─ ]*([A-Z]\w+)(?: +(\d{3}))?", errors.__doc__ or "", re.M))
    own = {
        GatewayError,
        TransportError,
        ConfigError,
        CannotRun,
        StreamDown,
        *subclasses(GatewayError),
        *subclasses(TransportError),
    }
    names = {c.__name__: str(c.status) if issubclass(c, GatewayError) and c is not GatewayError else "" for c in own}
    drawn.pop("Every", None)
    assert drawn == names


def test_a_code_overrides_the_classs_for_one_instance() -> None:
    assert errors.UpstreamFailed("x", code="stream_cut").code == "stream_cut"
    assert errors.UpstreamFailed("x").code == "upstream_failed"


HEADERS = [
    ({}, {}),
    ({"retry": False}, {b"x-should-retry": b"false"}),
    ({"retry": True}, {b"x-should-retry": b"true"}),
    ({"retry_after_s": 7.4}, {b"retry-after": b"7"}),
    ({"retry_after_s": 0.01}, {b"retry-after": b"1"}),
    ({"retry_after_s": 2, "retry": False}, {b"retry-after": b"2", b"x-should-retry": b"false"}),
]


@pytest.mark.parametrize(("fields", "headers"), HEADERS, ids=[str(h[0]) for h in HEADERS])
def test_sdks_are_told_whether_and_when_to_try_again(fields: dict[str, float], headers: dict[bytes, bytes]) -> None:
    assert dict(errors.Overloaded("x", **fields).headers()) == headers  # type: ignore[arg-type]


ANTHROPIC = [
    (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
    (404, "not_found_error"), (413, "request_too_large"), (503, "overloaded_error"), (504, "timeout_error"),
    (502, "api_error"), (501, "api_error"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "type_"), ANTHROPIC)
def test_an_anthropic_client_gets_anthropics_shape_and_types(status: int, type_: str) -> None:
    kind = next(a[0] for a in ANSWERS if a[1] == status)
    assert json.loads(kind("no").anthropic_body()) == {"type": "error", "error": {"type": type_, "message": "no"}}


@pytest.mark.parametrize(
    ("error", "google", "aws"),
    [
        (errors.BadRequest("x"), "INVALID_ARGUMENT", "ValidationException"),
        (errors.InvalidKey("x"), "UNAUTHENTICATED", "AccessDeniedException"),
        (errors.NotFound("x"), "NOT_FOUND", "ResourceNotFoundException"),
        (errors.RateLimited("x"), "RESOURCE_EXHAUSTED", "ThrottlingException"),
        (errors.UpstreamTimedOut("x"), "DEADLINE_EXCEEDED", "ModelTimeoutException"),
        (GatewayError("x"), "INTERNAL", "InternalServerException"),
    ],
)
def test_vendors_clients_get_the_names_of_their_own_api(error: GatewayError, google: str, aws: str) -> None:
    body = json.loads(error.body_for("gemini"))["error"]
    assert (body["code"], body["status"], body["message"]) == (error.status, google, "x")
    assert body["details"][0]["reason"] == (error.code or error.type).upper()
    assert json.loads(error.body_for("bedrock")) == {"message": "x"}
    assert error.headers_for("bedrock", "id") == [(b"x-amzn-errortype", aws.encode()), (b"x-amzn-requestid", b"id")]
    assert error.headers_for("openai", "id") == error.headers_for("gemini", "id") == []


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_message_is_json_and_stays_out_of_the_headers(message: str) -> None:
    error = errors.BadRequest(message, retry=False)
    assert json.loads(error.body())["error"]["message"] == message
    assert error.headers() == [(b"x-should-retry", b"false")]


def test_a_config_error_is_all_its_mistakes_one_a_line() -> None:
    error = ConfigError(["a: wrong", "b: wrong too"])
    assert error.mistakes == ("a: wrong", "b: wrong too")
    assert str(error) == "a: wrong\nb: wrong too"


def test_further_members_and_headers_go_along() -> None:
    error = errors.RateLimited("too many", retry_after_s=3)
    error.details = {"scope": "key web"}
    error.more_headers = [(b"x-ratelimit-remaining-requests", b"0")]
    assert json.loads(error.body())["error"]["scope"] == "key web"
    assert json.loads(error.anthropic_body())["error"]["scope"] == "key web"
    assert error.headers() == [(b"x-ratelimit-remaining-requests", b"0"), (b"retry-after", b"3")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_writes_is_distinguished(number: int) -> None:
    assert is_disk_error(OSError(number, "no"))
    assert not is_disk_error(OSError(errno.ENOENT, "no"))
    assert not is_disk_error(ValueError("no"))


def test_the_line_names_the_file_if_there_is_one() -> None:
    assert (
        disk_line(OSError(errno.ENOSPC, "No space left", "/data/key")) == "/data/key cannot be written: No space left"
    )
    assert disk_line(OSError(errno.ENOSPC, "No space left")) == "a file or the output cannot be written: No space left"
