"""Finds the fields of a multipart form in its bytes. Pure; the content of files is skipped. Source: RFC 7578.

Parsers of forms differ in what they accept, and in which of two readings they choose. The gateway authorises the model
that it reads, so a form that another parser could read otherwise is refused; tests/proxy/request/test_multipart.py has
the table of those readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[^"\\\r\n]|\\[^"\r\n])*"'  # without \": it ends the string for some parsers, and not for others
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb")=(" + _QUOTED + rb'|[^";,\s\\]+)')
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\r\n]*)")
_USUAL = re.compile(
    rb'content-disposition: form-data; name="([^"\\\r\n]*)"(; filename="[^"\\\r\n]*")?'
    rb"(?:\r\ncontent-type: [^\r\n]*)?",
    re.I,
)
"""The headers of a part as most clients write them, which need no closer look."""
_MAX_BOUNDARY = 70  # RFC 2046, section 5.1.1
_MAX_HEAD = 4096
_CHARSETS = frozenset({b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1"})  # in which ASCII is ASCII
_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})  # that change no byte


class AmbiguousForm(ValueError):
    """The form is ambiguous: another parser could read it otherwise. The message says where."""


class FormField(NamedTuple):
    """One part that is not a file."""

    name: bytes
    start: int  # offset of the value, in bytes
    end: int


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a content-type header names. Raises AmbiguousForm if it does not name exactly one."""
    kind, parameters = _value_and_parameters(content_type, "content-type")
    boundary = parameters.pop(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= _MAX_BOUNDARY or b"\\" in boundary:
        raise AmbiguousForm("the content-type must be multipart/form-data with one boundary of at most 70 characters")
    if parameters.pop(b"charset", b"utf-8").lower() not in _CHARSETS or parameters:
        raise AmbiguousForm("the content-type may have no parameter but boundary, and charset=utf-8")
    return boundary


def _value_and_parameters(header: bytes, what: str) -> tuple[bytes, dict[bytes, bytes]]:
    """A header's value in lower case, and its parameters by name in lower case."""
    value, semicolon, rest = header.partition(b";")
    at, found = 0, {}
    rest = (semicolon + rest).rstrip(b" \t;")
    while at < len(rest):
        parameter = _PARAMETER.match(rest, at)
        name = parameter[1].lower() if parameter else b""
        if parameter is None or name in found:
            raise AmbiguousForm(f"the parameters of {what} are ambiguous: {header[:200]!r}")
        found[name] = parameter[2].strip(b'"')
        at = parameter.end()
    return value.strip(b" \t").lower(), found


class FormFieldReader:
    """Finds the fields of a form that arrives in pieces, in order. Buffers at most one part's headers.

    counted: the name of a part; `count` is the number of parts of that name so far, files included. feed() and end()
    raise AmbiguousForm.
    """

    __slots__ = ("_at", "_base", "_closed", "_held", "_mark", "_name", "_start", "_step", "count", "counted")

    def __init__(self, boundary: bytes, counted: bytes = b"") -> None:
        self.counted = counted
        self.count = 0
        self._mark = b"--" + boundary
        self._held = b""
        self._base = 0  # offset in the form of the first held byte
        self._at = 0  # within the held bytes: everything before is processed
        self._name: bytes | None = None  # of the current part; None: a file
        self._start = 0
        self._closed = False
        self._step: Callable[[bytes], FormField | bool] = self._first_line

    @property
    def buffered(self) -> int:
        """Bytes that are held back."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[FormField]:
        """The fields that these bytes complete. The iterator must be exhausted."""
        if self._closed:
            return  # an epilogue, which every parser ignores
        held = self._held = self._held + data
        while found := self._step(held):
            if isinstance(found, FormField):
                yield found
        self._held = b"" if self._closed else held[self._at :]
        self._base += self._at
        self._at = 0

    def end(self) -> None:
        """The form has ended."""
        if not self._closed:
            raise AmbiguousForm("the form ends before its closing delimiter")

    # Steps: False when more bytes are needed, or none.

    def _first_line(self, held: bytes) -> bool:
        first = self._mark + b"\r\n"
        if held.startswith(self._mark + b"--"):
            self._closed = True
            return False
        if len(held) < len(first) and (first.startswith(held) or held == self._mark + b"-"):
            return False
        if not held.startswith(first):
            raise AmbiguousForm("the form must begin with the boundary that its content-type names")
        self._at = len(self._mark)
        self._step = self._head
        return True

    def _head(self, held: bytes) -> bool:
        at = self._at
        if held.startswith(b"--", at):
            self._closed = True
            return False
        end = held.find(b"\r\n\r\n", at, at + _MAX_HEAD)
        if end < 0:
            if len(held) - at >= _MAX_HEAD:
                raise AmbiguousForm(f"the headers of a part are longer than {_MAX_HEAD} bytes")
            return False
        self._name = self._named(held[at + 2 : end])
        self._start = self._base + end + 4
        self._at = end + 2
        self._step = self._value
        return True

    def _named(self, head: bytes) -> bytes | None:
        """The name of a part; None for a file."""
        usual = _USUAL.fullmatch(head)
        if usual is not None:
            self.count += usual[1] == self.counted
            return None if usual[2] else usual[1]
        headers: dict[bytes, bytes] = {}
        for line in head.split(b"\r\n"):
            header = _HEADER.fullmatch(line)
            name = header[1].lower() if header else b""
            if header is None or name in headers:
                raise AmbiguousForm(f"a part has a folded, repeated or malformed header: {line[:200]!r}")
            headers[name] = header[2]
        if headers.get(b"content-transfer-encoding", b"binary").strip().lower() not in _ENCODINGS:
            raise AmbiguousForm("a part has a content-transfer-encoding, which RFC 7578 deprecates")
        kind, parameters = _value_and_parameters(headers.get(b"content-disposition", b""), "content-disposition")
        name = parameters.get(b"name")
        if kind != b"form-data" or name is None or b"\\" in name or b"name*" in parameters:
            raise AmbiguousForm("each part must have one `content-disposition: form-data` with one name")
        self.count += name == self.counted
        return None if b"filename" in parameters or b"filename*" in parameters else name

    def _value(self, held: bytes) -> FormField | bool:
        mark, at = self._mark, self._at
        while (at := held.find(mark, at)) >= 0:
            before, after = held[at - 2 : at], held[at + len(mark) : at + len(mark) + 2]
            if len(after) < 2:
                self._at = at - 2
                return False
            if before == b"\r\n" and after in (b"\r\n", b"--"):
                self._at = at + len(mark)
                self._step = self._head
                end = self._base + at - 2
                return True if self._name is None else FormField(self._name, min(self._start, end), end)
            if before[1:] in (b"\r", b"\n") and (before != b"\r\n" or after[:1] in (b" ", b"\t", b"\r", b"\n")):
                raise AmbiguousForm("a part has a line that only some parsers take for the boundary")
            at += len(mark)
        self._at = max(self._at, len(held) - len(mark) - 1)
        return False
