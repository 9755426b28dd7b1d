"""A real OpenTelemetry SDK with instrumented clients of three dialects, and the receiver of a real consumer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
TOKEN = "token-of-one-test"
INSTRUMENTATIONS = {
    "otel": ("opentelemetry-instrumentation-openai-v2",),
    "openllmetry": ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic"),
    "openinference": ("openinference-instrumentation-openai", "openinference-instrumentation-anthropic"),
}


@dataclass(frozen=True)
class TracedWorld:
    """A fake upstream, and a consumer with a receiver."""

    folder: Path
    python: Path
    upstream: str
    endpoint: str

    def verb(self, *words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def versions(self, *packages: str) -> str:
        script = "import sys, importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
        command = [str(self.python), "-c", script, *packages]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def world(stages: Any, journal: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedWorld]:
    """Skipped, with the reason, where the instrumentations are not installed."""
    place = Path(stages.REAL / "traces")
    if not (place / "installed").exists():
        failed = place / "failed"
        why = failed.read_text().strip().splitlines()[-1] if failed.exists() else "run `make test-real`"
        journal.notes["traces"] = f"not installed: {why}"
        pytest.skip(journal.notes["traces"])
    folder = tmp_path_factory.mktemp("traces")
    fake, metrics, port = (stages.free_port() for _ in range(3))
    config = {
        "open": True,
        "upstreams": {"double": {"kind": "fake", "base_url": f"http://127.0.0.1:{fake}/v1"}},
        "models": {"chat": {"targets": [{"upstream": "double", "model": "m"}]}},
        "scorers": {"length": {}, "refusal": {}},
        "ingest": {"bind": f"127.0.0.1:{port}", "sha256": sha256(TOKEN.encode()).hexdigest()},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    commands = (["fake", "--port", str(fake)], ["evaluate", "--metrics-port", str(metrics)])
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for words in commands:
            process = subprocess.Popen([sys.executable, "-m", "gateway", *words], cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        stages.wait_for(lambda: b"traces are received" in (folder / "log").read_bytes(), 60, "the receiver listens")
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        yield TracedWorld(folder, place / "bin" / "python", f"http://127.0.0.1:{fake}", endpoint)


@pytest.mark.parametrize("dialect", list(INSTRUMENTATIONS))
def test_calls_of_instrumented_clients_appear_scored_and_grouped(
    dialect: str, world: TracedWorld, stages: Any, journal: Any
) -> None:
    script = str(Path(__file__).with_name("traced_calls.py"))
    command = [str(world.python), script, dialect, world.upstream, world.endpoint, TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = int(done.stdout)
    where = f"caller=shop-{dialect} role=imported"
    stages.wait_for(lambda: len(world.verb("samples", "--where", where)) == made, 60, f"{made} calls are stored")
    calls = [world.verb("samples", "--id", each["id"]) for each in world.verb("samples", "--where", where)]
    assert {each["outcome"] for each in calls} == {"ok"}
    assert all("capital of France" in str(each["request"]) and each["text"] for each in calls)
    assert all({s["scorer"] for s in each["scores"]} == {"length", "refusal"} for each in calls)
    assert {each["pi"] for each in calls} == {None}
    assert sum(each["input_tokens"] is not None for each in calls) >= made // 2, "streams may come without usage"
    traces = {each["run"] for each in calls}
    assert (len(traces), len({each["cluster"] for each in calls})) == (2, 2)
    journal.notes.setdefault("traces", "instrumented clients, exporting to `ingest`")
    versions = world.versions("openai", "anthropic", "opentelemetry-sdk", *INSTRUMENTATIONS[dialect])
    journal.note("traces", dialect, f"{made} calls, scored, in 2 traces: {versions}")
