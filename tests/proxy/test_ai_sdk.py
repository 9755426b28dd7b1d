"""The AI SDK of npm, as installed today, against a model behind the façade. The registry decides its version."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures.npm import NPM_HOME, npm_packages

from gateway.fake import FakeAnswer, FakeUpstream, Received

MJS = Path(__file__).parent.parent / "clients" / "ai_sdk.mjs"
DECIDER = {"upstream": "u1", "model": "decider", "as": "decision", "facade": "unproved"}
BOTH = {"team": "billing", "refund": True}


def decides(received: Received) -> FakeAnswer:
    """The first option of a choice with 0.9, and yes with 0.93."""
    answers: list[dict[str, Any]] = []
    for question in received.json["questions"]:
        if question["type"] == "predicate":
            answers.append({"type": "predicate", "name": question["name"], "probability": 0.93})
            continue
        values = [choice["value"] for choice in question["choices"]]
        shares = [0.9, *[0.1 / (len(values) - 1)] * (len(values) - 1)]
        rows = [{"value": value, "probability": p} for value, p in zip(values, shares, strict=True)]
        answers.append({"type": "choice", "choice": values[0], "confidence": 0.9, "probabilities": rows})
    usage = {"input_tokens": 90, "output_tokens": 0, "total_tokens": 90}
    return FakeAnswer(orjson.dumps({"model": "decider-1", "answers": answers, "usage": usage}))


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder with `ai` and `@ai-sdk/openai`; skipped with npm's words where they cannot be fetched."""
    return npm_packages(NPM_HOME.with_name("assay-gateway-ai-sdk"), "ai", "@ai-sdk/openai").parent


@pytest.mark.timeout(180)  # two packages of npm may have to be fetched
async def test_the_ai_sdk_reads_decisions_as_its_objects(
    packages: Path, start: Any, configured: Callable[..., Any], upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says('{"why": "It was paid twice."}')
    second.replies(decides)
    targets = {"targets": [DECIDER], "fallback": [{"upstream": "u0", "model": "model-u0"}]}
    gateway = await start(configured(upstream, second, chat=targets))
    script = packages / MJS.name  # next to the packages, which it imports by their names
    script.write_text(MJS.read_text())
    node = await asyncio.create_subprocess_exec(
        "node", str(script), gateway.base_url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await node.communicate()
    assert node.returncode == 0, err.decode()
    said = json.loads(out)
    decided = {"object": BOTH, "tokens": 90, "reading": "native", "upstream": "u1"}
    assert said["chat"] == said["responses"] == decided
    assert said["choice"] == {**decided, "object": "billing"}
    assert said["chat_stream"] == said["responses_stream"] == {"object": BOTH, "tokens": 90}
    assert said["free"]["object"] == {"why": "It was paid twice."}
    assert (said["free"]["reading"], said["free"]["upstream"]) == (None, "u0"), "free text goes to the control"
