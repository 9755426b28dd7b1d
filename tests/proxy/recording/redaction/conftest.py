"""The ways a test runs a redactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.config.privacy import RedactionConfig
from gateway.core.exchange import Exchange, Target, new_id
from gateway.proxy.recording.redaction.redactor import RedactedRecord, Redactor

Run = Callable[[Redactor, Any], RedactedRecord]


@pytest.fixture
def run() -> Run:
    """Runs all slices of the redaction of one record at once."""
    return _run


def _run(redactor: Redactor, record: Any) -> RedactedRecord:
    slices = redactor.slices(record)
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            done: RedactedRecord = stop.value
            return done


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    """Makes an exchange from its request and response; further fields by name."""

    def make(request: bytes = b"{}", response: bytes = b"{}", **fields: Any) -> Exchange:
        plain: dict[str, Any] = {
            "id": new_id(), "received": 1.0, "caller": "web", "api": "chat", "alias": "chat",
            "target": Target("u", "m"), "stream": False, "request": request, "response": response, "status": 200,
            "outcome": "ok", "total_s": 1.0, "unit": new_id(), "u": 0.5, "pi": 1.0, "stratum": "default",
            "incarnation": "i", "seq": 1,
        }  # fmt: skip
        return Exchange(**{**plain, **fields})

    return make


@pytest.fixture
def redactor() -> Redactor:
    """A redactor for `content: redacted` with the default patterns."""
    return Redactor("redacted", RedactionConfig())
