"""Every error of the gateway, with the HTTP status, OpenAI type and code that a client sees.

GatewayError                 has a status: it may be the answer to a client
├── BadRequest          400  invalid_request_error
│   ├── BlockedByGuard  400  content_filter; a guard refused the request or the answer
│   └── TooManyMembers  400  reading them all would hold up the calls of others
├── InvalidKey          401  invalid_api_key
├── NotAllowed          403
├── NotFound            404
│   └── ModelNotFound   404  model_not_found
├── WrongMethod         405  carries allow, which is added where it is raised
├── TooLarge            413
├── UnsupportedEncoding 415
├── QuotaExceeded       429  a budget is used up (402, where configured); says of which scope
│   └── RunEnded        429  a ceiling of a run is used up; in proxy/limits/refusal.py
├── RateLimited         429  a limit that resets with time is reached; names its scope; carries retry-after
│   └── RunReserved     429  the rest of a run's ceiling is reserved; in proxy/limits/refusal.py
├── KeyBusy             429  the key's calls in flight have reached its limit; carries retry-after
├── QueueFull           429  every target's queue is full; carries retry-after
├── Overloaded          503  no target may be asked now; carries retry-after
├── KeysUnavailable     503  whether the key is valid is unknown now; carries retry-after
├── LimitsUnavailable   503  a limit cannot be checked now, and is to refuse then; carries retry-after
├── NotImplementedHere  501
├── UpstreamFailed      502  every target failed
└── UpstreamTimedOut    504  every target failed, the last at a deadline
TransportError               one attempt failed on the wire; relay.py handles it, a client never sees it
├── ConnectFailed            nothing was sent
│   └── NoFilesLeft          this process has no file descriptor left
├── ConnectTimeout           no connection within the connect timeout; nothing was sent
├── ConnectionLost           sent, and the connection ended before a response head
├── BadResponse              the response is not HTTP, or exceeds a size limit
└── BodyCut                  the response head arrived; the body was incomplete
    └── MessageTooLarge      a message of a WebSocket exceeds the size limit
ConfigError                  all mistakes in one config file, one line each
CannotRun                    a program cannot run; the command line prints the message
StreamDown                   the stream server cannot be reached now
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_AWS_ERRORS = {
    400: "ValidationException",
    401: "AccessDeniedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    413: "ValidationException",
    415: "ValidationException",
    429: "ThrottlingException",
    501: "ValidationException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
ErrorShape = Literal["openai", "anthropic", "gemini", "bedrock", "systemone"]
"""The API by whose rules a client reads errors."""


class GatewayError(Exception):
    """An error that may be the whole answer to a client.

    message: what was wrong, with the value, and what to do. param: the request field at fault, if any.
    retry_after_s: sent as `retry-after`. retry: False adds `x-should-retry: false`, so that SDKs do not multiply
    the retries that the gateway has already made.
    """

    status = 500
    type = "api_error"
    code: str | None = None

    def __init_subclass__(cls, status: int | None = None, type: str | None = None, code: str | None = None) -> None:
        """Sets the attributes that a class gives in its head; it inherits the others."""
        cls.status, cls.type, cls.code = status or cls.status, type or cls.type, code or cls.code

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.retry = retry
        self.details: Mapping[str, Any] = {}
        """Additional members of the error object."""
        self.more_headers: list[tuple[bytes, bytes]] = []
        if code is not None:
            self.code = code

    def body(self) -> bytes:
        """The JSON body in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": {**error, **self.details}})

    def anthropic_body(self) -> bytes:
        """The JSON body in Anthropic's shape: `{"type": "error", "error": {"type", "message"}}`."""
        kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": self.message, **self.details}})

    def body_for(self, shape: ErrorShape) -> bytes:
        """The JSON body as clients of this API read it."""
        if shape == "openai":
            return self.body()
        if shape == "anthropic":
            return self.anthropic_body()
        if shape == "bedrock":
            return orjson.dumps({"message": self.message})
        if shape == "systemone":
            return orjson.dumps({"detail": self._system_one_detail()})
        reason = (self.code or self.type).upper()
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "gateway"}]
        status = _GOOGLE_STATUSES.get(self.status, "INTERNAL")
        error = {"code": self.status, "message": self.message, "status": status, "details": details}
        return orjson.dumps({"error": error})

    def _system_one_detail(self) -> list[dict[str, Any]] | str:
        """The detail of an error as FastAPI's servers have it, which System One's clients read: a list of what is wrong
        with the request, else a text."""
        if self.status not in (400, 422):
            return self.message
        at = ["body", *([self.param] if self.param else [])]
        return [{"loc": at, "msg": self.message, "type": self.code or self.type}]

    def headers_for(self, shape: ErrorShape, request_id: str) -> list[tuple[bytes, bytes]]:
        """The headers that clients of this API read besides `headers`: the name of the error, and the request's id."""
        id = request_id.encode()
        if shape == "anthropic":
            return [(b"request-id", id)]
        if shape == "bedrock":
            kind = _AWS_ERRORS.get(self.status, "InternalServerException")
            return [(b"x-amzn-errortype", kind.encode()), (b"x-amzn-requestid", id)]
        return []

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that tell a client's SDK whether and when to try again."""
        out = list(self.more_headers)
        if self.retry_after_s is not None:
            out.append((b"retry-after", b"%d" % max(1, round(self.retry_after_s))))
        if self.retry is not None:
            out.append((b"x-should-retry", b"true" if self.retry else b"false"))
        return out


class BadRequest(GatewayError, status=400, type="invalid_request_error"):
    pass


class BlockedByGuard(BadRequest, code="content_filter"):
    """A guard refused the request or the answer."""


class TooManyMembers(BadRequest):
    """The body has more top-level members than any request needs: reading them would hold up the calls of others."""


class InvalidKey(GatewayError, status=401, type="invalid_request_error", code="invalid_api_key"):
    pass


class NotAllowed(GatewayError, status=403, type="invalid_request_error", code="permission_denied"):
    pass


class NotFound(GatewayError, status=404, type="invalid_request_error", code="not_found"):
    pass


class ModelNotFound(NotFound, code="model_not_found"):
    pass


class WrongMethod(GatewayError, status=405, type="invalid_request_error", code="method_not_allowed"):
    pass


class TooLarge(GatewayError, status=413, type="invalid_request_error", code="request_too_large"):
    pass


class UnsupportedEncoding(GatewayError, status=415, type="invalid_request_error", code="unsupported_content_encoding"):
    pass


class NotImplementedHere(GatewayError, status=501, type="invalid_request_error", code="not_implemented"):
    pass


class KeyBusy(GatewayError, status=429, type="rate_limit_error", code="rate_limit_exceeded"):
    pass


class QueueFull(GatewayError, status=429, type="rate_limit_error", code="rate_limit_exceeded"):
    pass


class RateLimited(GatewayError, status=429, type="rate_limit_error", code="rate_limit_exceeded"):
    pass


class QuotaExceeded(GatewayError, status=429, type="insufficient_quota", code="insufficient_quota"):
    pass


class LimitsUnavailable(GatewayError, status=503, type="service_unavailable_error", code="limits_unavailable"):
    pass


class Overloaded(GatewayError, status=503, type="service_unavailable_error", code="no_healthy_upstream"):
    pass


class KeysUnavailable(GatewayError, status=503, type="service_unavailable_error", code="keys_unavailable"):
    pass


class UpstreamFailed(GatewayError, status=502, type="upstream_error", code="upstream_failed"):
    pass


class UpstreamTimedOut(GatewayError, status=504, type="upstream_error", code="upstream_timeout"):
    pass


class TransportError(Exception):
    """One attempt failed on the wire."""


class ConnectFailed(TransportError):
    pass


class NoFilesLeft(ConnectFailed):
    """The process or its machine has no free file descriptor for another socket."""


class ConnectTimeout(TransportError):
    pass


class ConnectionLost(TransportError):
    pass


class BadResponse(TransportError):
    pass


class BodyCut(TransportError):
    pass


class MessageTooLarge(BodyCut):
    """A message of a WebSocket is above the size limit, and its connection was closed."""


class ConfigError(Exception):
    """All mistakes in one config file.

    mistakes: one line each, `path: what is wrong; what to do`.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class CannotRun(Exception):
    """A program cannot run; the message says why and what to do. The command line prints it as it is."""


class StreamDown(Exception):
    """The stream server cannot be reached now. Writers wait or count a drop; readers try again."""


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk is full, over its quota, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _DISK


def disk_line(error: OSError) -> str:
    """A line for the user with the file, if it is known, and the reason why it cannot be written."""
    what = "a file or the output" if error.filename is None else error.filename
    return f"{what} cannot be written: {error.strerror}"


def line_for_the_user(error: Exception) -> str | None:
    """The message, where it says everything that the user needs, without a traceback."""
    if isinstance(error, OSError) and is_disk_error(error):
        return disk_line(error)
    return str(error) if isinstance(error, ConfigError | CannotRun) else None
