"""An experiment as its owner runs it: a real model at two temperatures, the OpenAI client, the commands, and the page
in a browser. The finding is real: how many questions about capitals each setting answers rightly."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import free_port

from gateway.up import engines

WAVE, AT_ONCE, TOKENS = 24, 4, 24
# SmolLM2 by llama.cpp's own server, as it comes and at a setting that makes it ramble.
ENGINE = """
import signal, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.model_alias = ["127.0.0.1"], {"smollm2"}
params.n_parallel, params.n_ctx, params.ui = 2, 2048, False
params.sampling.temp = float(sys.argv[3])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two engines share a machine with the tests
server = xllamacpp.Server(params)
signal.sigwait([signal.SIGTERM, signal.SIGINT])
"""
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Greece": "Athens", "Austria": "Vienna", "Belgium": "Brussels", "Denmark": "Copenhagen", "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Finland": "Helsinki", "Poland": "Warsaw", "Hungary": "Budapest", "Ireland": "Dublin", "Russia": "Moscow",
    "Ukraine": "Kyiv", "Turkey": "Ankara", "Egypt": "Cairo", "Kenya": "Nairobi", "Ghana": "Accra", "Morocco": "Rabat",
    "Nigeria": "Abuja", "Ethiopia": "Addis Ababa", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Indonesia": "Jakarta", "Pakistan": "Islamabad", "Iran": "Tehran",
    "Iraq": "Baghdad", "Nepal": "Kathmandu", "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana",
    "Peru": "Lima", "Chile": "Santiago", "Argentina": "Buenos Aires", "Colombia": "Bogot", "Venezuela": "Caracas",
    "Australia": "Canberra", "New Zealand": "Wellington", "Iceland": "Reykjavik", "Romania": "Bucharest",
    "Bulgaria": "Sofia", "Serbia": "Belgrade",
}  # fmt: skip
ASKED = [
    "What is the capital of {}?", "Name the capital city of {}.", "Which city is the capital of {}?",
    "{}: what is its capital?", "I forgot the capital of {}. Which city is it?", "Tell me the capital of {}.",
    "In which city does the government of {} sit?", "Complete the sentence: the capital of {} is",
]  # fmt: skip
REQUESTS = len(CAPITALS) * len(ASKED)

pytestmark = [
    pytest.mark.long,
    pytest.mark.model,
    pytest.mark.skipif(bool(engines.missing_packages()), reason="; ".join(engines.missing_packages())),
]


def until(holds: Any, seconds: float, what: str) -> Any:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = holds()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come within {seconds:g} s")


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)  # noqa: S310 - of this test
    return False


def command(directory: Path, *words: str) -> str:
    argv = [sys.executable, "-m", "gateway", *words]
    finished = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def programs() -> Iterator[Any]:
    """Starts programs that end with the tests."""
    running: list[subprocess.Popen[bytes]] = []

    def start(directory: Path, name: str, *argv: str) -> None:
        with (directory / f"{name}.log").open("wb") as log:
            running.append(subprocess.Popen([sys.executable, *argv], cwd=directory, stdout=log, stderr=log))

    yield start
    for each in reversed(running):
        each.send_signal(signal.SIGTERM)
    for each in reversed(running):
        try:
            each.wait(20)
        except subprocess.TimeoutExpired:
            each.kill()


@pytest.fixture(scope="module")
def shipped(programs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an experiment over REQUESTS real calls, all of them settled."""
    directory = tmp_path_factory.mktemp("live")
    ports = {"control": free_port(), "candidate": free_port(), "gateway": free_port(), "metrics": free_port()}
    for name, temperature in (("control", "0.2"), ("candidate", "1.5")):
        model = str(engines.model_file(engines.SMOLLM2))
        programs(directory, name, "-c", ENGINE, model, str(ports[name]), temperature)
        until(lambda name=name: answers(f"http://127.0.0.1:{ports[name]}/health"), 60, name)
    (directory / "gateway.yaml").write_text(yaml.safe_dump(config(ports)))
    programs(directory, "serve", "-m", "gateway", "serve", "--port", str(ports["gateway"]))
    base = f"http://127.0.0.1:{ports['gateway']}"
    until(lambda: answers(f"{base}/health"), 60, "the gateway")
    programs(directory, "evaluate", "-m", "gateway", "evaluate", "--metrics-port", str(ports["metrics"]))
    assert "is running with plan" in command(directory, "ab", "start", "swap")
    until(lambda: 'gateway_experiment_running{experiment="swap"} 1' in metrics(base), 20, "the plan")
    for asked in range(WAVE, REQUESTS + 1, WAVE):
        ask(base, range(asked - WAVE, asked))
        until(lambda asked=asked: decided(directory) or settled(directory) >= asked, 1200, "the last pairs")
        if decided(directory):
            break
    (directory / "asked").write_text(str(asked))
    return directory


def decided(directory: Path) -> bool:
    """Whether there is a verdict; the experiment then stops by itself."""
    return bool(report(directory)["verdict"] != "hold")


def settled(directory: Path) -> int:
    """Requests that have become a pair, or were left out."""
    made = report(directory)
    status = json.loads(command(directory, "ab", "status", "swap", "--json"))
    return int(made["pairs"] + sum(n for what, n in status["shadows"].items() if what.startswith("not_offered")))


def config(ports: dict[str, int]) -> dict[str, Any]:
    def engine(name: str) -> dict[str, Any]:
        return {"kind": "llamacpp", "base_url": f"http://127.0.0.1:{ports[name]}/v1"}

    return {
        "keys": [{"name": "web", "sha256": sha256(b"live").hexdigest()}],
        "upstreams": {"cool": engine("control"), "warm": engine("candidate")},
        "models": {"chat": {"targets": [{"upstream": "cool", "model": "smollm2"}]}},
        "scorers": {
            "right_answer": {
                "use": "grader",
                "grader": {
                    "type": "string_check", "name": "right_answer", "input": "{{sample.output_text}}",
                    "reference": "{{item.reference}}", "operation": "ilike",
                }
            },
            "repetition": {}, "refusal": {}, "truncation": {}, "length": {}, "edit_distance": {},
        },
        "experiments": {
            "swap": {
                "model": "chat", "control": {"upstream": "cool", "model": "smollm2"},
                "candidate": {"upstream": "warm", "model": "smollm2"}, "shadow": 1.0, 
                "primary": "right_answer", "margin": 0.05, "guardrails": {"error_rate": 0.2, "refusal": 0.2},
                "strata": ["stream"], "budget": {"concurrency": 512}, "gate": {"latency": False, "load": None},
                "start": "manual",
            }
        },
    }  # fmt: skip


def ask(base: str, which: range) -> None:
    from openai import OpenAI  # 0.6 s to import, which each process that collects this file would take

    def one(i: int, client: OpenAI) -> int:
        country, capital = list(CAPITALS.items())[i % len(CAPITALS)]
        text = ASKED[i // len(CAPITALS)].format(country)
        same: Any = {
            "model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS,
            "extra_headers": {"x-gateway-reference": capital},
        }  # fmt: skip
        if i % 5:
            return len(client.chat.completions.create(**same).choices)
        with client.chat.completions.create(**same, stream=True) as stream:
            return sum(1 for _ in stream)

    with (
        OpenAI(base_url=f"{base}/v1", api_key="live", timeout=600, max_retries=0) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        assert all(n > 0 for n in pool.map(one, which, repeat(client)))


def metrics(base: str) -> str:
    text: str = urllib.request.urlopen(f"{base}/metrics", timeout=5).read().decode()  # noqa: S310 - of this test
    return text


def report(directory: Path, *words: str) -> Any:
    finished = subprocess.run(
        [sys.executable, "-m", "gateway", "report", "swap", "--json", *words], cwd=directory, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return json.loads(finished.stdout) if finished.stdout else {"pairs": 0, "verdict": "hold"}


@pytest.mark.timeout(2400)
def test_two_real_models_are_compared(shipped: Path) -> None:
    made, asked = report(shipped), int((shipped / "asked").read_text())
    assert made["pairs"] >= 0.95 * (asked - WAVE)
    assert made["verdict"] in ("ship", "reject", "hold")
    assert made["gates"]["path"]["state"] == "green", made["gates"]
    assert made["sentence"].startswith("Switching chat from cool/smollm2 to warm/smollm2: ")
    assert {arm["arm"]: arm["target"] for arm in made["arms"]} == {
        "control": "cool/smollm2", "candidate": "warm/smollm2", "repeat": "cool/smollm2",
    }  # fmt: skip
    (far,) = made["likeness"]
    assert far["metric"] == "edit_distance"
    command(shipped, "report", "swap", "--html", "report.html")
    page = (shipped / "report.html").read_text(encoding="utf-8")
    ids = [i for each in made["examples"] for i in (each["exchange"], each["beside"])]
    assert len(ids) >= 8
    for exchange in ids:
        assert exchange in page
        assert json.loads(command(shipped, "samples", "--id", exchange, "--json"))["id"] == exchange
    status = json.loads(command(shipped, "ab", "status", "swap", "--json"))
    assert status["shadows"]["candidate:asked"] + status["shadows"].get("candidate:asked_failed", 0) >= 0.95 * (
        asked - WAVE
    )
    assert "A verdict on swap needs about" in command(shipped, "ab", "power", "swap")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.timeout(2400)
def test_the_page_is_drawn_by_a_browser_wide_and_narrow(shipped: Path) -> None:
    """Writes the picture of the docs to $REPORT_PNG if that is set."""
    command(shipped, "report", "swap", "--html", "report.html")
    for width, height in ((1100, 1500), (390, 844)):
        picture = shipped / f"report-{width}.png"
        subprocess.run(
            [
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--window-size={width},{height}", f"--screenshot={picture}", f"--user-data-dir={shipped / 'browser'}",
                (shipped / "report.html").as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 20_000, "an empty page is smaller"
    wanted = os.environ.get("REPORT_PNG")
    if wanted:
        shutil.copyfile(shipped / "report-1100.png", wanted)
