"""The entry for onthebench.ai: each of its settings is claimed, and the gateway answers as the entry says it does."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from servers import free_ports

from gateway.fake import FakeUpstream

ENTRY = Path(__file__).resolve().parents[2] / "deploy" / "bench" / "assay-gateway"
DEFINITION: dict[str, Any] = json.loads((ENTRY / "definition.json").read_text())
APIS = {
    "openai": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}),
    "openai-responses": ("/v1/responses", {"input": "hi"}),
    "anthropic": ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}),
}
SERVED = [
    (ingress, egress)
    for ingress, row in zip([*APIS, "gemini", "cohere", "bedrock"], DEFINITION["matrix"], strict=True)
    for egress, declared in zip([*APIS, "gemini", "cohere", "bedrock"], row, strict=True)
    if declared == "1"
]


def rendered(text: str, mock: int, port: int) -> str:
    """The text as the board's engine writes it."""
    for name, value in (("MOCK_PORT", mock), ("GW_PORT", port), ("GW_MODEL", DEFINITION["model"])):
        text = text.replace(f"{{{name}}}", str(value))
    return text


@pytest.fixture
async def entrant(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the gateway, started with the entry's config and arguments in front of a double of the mock."""
    room, [port] = tmp_path, free_ports(1)
    async with FakeUpstream() as mock:
        for file in DEFINITION["config_files"]:
            template = (ENTRY / file["template"]).read_text()
            (room / file["output"]).write_text(rendered(template, mock.port, port))
        words = [rendered(word, mock.port, port) for word in DEFINITION["launch"]["args"]]
        words[words.index("--workers") + 1] = "1"
        command = [sys.executable, "-m", "gateway", *words, "--data", str(room / "data")]
        process = await asyncio.create_subprocess_exec(*command, cwd=room)
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                async with asyncio.timeout(60):
                    while not await answers(client):
                        assert process.returncode is None
                yield client
        finally:
            process.terminate()
            await process.wait()


async def answers(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == 200
    except httpx2.TransportError:
        await asyncio.sleep(0.05)
        return False


async def test_each_declared_pair_is_served(entrant: httpx2.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {DEFINITION['auth']}", "anthropic-version": "2023-06-01"}
    for ingress, egress in SERVED:
        path, body = APIS[ingress]
        model = DEFINITION["egress_models"].get(egress, DEFINITION["model"])
        reply = await entrant.post(path, json={"model": model, **body}, headers=headers)
        assert reply.status_code == 200, (ingress, egress, reply.text)
        member = {"openai": "choices", "openai-responses": "output", "anthropic": "content"}[ingress]
        assert reply.json()[member], "the answer has the form of the API that was asked"
    assert len(SERVED) == 6


def test_every_setting_is_claimed_and_every_claim_is_of_a_setting() -> None:
    claims = [line.split() for line in (ENTRY / "why").read_text().splitlines() if line and line[0] != "#"]
    assert {claim[1] for claim in claims} <= {"boot", "upstream", "ingress", "bind"}
    config = yaml.safe_load(rendered((ENTRY / "config.gen.yaml.tmpl").read_text(), 1, 2))
    names = {**config["upstreams"], **config["models"]}
    arguments = {word for word in DEFINITION["launch"]["args"] if word.startswith("--")}
    assert {claim[0] for claim in claims} == (settings(config) - set(names)) | arguments


def settings(value: Any) -> set[str]:
    """The names of all members, at every depth."""
    if isinstance(value, list):
        return {name for each in value for name in settings(each)}
    if not isinstance(value, dict):
        return set()
    return {*value, *(name for each in value.values() for name in settings(each))}


def test_no_reference_of_a_shell_is_in_the_definition() -> None:
    assert not re.search(r"\$", (ENTRY / "definition.json").read_text())
    assert DEFINITION["name"] == ENTRY.name
    assert DEFINITION["launch"]["binary"][0] in DEFINITION["runtime"]["proc_match"]
    for name in (DEFINITION["launch"]["build"], *(file["template"] for file in DEFINITION["config_files"])):
        assert (ENTRY / name).is_file()
