"""Work on bytes that callers choose is linear in them: calls of functions are counted at 0.1, 1 and 6 MB.

Counts do not depend on the machine. What the interpreter's C code does within one call is not counted: a regular
expression or a search that is quadratic makes the test end by its timeout, since it takes minutes to days at 6 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import orjson
import pytest
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from gateway.core.content_chunks import COARSE_BYTES, FINE_BYTES, split
from gateway.core.exchange import Exchange, Target
from gateway.core.request_delta import RequestOutline, as_delta
from gateway.features.feedback.implicit import ImplicitFeedback
from gateway.features.traces.model import Nesting, SpanRecord, without_content
from gateway.features.traces.nesting import SeenSpans
from gateway.proxy.http.server.upgrade import UpgradedTransport, WebSocketLimits
from gateway.proxy.http.server.websocket import WebSocketConnection
from gateway.proxy.recording.inline_media import without_data_urls
from gateway.proxy.recording.redaction.leaves import unescape
from gateway.scoring.trajectory import Trajectory
from gateway.scoring.types import RunCall

SIZES = (100_000, 1_000_000, 6_000_000)
MOST_GROWTH = 1.3
SHAPES = {
    "braces": "},{", "ends": "}]", "open": "{", "messages": '{"role":"user","content":"hi"},', "digits": "1",
    "numbers": "1 ", "backslashes": "\\", "escapes": "\\n", "quotes": '"', "letters": "QUJD", "words": "ab ",
    "base64": ";base64,", "broken base64": ";base64,\\", "media": '"data":"', "blanks": " ", "lines": "\n",
}  # fmt: skip


def calls_of(work: Callable[[], object]) -> int:
    """Calls of functions, also of built-in ones, that the work takes."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def check_growth(work: Callable[[str], object], shape: str, most_per_byte: float) -> None:
    """Checks the calls per byte at each size against those at the smallest one, and against a bound."""
    texts = [(shape * (size // len(shape) + 1))[:size] for size in SIZES]
    counts = [calls_of(partial(work, text)) / len(text) for text in texts]
    assert max(counts) <= most_per_byte, counts
    few = 1_000 / SIZES[-1]  # a number of calls that does not grow with the size
    assert max(counts) <= max(MOST_GROWTH * counts[0], few), counts


def exchange(body: bytes) -> Exchange:
    return Exchange(
        id="id-2", received=1.0, caller="web", api="chat", alias="chat", target=Target("u", "m"), stream=False,
        request=body, response=b"", status=200, outcome="ok", total_s=1.0, unit="x", u=0.5, pi=1.0,
        stratum="default", incarnation="i", seq=1, run="r", run_source="x-gateway-run",
    )  # fmt: skip


def delta(text: str) -> object:
    """The request of a run's second call, as the gateway appends it."""
    before, after = (RequestOutline.of(name, text.encode()) for name in ("id-1", "id-2"))
    return as_delta(exchange(text.encode()).to_fields(), after, before)


def messages(text: str) -> bytes:
    """A request of many messages, no two of which are the same."""
    pieces = (text[at : at + 60] + str(at) for at in range(0, len(text), 60))
    return orjson.dumps({"messages": [{"role": "user", "content": piece} for piece in pieces]})


def trajectory(text: str) -> object:
    """Two calls of a run that have no message in common."""
    path, call = Trajectory(), RunCall("ok", 200, None, "", ())
    path.add(messages(text), call)
    path.add(messages("x" + text), call)
    return path


def repeated(text: str) -> object:
    return ImplicitFeedback(("en",)).signs(text, "x" + text[:-1])


WORK: dict[str, tuple[Callable[[str], object], float]] = {
    "chunks": (lambda text: split(text.encode(), COARSE_BYTES), 0.15),
    "fine chunks": (lambda text: split(text.encode(), FINE_BYTES), 0.15),
    "delta": (delta, 0.4),
    "media": (lambda text: without_data_urls(text.encode(), sys.maxsize), 1.0),
    "escapes": (unescape, 2.5),
    "repeated question": (repeated, 3.5),
}
"""The work, and the most calls of functions for a byte."""


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize(("work", "most"), WORK.values(), ids=list(WORK))
def test_the_work_on_a_text_is_linear_in_its_bytes(work: Callable[[str], object], most: float, shape: str) -> None:
    check_growth(work, shape, most)


def test_the_steps_of_a_run_take_work_in_proportion_to_its_bytes() -> None:
    check_growth(trajectory, "words ", 2.0)


class NoMarks:
    """The marks of a stream server that has seen nothing."""

    async def recall_all(self, names: list[str]) -> list[None]:
        return [None] * len(names)


def chain(n: int, *, bare: bool) -> list[SpanRecord]:
    """Spans, each within the previous one. bare: all are calls without content."""
    left = "has no prompt" if bare else ""
    return [SpanRecord("", "t", f"{i:016x}", f"{i - 1:016x}" if i else "", None, left) for i in range(n)]


def tree(n: int) -> list[SpanRecord]:
    """Spans below one, which comes last."""
    return [*(SpanRecord("", "t", f"{i:016x}", "root") for i in range(n)), SpanRecord("", "t", "root")]


SPANS: dict[str, Callable[[int], list[SpanRecord]]] = {
    "chain": lambda n: chain(n, bare=False), "chain of bare calls": lambda n: chain(n, bare=True),
    "reversed chain": lambda n: chain(n, bare=True)[::-1], "tree": tree,
    "cycle": lambda n: [*chain(n, bare=True)[1:], SpanRecord("", "t", f"{0:016x}", f"{n - 1:016x}")],
}  # fmt: skip


@pytest.mark.parametrize("spans", SPANS.values(), ids=list(SPANS))
def test_the_work_on_nested_spans_is_linear_in_them(spans: Callable[[int], list[SpanRecord]]) -> None:
    """250 bytes a span: those of the receiver's 4 MiB and more."""

    def work(records: list[SpanRecord]) -> None:
        nesting = Nesting()
        for record in records:
            nesting.add(record)
        without_content(records, nesting)
        choosing = SeenSpans(NoMarks()).choose(records)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            choosing.send(None)

    numbers = [size // 250 for size in SIZES]
    counts = [calls_of(partial(work, spans(n))) / n for n in numbers]
    assert max(counts) <= min(40, MOST_GROWTH * counts[0]), counts


class Wire:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None:
        pass

    def set_protocol(self, protocol: Any) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        pass


class Loop:
    def time(self) -> float:
        return 0.0

    def call_later(self, *_: Any) -> Any:
        return self

    def cancel(self) -> None:
        pass


class Session:
    busy = False

    def message(self, data: bytes) -> None:
        pass

    def left(self) -> None:
        pass


@pytest.mark.parametrize("payload", [b"", b"a", b"a" * 64], ids=["empty", "one byte", "64 bytes"])
def test_the_work_on_fragments_of_a_message_is_bounded(payload: bytes) -> None:
    """The bytes of the wire: six of each fragment are its head. They come in pieces, as a socket gives them."""
    fragment = Frame(Opcode.CONT, payload, False).serialize(mask=True)

    def work(size: int) -> None:
        kept = UpgradedTransport(Wire(), Loop(), ServerState(), None, lambda: None)  # type: ignore[arg-type]
        connection = WebSocketConnection(kept, 10_000_000, WebSocketLimits())
        connection.begin(Session(), b"")  # type: ignore[arg-type]
        data = Frame(Opcode.TEXT, payload, False).serialize(mask=True) + fragment * (size // len(fragment))
        for at in range(0, size, 65_536):
            connection.data_received(data[at : at + 65_536])

    counts = [calls_of(partial(work, size)) / size for size in SIZES]
    assert max(counts) <= MOST_GROWTH * counts[0], counts
    assert counts[-1] <= 0.6, counts
