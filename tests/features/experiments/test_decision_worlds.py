"""May a decision replace a chat? Planted truths end to end: a chat with a JSON schema against a decision model.

An equal decider ships, and then answers the same client behind its façade; one that is biased towards one option is
refused. `make test-long` plays 20 seeds each.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx2 as httpx
import orjson
import pytest
import yaml

from gateway.fake import FakeAnswer, Received
from tests.features.experiments.test_worlds import RIGHT, WRONG, Played, Stage, World, stage_of, table, wrong

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": [WRONG, RIGHT]}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
EQUAL = World("equal", 0.9, 0.9, "ship", margin=0.15, fixed=0.9, guardrails=(), scorer="decision_right")
BIASED = World("biased", 0.9, 0.4, "reject", margin=0.15, guardrails=(), scorer="decision_right")


RARE = 4
"""Each fourth call of HIDDEN has the answer WRONG as its right one."""


class HiddenBias(World):
    """A decision model that is right as often as the control on the whole, and errs on the rare option."""

    def right(self, seed: int, prompt: int, arm: str, path: str) -> bool:
        rare = prompt % RARE == 0
        chance = 0.9 if arm == "control" else 0.6 if rare else 1.0
        return self._draw(seed, prompt, f"{arm} {path}") < chance


GUARD = {"decision_right": {}, "right_no": {"use": "decision_right", "option": WRONG}}
HIDDEN = HiddenBias(
    "right on the whole, errs on one option", 0.9, 0.9, "reject", margin=0.15, guardrails=(("right_no", 0.1),),
    scorer="decision_right", fixed_n=300,
)  # fmt: skip


def truth_of(world: World, i: int) -> str:
    return WRONG if world is HIDDEN and i % RARE == 0 else RIGHT


def opposite(answer: str) -> str:
    return RIGHT if answer == WRONG else WRONG


class Deciding(Stage):
    """The control is asked chats, and the candidate decisions."""

    shadows: ClassVar[dict[str, Any]] = {"allow": {"apis": ["chat"]}, "empty": "failed"}

    def answer(self, arm: str) -> Callable[[Any], Any]:
        def say(received: Received) -> str | FakeAnswer:
            body = received.json
            played = self.by_alias[body["model"]]
            if arm == "candidate":
                assert received.path == "/v1/decisions"
                number = _number(body["input"])
                right, truth = played.world.right(played.seed, number, arm, "shadow"), truth_of(played.world, number)
                return FakeAnswer(orjson.dumps(_decision(body, truth if right else opposite(truth))))
            path = "shadow" if received.header("cache-control") == "no-cache" else "served"
            number = _number(body["messages"][0]["content"])
            right, truth = played.world.right(played.seed, number, arm, path), truth_of(played.world, number)
            return orjson.dumps({"answer": truth if right else opposite(truth)}).decode()

        return say

    def config(self, control: str, candidate: str) -> dict[str, Any]:
        made = super().config(control, candidate)
        for experiment in made["experiments"].values():
            experiment["candidate"]["as"] = "decision"
            experiment |= self.shadows
        return made | {"scorers": {**GUARD, "decision_brier": {}, "decision_agrees": {}}}

    async def _ask(self, client: httpx.AsyncClient, turn: asyncio.Semaphore, each: Played, i: int) -> None:
        async with turn:
            answer = await ask(client, each.alias, i, truth_of(each.world, i))
        assert answer.status_code == 200, answer.text


def _number(text: str) -> int:
    return int(text.split()[-1])


def _decision(body: dict[str, Any], chosen: str) -> dict[str, Any]:
    """An answer that is 80 % sure."""
    [question] = body["questions"]
    values = [choice["value"] for choice in question["choices"]]
    shares = [0.8 if value == chosen else 0.2 for value in values]
    entries = [{"value": value, "probability": share} for value, share in zip(values, shares, strict=True)]
    answer = {"type": "choice", "name": "answer", "choice": values[shares.index(0.8)], "probabilities": entries}
    return {"model": body["model"], "answers": [answer], "usage": {"input_tokens": 40, "output_tokens": 0}}


async def ask(client: httpx.AsyncClient, alias: str, i: int, truth: str = RIGHT) -> httpx.Response:
    body = {"model": alias, "messages": [{"role": "user", "content": f"Is it so? {i}"}], "response_format": FORMAT}
    return await client.post("/v1/chat/completions", json=body, headers={"x-gateway-reference": truth})


async def switched(stage: Stage, client: httpx.AsyncClient, alias: str) -> httpx.Response:
    """The first answer of the decision model to a client, once its owner has made it the target."""
    path = stage.directory / "gateway.yaml"
    config = yaml.safe_load(path.read_text())
    model = config["models"][alias]
    model["fallback"], model["targets"] = model["targets"], [config["experiments"].pop(alias)["candidate"]]
    path.write_text(yaml.safe_dump(config))
    async with asyncio.timeout(120):
        while True:
            answer = await ask(client, alias, 1_000)
            assert answer.status_code == 200
            if "x-gateway-decision" in answer.headers:
                return answer
            await asyncio.sleep(0.2)


@pytest.mark.timeout(400)  # some hundred calls and their verdicts, on a machine that may be busy
async def test_an_equal_decider_ships_and_a_biased_one_does_not(tmp_path: Path, stream_url: str) -> None:
    async with stage_of(tmp_path, stream_url, [EQUAL, BIASED], 1, Deciding) as (stage, client):
        for each in stage.played:
            each.waves = (40, 40)
        await stage.play(client, 12)
        assert [each.verdict for each in stage.played] == ["ship", "reject"], table(stage)
        answer = await switched(stage, client, stage.played[0].alias)
        text = answer.json()["choices"][0]["message"]["content"]
        assert orjson.loads(text)["answer"] in (RIGHT, WRONG)
        refused = await ask(client, stage.played[1].alias, 1_000)
        assert "x-gateway-decision" not in refused.headers, "the rejected one answers nobody"


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_twenty_seeds_of_each_world(tmp_path: Path, stream_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = int(os.environ.get("SEEDS", "20"))
    async with stage_of(tmp_path, stream_url, [EQUAL, BIASED, HIDDEN], seeds, Deciding) as (stage, client):
        for each in stage.played:
            each.waves = (40, 40)
        await stage.play(client, 20)
    with capsys.disabled():
        print(f"\n{table(stage)}")  # noqa: T201 - the table of docs/decisions.md
    assert len(wrong(stage)) <= seeds // 10, wrong(stage)
