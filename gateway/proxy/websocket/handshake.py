"""The opening handshake: the right to open a WebSocket, and the parts of the opening request that hold for each
response."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from websockets.datastructures import Headers as HandshakeHeaders
from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.core.errors import BadRequest, NotAllowed
from gateway.proxy.request.call import Caller
from gateway.proxy.types import Headers, HttpRequest

_OF_THE_CONNECTION = frozenset(
    {b"host", b"upgrade", b"connection", b"keep-alive", b"te", b"expect", b"content-length", b"content-type",
     b"content-encoding", b"transfer-encoding", b"idempotency-key"}
)  # fmt: skip
"""Headers that hold for the upgrade alone. An idempotency key would make all responses of the connection one."""

_BETA = b"responses_websockets"
"""Codex's name for this protocol in `OpenAI-Beta`: upstreams get its requests by HTTP."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The request that opened a connection, as far as it holds for each of its responses."""

    query: bytes
    headers: Headers
    fields: Mapping[bytes, bytes]
    peer: str

    @classmethod
    def of(cls, request: HttpRequest) -> UpgradeRequest:
        headers = [h for h in request.headers if not _is_of_the_connection(*h)]
        return cls(request.query, headers, dict(headers), request.peer)


def _is_of_the_connection(name: bytes, value: bytes) -> bool:
    return name in _OF_THE_CONNECTION or name[:14] == b"sec-websocket-" or (name == b"openai-beta" and _BETA in value)


def check_origin(caller: Caller, fields: Mapping[bytes, bytes], origins: Collection[str]) -> None:
    """Raises NotAllowed for a web page of another site where no key is needed: browsers let any page open a WebSocket.

    origins: of pages that may."""
    origin = fields.get(b"origin")
    if origin is None or caller.id or caller.name != "open":
        return
    text = origin.decode("latin-1")
    if text not in origins and text.partition("://")[2] != fields.get(b"host", b"").decode("latin-1"):
        raise NotAllowed(
            "without a key, a page of another site may not open a WebSocket; add its origin to `cors`, or use a key",
            retry=False,
        )


def answer_lines(request: HttpRequest) -> bytes:
    """The header lines of the answer that completes the handshake. Raises BadRequest."""
    headers = HandshakeHeaders([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers])
    handshake = ServerProtocol()
    accepted = handshake.accept(Request(request.path.decode("latin-1"), headers)).headers.get("Sec-WebSocket-Accept")
    if accepted is None:
        raise BadRequest(f"the WebSocket handshake failed: {handshake.handshake_exc}", retry=False)
    return b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + accepted.encode() + b"\r\n"
