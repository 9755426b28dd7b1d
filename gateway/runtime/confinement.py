"""What keeps the secrets of a process from other processes of its user. Linux; elsewhere no effect."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)


def hide_memory() -> None:
    """Closes this process's memory and environment (/proc/PID/environ) to other processes of its user, and writes no
    core dump. Root may still read them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
