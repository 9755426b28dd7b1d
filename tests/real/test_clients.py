"""The blocks of docs/clients.md marked `real`: third-party clients, on a gateway in front of the fake upstream."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
KEY = "sk-assay-of-one-test"
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BLOCKS = re.findall(r"^## ([^\n]+)$|^```(python|js) real\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
VERSIONS = {
    "LangChain": "langchain-openai", "LlamaIndex": "llama-index-llms-openai-like",
    "OpenAI, JavaScript": "openai", "Vercel AI SDK": "ai",
}  # fmt: skip


def named() -> Iterator[tuple[str, str, str]]:
    """Section, language and text of each block."""
    section = ""
    for title, language, text in BLOCKS:
        section = title or section
        if language:
            yield section, language, text


@pytest.fixture(scope="module")
def place(stages: Any, journal: Any) -> Path:
    """The folder of the installed clients; skipped, with the reason, where they are missing."""
    folder = Path(stages.REAL / "clients")
    if not (folder / "installed").exists():
        failed = folder / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["clients"] = f"not installed: {why}"
        pytest.skip(journal.notes["clients"])
    journal.notes["clients"] = "blocks of clients.md, on the fake upstream"
    return folder


@pytest.fixture(scope="module")
def origin(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a `gateway serve` with the fake upstream behind smollm2."""
    folder, port, double = tmp_path_factory.mktemp("clients"), stages.free_port(), stages.free_port()
    models = {"smollm2": {"targets": [{"upstream": "double", "model": "m"}]}}
    upstreams = {"double": {"kind": "fake", "base_url": f"http://127.0.0.1:{double}/v1"}}
    keys = [{"name": "reader", "sha256": sha256(KEY.encode()).hexdigest()}]
    (folder / "gateway.yaml").write_text(yaml.safe_dump({"keys": keys, "upstreams": upstreams, "models": models}))
    ours = [sys.executable, "-m", "gateway"]
    with (folder / "log").open("wb") as log:
        running = [
            subprocess.Popen([*ours, *words, "--port", str(at)], cwd=folder, stdout=log, stderr=log)
            for words, at in ((("fake",), double), (("serve",), port))
        ]
    stages.wait_for(lambda: stages.get(f"http://127.0.0.1:{port}/health"), 30, "the gateway answers")
    yield f"http://127.0.0.1:{port}"
    for process in reversed(running):
        process.terminate()
        process.wait(30)


def version(place: Path, language: str, package: str) -> str:
    if language == "js":
        return str(yaml.safe_load((place / "node_modules" / package / "package.json").read_text())["version"])
    script = f"from importlib.metadata import version; print(version({package!r}))"
    finished = subprocess.run([place / "bin" / "python", "-c", script], capture_output=True, text=True, check=True)
    return finished.stdout.strip()


@pytest.mark.parametrize(("section", "language", "text"), list(named()), ids=lambda v: v if len(v) < 40 else "")
def test_a_client_of_the_page_works(
    section: str, language: str, text: str, place: Path, origin: str, journal: Any
) -> None:
    file = place / f"block.{'mjs' if language == 'js' else 'py'}"
    file.write_text(text.replace("http://127.0.0.1:8000", origin).replace("sk-assay-…", KEY))
    program = ["node"] if language == "js" else [str(place / "bin" / "python")]
    environ = os.environ | {"TOKENIZERS_PARALLELISM": "false", "LANGSMITH_TRACING": "false", "AI_SDK_LOG_WARNINGS": "0"}
    finished = subprocess.run(
        [*program, str(file)], env=environ, capture_output=True, text=True, check=False, timeout=200
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "token token" in finished.stdout
    package = VERSIONS[section]
    journal.note("clients", section, f"works ({package} {version(place, language, package)})")
