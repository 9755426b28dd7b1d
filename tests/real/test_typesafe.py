"""TypeSafe's SDK itself, on a gateway in front of doubles of System One's server and of OpenAI's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.fake import FakeAnswer, FakeUpstream, Received

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
KEY = "sk-assay-of-one-test"
CALLS = Path(__file__).with_name("typesafe_calls.py")
ANSWERED = [["refund", "team", "tone"], True, "billing", "furious"]
REFUSED = [["team", "tone"], None, "billing", "furious"]
FORMATS = {"native": "systemone", "translated": "openai", "refuses": "openai", "impossible": "systemone"}


@pytest.fixture
def python(stages: Any, journal: Any) -> Path:
    """The interpreter of the installed SDK; skipped, with the reason, where it is missing."""
    folder = Path(stages.REAL / "typesafe")
    if not (folder / "installed").exists():
        failed = folder / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["typesafe"] = f"not installed: {why}"
        pytest.skip(journal.notes["typesafe"])
    journal.notes["typesafe"] = "TypeSafe's SDK 0.7.5, on doubles of System One's server and of OpenAI's"
    return folder / "bin" / "python"


async def test_typesafes_sdk_is_answered_natively_and_translated(
    python: Path, stages: Any, journal: Any, tmp_path: Path
) -> None:
    """An upstream that cannot decide is asked once, although the SDK repeats HTTP 501 twice."""
    async with FakeUpstream() as native, FakeUpstream() as translated, FakeUpstream() as refuses, FakeUpstream() as no:
        refuses.replies(refusing)
        no.answers(501, b'{"error":{"message":"no strategy"}}')
        doubles = dict(zip(FORMATS, (native, translated, refuses, no), strict=True))
        found = await asyncio.to_thread(called, python, stages, doubles, tmp_path)
        assert found == [
            ANSWERED,
            ANSWERED,
            REFUSED,
            ["TypeSafeBadRequestError", 400],
            ["TypeSafeNotFoundError", 404],
        ]
        assert [len(double.calls) for double in doubles.values()] == [1, 1, 1, 1]
    journal.note("typesafe", "typesafe-sdk", "answered natively and translated; a refused question is omitted")


def refusing(received: Received) -> FakeAnswer:
    """An answer of OpenAI's API that refuses the first of three questions."""
    team = [{"value": "billing", "probability": 0.9}, {"value": "delivery", "probability": 0.1}]
    tone = [{"value": i, "label": label, "probability": 0.5} for i, label in enumerate(("calm", "furious"))]
    answers = [
        {"type": "refusal", "name": None},
        {"type": "choice", "name": None, "choice": "billing", "confidence": 0.8, "probabilities": team},
        {"type": "score", "name": None, "score": 0.5, "confidence": 0.0, "probabilities": tone},
    ]
    return FakeAnswer(orjson.dumps({"model": "m", "answers": answers, "usage": {"input_tokens": 9}}))


def called(python: Path, stages: Any, doubles: dict[str, FakeUpstream], folder: Path) -> Any:
    """Results that the SDK got from a gateway of its own."""
    port = stages.free_port()
    upstreams = {
        name: {"kind": "fake", "base_url": double.base_url, "decisions": FORMATS[name]}
        for name, double in doubles.items()
    }
    config = {
        "keys": [{"name": "reader", "sha256": sha256(KEY.encode()).hexdigest()}],
        "upstreams": upstreams,
        "models": {name: {"targets": [{"upstream": name, "model": "m"}]} for name in doubles},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    origin = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        serve = [sys.executable, "-m", "gateway", "serve", "--port", str(port)]
        gateway = subprocess.Popen(serve, cwd=folder, stdout=log, stderr=log)
        try:
            stages.wait_for(lambda: stages.get(f"{origin}/health"), 60, "the gateway answers")
            command = [str(python), str(CALLS), origin, KEY, *doubles, "nothing"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        finally:
            gateway.terminate()
            gateway.wait(30)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
