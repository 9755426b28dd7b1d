"""The section `jwt`: what it must say, and which mistakes are found when the file is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.errors import ConfigError

ISSUER: dict[str, Any] = {"issuer": "https://login.example.com/", "audience": ["assay"], "callers": [{}]}


def config(**issuers: dict[str, Any]) -> str:
    return yaml.safe_dump({
        "upstreams": {"a": {"kind": "fake", "base_url": "http://127.0.0.1:1"}},
        "models": {"m": {"targets": [{"upstream": "a", "model": "m"}]}},
        "teams": {"lab": {}},
        "jwt": issuers,
    })  # fmt: skip


def test_an_issuer_needs_little() -> None:
    found = parse(config(sso=ISSUER)).jwt["sso"]
    assert found.algorithms == ("RS256", "ES256")
    assert found.name == "sub"
    assert "1 token issuer" in parse(config(sso=ISSUER)).summary()


@pytest.mark.parametrize(
    ("changed", "mistake"),
    [
        ({"audience": []}, "jwt.sso.audience"),
        ({"callers": []}, "jwt.sso.callers"),
        ({"algorithms": ["HS256"]}, "jwt.sso.algorithms[0]"),
        ({"algorithms": ["none"]}, "jwt.sso.algorithms[0]"),
        ({"issuer": "http://login.example.com"}, "keys are read over https:// only"),
        ({"jwks_url": "http://login.example.com/keys"}, "keys are read over https:// only"),
        ({"jwks_url": "https://a.example/k", "jwks_file": "k.json"}, "both name the keys"),
        ({"callers": [{"team": "labb"}]}, 'jwt.sso.callers[0].team: no team "labb"; did you mean "lab"?'),
        ({"callers": [{"models": ["mm"]}]}, 'jwt.sso.callers[0].models[0]: no model "mm"'),
        ({"callers": [{"networks": ["10.0.0.1/8"]}]}, "jwt.sso.callers[0].networks[0]"),
        ({"callers": [{"claims": {"groups": ["a"]}}]}, "jwt.sso.callers[0].claims.groups"),
    ],
)
def test_a_mistake_is_found_when_the_file_is_read(changed: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(config(sso={**ISSUER, **changed}))
    assert mistake in str(error.value)


def test_a_caller_may_name_a_model_behind_a_pattern() -> None:
    raw = yaml.safe_load(config(sso={**ISSUER, "callers": [{"models": ["gpt-5"]}]}))
    raw["models"] = {"gpt-*": {"targets": [{"upstream": "a", "model": "*"}]}}
    assert parse(yaml.safe_dump(raw)).jwt["sso"].callers[0].models == ("gpt-5",)


def test_two_sections_of_one_issuer_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"jwt\.\w+\.issuer: jwt\.\w+ has this issuer already"):
        parse(config(a=ISSUER, b=ISSUER))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/keys", "http://localhost/keys", "http://[::1]/keys"])
def test_keys_may_come_from_this_machine_without_tls(url: str) -> None:
    assert parse(config(sso={**ISSUER, "jwks_url": url})).jwt["sso"].jwks_url == url
