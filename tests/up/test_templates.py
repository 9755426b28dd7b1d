"""`gateway up --template NAME`: each config passes the check without a caution, and its gateway answers a call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from servers import free_port

from gateway.core.providers import PROVIDERS
from gateway.up import up
from gateway.up.discovery import DiscoveredUpstream
from gateway.up.starter_config import TEMPLATES

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
COMMAND = [sys.executable, "-m", "gateway"]


@pytest.fixture
def fake_port() -> Iterator[int]:
    """The port of a model server that has the model fake-model."""
    port = free_port()
    with subprocess.Popen([*COMMAND, "fake", "--port", str(port)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "fake upstream" in process.stderr.readline()
        yield port
        process.terminate()


def write(folder: Path, template: str, *found: DiscoveredUpstream) -> Path:
    async def look() -> list[DiscoveredUpstream]:
        return list(found)

    (folder / "data").mkdir(parents=True, exist_ok=True)
    asyncio.run(up.write_config(folder / "gateway.yaml", folder / "data", lambda note: None, look, template))
    return folder / "gateway.yaml"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "GATEWAY_DATA": str(folder / "data")}
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize("models", [("only",), ("first", "second", "third")], ids=len)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_passes_the_check_without_a_caution(template: str, models: tuple[str, ...], tmp_path: Path) -> None:
    path = write(tmp_path, template, DiscoveredUpstream(PROVIDERS["vllm"], 8001, models))
    checked = run(tmp_path, "check", str(path))
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    assert f"# Template {template}:" in path.read_text()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_gateway_of_a_template_answers(template: str, tmp_path: Path, fake_port: int) -> None:
    path = write(tmp_path, template, DiscoveredUpstream(PROVIDERS["vllm"], fake_port, ("fake-model",)))
    port, data = free_port(), tmp_path / "data"
    options = ["--config", str(path), "--data", str(data), "--port", str(port)]
    with subprocess.Popen([*COMMAND, "up", *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [*iter(process.stdout.readline, "Ctrl-C stops everything.\n")] if process.poll() is None else []
        base_url = next(line.split()[1] for line in printed if line.startswith("  base_url"))
        body = {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {(data / 'key').read_text().strip()}", "content-type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - of our own program
            f"{base_url}/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            assert json.load(answer)["model"] == "fake-model"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_the_two_arms_of_an_evaluation_differ(tmp_path: Path) -> None:
    arms = []
    for models in (("only",), ("first", "second")):
        folder = tmp_path / models[0]
        path = write(folder, "evaluation", DiscoveredUpstream(PROVIDERS["vllm"], 8001, models))
        experiment = yaml.safe_load(path.read_text())["experiments"]["try"]
        arms.append((experiment["control"], experiment["candidate"]))
    only, first, second = ({"upstream": "vllm", "model": name} for name in ("only", "first", "second"))
    assert arms == [(only, {**only, "set": {"temperature": 0}}), (first, second)]


def test_an_unknown_template_and_an_existing_file_are_refused(tmp_path: Path) -> None:
    unknown = run(tmp_path, "up", "--template", "teem")
    assert (unknown.returncode, "drop-in, team, evaluation, agents" in unknown.stderr) == (2, True)
    (tmp_path / "gateway.yaml").write_text("open: true\n")
    refused = run(tmp_path, "up", "--template", "team")
    assert refused.returncode == 1
    assert "gateway.yaml exists, and is never overwritten" in refused.stderr
    assert (tmp_path / "gateway.yaml").read_text() == "open: true\n"


def test_the_page_shows_each_template_as_it_is() -> None:
    page = RECIPES.read_text()
    for template in TEMPLATES:
        text = (Path(up.__file__).parent / "templates" / f"{template}.yaml").read_text().strip()
        shown = text.replace("$alias", "fast").replace("$control", "{upstream: gpu, model: fast}")
        shown = shown.replace("$candidate", "{upstream: gpu, model: small}")
        assert shown in page, template
