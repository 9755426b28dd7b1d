"""Tells a disk that takes no writes from other failures of files, for programs that answer it with one line."""

from __future__ import annotations

import errno

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk is full, over its quota, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _DISK


def disk_line(error: OSError) -> str:
    """One line for the user: which file, if it is known, and why it cannot be written."""
    what = "a file or the output" if error.filename is None else error.filename
    return f"{what} cannot be written: {error.strerror}"
