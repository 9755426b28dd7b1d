"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gateway import config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_config_in_the_readme_is_valid() -> None:
    [text] = blocks("yaml")
    read = config.parse(text, environ={"OPENAI_API_KEY": "sk-x"})
    assert read.models["chat"].cut == "continue"
    assert len(text.splitlines()) <= 22


def test_every_file_that_the_readme_names_is_there() -> None:
    tree = README[README.index("## The tree") :]
    for word in re.findall(r"([a-z0-9_]+\.py|[a-z]+/)", tree):
        places = [ROOT / word, ROOT / "gateway" / word, *(ROOT / "gateway" / d / word for d in ("proxy", "evals"))]
        assert any(p.exists() for p in places), word


def test_the_readme_speaks_of_no_machine_and_no_registry() -> None:
    assert not re.search(r"/(root|home|work|tmp)/|pypi\.org|files\.pythonhosted", README)


@pytest.mark.parametrize("name", ["deploy/gateway.yaml"])
def test_an_example_config_is_valid(name: str) -> None:
    environ = {"WEB_KEY_SHA256": "0" * 64, "OPENAI_API_KEY": "sk-x"}
    read = config.parse((ROOT / name).read_text(), name, environ)
    assert read.metrics.bind == "0.0.0.0:9100"


def test_compose_names_only_files_and_services_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"gateway", "consumer", "redis", "prometheus", "grafana"}
    for service in services.values():
        for needed in service.get("depends_on", ()):
            assert needed in services
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).exists(), source
            else:
                assert source in compose["volumes"], source


def test_prometheus_scrapes_what_compose_runs() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    targets = [t for job in prometheus["scrape_configs"] for s in job["static_configs"] for t in s["targets"]]
    for target in targets:
        name, _, port = target.partition(":")
        assert port in str(services[name]["command"]) or port == "9100"
