"""The address of a data directory's embedded stream server.

Apart from embedded_redis.py, which runs the server, for programs that only connect to it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

SOCKET = "stream.sock"
MAX_SOCKET_BYTES = 103  # macOS; Linux takes 107


def stream_url(address: str | None, data: Path) -> str:
    """The stream server's URL. address: the config's `stream.url`; None: the embedded server of this directory."""
    return address or f"unix://{quote(str(socket_path(data)))}"


def socket_path(data: Path) -> Path:
    """The unix socket of a data directory's embedded server. Creates the directory.

    If the path is longer than the kernel accepts, the socket is in a private directory under the system's temporary
    directory instead, and the symbolic link `socket` in the data directory points there.
    Raises PermissionError if that private directory belongs to another user.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data.resolve() / SOCKET
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        return path
    link = data / "socket"
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # two programs may start at once; the first one's link stays
            link.symlink_to(_short_directory())
    short = link.readlink()
    short.mkdir(mode=0o700, exist_ok=True)  # temporary directories are cleaned up
    if short.is_symlink() or short.stat().st_uid != os.getuid():
        raise PermissionError(f"{short} belongs to another user; remove {link} and start again")
    return short / SOCKET


def _short_directory() -> Path:
    for directory in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp creates a private directory
        if len(os.fsencode(directory)) + 32 <= MAX_SOCKET_BYTES:
            break
    return Path(tempfile.mkdtemp(prefix="assay-", dir=directory))
