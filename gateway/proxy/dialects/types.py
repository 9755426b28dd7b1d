"""The interface of a provider's API for the relay: a dialect builds requests and reads replies. No I/O.

One dialect object is built per upstream when the config is loaded. It computes all values that are known then: origin,
path prefix, credentials, fixed headers. Its methods are pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from gateway.core.errors import GatewayError
from gateway.core.exchange import Usage
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

if TYPE_CHECKING:
    from gateway.core.decision import DecisionReply, DecisionRequest, Question
    from gateway.core.decision_reads import ReadSettings

ErrorSource = Literal["target", "answer", "request"]
"""The source of an error within HTTP 200: the target failed; the model's answer itself is "failed", complete in the
API's own shape; or the client's request is at fault. The last two pass to the client as they are, and do not count
against the target."""


class Cut(Exception):
    """A stream ended without a finish."""


class OversizedEvent(Cut):
    """A stream has an event above the size limit, which is not held any longer."""


class UnreadableEngine(ValueError):
    """Decisions cannot be read from the chats of a target, whatever is asked: another attempt would not help."""


class QuestionNote(NamedTuple):
    """The result of one question of a decision that the gateway itself has read or translated, for metrics."""

    kind: str
    outcome: str
    """`answered`, `refused`, `unreadable` or `truncated`."""
    label_mass: float | None = None
    flipped: bool | None = None
    """Whether the likeliest option changed with the order of the options; None if it was asked in one order."""


class PlainReply(NamedTuple):
    """A complete answer that is not a stream."""

    body: bytes
    """The answer in the client's format."""
    usage: Usage | None
    """The tokens it reports; None if it reports none."""
    error_source: ErrorSource | None = None
    """The source of a failure; None if it is an answer; "answer" or "request": it reports a failure that the client
    gets as it is.
    """
    questions: tuple[QuestionNote, ...] = ()
    """The results of a decision's questions, as far as the gateway has read them."""


class Reader(Protocol):
    """Reads one streamed reply as it arrives."""

    first_content: bool
    """Whether content has arrived: text, reasoning, refusal, tool call, audio, image, or an event of an unknown kind
    that is not empty."""
    finished: bool
    """The model has finished: finish_reason, [DONE], message_stop or response.completed was seen."""
    complete: bool
    """Whether the reply is complete (after [DONE] or its equivalent): the relay does not wait for the connection to
    end."""
    error: str | None
    """The message of an error event; None if there was none. feed() returns that event as well: if nothing was sent to
    the client yet and error_source is "target", the relay drops those bytes and tries another target."""
    error_source: ErrorSource
    usage: Usage | None

    @property
    def text(self) -> str:
        """The text so far. Kept only if the reader was built with keep_text, and joined on access."""

    @property
    def continuable(self) -> bool:
        """The answer so far is nothing but text of one choice. Known only with keep_text."""

    def feed(self, data: bytes) -> bytes:
        """Upstream bytes → complete events for this client; a bounded remainder is buffered.

        Returns b"" after `complete` and after an error event. Raises OversizedEvent for an event above the size limit.
        """
        ...

    def passes(self, data: bytes) -> int:
        """Number of events in these bytes, if they may go to the client as they are: complete events that need not be
        read. They then count as fed. 0 if they must be fed."""
        ...

    def end(self) -> bytes:
        """The bytes that the client still needs when the upstream has ended: a missing `[DONE]`, or b"". Raises Cut if
        no finish was seen. A second call returns b""."""
        ...


class ClientDialect(Protocol):
    """The API of a client, at one upstream: how its requests are sent there, and how it gets the answers."""

    def request(self, call: Call, model: str) -> UpstreamRequest:
        """The request to send upstream.

        Raises BadRequest, with the field as param, for a part that this provider's API cannot express;
        NotImplementedHere for an endpoint that it does not have.
        """
        ...

    def reader(self, call: Call, keep_text: bool) -> Reader:
        """A reader for the streamed reply. keep_text: keep the text, so that another target can continue it."""
        ...

    def answer(self, call: Call, body: bytes) -> PlainReply:
        """The body of a plain 200 reply, for the client. Raises ValueError if it is not an answer."""
        ...

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        """An upstream's error body, in the client's format."""
        ...

    def broken(self, call: Call, error: GatewayError) -> bytes:
        """The bytes that end a broken stream with this error, in the client's format. They begin with a blank line,
        because the client may have half an event, which would absorb the error."""
        ...


class Dialect(ClientDialect, Protocol):
    """One provider's API, for one upstream."""

    origin: str
    """"scheme://host:port" of the upstream."""

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        """A request that is forwarded as it is, below this upstream's base path and with its credentials.

        request: its path is relative to the base path, and its origin is not read."""
        ...


class DecisionDialect(Protocol):
    """The decisions of one upstream, for calls of other APIs that ask for one."""

    def written(self, decision: DecisionRequest) -> object | None:
        """The questions of a decision as the server gets them, for all decisions with the same questions; None where
        one request cannot have all of them. Raises like `asking`."""
        ...

    def asking(
        self, decision: DecisionRequest, call: Call, model: str, recorded: bytes = b"", written: object = None
    ) -> tuple[UpstreamRequest, ...]:
        """The requests for a decision that was read from the call: several where its server takes fewer questions.

        recorded: the body that is recorded in their place. written: the questions, if they are known.
        Raises BadRequest, AttributeError, LookupError, RecursionError, TypeError or ValueError for a decision that the
        upstream cannot be asked."""
        ...

    def reply(self, body: bytes, questions: Sequence[Question], written: object = None) -> DecisionReply:
        """The answers in a plain 200 reply. written: the questions as they were sent, if they are known. Raises
        ValueError if it has none, or one that cannot be used; UnreadableEngine."""
        ...


class UpstreamDialect(Dialect, Protocol):
    """The dialects of one upstream, for the clients of several APIs: its methods choose by the API of the call."""

    by_api: Mapping[str, ClientDialect]
    """The dialects that they choose from."""

    def emulated(self, settings: ReadSettings) -> ClientDialect:
        """The dialect of decisions that are read from chats of this upstream."""
        ...

    def decider(self, reads: ReadSettings | None = None) -> DecisionDialect:
        """The decisions of an upstream. reads: the way in which they are read from its chats; None if it has an API of
        decisions."""
        ...
