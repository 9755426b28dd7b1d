"""google-genai and boto3 themselves, on a gateway in front of doubles of Gemini's API and of Bedrock's runtime."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.vendor_doubles import converse, gemini

from gateway.fake import FakeUpstream

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
KEY = "sk-assay-of-one-test"
CALLS = Path(__file__).with_name("vendor_calls.py")
EXPECTED: dict[str, list[Any]] = {
    "gemini": [
        "one two three",
        "one two three",
        15,
        15,
        11,
        "404 NOT_FOUND",
        "502 UNAVAILABLE",
        ["models/chat", "models/cut"],
    ],
    "bedrock": ["one two three", "one two three", 15, 15, "ResourceNotFoundException", "modelStreamErrorException"],
}
KINDS = {"gemini": "gemini_native", "bedrock": "bedrock_converse"}
PACKAGES = {"gemini": "google-genai", "bedrock": "boto3"}


@pytest.fixture(scope="module")
def python(stages: Any, journal: Any) -> Path:
    """The interpreter of the installed libraries; skipped, with the reason, where they are missing."""
    folder = Path(stages.REAL / "vendors")
    if not (folder / "installed").exists():
        failed = folder / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["vendors"] = f"not installed: {why}"
        pytest.skip(journal.notes["vendors"])
    journal.notes["vendors"] = "vendors' own libraries, on doubles of their APIs"
    return folder / "bin" / "python"


@pytest.mark.parametrize("vendor", EXPECTED)
async def test_a_vendors_own_library_works(
    vendor: str, python: Path, stages: Any, journal: Any, tmp_path: Path
) -> None:
    async with FakeUpstream() as upstream:
        double = gemini if vendor == "gemini" else converse
        upstream.replies(lambda received: double(received, cut_after=2 if "model-u1" in received.path else None))
        found = await asyncio.to_thread(called, vendor, python, stages, upstream.base_url, tmp_path)
    assert found == EXPECTED[vendor]
    script = f"from importlib.metadata import version; print(version({PACKAGES[vendor]!r}))"
    version = (await asyncio.to_thread(subprocess.check_output, [python, "-c", script], text=True)).strip()
    journal.note("vendors", PACKAGES[vendor], f"works ({PACKAGES[vendor]} {version})")


def called(vendor: str, python: Path, stages: Any, upstream: str, folder: Path) -> Any:
    """Results that the library got from a gateway of its own."""
    port = stages.free_port()
    config = {
        "keys": [{"name": "reader", "sha256": sha256(KEY.encode()).hexdigest()}],
        "upstreams": {"double": {"kind": KINDS[vendor], "base_url": upstream, "api_key": "sk-cloud"}},
        "models": {
            name: {"targets": [{"upstream": "double", "model": model}], "retries": {"attempts": 1}}
            for name, model in (("chat", "model-u0"), ("cut", "model-u1"))
        },
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    origin = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        serve = [sys.executable, "-m", "gateway", "serve", "--port", str(port)]
        gateway = subprocess.Popen(serve, cwd=folder, stdout=log, stderr=log)
        try:
            stages.wait_for(lambda: stages.get(f"{origin}/health"), 60, "the gateway answers")
            command = [str(python), str(CALLS), vendor, origin, KEY]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        finally:
            gateway.terminate()
            gateway.wait(30)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
