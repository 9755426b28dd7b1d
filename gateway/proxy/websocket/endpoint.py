"""GET /v1/responses with an upgrade: the WebSocketApp of a process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.core.errors import GatewayError
from gateway.core.exchange import new_id
from gateway.proxy.app import App
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.recording.access_log import PageCall
from gateway.proxy.websocket.create_request import PATH
from gateway.proxy.websocket.history import OpenSessions

if TYPE_CHECKING:
    from gateway.proxy.http.server.websocket import WebSocketConnection
    from gateway.proxy.websocket.session import ResponsesSession


class WebSocketResponses:
    """Opens WebSockets to the Responses API, and holds what they share."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.sessions = OpenSessions()

    @property
    def most_bytes(self) -> int:
        return self._app.gateway.max_body_bytes

    def serves(self, path: bytes) -> bool:
        return self._app.canonical(path) == PATH

    def accept(self, request: ServerRequest) -> bytes:
        from gateway.proxy.websocket.handshake import answer_lines, check_origin

        gateway, app, started = self._app.gateway, self._app, time.monotonic()
        page = PageCall("responses", request.peer, new_id(), status=101)
        try:
            caller = gateway.keys.admit(request.peer, request.headers, request.fields, page)
            check_origin(caller, request.fields, gateway.config.cors)
            lines = answer_lines(request)
        except GatewayError as error:
            app.count_refused(error)
            page.status, page.error = error.status, error.code or error.type
            error.more_headers.append((b"x-request-id", page.id.encode()))
            raise
        finally:
            if gateway.access is not None:
                gateway.access.note_page(page, request.headers, started)
        return b"x-request-id: " + page.id.encode() + b"\r\n" + lines

    def session(self, request: ServerRequest, connection: WebSocketConnection) -> ResponsesSession:
        from gateway.proxy.websocket.handshake import UpgradeRequest
        from gateway.proxy.websocket.session import ResponsesSession

        fields, keys = request.fields, self._app.gateway.keys
        connection.holder = keys.admit(request.peer, request.headers, fields, None).name
        return ResponsesSession(self._app, UpgradeRequest.of(request), connection, self.sessions)
