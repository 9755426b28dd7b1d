"""Requests as coding agents send them, and the upstream that reads them; `make bench --only agent` as a whole, long."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import agent_bodies
import load
import show
from rows import Row

UPSTREAM = Path(__file__).with_name("agent_upstream.py")
READY_S = 60.0


@pytest.fixture
def upstream() -> Iterator[Callable[..., socket.socket]]:
    """A function that starts the upstream with these words and returns a connection to it."""
    started: list[subprocess.Popen[bytes]] = []
    sockets: list[socket.socket] = []

    def start(*words: str) -> socket.socket:
        port = load.free_port()
        program = subprocess.Popen([sys.executable, str(UPSTREAM), str(port), *words], stderr=subprocess.DEVNULL)
        started.append(program)
        while True:
            assert program.poll() is None
            try:
                sockets.append(socket.create_connection((load.HOST, port), timeout=READY_S))
                return sockets[-1]
            except ConnectionRefusedError:
                continue

    yield start
    for sock in sockets:
        sock.close()
    for program in started:
        program.kill()
        program.wait()


def asked(size: str) -> bytes:
    body = agent_bodies.body(size)
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("size", agent_bodies.SIZES)
def test_a_body_has_its_size_and_what_agents_send(size: str) -> None:
    for stream in (False, True):
        body = agent_bodies.body(size, stream=stream)
        assert len(body) == agent_bodies.SIZES[size]
        sent = json.loads(body)
        assert len(sent["tools"]) == 8
        assert sent.get("stream", False) is stream
        for message, following in pairwise(sent["messages"]):
            if calls := message.get("tool_calls"):
                assert following.get("tool_call_id", calls[0]["id"]) == calls[0]["id"]
                json.loads(calls[0]["function"]["arguments"])
        assert body.count(b'\\"') > len(sent["messages"]), "there are escapes"
        assert "“".encode() in body, "there are letters of several bytes"


def test_the_upstream_answers_after_the_last_byte(upstream: Callable[..., socket.socket]) -> None:
    connection = upstream("plain")
    request = asked("570 KB")
    for _ in range(2):
        connection.sendall(request[:-1])
        connection.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(READY_S)
        connection.sendall(request[-1:])
        assert load._whole(connection) is None


def test_the_upstream_streams_as_many_events_as_it_says(upstream: Callable[..., socket.socket]) -> None:
    connection = upstream("stream", "0.0")
    connection.sendall(asked("103 KB"))
    answer = b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        answer += connection.recv(65536)
    assert answer.count(b"data: ") == 104
    assert answer.count(b'"content":"t') == 100


def test_a_run_of_agents_renews_its_section_alone() -> None:
    def rows(value: float) -> list[Row]:
        kinds = (("plain", "plain request"), ("agent_plain_103", "request of 103 KB"))
        return [Row(key, label, "µs CPU", {"gateway": [value], "nginx": [100.0]}) for key, label in kinds]

    page = show.markdown(rows(500.0), "Then.")
    assert page.count(show.AGENT_HEADING) == 1
    renewed = show.with_agents(page, rows(300.0)[1:], "Now.")
    assert "| request of 103 KB, µs CPU | 300 | 100 | ≤ 4 × nginx: 3.00, pass" in renewed
    assert "| plain request, µs CPU | 500 | 100 |" in renewed
    assert renewed.count(show.AGENT_HEADING) == 1
    assert renewed.endswith("Now.\n")
    assert "Then." in renewed
