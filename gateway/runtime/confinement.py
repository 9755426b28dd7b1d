"""Keeps the secrets of a process from other processes of its user, on Linux; elsewhere it has no effect."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_MOST_CAPABILITIES = 64
_CAP_DAC_READ_SEARCH = 2  # linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522


def hide_memory() -> None:
    """Closes this process's memory and environment (/proc/PID/environ) to other processes of its user, and writes no
    core dump. Root may still read them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> bool:
    """Restricts root, in this process and its children, to its files: it can no longer read the memory and environment
    of other processes, or raise its limits. It may still read every file, since packages may be another user's.

    Returns whether that worked; on Linux it fails only where another policy forbids it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None)
    try:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for capability in range(_MOST_CAPABILITIES):
            if capability != _CAP_DAC_READ_SEARCH:
                libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for numbers that the kernel does not know
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        kept = 1 << _CAP_DAC_READ_SEARCH
        sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; low and high words
        return bool(libc.capset(header, sets) == 0)
    except AttributeError:
        return False
