"""The section `egress`: which upstreams and issuers get its proxy, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.derive import outside_egress
from gateway.config.egress import is_direct
from gateway.config.loading import parse
from gateway.core.errors import ConfigError

PROXY = "http://ada:${PROXY_PASSWORD}@proxy.example:3128"
SHOWN = "http://ada:pw@proxy.example:3128"
UPSTREAMS: dict[str, dict[str, Any]] = {
    "openai": {"kind": "openai"},
    "local": {"kind": "vllm", "base_url": "http://vllm:8001/v1"},
    "partner": {"kind": "openai", "base_url": "https://api.partner.example/v1"},
    "own": {"kind": "openai", "proxy": "http://other.example:1"},
    "opened": {"kind": "openai", "proxy": "none"},
    "plain": {"kind": "openai", "base_url": "http://far.example/v1"},
    "second": {"kind": "openai", "http2": True},
}


def read(egress: dict[str, Any] | None, **sections: Any) -> Any:
    raw = {"open": True, "upstreams": UPSTREAMS, "models": {"m": {"targets": [{"upstream": "openai", "model": "x"}]}}}
    raw |= sections | ({} if egress is None else {"egress": egress})
    return parse(yaml.safe_dump(raw), environ={"PROXY_PASSWORD": "pw"})


def test_an_upstream_of_an_unknown_kind_is_a_mistake() -> None:
    """Nobody knows whether it is outside."""
    with pytest.raises(ConfigError, match=r'upstreams.openai.kind: no kind "opnai"; did you mean "openai"'):
        read({"proxy": PROXY}, upstreams={"openai": {"kind": "opnai"}})


def test_upstreams_outside_get_the_proxy_and_the_fast_client() -> None:
    config = read({"proxy": PROXY, "direct": ["api.partner.example"]})
    found = {name: (u.outbound_proxy, u.transport_name) for name, u in config.upstreams.items()}
    assert found == {
        "openai": (SHOWN, "http1"),
        "local": (None, "http1"),
        "partner": (None, "http1"),
        "own": ("http://other.example:1", "http1"),
        "opened": (None, "http1"),
        "plain": (SHOWN, "httpx"),
        "second": (SHOWN, "httpx"),
    }
    assert "pw" not in config.transports_summary()
    assert "openai http1 (by proxy.example:3128)" in config.transports_summary()


def test_without_the_section_nothing_has_a_proxy() -> None:
    config = read(None)
    assert [u.outbound_proxy for u in config.upstreams.values()].count(None) == len(UPSTREAMS) - 1
    assert outside_egress(config) is None


def test_issuers_outside_get_it_too() -> None:
    issuer = {"audience": ["a"], "callers": [{}]}
    config = read(
        {"proxy": PROXY},
        jwt={
            "sso": {"issuer": "https://login.example.com/", **issuer},
            "near": {"issuer": "https://login.svc/", **issuer},
            "own": {"issuer": "https://login.example.org/", "proxy": "none", **issuer},
        },
    )
    assert {name: each.proxy for name, each in config.jwt.items()} == {"sso": SHOWN, "near": None, "own": "none"}


def test_the_gateway_that_judges_ask_is_reached_without_it() -> None:
    config = read({"proxy": PROXY}, evals={"base_url": "https://ai.example.org/v1", "api_key": "k"})
    egress = outside_egress(config)
    assert egress is not None
    assert egress.proxy_to("https://ai.example.org/v1/chat/completions") is None
    assert egress.proxy_to("https://hooks.example.com/x") == SHOWN


@pytest.mark.parametrize(
    ("egress", "why"),
    [
        ({"proxy": "socks5://proxy:1080"}, "egress.proxy"),
        ({"proxy": "proxy.example:3128"}, "egress.proxy"),
        ({"direct": ["x"]}, "egress.proxy: missing"),
        ({"proxy": PROXY, "no_proxy": ["x"]}, "egress.no_proxy: unknown key"),
    ],
)
def test_a_mistake_is_named(egress: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(egress)
    assert why in str(refused.value)
    assert "pw" not in str(refused.value)


def test_a_fast_client_that_cannot_pass_it_is_a_mistake() -> None:
    upstreams = {"plain": {"kind": "openai", "base_url": "http://far.example/v1", "transport": "http1"}}
    models = {"m": {"targets": [{"upstream": "plain", "model": "x"}]}}
    with pytest.raises(ConfigError, match=r"name its host in egress\.direct"):
        read({"proxy": PROXY}, upstreams=upstreams, models=models)


INSIDE = ["localhost", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "169.254.169.254", "fd00::1", "vllm"]
INSIDE += ["redis.default.svc", "gateway.team.svc.cluster.local", "metadata.google.internal"]
MORE = [".corp.example", "api.partner.example", "203.0.113.0/24", "2001:db8::/32", "not/a/network"]


@pytest.mark.parametrize("host", INSIDE)
def test_internal_hosts_are_reached_without_the_proxy(host: str) -> None:
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
