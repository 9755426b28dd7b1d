"""Open WebUI as a client: a person chats in a browser, and what the page shows is what the gateway recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
QUESTION = "What is the capital of Japan?"
# Nothing from outside, no account, and nothing that it would ask of the model besides.
SETTINGS = {
    "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "WEBUI_AUTH": "False", "ENABLE_OLLAMA_API": "False",
    "RAG_EMBEDDING_ENGINE": "openai", "AUDIO_STT_ENGINE": "openai", "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ENABLE_TITLE_GENERATION": "False", "ENABLE_TAGS_GENERATION": "False", "ENABLE_FOLLOW_UP_GENERATION": "False",
    "ENABLE_PERSISTENT_CONFIG": "False", "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "1",
    "WEBUI_SECRET_KEY": "of one test",
}  # fmt: skip
GATEWAY = """
open: true
upstreams: {local: {kind: llamacpp, run: {engine: llamacpp}}}
models: {smollm2: {targets: [{upstream: local, model: smollm2}]}}
sampling: {rate: 1.0}
scorers: {truncation: {}}
"""


@pytest.fixture(scope="module")
def python(stages: Any, journal: Any) -> str:
    """The interpreter of Open WebUI's environment."""
    place = stages.REAL / "open-webui"
    if not (place / "installed").exists():
        journal.notes["open-webui"] = "Open WebUI is not installed: run `make test-real`"
        pytest.skip(journal.notes["open-webui"])
    if shutil.which("chromium") is None and shutil.which("google-chrome") is None:
        journal.notes["open-webui"] = "no Chromium on this machine (Debian's package chromium)"
        pytest.skip(journal.notes["open-webui"])
    script = "from importlib.metadata import version as of; print(of('open-webui'), of('playwright'))"
    finished = subprocess.run([str(place / "bin" / "python"), "-c", script], capture_output=True, text=True, check=True)
    own, playwright = finished.stdout.split()
    journal.notes["open-webui"] = f"Open WebUI ({own}) in headless Chromium (playwright {playwright}), on llama.cpp"
    return str(place / "bin" / "python")


@pytest.fixture(scope="module")
def gateway(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of a `gateway up` on llama.cpp, and its base URL."""
    folder = tmp_path_factory.mktemp("webui")
    (folder / "gateway.yaml").write_text(GATEWAY)
    command = [sys.executable, "-m", "gateway", "up", "--port", str(stages.free_port())]
    up = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert up.stdout is not None
    printed = ""
    for line in up.stdout:
        printed += line
        if "Ctrl-C stops everything" in line:
            break
    place = re.search(r"^  base_url +(\S+)$", printed, re.MULTILINE)
    assert place
    yield folder, place[1]
    up.terminate()
    up.wait(30)
    up.stdout.close()


@pytest.fixture(scope="module")
def webui(stages: Any, python: str, gateway: tuple[Path, str]) -> Iterator[str]:
    """The URL of a running Open WebUI that uses the gateway."""
    folder, base_url = gateway
    url = f"http://127.0.0.1:{stages.free_port()}"
    settings = {**SETTINGS, "OPENAI_API_BASE_URL": base_url, "OPENAI_API_KEY": "none", "DEFAULT_MODELS": "smollm2"}
    settings |= {"DATA_DIR": str(folder / "webui"), "CORS_ALLOW_ORIGIN": url}
    program = str(Path(python).with_name("open-webui"))
    with (folder / "webui.log").open("wb") as log:
        command = ["nice", "-n", "10", program, "serve", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
        process = subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log)
    try:
        stages.wait_for(lambda: "true" in stages.get(f"{url}/health"), 300, "Open WebUI is healthy")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_a_chat_in_the_browser_is_recorded(
    webui: str, python: str, gateway: tuple[Path, str], journal: Any, stages: Any
) -> None:
    folder, _ = gateway
    picture = str(stages.REAL / "open-webui.png")
    script = str(Path(__file__).with_name("browse.py"))
    finished = subprocess.run(
        [python, script, webui, QUESTION, picture], capture_output=True, text=True, check=False, timeout=600
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "Tokyo" in finished.stdout

    def recorded() -> Any:
        command = [sys.executable, "-m", "gateway", "samples", "--json", "--limit", "20"]
        found = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
        whole = [stages.sample(folder, each["id"]) for each in found]
        return [e for e in whole if e["text"] and e["text"].strip() in finished.stdout]

    [exchange, *_] = stages.wait_for(recorded, 30, "the answer is in the store")
    assert exchange["stream"]
    assert exchange["outcome"] == "ok"
    journal.note("open-webui", "chat in the browser", f"“{exchange['text'].strip()}”, streamed, recorded")
