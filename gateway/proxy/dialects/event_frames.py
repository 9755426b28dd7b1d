"""The binary frames in which Bedrock streams: `application/vnd.amazon.eventstream`, each with two checksums. Pure.

They are decoded by botocore. Source: "Event stream encoding" of Smithy, smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.types import Cut

_ERRORS = {
    "throttlingException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "validationException": "invalid_request_error",
}
"""Anthropic's type of an error, by the name of the exception; all others are api_error."""
_STRING = 7  # type of a header's value


class Frame(NamedTuple):
    headers: dict[str, Any]
    payload: bytes
    raw: bytes
    """The frame as it arrived."""

    @property
    def kind(self) -> str:
        """The name of the event, or of the exception."""
        found = self.headers
        return str(found.get(":event-type") or found.get(":exception-type") or found.get(":error-code") or "")

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that it reports, with Anthropic's type; None if it is an event."""
        if self.headers.get(":message-type") not in ("exception", "error"):
            return None
        text = self.json().get("message") or self.headers.get(":error-message") or self.kind
        return {"type": _ERRORS.get(self.kind, "api_error"), "message": str(text)}

    def json(self) -> dict[str, Any]:
        """The payload; {} if it is not a JSON object."""
        try:
            return as_object(lenient_json.loads(self.payload)) if self.payload else {}
        except ValueError:
            return {}


class FrameDecoder:
    """Bytes in any split → complete frames."""

    def __init__(self) -> None:
        from botocore.eventstream import EventStreamBuffer

        self._buffer: Any = EventStreamBuffer()
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises Cut for a frame whose checksum or length is wrong."""
        from botocore.eventstream import ParserError

        self._buffer.add_data(data)
        self._held += data
        try:
            for message in self._buffer:
                length = message.prelude.total_length
                raw, self._held = self._held[:length], self._held[length:]
                yield Frame(message.headers, message.payload, raw)
        except ParserError as error:
            raise Cut(f"a frame of the event stream is broken: {error}") from None


def exception_frame(kind: str, message: str) -> bytes:
    """The frame that ends a stream with an exception."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(value)) + value.encode()
        for name, value in headers.items()
    )
    payload = lenient_json.dumps({"message": message})
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    whole = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return whole + struct.pack("!I", crc32(whole))


def frame_count(data: bytes) -> int:
    """Number of frames in these bytes, all complete."""
    at = count = 0
    while at + 4 <= len(data):
        at += max(1, int.from_bytes(data[at : at + 4], "big"))
        count += 1
    return count
