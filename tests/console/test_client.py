"""The command line's way to the admin API."""

from __future__ import annotations

import asyncio
import http.server
import threading

import pytest

from gateway.console.client import AdminClient, AdminRefused
from gateway.core.errors import CannotRun


async def test_lists_are_read_to_their_end_and_keys_found_by_name(console):
    for n in range(3):
        await console.made("key", name=f"k{n}")
    client = AdminClient(console.url + "/", "token-of-owner")
    rows = await asyncio.to_thread(lambda: list(client.all_of("/keys", {})))
    assert [row["name"] for row in rows] == ["k0", "k1", "k2"]
    id = await asyncio.to_thread(client.key_id, "k1")
    assert id == rows[1]["id"] == client.key_id(id)
    with pytest.raises(AdminRefused, match='there is no key "k9" that the console manages'):
        await asyncio.to_thread(client.key_id, "k9")


async def test_every_mistake_of_a_refused_request_is_reported(console):
    client = AdminClient(console.url, "token-of-owner")
    body = {"name": "a b", "limits": {"usd_per_day": 0}}
    with pytest.raises(AdminRefused) as refused:
        await asyncio.to_thread(client.call, "POST", "/keys", body)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["name", "limits.usd_per_day"]
    with pytest.raises(AdminRefused, match="the admin token is not known"):
        await asyncio.to_thread(AdminClient(console.url, "wrong").call, "GET", "/keys")


def test_a_server_that_is_not_a_console_is_reported():
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(CannotRun, match="is not a console: it answered HTTP 200 without a JSON object"):
            AdminClient(url, "t").call("GET", "/keys")
        server.shutdown()
        thread.join()
    with pytest.raises(CannotRun, match="cannot be reached"):
        AdminClient("http://127.0.0.1:1", "t").call("GET", "/keys")
