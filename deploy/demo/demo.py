"""The demo: a gateway with two planted models, traffic, and an experiment that reaches its verdict while one watches.

    python deploy/demo/demo.py [--folder .demo] [--ends verdict]

Nothing is downloaded and no key is needed: the models are scripted. `small` answers questions with JSON in 60 % of the
calls, `large` in 90 %; the experiment asks whether `large` may take over, and its ramp does it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from gateway.core.randomization import draw
from gateway.fake import FakeUpstream, Received
from gateway.runtime.tasks import Tasks
from gateway.up.ports import free_port

SHARES = {"small": 0.6, "large": 0.9}
CITIES = ("Lima", "Oslo", "Accra", "Hanoi", "Quito", "Turin", "Porto", "Perth", "Izmir", "Lagos", "Osaka", "Bergen")
FACTS = ("population", "river", "mayor", "airport", "elevation", "founding year", "main square", "football club")
CALLS_A_SECOND = 12.0
EXPERIMENT = "larger"
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class DemoGateway:
    """A `gateway up` that has told where it listens."""

    process: asyncio.subprocess.Process
    url: str
    key: str
    login: str
    """The link that signs in to the console, once."""


def answer(asked: Received) -> str:
    """JSON as asked for, of each model in its share of the answers."""
    body = asked.json
    prompt = str(body["messages"][-1]["content"])
    city = next((c for c in CITIES if c in prompt), "the city")
    fact = next((f for f in FACTS if f in prompt), "fact")
    right = json.dumps({"city": city, fact: f"as recorded for {city}", "source": "city register"})
    model = str(body["model"])
    if draw(f"answer:{model}", prompt) < SHARES.get(model, 0.5):
        return right
    return f"Sure! Here is the {fact} of {city}: {right}"


def config(base_url: str) -> dict[str, Any]:
    """gateway.yaml of the demo. base_url: of the scripted models."""
    return {
        "upstreams": {"local": {"kind": "vllm", "base_url": base_url}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
        "sampling": {"rate": 1.0},
        "scorers": {"right": {"use": "valid_json"}, "length": {}, "refusal": {}, "latency": {}},
        "prices": {
            "as_of": "2026-11-01",
            "models": {
                "local/small": {"input": 0.15, "output": 0.6},
                "local/large": {"input": 0.4, "output": 1.6},
            },
        },
        "experiments": {EXPERIMENT: experiment()},
    }


def experiment() -> dict[str, Any]:
    return {
        "model": "chat",
        "control": {"upstream": "local", "model": "small"},
        "candidate": {"upstream": "local", "model": "large"},
        "shadow": 1.0,
        "repeat_control": 0.5,
        "primary": "right",
        "margin": 0.1,
        "guardrails": {"error_rate": 0.05},
        "min_hours": 0,
        "unit": "request",
        "budget": {"concurrency": 16},
        "ramp": {
            "mode": "auto",
            "steps": [0.1, 0.5, 1.0],
            "soak_s": 10,
            "min_units": 20,
            "cooldown_s": 60,
            "holdout": 0,
        },
    }


async def started(folder: Path, base_url: str) -> DemoGateway:
    """Writes the config and starts `gateway up`. Raises RuntimeError if it ends before it listens."""
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config(base_url), sort_keys=False), encoding="utf-8")
    port = free_port("127.0.0.1", 8000)
    process = await asyncio.create_subprocess_exec(
        *("env", "COLUMNS=200", sys.executable, "-m", "gateway", "up", "--port", str(port)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    told = {"key": "", "console": ""}
    async for line in process.stdout or asyncio.StreamReader():
        text = line.decode("utf-8", "replace")
        for name in told:
            if found := re.match(rf"\s+{name} +(\S+)", text):
                told[name] = found[1]
        if "Ctrl-C stops everything" in text:
            return DemoGateway(process, f"http://127.0.0.1:{port}", told["key"], told["console"])
    raise RuntimeError(f"`gateway up` ended; its log is in {folder / '.gateway'}")


async def send(gateway: DemoGateway, told: Callable[[str], None], rate: float = CALLS_A_SECOND) -> None:
    """Sends calls, whose prompts differ, until cancelled."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with (
        httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as client,
        asyncio.TaskGroup() as calls,
    ):
        turn = asyncio.Semaphore(8)

        async def one(i: int) -> None:
            city, fact = CITIES[i % len(CITIES)], FACTS[i // len(CITIES) % len(FACTS)]
            text = f"Give the {fact} of {city} as JSON, with its source. Request {i}."
            turns = [{"role": "user", "content": text}]
            body = {"model": "chat", "messages": turns, "response_format": {"type": "json_object"}}
            async with turn:
                found = await client.post("/v1/chat/completions", json=body)
            if i == 0:
                told(f"first answer: {found.json()['choices'][0]['message']['content'][:60]}")

        for i in range(sys.maxsize):
            calls.create_task(one(i))
            await asyncio.sleep(1.0 / rate)


async def report(folder: Path) -> dict[str, Any]:
    """The report of the experiment as JSON; {} while there is none."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "report", EXPERIMENT, "--json"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out) if out.strip().startswith(b"{") else {}
    return found


async def watch(folder: Path, told: Callable[[str], None], ends: str) -> None:
    """Tells the report's sentence whenever it changes. ends: returns at a "verdict", or when the ramp is "promoted"."""
    before = ""
    while True:
        found = await report(folder)
        said = found.get("headline", {}).get("text", "")
        state = (found.get("ramp") or {}).get("state", "")
        if said and said != before:
            before = said
            told(said)
        if found and found.get("verdict") != "hold" and (ends == "verdict" or state == "promoted"):
            return
        await asyncio.sleep(_LOOK_S)


async def demo(folder: Path, ends: str = "") -> None:
    """Runs until Ctrl-C. ends: as `watch` takes it; "": it goes on after the verdict."""
    began = time.monotonic()

    def told(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    async with FakeUpstream(remember=False) as models, Tasks() as tasks:
        models.replies(answer)
        gateway = await started(folder, models.base_url)
        told(f"the gateway listens; open {gateway.login}")
        sending = tasks.start(send(gateway, told), "traffic")
        try:
            await watch(folder, told, ends or "promoted")
            if not ends:
                told("the candidate has taken over; Ctrl-C stops everything")
                await sending
        finally:
            sending.cancel()
            if gateway.process.returncode is None:
                gateway.process.send_signal(signal.SIGTERM)
                await gateway.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.py", description="A verdict in two minutes, with planted models.")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="emptied first (default: .demo)")
    parser.add_argument("--ends", choices=("verdict", "promoted"), default="", help="end there (default: at Ctrl-C)")
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    try:
        asyncio.run(demo(given.folder, given.ends))
    except KeyboardInterrupt:
        sys.exit(0)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
