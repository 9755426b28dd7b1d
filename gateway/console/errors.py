"""The errors of the admin API, each with the HTTP status and the code that its client sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AdminError(Exception):
    """An error that can be the whole answer to a request.

    message: what was wrong, with the value, and what to do. mistakes: one line for each mistake in a body,
    `path: what is wrong; what to do`.
    """

    status = 500
    code = "internal_error"

    def __init__(self, message: str, mistakes: Sequence[str] = (), retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mistakes = tuple(mistakes)
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "mistakes": list(self.mistakes)}}


class InvalidBody(AdminError):
    status = 400
    code = "invalid_request"


class NoToken(AdminError):
    status = 401
    code = "invalid_admin_token"


class NotPermitted(AdminError):
    status = 403
    code = "not_permitted"


class NotThere(AdminError):
    status = 404
    code = "not_found"


class MethodNotThere(AdminError):
    status = 405
    code = "method_not_allowed"


class Conflict(AdminError):
    status = 409
    code = "conflict"


class BodyTooLarge(AdminError):
    status = 413
    code = "request_too_large"


class TooManyFailures(AdminError):
    status = 429
    code = "too_many_failed_logins"


class StoreAway(AdminError):
    status = 503
    code = "store_unavailable"


class StreamAway(AdminError):
    status = 503
    code = "stream_unavailable"
