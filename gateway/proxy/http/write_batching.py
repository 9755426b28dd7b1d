"""What one round of the event loop writes to many sockets, written together at the round's end.

Who waits for a socket sleeps, and is woken by the write; waking it takes longer than the write itself, and the longer
the farther its core has gone to sleep. Written one by one between other work, each of sixty answers wakes its reader
anew; written together, the first wakes it and it finds the others there. Under load that is up to a sixth of the CPU.
Where few calls are under way there is nothing to gather, and what is to be written goes at once.
"""

from __future__ import annotations

import asyncio

FEW = 4  # calls under way, from which on others are likely to write in the same round


class WriteBatcher:
    """Of one event loop: whose bytes wait for the end of the round."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[WriteQueue] = []

    def add(self, outgoing: WriteQueue) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(outgoing)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for outgoing in waiting:
            try:
                outgoing.send()
            except Exception as error:  # the others are not at fault
                said = {"message": "a write failed that had waited for others", "exception": error}
                asyncio.get_running_loop().call_exception_handler(said)


class WriteQueue:
    """A connection's way out: bytes leave in the order they were put. waiting: those not yet given to the socket."""

    __slots__ = ("_box", "_transport", "waiting")

    def __init__(self, box: WriteBatcher, transport: asyncio.WriteTransport) -> None:
        self._box = box
        self._transport = transport
        self.waiting = b""

    def put(self, data: bytes, busy: int) -> None:
        """Writes it, now or at the round's end. busy: calls under way, this one too."""
        if self.waiting:
            self.waiting += data
        elif busy < FEW:
            self._transport.write(data)
        elif data:
            self.waiting = data
            self._box.add(self)

    def write(self, data: bytes) -> None:
        """Writes it now, after what waits."""
        waiting, self.waiting = self.waiting, b""
        self._transport.write(waiting + data if waiting else data)

    def send(self) -> None:
        """Writes what waits."""
        data, self.waiting = self.waiting, b""
        if data:
            self._transport.write(data)

    def drop(self) -> None:
        """The connection is given up: what waits is never written."""
        self.waiting = b""
