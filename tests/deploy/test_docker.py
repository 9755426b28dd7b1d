"""The image and the stack of deploy/: linted, hardened, and whole: nothing is named that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import loading

Parsed = Callable[[Any], dict[str, object]]


@pytest.fixture(scope="module")
def compose(deploy: Path) -> Any:
    """The parsed compose.yaml."""
    return yaml.safe_load((deploy / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def dockerfile(deploy: Path) -> str:
    """The text of the Dockerfile."""
    return (deploy / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say(deploy: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    finished = subprocess.run([program, deploy / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && apt-get install curl\n")
    program = Path(sys.executable).with_name("hadolint")
    finished = subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "DL3006" in finished.stdout


def test_the_image_is_multi_stage_and_runs_unprivileged(dockerfile: str) -> None:
    final = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert dockerfile.count("\nFROM ") == 2
    assert "COPY --from=build" in final
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user
    assert int(user[1]) > 0
    assert "HEALTHCHECK" in final
    assert "pip install" not in final


def test_the_image_uses_existing_extras_and_files(dockerfile: str, deploy: Path) -> None:
    import tomllib

    project = tomllib.loads((deploy.parent / "pyproject.toml").read_text())["project"]
    extras = re.search(r"^ARG EXTRAS=(\S+)$", dockerfile, re.MULTILINE)
    assert extras
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    copied = re.search(r"^COPY (pyproject.*) \./$", dockerfile, re.MULTILINE)
    assert copied
    assert {project["readme"], *project["license-files"], "pyproject.toml"} == set(copied[1].split())
    kept = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    forced = tomllib.loads((deploy.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source in forced["force-include"]:
        copied_path = re.compile(rf"^COPY ({re.escape(source)}|{re.escape(source.split('/')[0])}) ", re.MULTILINE)
        assert copied_path.search(dockerfile), f"the wheel needs {source}"
        assert any(f"!{each}" in kept for each in (source, source.split("/")[0])), source
    assert {f"!{name}" for name in (*copied[1].split(), "gateway")} <= set(kept)


def test_the_images_command_is_a_verb(dockerfile: str, parsed: Parsed) -> None:
    command = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert command
    assert parsed(yaml.safe_load(command[1]))["host"] == "0.0.0.0"  # noqa: S104 - compared


@pytest.mark.parametrize("name", ["gateway.yaml", "kubernetes/base/config/gateway.yaml"])
def test_an_example_config_is_valid(name: str, deploy: Path, environ: dict[str, str]) -> None:
    read = loading.parse((deploy / name).read_text(), name, environ)
    assert read.metrics.bind == "0.0.0.0:9100"


def test_compose_refers_only_to_things_that_exist(compose: Any, deploy: Path) -> None:
    services = compose["services"]
    assert {"gateway", "consumer", "console", "redis", "prometheus", "grafana", "vllm-gpu", "vllm-cpu"} == set(services)
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (deploy / source).exists(), source
            else:
                assert source in compose["volumes"], source


def test_every_service_is_locked_down_and_watched(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped"
        if not name.startswith("vllm"):
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert "/tmp" in service["tmpfs"]  # noqa: S108 - a mount
        if name in ("consumer", "console", "redis", "vllm-gpu", "vllm-cpu"):
            assert service["healthcheck"]["test"][0] == "CMD"
        if "image" in service and name not in ("gateway", "consumer", "console"):
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"]), "pinned"


def test_only_gateway_console_and_grafana_are_published_and_only_here(compose: Any) -> None:
    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert published == {
        "gateway": ["127.0.0.1:8000:8000"], "console": ["127.0.0.1:9102:9102"], "grafana": ["127.0.0.1:3000:3000"],
    }  # fmt: skip


def test_the_stream_server_and_vllm_are_reached_by_our_programs_only(compose: Any) -> None:
    members: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        for network in service.get("networks", ["default"]):
            members.setdefault(network, set()).add(name)
    assert set(members) == set(compose["networks"])
    assert members["stream"] == {"gateway", "consumer", "console", "redis"}
    assert members["models"] == {"gateway", "vllm-gpu", "vllm-cpu"}
    assert "redis" not in members["default"]
    assert compose["networks"]["stream"] == {"internal": True}


def test_compose_runs_our_commands_on_the_ports_that_are_scraped(compose: Any, deploy: Path, parsed: Parsed) -> None:
    services = compose["services"]
    assert parsed(services["gateway"]["command"])["workers"] == 2
    evaluate = parsed(services["consumer"]["command"])
    assert f"127.0.0.1:{parsed(services['console']['command'])['port']}:9102" in services["console"]["ports"]
    stores = [v for v in services["console"]["volumes"] if v.startswith("scores:")]
    assert stores == [v for v in services["consumer"]["volumes"] if v.startswith("scores:")], "one store"
    prometheus = yaml.safe_load((deploy / "prometheus.yml").read_text())
    targets = {t for job in prometheus["scrape_configs"] for s in job["static_configs"] for t in s["targets"]}
    bind = yaml.safe_load((deploy / "gateway.yaml").read_text())["metrics"]["bind"]
    assert {f"gateway:{bind.split(':')[1]}", f"consumer:{evaluate['metrics_port']}"} <= targets


def test_every_secret_is_an_environment_variable_in_the_example(compose: Any, deploy: Path) -> None:
    text = (deploy / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text))
    example = dict(
        line.split("=", 1) for line in (deploy / ".env.example").read_text().splitlines() if line[:1] not in ("#", "")
    )
    assert named - {"VLLM_CPU_KVCACHE_SPACE"} == set(example)
    assert not any(example[n] for n in example if n.endswith(("KEY", "SHA256", "PASSWORD", "TOKEN")))
    for name in ("OPENAI_API_KEY", "WEB_KEY_SHA256", "ADMIN_TOKEN_SHA256", "GRAFANA_PASSWORD", "REDIS_PASSWORD"):
        assert f"${{{name}:?}}" in text, "left out, the stack does not start"
    assert set(compose["services"]["consumer"]["environment"]) == {"REDIS_PASSWORD"}, "it needs no other secret"
    assert set(compose["services"]["console"]["environment"]) == {"REDIS_PASSWORD", "ADMIN_TOKEN_SHA256"}


def test_vllm_is_found_where_the_config_says(compose: Any, deploy: Path) -> None:
    upstream = yaml.safe_load((deploy / "gateway.yaml").read_text())["upstreams"]["local"]["base_url"]
    for kind in ("gpu", "cpu"):
        service = compose["services"][f"vllm-{kind}"]
        assert service["profiles"] == [kind]
        assert service["networks"] == {"models": {"aliases": ["vllm"]}}
        port = service["command"][service["command"].index("--port") + 1]
        assert upstream == f"http://vllm:{port}/v1"
