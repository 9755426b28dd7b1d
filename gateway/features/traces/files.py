"""Files of traces: their form, and the spans in them. One span at a time; gzip is read within a bound."""

from __future__ import annotations

import gzip
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.core.errors import CannotRun
from gateway.core.json_values import as_list, as_object
from gateway.features.traces.formats import genai, langfuse, litellm, otlp
from gateway.features.traces.model import InvalidTrace, SpanRecord

SUFFIXES = (".json", ".jsonl", ".ndjson", ".pb", ".binpb")
LARGEST_DOCUMENT_BYTES = 512 << 20  # a JSON document, or a line, is held in memory as a whole
LARGEST_UNPACKED_BYTES = 8 << 30
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_EXPECTED = (
    "expected OTLP (resourceSpans), Langfuse observations (id, traceId, type, startTime) or LiteLLM spend logs "
    "(request_id, call_type, startTime)"
)


@contextmanager
def opened(names: Sequence[str]) -> Iterator[list[TraceFile]]:
    """The files with these names, those in directories, and standard input for "-". Raises CannotRun."""
    with tempfile.TemporaryFile() as kept:
        files = [file for name in names for file in _found(name, kept)]
        if not files:
            raise CannotRun(f"no file to read: a directory's files count if they end in {', '.join(SUFFIXES)} (or .gz)")
        yield files


def _found(name: str, kept: IO[bytes]) -> Iterator[TraceFile]:
    if name == "-":
        _copy(sys.stdin.buffer, kept)
        yield TraceFile("standard input", lambda: _again(kept))
        return
    path = Path(name)
    if path.is_dir():
        for each in sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in SUFFIXES):
            yield TraceFile(str(each), lambda each=each: each.open("rb"))  # type: ignore[misc]
    elif path.is_file():
        yield TraceFile(name, lambda: path.open("rb"))
    else:
        raise CannotRun(f"{name}: there is no such file or directory")


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _copy(source: IO[bytes], kept: IO[bytes]) -> None:
    size = 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > LARGEST_UNPACKED_BYTES:
            raise CannotRun(f"standard input: more than {LARGEST_UNPACKED_BYTES >> 30} GiB; give a file")
        kept.write(chunk)
    kept.flush()


def _again(kept: IO[bytes]) -> IO[bytes]:
    """Standard input from its beginning. Closing it keeps the buffered content."""
    kept.seek(0)
    return open(kept.fileno(), "rb", closefd=False)


class TraceFile:
    """One file. Every error names it, and the line."""

    def __init__(
        self,
        name: str,
        open: Callable[[], IO[bytes]],
        largest_document: int = LARGEST_DOCUMENT_BYTES,
        largest_unpacked: int = LARGEST_UNPACKED_BYTES,
    ) -> None:
        self.name = name
        self._open = open
        self._largest_document = largest_document
        self._largest_unpacked = largest_unpacked

    def records(self) -> Iterator[SpanRecord]:
        """Every span, in the order of the file. Raises InvalidTrace, naming the file and the line."""
        with self._open() as raw:
            try:
                yield from self._records(_Unpacked(raw, self._largest_unpacked))
            except (OSError, EOFError, zlib.error) as error:
                raise InvalidTrace(f"{self.name}: cannot be read: {error}") from error
            except InvalidTrace as error:
                text = str(error)
                raise InvalidTrace(text if text.startswith(self.name) else f"{self.name}: {text}") from None

    def _records(self, data: _Unpacked) -> Iterator[SpanRecord]:
        lead, first = b"", data.line(self._largest_document)
        while first and not first.strip():
            lead, first = lead + first, data.line(self._largest_document)
        if not first:
            raise InvalidTrace("is empty")
        if first.lstrip()[:1] not in (b"{", b"["):
            yield from _encoded(lead + first + data.rest(self._largest_document), self.name)
            return
        try:
            document = orjson.loads(first)
        except orjson.JSONDecodeError:
            yield from self._whole(lead + first + data.rest(self._largest_document))
            return
        yield from records_of(document, f"{self.name}: line 1")
        number = 1
        while line := data.line(self._largest_document):
            number += 1
            if line.strip():
                at = f"{self.name}: line {number}"
                yield from records_of(_parsed(line, at), at)

    def _whole(self, data: bytes) -> Iterator[SpanRecord]:
        """A document of several lines. The first byte of Protobuf is a line break in JSON."""
        try:
            document = _parsed(data, self.name)
        except InvalidTrace:
            if data[:1] != b"\n":
                raise
            yield from _encoded(data, self.name)
        else:
            yield from records_of(document, self.name)


def _encoded(data: bytes, place: str) -> list[SpanRecord]:
    return [genai.record_of(span, place) for span in otlp.spans_in_protobuf(data)]


def _parsed(data: bytes, at: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidTrace(f"{at}: not JSON: {error.msg}, in line {error.lineno}, column {error.colno}") from None


def records_of(document: Any, place: str) -> Iterator[SpanRecord]:
    """The spans of a JSON document or of a line. Raises InvalidTrace, naming the place."""
    try:
        yield from _records_of(document, place)
    except InvalidTrace as error:
        text = str(error)
        raise InvalidTrace(text if text.startswith(place) else f"{place}: {text}") from None


def _records_of(document: Any, place: str) -> Iterator[SpanRecord]:
    if isinstance(document, list):
        for i, row in enumerate(document, 1):
            yield from _records_of(row, f"{place}: row {i}")
        return
    row = as_object(document)
    if otlp.MEMBER in row:
        yield from (genai.record_of(span, place) for span in otlp.spans_in_json(row))
    elif litellm.is_spend_log(row):
        yield litellm.record_of(row, place)
    elif langfuse.is_observation(row):
        yield langfuse.record_of(row, place)
    elif "observations" in row and "id" in row:
        yield from (langfuse.record_of(each, place) for each in langfuse.observations(row))
    elif isinstance(row.get("data"), list):
        yield from _records_of(as_list(row["data"]), place)
    else:
        raise InvalidTrace(f"{place}: not a form of traces that is known: {_members(document)}; {_EXPECTED}")


def _members(document: Any) -> str:
    if not isinstance(document, dict):
        return f"JSON of the type {type(document).__name__}"
    names = sorted(map(str, document))
    return f"an object with {', '.join(names[:6])}{', …' if len(names) > 6 else ''}" if names else "an empty object"


class _Unpacked:
    """A file, unpacked where it is packed by gzip, up to a bound."""

    def __init__(self, raw: IO[bytes], most: int) -> None:
        head = raw.read(2)
        raw.seek(0)
        self._file: Any = gzip.GzipFile(fileobj=raw) if head == _GZIP else raw
        self._left = self._most = most

    def line(self, most: int) -> bytes:
        found: bytes = self._file.readline(most + 1)
        if len(found) > most:
            raise InvalidTrace(f"a line of more than {most >> 20} MiB; write one span, or one export, on each line")
        return self._counted(found)

    def rest(self, most: int) -> bytes:
        parts, size = [], 0
        while part := self._file.read(_CHUNK):
            size += len(part)
            if size > most:
                raise InvalidTrace(f"a document of more than {most >> 20} MiB; write lines of JSON instead")
            parts.append(self._counted(part))
        return b"".join(parts)

    def _counted(self, part: bytes) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise InvalidTrace(f"more than {self._most >> 20} MiB when unpacked; split it")
        return part
