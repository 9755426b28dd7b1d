"""The traffic of the demo: calls of users, some at a time, until it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import orjson

from gateway.demo.planted import PlantedRequest, requests
from gateway.runtime.tasks import Tasks
from gateway.scoring.http_client import HttpConnections, Unreachable
from gateway.up.up import RunningGateway

_DEADLINE_S = 120.0


class Traffic:
    """Sends requests and counts what comes back.

    parallel: callers, each of whom waits for an answer. pause_s: between an answer and a caller's next call.
    """

    def __init__(self, gateway: RunningGateway, *, parallel: int, pause_s: float) -> None:
        self._gateway, self._parallel, self._pause_s = gateway, parallel, pause_s
        self.answered = 0
        self.last_failure = ""
        self.users: set[str] = set()

    async def send(self, tell: Callable[[str], None]) -> None:
        """tell: called with the first answer, and with the first failure."""
        more = requests()
        async with HttpConnections() as http, Tasks() as callers:
            for n in range(self._parallel):
                callers.start(self._caller(more, http, tell), f"caller {n}")
            await asyncio.Event().wait()

    async def _caller(self, more: Iterator[PlantedRequest], http: HttpConnections, tell: Callable[[str], None]) -> None:
        for request in more:
            await self._call(request, http, tell)
            await asyncio.sleep(self._pause_s)

    async def _call(self, request: PlantedRequest, http: HttpConnections, tell: Callable[[str], None]) -> None:
        headers = {"content-type": "application/json", "x-gateway-user": request.user}
        if self._gateway.key:
            headers["authorization"] = f"Bearer {self._gateway.key}"
        url, content = f"{self._gateway.base_url}/chat/completions", orjson.dumps(request.body)
        try:
            reply = await http.send("POST", url, content, deadline_s=_DEADLINE_S, headers=headers)
            if reply.status != 200:
                raise Unreachable(f"HTTP {reply.status}: {reply.body[:200].decode('utf-8', 'replace')}")
        except Unreachable as error:
            if not self.last_failure:
                tell(f"a call failed; the next ones are sent: {error}")
            self.last_failure = str(error)
            return
        self.answered += 1
        self.users.add(request.user)
        if self.answered == 1:
            tell(f"first answer: {reply.object()['choices'][0]['message']['content'][:70]}…")
