"""GET / says to a person or a program what this is, and nothing that helps an attacker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway import __version__
from gateway.fake import FakeUpstream

TARGET = {"kind": "webhook", "url": "https://hooks.example.com/x", "secret": "whsec_" + "x" * 32}


async def front(gateway: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await gateway.client.get(f"{gateway.base_url.removesuffix('/v1')}/", headers=named)
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    assert __version__ not in reply.text
    return reply


async def test_a_program_reads_where_base_url_is(gateway: Any) -> None:
    facts = (await front(gateway)).json()
    assert set(facts) == {"name", "about", "base_url", "console", "docs"}
    assert facts["base_url"] == gateway.base_url
    assert (await front(gateway, accept="application/json")).json() == facts


async def test_a_browser_gets_a_page(gateway: Any) -> None:
    reply = await front(gateway, accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert reply.headers["content-type"].startswith("text/html")
    assert f'<a href="{gateway.base_url}">' in reply.text
    assert reply.headers["content-security-policy"] == "default-src 'none'"


@pytest.mark.parametrize("host", ['x"><script>alert(1)</script>', "a/b", "u:p@evil", "[::1", ""])
async def test_a_malformed_host_is_not_repeated(host: str, gateway: Any) -> None:
    for accept in ("text/html", "*/*"):
        reply = await gateway.client.get(
            f"{gateway.base_url.removesuffix('/v1')}/", headers={"host": host, "accept": accept}
        )
        assert host == "" or host not in reply.text
        assert "<script" not in reply.text
    assert (await front(gateway, x_forwarded_proto="https")).json()["base_url"].startswith("https://")


async def test_the_console_is_named_where_the_config_names_it(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> None:
    config = configured(upstream, notify={"console_url": "https://console.example.com", "targets": {"m": TARGET}})
    reply = await front(await start(config))
    assert reply.json()["console"] == "https://console.example.com"
    for name in config["upstreams"], config["models"]:
        assert not any(f'"{each}"' in reply.text for each in name)


async def test_another_method_is_refused_with_the_allowed_ones(gateway: Any) -> None:
    reply = await gateway.client.post(f"{gateway.base_url.removesuffix('/v1')}/")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
