"""Values that the processes of one gateway pass to each other."""

from __future__ import annotations

import hashlib
import stat
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.config.environment import (
    WorkerEnvironment,
    add_from_up,
    admin_access,
    api_key_of,
    child_environment,
    export_to_workers,
    forget_login_link,
    login_link,
    process_environment,
    providers_with_keys,
    resolve_evals,
    shared_metrics,
    worker_environment,
    write_admin_access,
    write_evals_access,
    write_login_link,
)
from gateway.config.loading import parse
from gateway.config.scorers import EvalsConfig
from gateway.core.providers import PROVIDERS

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ACCESS = "http://127.0.0.1:8000/v1 sk-evals-x"
RUN_HERE = (
    "upstreams: {l: {kind: llamacpp, run: {engine: llamacpp}}}\nmodels: {m: {targets: [{upstream: l, model: m}]}}"
)


def test_workers_read_what_the_main_process_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_SERVED", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.setenv(name, "")  # restored when the test ends
    assert shared_metrics() is None
    exported = WorkerEnvironment(tmp_path / "gateway.yaml", tmp_path, loopback=True, address="127.0.0.1:8000")
    export_to_workers(exported, tmp_path / "metrics")
    assert worker_environment() == exported
    assert shared_metrics() == tmp_path / "metrics"


def test_up_passes_the_urls_of_the_engines_it_runs() -> None:
    passed = child_environment({"l": "http://127.0.0.1:5/v1", "gone": "http://127.0.0.1:6/v1"}, "")
    assert parse(RUN_HERE, environ=passed).upstreams["l"].url == "http://127.0.0.1:5/v1"
    assert parse(RUN_HERE, environ={}).upstreams["l"].url == "http://127.0.0.1:8080/v1"


def test_an_upstream_without_run_keeps_its_url() -> None:
    raw: dict[str, Any] = {"upstreams": {"l": {"kind": "vllm", "base_url": "http://own/v1"}}}
    add_from_up(raw, child_environment({"l": "http://127.0.0.1:5/v1"}, ""))
    assert raw["upstreams"]["l"]["base_url"] == "http://own/v1"


def test_up_passes_a_key_only_to_a_file_that_needs_one() -> None:
    passed = child_environment({}, DIGEST)
    assert [(k.name, k.sha256) for k in parse(RUN_HERE, environ=passed).keys] == [("up", DIGEST)]
    own = f'keys: [{{name: web, sha256: "{"0" * 64}"}}]\n{RUN_HERE}'
    assert [k.name for k in parse(own, environ=passed).keys] == ["web"]
    assert parse(f"open: true\n{RUN_HERE}", environ=passed).keys == ()
    assert parse(RUN_HERE, environ={}).keys == ()


def test_up_passes_an_evals_section_and_a_key_never_sampled() -> None:
    raw: dict[str, Any] = {"keys": [{"name": "evals", "sha256": "0" * 64}]}
    add_from_up(raw, child_environment({}, "", ACCESS))
    assert raw["evals"] == {"base_url": "http://127.0.0.1:8000/v1", "api_key": "sk-evals-x"}
    added = raw["keys"][1]
    assert (added["name"], added["sample"], added["allow"]) == ("evals-0", "never", ["target"])
    assert added["sha256"] == hashlib.sha256(b"sk-evals-x").hexdigest()


@pytest.mark.parametrize(
    ("raw", "access"), [({"evals": {"base_url": "http://x/v1"}}, ACCESS), ({}, ""), ({"evals": {"base_url": "x"}}, "")]
)
def test_a_file_that_names_its_own_gateway_is_unchanged(raw: dict[str, Any], access: str) -> None:
    before = dict(raw)
    add_from_up(raw, child_environment({}, "", access))
    assert raw == before


def test_evals_access_is_new_each_time_and_private(tmp_path: Path) -> None:
    first, second = (write_evals_access(tmp_path, "http://127.0.0.1:8000/v1") for _ in range(2))
    assert first != second
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    resolved = resolve_evals(EvalsConfig(), tmp_path)
    assert f"{resolved.base_url} {resolved.api_key}" == second


def test_a_configured_gateway_precedes_the_evals_access_of_up(tmp_path: Path) -> None:
    write_evals_access(tmp_path, "http://127.0.0.1:8000/v1")
    own = EvalsConfig(base_url="http://10.0.0.1/v1")
    assert resolve_evals(own, tmp_path) is own
    assert resolve_evals(EvalsConfig(), tmp_path / "nowhere") == EvalsConfig()


def test_providers_are_found_by_their_usual_key_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS.values():
        if provider.key_env:
            monkeypatch.delenv(provider.key_env, raising=False)
    assert providers_with_keys() == []
    monkeypatch.setenv("MISTRAL_API_KEY", "m")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "a")  # its address cannot be known
    assert [p.kind for p in providers_with_keys()] == ["mistral"]
    assert api_key_of(PROVIDERS["mistral"]) == "m"
    assert api_key_of(PROVIDERS["vllm"]) == ""


def test_the_process_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST", "1")
    environ = process_environment()
    environ["GATEWAY_TEST"] = "2"
    assert process_environment()["GATEWAY_TEST"] == "1"


def test_a_login_link_is_kept_over_a_restart_until_it_is_used(tmp_path: Path) -> None:
    first, expires = write_login_link(tmp_path, 900, now=1000.0)
    path = tmp_path / "login"
    assert path.stat().st_mode & 0o777 == 0o600
    assert expires == 1900.0
    assert write_login_link(tmp_path, 900, now=1500.0) == (first, 1900.0), "its end stays what it was"
    late, end = write_login_link(tmp_path, 900, now=1700.0)
    assert late != first, "little of its time is left"
    assert end == 2600.0
    forget_login_link(tmp_path)
    forget_login_link(tmp_path)
    used, _ = write_login_link(tmp_path, 900, now=1701.0)
    assert used not in (first, late)


@pytest.mark.parametrize("text", ["", "1800", "x y", "999999 secret", "-1 secret", "\udce4"])
def test_a_file_that_is_not_a_login_link_is_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "login").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "login").chmod(0o600)
    assert len(write_login_link(tmp_path, 900, now=1000.0)[0]) > 40


def test_a_login_link_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    first, _ = write_login_link(tmp_path, 900, now=1000.0)
    (tmp_path / "login").chmod(0o644)
    assert write_login_link(tmp_path, 900, now=1000.0)[0] != first


def test_the_console_knows_the_login_link_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = child_environment({}, "", "", "http://127.0.0.1:9102 admin-token", "the-secret 1764150000")
    assert "the-secret" not in repr(passed)
    assert "admin-token" not in repr(passed)
    for name in ("GATEWAY_UP_LOGIN", "GATEWAY_UP_ADMIN_SHA256"):
        monkeypatch.setenv(name, passed[name])
    link = login_link()
    assert link is not None
    assert link.sha256 == sha256(b"the-secret").hexdigest()
    assert (link.expires, link.token_sha256) == (1764150000.0, sha256(b"admin-token").hexdigest())
    monkeypatch.setenv("GATEWAY_UP_LOGIN", "")
    assert login_link() is None


def test_a_restart_of_up_signs_nobody_out_for_half_a_day(tmp_path: Path) -> None:
    now = time.time()

    def token(hours: float, port: int = 9102) -> str:
        access = write_admin_access(tmp_path, f"http://127.0.0.1:{port}", now + hours * 3600)
        assert access.startswith(f"http://127.0.0.1:{port} ")
        return access.split()[1]

    first = token(0)
    assert token(1) == token(11.9, 9103) == first
    second = token(12.1)
    assert second != first, "counted from when it was made, not from the last restart"
    (tmp_path / "admin").chmod(0o644)
    assert token(12.2) != second, "others may have read it"
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600


def test_up_adds_an_admin_token_that_the_command_line_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = write_admin_access(tmp_path, "http://127.0.0.1:9102")
    url, token = second.split()
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600
    raw: dict[str, Any] = {"admin": {"tokens": [{"name": "up", "sha256": "a" * 64, "role": "viewer"}]}}
    add_from_up(raw, child_environment({}, "", "", second))
    digest = sha256(token.encode()).hexdigest()
    assert raw["admin"]["tokens"][1] == {"name": "up-0", "sha256": digest, "role": "owner", "content": True}
    empty: dict[str, Any] = {}
    add_from_up(empty, child_environment({}, "", "", second))
    assert [t["name"] for t in empty["admin"]["tokens"]] == ["up"]
    assert token not in repr(child_environment({}, "", "", second))
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("GATEWAY_ADMIN_URL", raising=False)
    assert admin_access(tmp_path) == (url, token)
    assert admin_access(tmp_path / "none") == ("http://127.0.0.1:9102", "")
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "own")
    monkeypatch.setenv("GATEWAY_ADMIN_URL", "https://console.example")
    assert admin_access(tmp_path) == ("https://console.example", "own")
