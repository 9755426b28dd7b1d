"""Real records for the learned predictor: SmolLM2's answers to varied tasks, with rules as the truth.

    python tests/real/learned_records.py ask FOLDER [--count N]
    python tests/real/learned_records.py measure FOLDER

`ask` starts a `gateway up` with a llama.cpp on one thread, sends the tasks of learned_tasks.py through it, and leaves
the exchanges in the store FOLDER/gateway.db. Tasks that the store has are not asked again. `measure` prints what the
predictor saves on them; see learned_measure.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from learned_tasks import task

COUNT = 2000
AT_ONCE = 4  # requests in flight, and slots of the engine, which has one thread
SETTLE_S = 60.0  # from the last answer until the consumer has stored it


def config(folder: Path) -> dict[str, Any]:
    engine = {"engine": "llamacpp", "threads": 1, "slots": AT_ONCE}
    return {
        "open": True,
        "upstreams": {"local": {"kind": "llamacpp", "run": engine}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "smollm2"}]}},
        "sampling": {"rate": 1.0},
        "store": {"url": f"sqlite:///{folder / 'gateway.db'}"},
        "scorers": {"truncation": {}},
    }


def answered(folder: Path) -> set[int]:
    """The tasks whose exchanges are in the store."""
    path = folder / "gateway.db"
    if not path.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as store:
        try:
            rows = store.execute("SELECT request FROM exchanges WHERE role = 'served' AND outcome = 'ok'").fetchall()
        except sqlite3.OperationalError:
            return set()
    return {int(json.loads(bytes(request))["metadata"]["task"]) for (request,) in rows}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """A `gateway up`, at the lowest priority; its base URL."""
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config(folder)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["nice", "-n", "15", sys.executable, "-m", "gateway", "up", "--port", str(port)]
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with (folder / "up.log").open("ab") as log:
        up = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert up.stdout is not None
            if not any("Ctrl-C stops everything" in line for line in up.stdout):
                raise SystemExit(f"the gateway did not start: see {folder / 'up.log'}")
            yield f"http://127.0.0.1:{port}/v1/chat/completions"
        finally:
            up.terminate()
            up.wait(120)


def send(url: str, number: int) -> None:
    body = json.dumps(task(number).body(number)).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        answer.read()


def ask(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = answered(folder)
    missing = [n for n in range(count) if n not in done]
    if not missing:
        return
    began = time.monotonic()
    with running(folder.resolve()) as url, ThreadPoolExecutor(AT_ONCE) as pool:
        for place, _ in enumerate(pool.map(partial(send, url), missing), 1):
            if place % 100 == 0:
                print(f"{place} of {len(missing)} answers after {time.monotonic() - began:.0f} s", flush=True)
        until = time.monotonic() + SETTLE_S
        while len(answered(folder)) < count and time.monotonic() < until:
            time.sleep(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["ask", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=COUNT)
    chosen = parser.parse_args()
    if chosen.verb == "ask":
        ask(chosen.folder, chosen.count)
    else:
        from learned_measure import report  # imports what answers are not asked with

        print(report(chosen.folder))


if __name__ == "__main__":
    main()
