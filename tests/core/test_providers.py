"""One row for each kind of upstream: complete, consistent, and findable."""

from __future__ import annotations

import re
from typing import get_args
from urllib.parse import urlsplit

import pytest

from gateway.config.upstreams import Upstream
from gateway.core.providers import PROVIDERS, DialectName, Load, Provider
from gateway.proxy.dialects.kinds import build_dialect

ROWS = pytest.mark.parametrize("row", PROVIDERS.values(), ids=list(PROVIDERS))


@ROWS
def test_every_row_is_complete(row: Provider) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", row.kind)
    assert row.title
    assert re.fullmatch(r"[a-z0-9_.]+", row.otel_name), "a gen_ai.provider.name"
    assert row.dialect in get_args(DialectName)
    assert row.load in get_args(Load)
    assert row.health is None or row.health.startswith("/")
    assert row.key_env is None or re.fullmatch(r"[A-Z][A-Z0-9_]*", row.key_env)


@ROWS
def test_a_base_url_is_one_that_paths_can_follow(row: Provider) -> None:
    if row.base_url is None:
        assert "base_url" in row.quirk, "what it is must then be said"
        return
    url = urlsplit(row.base_url)
    assert url.hostname
    assert not row.base_url.endswith("/")
    assert not url.query
    assert url.scheme == ("http" if row.local else "https"), "a key never goes in the clear"


@ROWS
def test_local_kinds_have_ports_and_remote_kinds_have_a_key(row: Provider) -> None:
    if row.local:
        assert urlsplit(row.base_url or "").hostname == "127.0.0.1"
    else:
        assert row.ports == ()
        assert row.health is None, "a provider is not asked for its health"


def test_a_port_is_looked_at_for_those_who_usually_listen_there() -> None:
    for row in PROVIDERS.values():
        if row.ports:
            assert urlsplit(row.base_url or "").port in row.ports


@ROWS
def test_every_kind_has_a_dialect_that_can_be_built(row: Provider) -> None:
    where = {} if row.base_url else {"base_url": "https://example.com/openai/v1"}
    dialect = build_dialect(Upstream.model_validate({"kind": row.kind, "api_key": "k", **where}))
    assert dialect.origin.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("kind", "provider"),
    [
        ("openai", "openai"),
        ("azure", "azure.ai.openai"),
        ("anthropic", "anthropic"),
        ("bedrock", "aws.bedrock"),
        ("gemini", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("groq", "groq"),
        ("deepseek", "deepseek"),
    ],
)
def test_provider_names_follow_the_genai_conventions(kind: str, provider: str) -> None:
    assert PROVIDERS[kind].otel_name == provider


def test_an_upstream_overrides_its_providers_row() -> None:
    plain = Upstream.model_validate({"kind": "vllm"})
    assert (plain.continues_prefill, plain.requests_usage, plain.url) == (True, True, "http://127.0.0.1:8001/v1")
    changed = Upstream.model_validate(
        {"kind": "vllm", "prefill": False, "stream_usage": "never", "base_url": "http://gpu:1/v1/"}
    )
    assert (changed.continues_prefill, changed.requests_usage, changed.url) == (False, False, "http://gpu:1/v1")
    assert not Upstream.model_validate({"kind": "mistral"}).requests_usage
