"""Draining a server that stops: connections that the kernel has accepted are answered, and calls in flight may end.

With SO_REUSEPORT each worker has an accept queue of its own, and closing the socket resets whatever waits there: those
clients have connected, and perhaps sent a request, so nobody may retry for them. Before it is closed, the socket
therefore takes no further SYN, and the loop accepts what is queued. A client whose SYN was dropped repeats it after a
second, and is then refused, which every proxy takes as "ask the next server".
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterable

from gateway.core.errors import GatewayError, Overloaded

HANDSHAKE_S = 0.05  # for handshakes whose SYN was answered: longer than a round trip within a data centre
_QUEUE_S = 5.0  # how long the loop may take to accept a full queue

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; the same on x86 and ARM
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)  # struct sock_filter of linux/filter.h
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte at offset 13 of the TCP header, its flags
        (0x45, 0, 1, 0x02),  # if SYN is set, go on; else skip one
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # keep
    )
)


def refuse_new(descriptor: int) -> bool:
    """Makes a listening socket drop every further SYN. Returns False where the kernel cannot do that."""
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    filtering = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
        return True
    return False


async def accept_queued(descriptors: Iterable[int]) -> None:
    """Returns when the accept queues of listening sockets are empty and stay so. The loop accepts meanwhile."""
    descriptors = list(descriptors)
    if any([refuse_new(descriptor) for descriptor in descriptors]):
        await asyncio.sleep(HANDSHAKE_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_QUEUE_S):
            while _queued(descriptors):  # noqa: ASYNC110 - the loop, not this task, accepts them
                await asyncio.sleep(0)


def _queued(descriptors: list[int]) -> bool:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


async def until_idle(busy: Callable[[], object], look_every_s: float) -> None:
    """Returns when no call is in flight any more. busy: says whether one is."""
    while busy():  # noqa: ASYNC110 - rare, and nothing waits for it
        await asyncio.sleep(look_every_s)


def absorb_cancellation() -> None:
    """Takes back the cancellations of the current task, which ended the answer: the task still has to settle."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def stopping() -> GatewayError:
    return Overloaded("the gateway is stopping; retry the request", retry_after_s=1)
