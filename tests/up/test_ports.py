"""Ports are reserved from the moment they are chosen, not only once something listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gateway.core.errors import CannotRun
from gateway.up.ports import PortReservations


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_the_next_free_port_is_used_when_one_is_in_use(tmp_path: Path) -> None:
    with listening() as listener, PortReservations(tmp_path) as ports:
        port = listener.getsockname()[1]
        got = ports.reserve("127.0.0.1", port)
        assert port < got < port + 100
        assert ports.reserve("127.0.0.1", port) > got
        assert ports.reserve("127.0.0.1", 0) not in (0, port, got)


def test_a_second_process_never_chooses_a_reserved_port(tmp_path: Path) -> None:
    with listening() as listener:
        free = listener.getsockname()[1]
    with PortReservations(tmp_path) as first:
        got = first.reserve("127.0.0.1", free)
        with PortReservations(tmp_path) as second:
            assert second.reserve("127.0.0.1", got) > got
    with PortReservations(tmp_path) as later:
        assert later.reserve("127.0.0.1", got) == got, "free again once the first has ended"


def test_where_no_lock_file_can_be_written_an_unused_port_is_free(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with PortReservations(tmp_path / "file") as ports:
        one, other = ports.reserve("127.0.0.1", 0), ports.reserve("127.0.0.1", 0)
        assert 0 < one != other > 0


def test_no_free_port_is_an_error(tmp_path: Path) -> None:
    """Other programs may have some of the hundred ports already."""
    got: list[int] = []

    def take_all(ports: PortReservations) -> None:
        while True:
            got.append(ports.reserve("127.0.0.1", 20000))

    with PortReservations(tmp_path) as ports:
        with pytest.raises(CannotRun, match=r"20000 to 20099 of .* are all in use; choose another with --port"):
            take_all(ports)
        assert got == sorted(set(got))
        assert set(got) <= set(range(20000, 20100))
