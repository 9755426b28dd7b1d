"""Every program refuses a config that needs an extra which is not installed, with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.program_command import forked_python

from gateway.config.extras import OF_ALL, require_extras
from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.core.extras import install_command
from gateway.features import all_extras

PLAIN = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"
ADMIN = "admin: {tokens: [{name: ada, role: owner, sha256: '" + "0" * 64 + "'}]}\n"
OTEL = "otel: {endpoint: 'http://127.0.0.1:4318'}\n"
POSTGRES = "store: {url: 'postgresql://127.0.0.1/gateway'}\n"
LEARNED = "scorers: {refusal: {}}\npredictor: {target: refusal, embedding: true}\n"
OIDC = ADMIN.replace(
    "}\n",
    ", oidc: {issuer: 'https://id.example', client_id: a, url: 'https://c.example', "
    "roles: [{claims: {sub: a}, role: owner}]}}\n",
)
JWT = 'jwt: {sso: {issuer: "https://sso.example", audience: [g], callers: [{claims: {sub: a}}]}}\n'
AWS, GOOGLE, ENTRA = (
    PLAIN.replace("{kind: fake}", f"{{kind: openai, base_url: 'http://a/v1', auth: {{kind: {auth}}}}}")
    for auth in ("sigv4, region: r", "google", "entra")
)

CASES = [
    (PLAIN + OIDC, "authlib", f"admin.oidc: needs Authlib: {install_command('oidc')}"),
    (PLAIN + JWT, "jwt", f"jwt: needs PyJWT: {install_command('jwt')}"),
    (AWS, "botocore", f"upstreams.a.auth.kind: needs botocore: {install_command('aws')}"),
    (GOOGLE, "google.auth", f"upstreams.a.auth.kind: needs google.auth: {install_command('google')}"),
    (ENTRA, "azure.identity", f"upstreams.a.auth.kind: needs azure.identity: {install_command('azure')}"),
    (PLAIN + OTEL, "opentelemetry.sdk", f"otel: needs OpenTelemetry's SDK: {install_command('otel')}"),
    (PLAIN + POSTGRES, "psycopg", f"store.url: needs psycopg: {install_command('postgres')}"),
    (
        PLAIN + LEARNED,
        "tokenizers",
        f"predictor.embedding: needs tokenizers and threadpoolctl: {install_command('embedding')}",
    ),
]


@pytest.mark.parametrize(("text", "module", "expected"), CASES)
def test_a_missing_extra_is_named_with_its_command(
    text: str, module: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse(text)
    require_extras(config, (*OF_ALL, *all_extras()))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as raised:
        require_extras(config, (*OF_ALL, *all_extras()))
    assert raised.value.mistakes == (expected,)


def blocked(module: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`gateway WORDS` in an interpreter that cannot import the module."""
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['gateway', *{words!r}]\n"
        "from gateway.__main__ import main; main()"
    )
    return subprocess.run(forked_python(program), capture_output=True, text=True, cwd=folder, timeout=60)


PROGRAMS = [
    (["check", "gateway.yaml"], "opentelemetry.sdk"),
    (["serve"], "opentelemetry.sdk"),
    (["evaluate"], "opentelemetry.sdk"),
    (["evaluate", "--workers", "2"], "psycopg"),
    (["console"], "psycopg"),
]


@pytest.mark.parametrize(("words", "module"), PROGRAMS, ids=[f"{w[0]}-{m}-{len(w)}" for w, m in PROGRAMS])
def test_programs_say_what_is_missing_before_they_start(words: list[str], module: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(PLAIN + ADMIN + OTEL + POSTGRES + LEARNED)
    done = blocked(module, words, tmp_path)
    assert done.returncode == 1
    assert "needs" in done.stdout + done.stderr
    assert 'pip install "assay-gateway[' in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"], "no data directory was made"


def test_up_starts_no_program_without_the_extra(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(PLAIN + POSTGRES)
    done = blocked("psycopg", ["up"], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"store.url: needs psycopg: {install_command('postgres')}" in done.stderr
