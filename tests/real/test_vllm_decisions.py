"""Decisions from a real vLLM, natively at /v1/systemone and translated at /v1/decisions, which vLLM 0.32 lacks.

Two engines: SmolLM2 written as a Qwen3, for which vLLM decides, and SmolLM2 as it is, for which it answers HTTP 501.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import BadRequestError, OpenAI

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
TICKET = "I was charged twice."
STATED: dict[str, Any] = {
    "state": TICKET,
    "questions": {
        "refund": {"type": "noul", "instructions": "Is a refund requested?"},
        "team": {"type": "choice", "instructions": "Which team?", "criteria": {"billing": "payments", "other": None}},
        "tone": {"type": "score", "instructions": "How upset?", "criteria": ["calm", "annoyed", "furious"]},
    },
}
QUESTIONS: Any = [
    {"type": "predicate", "name": "refund", "instructions": "Is a refund requested?"},
    {
        "type": "choice",
        "name": "team",
        "instructions": "Which team?",
        "choices": [{"value": "billing", "description": "payments"}, {"value": "other"}],
    },
    {
        "type": "score",
        "name": "tone",
        "instructions": "How upset?",
        "levels": [{"label": "calm"}, {"label": "annoyed"}, {"label": "furious"}],
    },
]


@dataclass(frozen=True)
class Deciding:
    """A gateway in front of both engines. ports: of the engines, by alias. stage: the gateway and its folder."""

    stage: Any
    stages: Any
    ports: dict[str, int]

    def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """A client's request, and the answer's headers."""
        head = {"content-type": "application/json"}
        request = urllib.request.Request(self.stage.base_url + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read()), {name.lower(): value for name, value in answer.headers.items()}

    def asked(self, alias: str) -> float:
        """Requests for decisions that an engine has had, by its own count."""
        metrics = self.stages.get(f"http://127.0.0.1:{self.ports[alias]}/metrics")
        counts = re.findall(r'^http_requests_total\{.*handler="/v1/systemone".*\} (\S+)$', metrics, re.MULTILINE)
        return sum(map(float, counts))


@pytest.fixture(scope="module")
def decider(stages: Any, model: Path) -> Path:
    """The folder of SmolLM2 written as a Qwen3, converted once."""
    folder = Path(stages.REAL / "decider")
    if not (folder / "model.safetensors").exists():
        python = next(engine.python for engine in stages.ENGINES if engine.name == "transformers")
        script = str(Path(__file__).with_name("convert_decider.py"))
        environ = os.environ | stages.QUIET
        subprocess.run([python, script, str(model), str(folder)], check=True, capture_output=True, env=environ)
    return folder


@contextlib.contextmanager
def vllm(stages: Any, weights: Path, name: str, log: Path) -> Iterator[int]:
    """The port of a vLLM with these weights."""
    port = stages.free_port()
    command = ["nice", "-n", "15", str(stages.REAL / "vllm" / "bin" / "vllm"), "serve", str(weights)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name, *stages.VLLM_ARGS]
    with log.open("wb") as output:
        engine = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=os.environ | stages.VLLM)
    try:
        stages.wait_for(lambda: stages.get(f"http://127.0.0.1:{port}/health") is not None, 400, f"vLLM with {name}")
        yield port
    finally:
        engine.terminate()
        engine.wait(120)


@contextlib.contextmanager
def gateway(stages: Any, folder: Path, ports: dict[str, int]) -> Iterator[Any]:
    """A `gateway up` whose aliases are the engines' names; `either` has one as the other's fallback."""
    targets = {name: {"upstream": name, "model": name} for name in ports}
    once = {"retries": {"attempts": 1}, "timeouts": {"answer_s": 280, "total_s": 300}}
    models = {name: {"targets": [target], **once} for name, target in targets.items()}
    models["either"] = {"targets": [targets["plain"]], "fallback": [targets["decider"]], **once}
    config = {
        "open": True,
        "upstreams": {name: {"kind": "vllm", "base_url": f"http://127.0.0.1:{p}/v1"} for name, p in ports.items()},
        "models": models,
        "sampling": {"rate": 1.0},
        "scorers": {"truncation": {}},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    engine = next(engine for engine in stages.ENGINES if engine.name == "vllm")
    stage = stages.Stage(engine, folder, ports["decider"])
    with (folder / "notes").open("w") as notes:
        command = [sys.executable, "-m", "gateway", "up", "--port", str(stages.free_port())]
        stage.up = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=notes, text=True)
    try:
        for line in stage.up.stdout:
            stage.printed += line
            if "Ctrl-C stops everything" in line:
                break
        else:
            raise AssertionError((folder / "notes").read_text())
        yield stage
    finally:
        stage.up.terminate()
        stage.up.wait(60)
        stage.up.stdout.close()


@pytest.fixture(scope="module")
def deciding(
    stages: Any, request: pytest.FixtureRequest, journal: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deciding]:
    """Both engines behind a gateway; skipped, with the reason, where vLLM or transformers is missing."""
    for engine in stages.ENGINES:
        if engine.name in ("vllm", "transformers") and engine.missing:
            journal.notes["vllm-decisions"] = engine.missing
            pytest.skip(engine.missing)
    weights = {"decider": request.getfixturevalue("decider"), "plain": request.getfixturevalue("model")}
    version = next(engine for engine in stages.ENGINES if engine.name == "vllm").versions()
    journal.notes["vllm-decisions"] = f"vLLM's /v1/systemone on the CPU ({version}), SmolLM2 written as a Qwen3"
    folder = tmp_path_factory.mktemp("deciding")
    with contextlib.ExitStack() as stack:
        ports = {
            name: stack.enter_context(vllm(stages, path, name, folder / f"{name}.log"))
            for name, path in weights.items()
        }
        yield Deciding(stack.enter_context(gateway(stages, folder, ports)), stages, ports)


def test_system_ones_clients_get_the_engines_own_answer(deciding: Deciding, journal: Any) -> None:
    counted = deciding.stage.metric("gateway_tokens_total", alias="decider", type="input")
    reply, headers = deciding.post("/systemone", {"model": "decider", **STATED})
    assert reply["object"] == "structured_decision"
    assert list(reply["answers"]) == ["refund", "team", "tone"]
    assert set(reply["diagnostics"]) == {"refund", "team", "tone"}
    assert headers["x-gateway-decision"] == "native"
    assert "x-gateway-decision-loss" not in headers
    usage = reply["usage"]
    assert usage["input_tokens"] > 0
    counted = deciding.stage.metric("gateway_tokens_total", alias="decider", type="input") - counted
    assert counted == usage["input_tokens"]
    stored = deciding.stage.sample(headers["x-request-id"])
    assert (stored["api"], stored["input_tokens"]) == ("systemone", usage["input_tokens"])
    tokens = f"{usage['input_tokens']}+{usage['output_tokens']} tokens, counted and stored"
    journal.note("vllm-decisions", "/v1/systemone", f"native, three questions, {tokens}")


def test_openais_clients_get_the_same_probabilities(deciding: Deciding, journal: Any) -> None:
    native, _ = deciding.post("/systemone", {"model": "decider", **STATED})
    with OpenAI(base_url=deciding.stage.base_url, api_key="none", max_retries=0, timeout=300) as client:
        raw = client.decisions.with_raw_response.create(model="decider", input=TICKET, questions=QUESTIONS)
    answered: Any = raw.parse().answers
    refund, team, tone = answered
    assert (refund.type, team.type, tone.type) == ("predicate", "choice", "score")
    ours = [[refund.probability], *([entry.probability for entry in each.probabilities] for each in (team, tone))]
    answers = native["answers"]
    theirs = [[answers["refund"]["noul"]], *([*answers[name]["probabilities"].values()] for name in ("team", "tone"))]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert [entry.value for entry in team.probabilities] == ["billing", "other"]
    assert raw.headers["x-gateway-decision"] == "native"
    stored = deciding.stage.sample(raw.headers["x-request-id"])
    assert (stored["api"], stored["input_tokens"]) == ("decisions", native["usage"]["input_tokens"])
    journal.note("vllm-decisions", "/v1/decisions", "translated, the same probabilities within 0.000001")


def test_an_engines_501_is_a_400_that_nobody_repeats(deciding: Deciding, journal: Any) -> None:
    """OpenAI's client would repeat a 501 twice. The engine is asked once, and not again for ten minutes."""
    before = deciding.asked("plain")
    with OpenAI(base_url=deciding.stage.base_url, api_key="none", max_retries=2, timeout=300) as client:
        for _ in range(2):
            with pytest.raises(BadRequestError) as refused:
                client.decisions.create(model="plain", input=TICKET, questions=QUESTIONS)
            assert refused.value.code == "decisions_not_supported"
            assert refused.value.response.headers["x-should-retry"] == "false"
        answered = client.decisions.with_raw_response.create(model="either", input=TICKET, questions=QUESTIONS)
    assert answered.headers["x-gateway-upstream"] == "decider"
    assert deciding.asked("plain") - before == 1
    text = "asked once, HTTP 400 decisions_not_supported; a fallback answers"
    journal.note("vllm-decisions", "plain Llama weights (HTTP 501)", text)


def test_the_engines_refusals_keep_each_formats_shape(deciding: Deciding, journal: Any) -> None:
    """vLLM takes 26 options. Natively its own error passes; translated, the gateway names the limit before it asks."""
    many = [f"option {n}" for n in range(27)]
    asked = {"model": "decider", "state": TICKET}
    criteria = {"type": "choice", "instructions": "Which?", "criteria": dict.fromkeys(many)}
    with pytest.raises(urllib.error.HTTPError) as native:
        deciding.post("/systemone", {**asked, "questions": {"q": criteria}})
    assert native.value.code == 400
    assert "at most 26 options" in json.loads(native.value.read())["error"]["message"]
    question: Any = {"type": "choice", "instructions": "Which?", "choices": [{"value": name} for name in many]}
    client = OpenAI(base_url=deciding.stage.base_url, api_key="none", max_retries=0, timeout=300)
    with client, pytest.raises(BadRequestError) as translated:
        client.decisions.create(model="decider", input=TICKET, questions=[question])
    assert "26" in translated.value.message
    journal.note("vllm-decisions", "27 options", "HTTP 400 by both paths, each in its own shape")
