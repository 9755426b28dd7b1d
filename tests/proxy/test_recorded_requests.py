"""Checks that an upstream gets what a client sent, to the byte, but for the model: the clients of docs/clients.md.

corpus/requests.json has requests of the official libraries, which others are built on: one for each parameter of each
method (corpus/record_requests.py records them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.fake import FakeUpstream

CORPUS = json.loads((Path(__file__).parent / "corpus" / "requests.json").read_text())
[CURL] = re.findall(r"-d '(\{.*\})'", (Path(__file__).parents[2] / "docs" / "clients.md").read_text())
ALIASES = {b"alias-at-openai": b"model-at-openai-u0", b"alias-at-anthropic": b"claude-x"}
"""The model that a client names, and the one that its upstream gets."""
USAGE = b',"stream_options":{"include_usage":true}}'


@dataclass(frozen=True, slots=True)
class Request:
    name: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def expected(self) -> bytes:
        """The body as the upstream is to get it."""
        [(alias, model)] = [each for each in ALIASES.items() if each[0] in self.body]
        assert self.body.count(alias) == 1
        sent = self.body.replace(alias, model)
        counted = (
            "completions" in self.path and re.search(rb'"stream": ?true', sent) and b'"stream_options":' not in sent
        )
        return sent[:-1] + USAGE if counted else sent


def recorded() -> Iterator[Request]:
    for name, path, head, body in CORPUS["requests"]:
        yield Request(name, path, [(n, v) for n, v in CORPUS["heads"][head]], body.encode("latin-1"))
    by_hand = CURL.replace("smollm2", "alias-at-openai").encode()
    yield Request("curl", "/v1/chat/completions", [("content-type", "application/json")], by_hand)


@pytest.fixture
async def gateway(start: Any, configured: Any, upstream: FakeUpstream) -> Any:
    """One upstream behind two names: as one that speaks OpenAI, and as one that speaks Anthropic."""
    config = configured(upstream, sampling={"rate": 0}, responses={"seal": False})
    config["upstreams"]["claude"] = {"kind": "anthropic", "base_url": upstream.base_url}
    targets = zip(ALIASES.items(), config["upstreams"], strict=True)
    config["models"] = {
        alias.decode(): {"targets": [{"upstream": name, "model": model.decode()}]} for (alias, model), name in targets
    }
    return await start(config)


async def test_requests_of_real_clients_pass_byte_for_byte(gateway: Any, upstream: FakeUpstream) -> None:
    requests = list(recorded())
    assert len(requests) >= 208
    upstream.answers(200, b"{}")
    root = gateway.base_url.removesuffix("/v1")
    for request in requests:
        reply = await gateway.client.post(root + request.path, content=request.body, headers=request.headers)
        assert reply.status_code == 200, (request.name, reply.text)
        received = upstream.calls[-1]
        assert received.body == request.expected, request.name
        assert received.header("content-type") == dict(request.headers)["content-type"], request.name
    assert len(upstream.calls) == len(requests)
