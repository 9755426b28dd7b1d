"""What is valid and may not be meant is said by `gateway check`."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.config.cautions import cautions
from gateway.config.loading import parse

LONG = sha256(b"a long random value").hexdigest()
PLAIN = 'upstreams: {l: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}\n'
MODELS = "models: {chat: {targets: [{upstream: l, model: m}]}}\n"


def cautions_of(sections: str, models: str = MODELS, key: str = "") -> str:
    return "\n".join(cautions(parse(f'{PLAIN}{models}keys: [{{name: web, sha256: "{LONG}"{key}}}]\n{sections}')))


@pytest.mark.parametrize("sections", ["", "sampling: {rate: 0, rules: [{when: {outcome: error}, rate: 1.0}]}"])
def test_prompts_in_clear_are_a_loud_caution(sections: str) -> None:
    assert "PROMPTS AND ANSWERS ARE STORED IN CLEAR" in cautions_of(sections)
    assert "the traffic of web" in cautions_of(sections)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ("redaction: {}", ""),
        ("sampling: {rate: 0}", ""),
        ("", ", content: metadata"),
        ("", ", sample: never"),
        ("", ", content: redacted"),
    ],
)
def test_what_is_not_stored_in_clear_needs_no_caution(sections: str, key: str) -> None:
    assert cautions_of(sections, key=key) == ""


def test_a_gateway_that_is_open_stores_everyones_prompts() -> None:
    config = parse(f"{PLAIN}{MODELS}open: true\n")
    assert "of the traffic of everyone" in "\n".join(cautions(config))


def test_a_key_that_anybody_guesses_is_named() -> None:
    text = cautions_of("redaction: {}", key=f'}}, {{name: old, sha256: "{sha256(b"test").hexdigest()}"')
    assert 'keys[1] (old): its key is "test"' in text


def test_an_open_gateway_with_keys_is_cautioned() -> None:
    assert "`open: true` is set together with 1 keys" in cautions_of("redaction: {}\nopen: true")
    assert "set together with" not in cautions_of("redaction: {}")


@pytest.mark.parametrize(("alias", "cautioned"), [("openai/*", False), ("*", False), ("*-large", True), ("a*b*", True)])
def test_a_star_is_a_wildcard_only_at_the_end_of_an_alias(alias: str, cautioned: bool) -> None:
    text = cautions_of("redaction: {}", f'models: {{"{alias}": {{targets: [{{upstream: l, model: m}}]}}}}\n')
    assert ("`*` is a wildcard only at the end" in text) is cautioned


def test_a_predictor_that_does_not_say_adaptive_is_noted() -> None:
    predictor = "redaction: {}\nscorers: {valid_json: {}}\npredictor: {target: valid_json%s}"
    assert "the judge sees every exchange with the same probability" in cautions_of(predictor % "")
    assert cautions_of(predictor % ", adaptive: true") == ""
    assert cautions_of(predictor % ", adaptive: false") == ""


ISSUER = '{issuer: "https://sso.example", audience: [g], callers: [{claims: {sub: a}}]}'
ADMIN = f'admin: {{tokens: [{{name: NAME, sha256: "{sha256(b"another").hexdigest()}", role: owner}}]'


@pytest.mark.parametrize(("name", "cautioned"), [("sso:alice", True), ("jwt:alice", True), ("sso", False)])
def test_a_key_with_the_name_of_a_tokens_caller_is_noted(name: str, cautioned: bool) -> None:
    key = f'keys: [{{name: "{name}", sha256: "{LONG}"}}]\njwt: {{sso: {ISSUER}}}'
    found = "\n".join(cautions(parse(f"{PLAIN}{MODELS}{key}")))
    assert (f'keys[0] ({name}): callers with tokens have names that begin with "' in found) is cautioned
    assert "begin with" not in cautions_of("")


def test_issuers_whose_callers_may_share_a_name_are_noted() -> None:
    two = f'jwt: {{sso: {ISSUER}, "sso:eu": {ISSUER.replace("sso.example", "eu.example")}}}'
    assert "jwt sso:eu: its callers may have the same names as those of jwt sso" in cautions_of(two)
    assert "the same names" not in cautions_of(two.replace("sso:eu", "sso-eu"))


@pytest.mark.parametrize(
    ("name", "more", "noted"),
    [
        ("ada", "", ""),
        ("ada", ', proxy_login: {networks: ["10.0.0.0/8"], users: {ada: {role: viewer}}}', "admin.proxy_login.users"),
        ("controller", "", "the audit has entries of"),
        ('"oidc:ada"', "", "the audit has entries of"),
    ],
)
def test_a_token_with_another_actors_name_is_noted(name: str, more: str, noted: str) -> None:
    found = cautions_of(f"{ADMIN.replace('NAME', name)}{more}}}")
    assert ("admin.tokens[0]" in found) is bool(noted)
    assert noted in found


def test_check_prints_cautions_and_still_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"{PLAIN}{MODELS}open: true\n")
    done = subprocess.run([sys.executable, "-m", "gateway", "check", str(path)], capture_output=True, text=True)
    assert done.returncode == 0
    assert "caution: PROMPTS AND ANSWERS ARE STORED IN CLEAR" in done.stderr


def test_check_says_once_a_day_that_prompts_are_in_clear(tmp_path: Path) -> None:
    """Where there is a data directory to remember it in; other cautions are printed each time."""
    path, data = tmp_path / "gateway.yaml", tmp_path / "data"
    path.write_text(f"{PLAIN}{MODELS}open: true\nkeys: [{{name: web, sha256: {LONG}}}]\n")

    def check() -> str:
        environ = {**os.environ, "GATEWAY_DATA": str(data)}
        words = [sys.executable, "-m", "gateway", "check", str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=True, env=environ).stderr

    for _ in range(2):
        assert "ARE STORED IN CLEAR" in check()
    data.mkdir()
    assert "ARE STORED IN CLEAR" in check()
    again = check()
    assert "ARE STORED IN CLEAR" not in again
    assert "`open: true` is set together with 1 keys" in again
