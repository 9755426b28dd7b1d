"""Readings of decisions from SmolLM2 on llama.cpp: the table of the probe on sentences that chose nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
SENTENCES = Path(__file__).with_name("sentiment.json")
QUESTION = {"model": "triage", "choice": "What is the sentiment of the review?", "choices": ["positive", "negative"]}


@pytest.fixture
def engine(stages: Any, tmp_path: Path) -> Iterator[int]:
    """The port of llama.cpp with SmolLM2, stopped after the test."""
    port = stages.free_port()
    with (tmp_path / "engine.log").open("wb") as log:
        argv = ["nice", "-n", "15", sys.executable, "-m", "gateway", "engine", "--port", str(port)]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        stages.wait_for(lambda: stages.get(f"http://127.0.0.1:{port}/health") is not None, 240, "the engine")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def test_the_slot_knows_the_sentiment_and_letters_are_refused(engine: int, tmp_path: Path, journal: Any) -> None:
    config = {
        "open": True,
        "upstreams": {"engine": {"kind": "llamacpp", "base_url": f"http://127.0.0.1:{engine}/v1"}},
        "models": {"triage": {"targets": [{"upstream": "engine", "model": "smollm2"}]}},
        "decisions": {"questions": {"sentiment": QUESTION}},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    held_out = json.loads(SENTENCES.read_text())["held_out"]
    lines = [json.dumps({"state": text, "answers": {"sentiment": mood}}) for text, mood in held_out]
    (tmp_path / "states").write_text("\n".join(lines))
    argv = [sys.executable, "-m", "gateway", "decisions", "probe", "triage", "--states", "states", "--limit", "24"]
    done = subprocess.run([*argv, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    journal.notes["readings"] = "SmolLM2-135M on llama.cpp, `gateway decisions probe` on 24 sentences: is it content?"
    for figures in found["figures"]:
        shares = f"right {figures['right']} of {figures['labelled']}, flips {figures['flips']:.0%}"
        mass = "–" if figures["label_mass"] is None else f"{figures['label_mass']:.2f}"
        refused = f"; refused: {figures['refused']}" if figures["refused"] else ""
        journal.note("readings", figures["reading"], f"{shares}, label mass {mass}{refused}")
    by_reading = {figures["reading"]: figures for figures in found["figures"]}
    assert found["recommended"] == "slot"
    assert by_reading["slot"]["right"] >= 0.9 * len(held_out)
    assert by_reading["slot"]["flips"] <= 0.05
    assert "change when the options are listed in reverse" in by_reading["letters"]["refused"]
