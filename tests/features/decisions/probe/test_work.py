"""`gateway decisions probe` as a user runs it: a gateway of its own, in front of an engine with planted readings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.chat_engines import SmallModel
from fixtures.json_outputs import conforms
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.fake import FakeUpstream

STATES = [json.dumps({"state": f"{word} {n}", "answers": {"mood": mood}})
          for n in range(6) for word, mood in (("Lovely", "good"), ("Awful", "bad"))]  # fmt: skip
CONFIG = """
open: true
upstreams: {{engine: {{kind: vllm, base_url: "{url}"}}}}
models: {{triage: {{targets: [{{upstream: engine, model: m}}]}}}}
{rest}
"""
MOOD = "decisions: {questions: {mood: {model: triage, choice: How is it?, choices: [good, bad]}}}"


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., Any]:
    """Runs the verb on a config in a folder of its own."""

    def run(url: str, *words: str, rest: str = MOOD) -> Result:
        (tmp_path / "gateway.yaml").write_text(CONFIG.format(url=url, rest=rest))
        (tmp_path / "states").write_text("\n".join(STATES))
        folder = ("--config", str(tmp_path / "gateway.yaml"), "--data", str(tmp_path / "data"))
        return CliRunner().invoke(app, ["decisions", "probe", *words, *folder])

    return run


async def test_a_probe_recommends_what_follows_the_text(probe: Callable[..., Result], tmp_path: Path) -> None:
    """Letters follow the order and free replies never change: both are refused with the figure."""
    async with FakeUpstream() as engine:
        engine.replies(SmallModel({"Lovely": "good", "Awful": "bad"}, "good"))
        done = await asyncio.to_thread(
            probe, engine.base_url, "triage", "--states", str(tmp_path / "states"), "--limit", "12", "--json"
        )
    assert done.exit_code == 0, done.output
    found = conforms("decisions probe", done.stdout)
    figures = {each["reading"]: each for each in found["figures"]}
    assert found["recommended"] == "slot"
    assert (figures["slot"]["right"], figures["slot"]["flips"], figures["slot"]["refused"]) == (12, 0.0, "")
    assert "100% of its answers change" in figures["letters"]["refused"]
    assert "the input moves its probabilities by 0.00" in figures["words"]["refused"]
    assert "no schemas here" in found["unavailable"]["structured"]
    assert "answers decisions" in found["unavailable"]["native"]
    assert found["config"].startswith("  triage:\n    decisions: {reading: slot, probed: 20")
    assert "min_label_mass: 0.07" in found["config"]


async def test_only_noise_is_an_exit_code(probe: Callable[..., Result], tmp_path: Path) -> None:
    """The gateway is the one that --gateway names."""
    async with FakeUpstream() as running:
        running.replies(SmallModel({"": "good"}, "good"))
        words = ("triage", "--states", str(tmp_path / "states"), "--limit", "8", "--gateway", running.base_url)
        done = await asyncio.to_thread(probe, "http://127.0.0.1:1/v1", *words)
    assert done.exit_code == 1, done.output
    assert {call.json["model"] for call in running.calls if call.path != "/health"} == {"triage"}
    assert "no reading of triage is more than noise" in done.stdout


NOTHING: list[tuple[str, str, str]] = [
    ("tirage", MOOD, 'did you mean "triage"'),
    ("triage", "", "declare its questions"),
    ("triage", MOOD, "give a file"),
]


@pytest.mark.parametrize(("alias", "rest", "words"), NOTHING)
def test_nothing_to_ask_is_a_clear_error(probe: Callable[..., Result], alias: str, rest: str, words: str) -> None:
    done = probe("http://127.0.0.1:1/v1", alias, rest=rest)
    assert isinstance(done.exception, CannotRun)
    assert words in str(done.exception)
