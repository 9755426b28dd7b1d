"""The planted models, the requests that users send them, and the config of the demo. Pure.

`small` costs a tenth of `large` and answers as well, except requests about code: there it forgets to escape quotes, so
that its answer is not valid JSON. The gateway has to find that out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.randomization import draw

ALIAS, UPSTREAM, CONTROL, CANDIDATE = "chat", "planted", "large", "small"
EXPERIMENT, PRIMARY = "cheaper", "right"
KIND = "metadata.kind"
WORST = "code"
KINDS = {"question": 0.45, "summary": 0.2, "translation": 0.2, WORST: 0.15}
"""Shares of the requests by kind."""
USERS = 240
PRICES = {CONTROL: {"input": 2.5, "output": 10.0}, CANDIDATE: {"input": 0.25, "output": 1.0}}
"""USD per million tokens."""
_VALID, _VALID_CODE = 0.97, 0.45
"""Shares of valid answers: of both models, and of `small` where the request is about code."""
_TOPICS = ("invoice", "parcel", "password", "contract", "refund", "meeting", "warranty", "timetable", "visa", "recipe")
_CITIES = ("Lima", "Oslo", "Accra", "Hanoi", "Quito", "Turin", "Porto", "Perth", "Izmir", "Lagos", "Osaka", "Bergen")
_TASKS = {
    "question": "What should I know about the {topic} from {city}?",
    "summary": "Summarize the letter about the {topic} that came from {city} in two sentences.",
    "translation": "Translate the note about the {topic} for our office in {city}.",
    WORST: "Write a function that prints the {topic} for {city}, and say how to call it.",
}


@dataclass(frozen=True, slots=True)
class PlantedRequest:
    user: str
    kind: str
    prompt: str

    @property
    def body(self) -> dict[str, Any]:
        return {
            "model": ALIAS,
            "messages": [{"role": "user", "content": self.prompt}],
            "response_format": {"type": "json_object"},
            "metadata": {"kind": self.kind},
        }


def requests(seed: int = 1) -> Iterator[PlantedRequest]:
    """Requests without an end, all with different prompts. A user asks for any kind."""
    rng, number = random.Random(seed), 0  # noqa: S311 - no secret
    while True:
        number += 1
        [kind] = rng.choices(list(KINDS), list(KINDS.values()))
        task = _TASKS[kind].format(topic=rng.choice(_TOPICS), city=rng.choice(_CITIES))
        prompt = f"{task} Answer as JSON with a source. Ticket {number}."
        yield PlantedRequest(f"user-{rng.randrange(USERS)}", kind, prompt)


def answer(model: str, prompt: str) -> str:
    """The answer of a model: JSON as asked for, in its share of the answers. The same prompt gets the same answer."""
    about_code = prompt.startswith(_TASKS[WORST][:16])
    share = _VALID_CODE if about_code and model == CANDIDATE else _VALID
    text = _code(prompt) if about_code else f"As recorded in the register: {prompt.partition(' Answer as JSON')[0]}"
    valid = json.dumps({"answer": text, "source": "register"})
    if draw(f"planted:{model}", prompt) < share:
        return valid
    return valid.replace('\\"', '"') if about_code else f"Sure! Here you are: {valid}"


def _code(prompt: str) -> str:
    lines = "\n".join(f'    print("line {n} of {prompt[31:60]}")' for n in range(3))
    return f'def show(loud: bool = False) -> None:\n{lines}\nCall it with show(), or show(loud=True) for "loud".'


def config(base_url: str) -> dict[str, Any]:
    """gateway.yaml of the demo. base_url: of the planted models."""
    return {
        "upstreams": {UPSTREAM: {"kind": "fake", "base_url": base_url}},
        "models": {ALIAS: {"targets": [{"upstream": UPSTREAM, "model": CONTROL}]}},
        "sampling": {"rate": 1.0},
        "scorers": {PRIMARY: {"use": "valid_json"}, "length": {}, "refusal": {}, "latency": {}},
        "prices": {
            "as_of": "2026-11-01",
            "models": {f"{UPSTREAM}/{model}": price for model, price in PRICES.items()},
        },
        "experiments": {EXPERIMENT: _experiment()},
    }


def _experiment() -> dict[str, Any]:
    return {
        "model": ALIAS,
        "control": {"upstream": UPSTREAM, "model": CONTROL},
        "candidate": {"upstream": UPSTREAM, "model": CANDIDATE},
        "shadow": 1.0,
        "unit": "user",
        "primary": PRIMARY,
        "margin": 0.1,
        "guardrails": {"error_rate": 0.05, "cost_per_1k": 0.05},
        "segments": {"by": [KIND], "values": {KIND: list(KINDS)}},
        "min_hours": 0,
        "budget": {"concurrency": 16},
        "ramp": {
            "mode": "auto",
            "steps": [0.2, 0.5, 1.0],
            "soak_s": 10,
            "min_units": 20,
            "cooldown_s": 60,
            "holdout": 0,
        },
    }
