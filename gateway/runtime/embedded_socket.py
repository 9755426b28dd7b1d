"""Where the embedded stream server of a data directory listens. For programs that only connect to it: embedded_redis.py
runs it."""

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
    """The unix socket of a data directory's embedded server. Makes the directory.

    A path that is longer than the kernel accepts is replaced: the socket then lies in a private directory under the
    system's temporary directory, and the symbolic link `socket` in the data directory points there.
    Raises PermissionError if that private directory belongs to another user.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data.resolve() / SOCKET
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        return path
    link = data / "socket"
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # two programs may come at once; one link is made
            link.symlink_to(_short_directory())
    short = link.readlink()
    short.mkdir(mode=0o700, exist_ok=True)  # temporary directories are swept
    if short.is_symlink() or short.stat().st_uid != os.getuid():
        raise PermissionError(f"{short} belongs to somebody else; remove {link} and start again")
    return short / SOCKET


def _short_directory() -> Path:
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes it ours alone
        if len(os.fsencode(place)) + 32 <= MAX_SOCKET_BYTES:
            break
    return Path(tempfile.mkdtemp(prefix="assay-", dir=place))
