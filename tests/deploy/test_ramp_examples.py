"""The examples for Argo Rollouts, Flagger and GitHub Actions ask for what there is."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml

from gateway.cli import app
from gateway.console.api import collected_operations
from gateway.console.openapi import describe
from gateway.features.ramp.gate import GateStatus
from gateway.observability.catalog import unknown

DEPLOY = Path(__file__).parents[2] / "deploy"
GATE = describe(collected_operations())["components"]["schemas"]["gate"]["properties"]


def documents(path: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all((DEPLOY / path).read_text()) if each]


def method_of(url: str, experiment: str) -> set[str]:
    """The methods that the admin API has at this URL."""
    path = urlsplit(url).path.replace(experiment, "{id}")
    operations = (operation for feature in collected_operations() for operation in feature.operations)
    return {operation.method for operation in operations if operation.path == path}


def test_argo_reads_a_field_of_the_gate() -> None:
    (template,) = documents("argo-rollouts/analysis-template.yaml")
    (metric,) = template["spec"]["metrics"]
    web = metric["provider"]["web"]
    assert "GET" in method_of(web["url"], "{{args.experiment}}")
    name = re.fullmatch(r"\{\$\.(\w+)\}", web["jsonPath"])
    assert name is not None
    words = get_args(GateStatus)
    assert set(words) == set(GATE[name[1]]["enum"])
    conditions = [metric["successCondition"], metric["failureCondition"]]
    assert conditions == [f'result == "{word}"' for word in words[:2]]
    assert metric["inconclusiveLimit"] >= metric["count"], "inconclusive waits"


def test_flagger_asks_paths_and_metrics_that_there_are() -> None:
    (canary,) = documents("flagger/canary.yaml")
    for hook in canary["spec"]["analysis"]["webhooks"]:
        assert "POST" in method_of(hook["url"], "swap")
        assert (hook["type"] == "rollback") == hook["url"].endswith("?expect=failure")
    (template,) = documents("flagger/metric-template.yaml")
    names = set(re.findall(r"gateway_\w+", template["spec"]["query"]))
    assert names
    assert unknown(names) == []


def script() -> str:
    (workflow,) = documents("github-actions/gate.yml")
    text: str = workflow["jobs"]["gate"]["steps"][-1]["run"]
    return text


def test_the_workflow_calls_an_option_that_there_is() -> None:
    (call,) = re.findall(r"^gateway replay .*", script(), re.MULTILINE)
    command = typer.main.get_command(app).commands["replay"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--\w+", call)) <= known


@pytest.mark.parametrize(("code", "word"), [(0, "ship"), (1, "reject"), (2, "inconclusive")])
def test_the_workflow_ends_as_the_replay_does(tmp_path: Path, code: int, word: str) -> None:
    stand_in = tmp_path / "gateway"
    stand_in.write_text(f"#!/bin/sh\nexit {code}\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    summary = tmp_path / "summary"
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(["/bin/bash", "-e", "-c", script()], env=environ, check=False)
    assert done.returncode == code
    assert summary.read_text().startswith(f"### {word}")
