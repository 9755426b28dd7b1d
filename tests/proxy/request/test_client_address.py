"""The address of a request, which only trusted proxies may state; and keys that work from some networks only."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.fake import FakeUpstream
from gateway.proxy.request.client_address import client_address

Configured = Callable[..., dict[str, Any]]


OURS = (ip_network("10.0.0.0/8"), ip_network("::1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),  # the connection is not a trusted proxy's
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9, 10.1.1.1"], "198.51.100.9"),  # the first may be invented
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9"], "198.51.100.9"),  # two headers are one list
        ("10.0.0.1", ["10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["<script>, 10.3.3.3"], "10.3.3.3"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("::1", ["2001:db8::9"], "2001:db8::9"),
        ("", ["198.51.100.9"], ""),
    ],
)
def test_only_trusted_proxies_name_the_client(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, [each.encode() for each in forwarded], OURS) == client


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


KEYS = [
    {"name": "office", "sha256": digest("office-key"), "networks": ["198.51.100.0/24"], "allow": ["passthrough"]},
    {"name": "member", "sha256": digest("member-key"), "team": "lab"},
    {"name": "narrow", "sha256": digest("narrow-key"), "team": "lab", "networks": ["203.0.113.7"]},
    {"name": "free", "sha256": digest("free-key")},
]
TEAMS = {"lab": {"networks": ["203.0.113.0/24"]}}


@pytest.fixture
def behind(start: Any, configured: Configured, upstream: FakeUpstream) -> Callable[..., Any]:
    """A gateway whose clients all come through a proxy on this machine, which says where they are."""

    async def go(**sections: Any) -> Callable[..., Any]:
        gateway = await start(
            configured(upstream, keys=KEYS, teams=TEAMS, trusted_proxies=["127.0.0.1"], passthrough="u0", **sections)
        )

        async def ask(key: str, address: str, path: str = "/v1/chat/completions", method: str = "POST") -> Any:
            body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]} if method == "POST" else None
            headers = {"authorization": f"Bearer {key}", "x-forwarded-for": address}
            url = gateway.base_url.removesuffix("/v1") + path
            return await gateway.client.request(method, url, json=body, headers=headers)

        return ask

    return go


async def test_a_key_works_from_its_own_and_its_teams_networks_only(behind: Any, upstream: FakeUpstream) -> None:
    ask = await behind()
    for key, address, status in (
        ("office-key", "198.51.100.9", 200),
        ("office-key", "203.0.113.7", 403),
        ("office-key", "203.0.113.7, 198.51.100.9", 200),  # what the client itself wrote before does not count
        ("office-key", "198.51.100.9, 203.0.113.7", 403),
        ("office-key", "", 403),  # the proxy itself
        ("member-key", "203.0.113.9", 200),
        ("member-key", "198.51.100.9", 403),
        ("narrow-key", "203.0.113.7", 200),
        ("narrow-key", "203.0.113.9", 403),
        ("free-key", "192.0.2.1", 200),
    ):
        answer = await ask(key, address)
        assert answer.status_code == status, (key, address)
        if status == 403:
            error = answer.json()["error"]
            assert error["code"] == "address_not_allowed"
            assert "this API key may not be used from" in error["message"]
    assert len(upstream.received) == 5


async def test_the_other_paths_know_the_networks_too(behind: Any, upstream: FakeUpstream) -> None:
    ask = await behind()
    for path, method in (
        ("/v1/models", "GET"),
        ("/v1/key", "GET"),
        ("/v1/files", "GET"),
        ("/v1/responses/resp_1", "GET"),
    ):
        assert (await ask("office-key", "192.0.2.1", path, method)).status_code == 403, path
    assert (await ask("office-key", "198.51.100.9", "/v1/models", "GET")).status_code == 200
    assert upstream.received == []


async def test_the_gateways_networks_come_before_any_key(behind: Any, upstream: FakeUpstream) -> None:
    ask = await behind(networks=["198.51.100.0/24", "203.0.113.0/24"])
    assert (await ask("office-key", "198.51.100.9")).status_code == 200
    for key in ("free-key", "no such key"):
        for path, method in (("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/v1/files", "GET")):
            answer = await ask(key, "192.0.2.1", path, method)
            assert answer.status_code == 403, (key, path)
            assert answer.json()["error"]["message"].startswith("this gateway does not accept requests from 192.0.2.1")
    assert len(upstream.received) == 1
    health = await ask("no such key", "192.0.2.1", "/health", "GET")
    assert health.status_code == 200, "a load balancer asks from anywhere"


async def test_without_trusted_proxies_a_header_says_nothing(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    key = {"name": "k", "sha256": digest("local-key"), "networks": ["198.51.100.0/24"]}
    gateway = await start(configured(upstream, keys=[key]), key="local-key")
    gateway.client.headers["x-forwarded-for"] = "198.51.100.9"
    assert (await gateway.chat()).status_code == 403
