"""The socket of a data directory's embedded server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.runtime.embedded_socket import MAX_SOCKET_BYTES, socket_path, stream_url


def test_a_configured_address_wins_over_the_embedded_server(tmp_path: Path) -> None:
    assert stream_url("redis://elsewhere:6379/0", tmp_path) == "redis://elsewhere:6379/0"
    assert stream_url(None, tmp_path) == f"unix://{tmp_path.resolve()}/stream.sock"


def test_a_path_too_long_for_a_socket_is_replaced_and_remembered(tmp_path: Path) -> None:
    data = tmp_path / ("x" * 100)
    path = socket_path(data)
    assert len(os.fsencode(path)) <= MAX_SOCKET_BYTES
    assert socket_path(data) == path
    assert path.parent.stat().st_mode & 0o777 == 0o700

    path.parent.rmdir()  # as a sweeper of temporary files does
    assert socket_path(data) == path
    assert path.parent.is_dir()
    path.parent.rmdir()


def test_a_replaced_path_that_became_a_link_is_refused(tmp_path: Path) -> None:
    data = tmp_path / ("x" * 100)
    directory = socket_path(data).parent
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to another user"):
        socket_path(data)
    directory.unlink()
