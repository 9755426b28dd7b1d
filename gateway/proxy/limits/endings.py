"""Endings of an attempt at an upstream: the charge and the outcome that follow from each. Pure.

This table is the only place that decides it. The relay notes one of these endings for each attempt, charge.py charges
by it, and docs/teams.md shows it; a test compares the three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.core.exchange import Outcome, Target, Usage

InputCharge = Literal["estimated", "nothing"]
"""`estimated`: one token for 4 bytes of the request, and 1000 for each file in it."""
OutputCharge = Literal["arrived", "reserved", "nothing"]
"""`arrived`: one token for each event of a stream, or for 4 bytes of a plain answer. `reserved`: all that the request
allows: `max_tokens` for each answer, or without it the learned estimate."""


@dataclass(frozen=True, slots=True)
class AttemptEnding:
    """One row of the table. Usage that an upstream reports always counts; the charges apply to unreported usage."""

    name: str
    """Name of the row in the first column of the table in docs/teams.md."""
    input: InputCharge
    plain_output: OutputCharge
    """Charge for an answer in one piece, where the amount produced before it was complete is unknown."""
    stream_output: OutputCharge
    outcome: Outcome
    """Outcome of a call whose last attempt ended this way, before anything was sent to the client."""
    cut_outcome: Outcome
    """The same, after the beginning of a stream was sent."""


_ALL: tuple[InputCharge, OutputCharge, OutputCharge] = ("estimated", "reserved", "arrived")
_ARRIVED: tuple[InputCharge, OutputCharge, OutputCharge] = ("estimated", "arrived", "arrived")
_NOTHING: tuple[InputCharge, OutputCharge, OutputCharge] = ("nothing", "nothing", "nothing")

ANSWERED = AttemptEnding("answered", *_ARRIVED, "ok", "ok")
UNREADABLE = AttemptEnding("HTTP 200 with an error, or without an answer", *_ARRIVED, "upstream_error", "cut")
DECLINED = AttemptEnding("a cascade did not accept the answer", *_ARRIVED, "upstream_error", "cut")
BROKEN_OFF = AttemptEnding("the upstream's connection broke off", *_ALL, "upstream_error", "cut")
TIMED_OUT = AttemptEnding("a configured timeout has passed", *_ALL, "timeout", "timeout")
CLIENT_DEADLINE = AttemptEnding(
    "the client's own deadline has passed (`x-gateway-timeout-s`)", *_ALL, "client_deadline", "client_deadline"
)
CLIENT_LEFT = AttemptEnding("the client left", *_ALL, "client_gone", "client_gone")
BLOCKED = AttemptEnding("a guard refused the answer, or the request under way", *_ALL, "blocked", "blocked")
STOPPED = AttemptEnding("the gateway stopped, or the key was disabled", *_ALL, "cut", "cut")
REFUSED = AttemptEnding("refused by the upstream (HTTP 3xx, 4xx or 5xx)", *_NOTHING, "upstream_error", "cut")
NO_CONNECTION_IN_TIME = AttemptEnding("no connection was established in time", *_NOTHING, "timeout", "timeout")
NOT_SENT = AttemptEnding("no connection, or a full queue", *_NOTHING, "upstream_error", "cut")


@dataclass(frozen=True, slots=True)
class UnmeteredAttempt:
    """An attempt whose usage the upstream has not reported completely."""

    target: Target
    ending: AttemptEnding
    usage: Usage | None
    """Usage that it reported; None: none."""
    pieces: int = 0
    """Events of its stream that arrived."""
    answer_bytes: int = 0
    """Bytes of a plain answer that arrived."""

    @property
    def input_estimated(self) -> bool:
        return self.usage is None and self.ending.input == "estimated"
