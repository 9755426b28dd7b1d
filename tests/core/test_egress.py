from __future__ import annotations

import pytest

from gateway.core.egress import is_direct

pytestmark = pytest.mark.quick
INSIDE = ["localhost", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "169.254.169.254", "fd00::1", "vllm"]
INSIDE += ["redis.default.svc", "gateway.team.svc.cluster.local", "metadata.google.internal"]
MORE = [".corp.example", "api.partner.example", "203.0.113.0/24", "2001:db8::/32", "not/a/network"]


@pytest.mark.parametrize("host", INSIDE)
def test_what_is_inside_is_reached_without_the_proxy(host: str) -> None:
    assert is_direct(host)


@pytest.mark.parametrize("host", ["api.openai.com", "8.8.8.8", "svc.example.com", "internal.example"])
def test_all_else_is_reached_through_it(host: str) -> None:
    assert not is_direct(host)
    assert not is_direct(host, MORE)


@pytest.mark.parametrize("host", ["gpu.corp.example", "API.Partner.Example", "api.partner.example."])
def test_further_hosts_can_be_named(host: str) -> None:
    assert is_direct(host, MORE)
    assert not is_direct("corp.example", MORE)
    assert not is_direct("x.api.partner.example", MORE)


def test_a_network_can_be_named() -> None:
    assert not is_direct("8.8.8.8", ["8.8.4.0/24"])
    assert is_direct("8.8.8.8", ["8.8.0.0/16"])
