"""Experiments whose truth is planted, end to end: clients, a gateway, a stream server, a consumer, and two upstreams.

Every world is played as its owner would: requests come in, somebody looks at the verdict after each wave of them, and
stops at the first one. Which answers are right is fixed by seeds, so a wave gives the same values each time it is
played. The tables go to the terminal. The short form plays the large differences; `make test-long` all worlds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from fixtures.program_command import gateway_command
from servers import free_ports

from gateway.core.horizon import planned_pairs
from gateway.core.plan import current_plan
from gateway.fake import FakeUpstream
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import reading
from gateway.verdict.findings import Finding, finding

WAVES = (10, 20)  # requests of a world between two looks: while it has fewer than LATER, and then
LATER = 160
AT_ONCE = 16
FEW = 115  # a fixed test this small is below the floor of heavily tied data
FLOOR = 150  # pairs within which such a world must be decided
ALWAYS_VALID = 600  # pairs without a failure show a rate below 1 % at any look after 554; one look takes 300 to 370
RIGHT, WRONG = "yes", "no"


@dataclass(frozen=True)
class World:
    """A control and a candidate whose answers are right with known probabilities.

    A prompt is fixed with probability `fixed`: whether an arm answers it rightly depends on the prompt alone, and the
    arms agree as far as their probabilities allow. To any other prompt, each answer is drawn again.
    """

    name: str
    control: float
    candidate: float
    expected: str
    margin: float = 0.05
    fixed: float = 0.0
    bias: float = 0.0  # what the shadow path takes from the probability of every answer on it
    guardrails: tuple[tuple[str, float], ...] = (("error_rate", 0.05),)
    horizon: int | None = None  # None: auto
    repeat: float = 0.25  # the default
    scorer: str = "exact"
    fixed_n: int | None = None  # where a guardrail decides it; None: by the primary
    before: int | None = None  # pairs to the verdict of the first version, by the same harness

    @property
    def difference(self) -> float:
        return self.candidate - self.control

    @property
    def deviation(self) -> float:
        """Standard deviation of one difference."""
        a, b = self.control, self.candidate
        fixed, drawn = abs(a - b), a + b - 2 * a * b  # the probability that the arms differ
        return (self.fixed * fixed + (1 - self.fixed) * drawn - self.difference**2) ** 0.5

    @property
    def fixed_pairs(self) -> float:
        """Pairs of a fixed-n paired test: one-sided 0.025, power 0.8."""
        z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
        return self.fixed_n or (z * self.deviation / abs(self.difference + self.margin)) ** 2

    def right(self, seed: int, prompt: int, arm: str, path: str) -> bool:
        """Whether this answer is right."""
        chance = getattr(self, arm) - (self.bias if path == "shadow" else 0.0)
        if self._draw(seed, prompt, "kind") < self.fixed:
            return self._draw(seed, prompt, "prompt") < chance
        return self._draw(seed, prompt, f"{arm} {path}") < chance

    def _draw(self, *of: object) -> float:
        words = " ".join(str(each) for each in (self.name, *of))
        return int.from_bytes(sha256(words.encode()).digest()[:7]) / 2**56


def known(control: float, candidate: float, fixed: float = 0.0, margin: float = 0.05) -> int:
    """The horizon that `gateway ab start` takes where it knows the variance of this world from earlier pairs."""
    return planned_pairs(World("", control, candidate, "", fixed=fixed).deviation, margin, 0.05)


STRICT = (("error_rate", 0.01), ("refusal", 0.02))
LARGE = (
    World("0.5 against 0.95 valid", 0.5, 0.95, "ship", margin=0.15, guardrails=(), scorer="valid_json"),
    World("0.9 against 0.4", 0.9, 0.4, "reject", margin=0.15, guardrails=()),
)
BIASED = World("equal, biased path", 0.9, 0.9, "red", margin=0.15, guardrails=(), bias=0.6)
WORLDS = (
    World("equal, noisy", 0.9, 0.9, "ship", horizon=known(0.9, 0.9), before=6160),
    World("worse by 0.10, noisy", 0.9, 0.8, "reject", horizon=known(0.9, 0.8), before=6141),
    World("equal, half fixed by prompt", 0.9, 0.9, "ship", fixed=0.5),
    World("equal, 90 % fixed", 0.9, 0.9, "ship", fixed=0.9, horizon=known(0.9, 0.9, 0.9), before=1250),
    World("worse by 0.10, 90 % fixed", 0.9, 0.8, "reject", fixed=0.9, before=1250),
    World("worse by 0.12, half fixed", 0.9, 0.78, "reject", fixed=0.5),
    World("better by 0.05, half fixed", 0.9, 0.95, "ship", fixed=0.5),
    World("equal, 90 % fixed, strict guardrails", 0.9, 0.9, "ship", fixed=0.9, guardrails=STRICT, fixed_n=300,
          before=5350),
    *LARGE,
    BIASED,
)  # fmt: skip


@dataclass
class Played:
    """One experiment in one world, so far."""

    world: World
    seed: int
    alias: str
    requests: int = 0
    pairs: int = 0
    paid: int = 0
    verdict: str = "hold"
    over: bool = False
    waves: tuple[int, int] = WAVES

    @property
    def wave(self) -> int:
        return self.waves[self.requests >= LATER]

    def look(self, found: Finding) -> None:
        self.pairs = found.pairs.joined
        red = any(gate.state < 0 for gate in found.gates)
        self.verdict = "red" if red else found.decision.verdict
        self.over = self.verdict != "hold" or found.stored_plan.state == "stopped"


class Stage:
    """All programs of one run, and the worlds that are played on it."""

    def __init__(self, directory: Path, stream: str, worlds: Sequence[World], seeds: int) -> None:
        self.directory, self.stream = directory, stream
        self.played = [
            Played(world, seed, f"w{i}-{seed}") for i, world in enumerate(worlds) for seed in range(1, seeds + 1)
        ]
        self.port, self.metrics_port = free_ports(2)
        self.url = default_url(directory / "data")

    @cached_property
    def by_alias(self) -> Mapping[str, Played]:
        return {each.alias: each for each in self.played}

    def answer(self, arm: str) -> Callable[[Any], str]:
        """Answers of an upstream to a request whose prompt has the number of the request."""

        def say(received: Any) -> str:
            body = received.json
            played = self.by_alias[body["model"]]
            path = "shadow" if received.header("cache-control") == "no-cache" else "served"
            prompt = int(body["messages"][0]["content"].split()[-1])
            if played.world.scorer == "valid_json":
                return '{"ok": 1}' if played.world.right(played.seed, prompt, arm, path) else '{"ok": '
            return RIGHT if played.world.right(played.seed, prompt, arm, path) else WRONG

        return say

    def config(self, control: str, candidate: str) -> dict[str, Any]:
        def experiment(each: Played) -> dict[str, Any]:
            world = each.world
            made = {
                "model": each.alias, "control": {"upstream": "old", "model": each.alias},
                "candidate": {"upstream": "new", "model": each.alias}, "shadow": 1.0, "primary": world.scorer,
                "repeat_control": world.repeat, "margin": world.margin,
                "guardrails": dict(world.guardrails), "min_hours": 0, "budget": {"concurrency": 512},
                "gate": {"latency": False, "load": None},
            }  # fmt: skip
            return made | ({} if world.horizon is None else {"max_pairs": world.horizon})

        return {
            "open": True,
            "upstreams": {
                "old": {"kind": "openai", "base_url": control, "api_key": "k"},
                "new": {"kind": "openai", "base_url": candidate, "api_key": "k"},
            },
            "models": {p.alias: {"targets": [{"upstream": "old", "model": p.alias}]} for p in self.played},
            "stream": {"url": self.stream, "name": f"worlds-{uuid.uuid4().hex[:12]}"},
            "scorers": {"exact": {}, "valid_json": {}, "refusal": {}},
            "experiments": {p.alias: experiment(p) for p in self.played},
        }

    async def play(self, client: httpx.AsyncClient, waves: int) -> None:
        """Plays until every world is over, or the waves are."""
        for _ in range(waves):
            running = [each for each in self.played if not each.over]
            if not running:
                return
            turn = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(
                *(self._ask(client, turn, each, each.requests + i) for each in running for i in range(each.wave))
            )
            for each in running:
                each.requests += each.wave
            await self._settled(running)
            with reading(self.url) as connection:
                for each in running:
                    plan = current_plan(stored_plans(connection, each.alias))
                    assert plan is not None
                    each.look(finding(StoredEvidence(connection, plan), "candidate"))

    async def _ask(self, client: httpx.AsyncClient, turn: asyncio.Semaphore, each: Played, i: int) -> None:
        body: dict[str, Any] = {"model": each.alias, "messages": [{"role": "user", "content": f"Is it so? {i}"}]}
        headers = {"x-gateway-reference": RIGHT}
        if each.world.scorer == "valid_json":
            body["response_format"], headers = {"type": "json_object"}, {}
        async with turn:
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text

    async def _settled(self, running: Sequence[Played]) -> None:
        """Waits until every request is a pair, or was left out of the experiment; a stopped one takes no further
        ones."""
        async with asyncio.timeout(120):
            while not all(self._are_settled(running)):
                await asyncio.sleep(0.1)

    def _are_settled(self, running: Sequence[Played]) -> list[bool]:
        found = []
        with reading(self.url) as connection:
            for each in running:
                plan = current_plan(stored_plans(connection, each.alias))
                rows = connection.exec_driver_sql(
                    "SELECT state, count(*), sum(json_array_length(asked)) FROM pairs WHERE experiment = ? GROUP BY 1",
                    (each.alias,),
                ).all()
                each.paid = int(sum(row[2] or 0 for row in rows))
                settled = sum(row[1] for row in rows if row[0] != "open")
                stopped = plan is not None and plan.state == "stopped" and all(row[0] != "open" for row in rows)
                found.append(settled >= each.requests or stopped)
        return found


@contextlib.asynccontextmanager
async def program(stage: Stage, *words: str) -> AsyncIterator[None]:
    """A program of the product, from its start to its end in order."""
    where = ("--config", str(stage.directory / "gateway.yaml"), "--data", str(stage.directory / "data"))
    with (stage.directory / f"{words[0]}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *gateway_command(*words, *where), stdout=log, stderr=log, cwd=Path(__file__).parents[3]
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def stage_of(
    directory: Path, stream: str, worlds: Sequence[World], seeds: int, kind: type[Stage] = Stage
) -> AsyncIterator[Any]:
    """The stage, ready, and a client of its gateway."""
    stage = kind(directory, stream, worlds, seeds)
    async with FakeUpstream(remember=False) as old, FakeUpstream(remember=False) as new:
        old.replies(stage.answer("control"))
        new.replies(stage.answer("candidate"))
        (directory / "gateway.yaml").write_text(yaml.safe_dump(stage.config(old.base_url, new.base_url)))
        async with (
            program(stage, "serve", "--port", str(stage.port)),
            program(stage, "evaluate", "--metrics-port", str(stage.metrics_port)),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", timeout=60) as client,
        ):
            await _ready(stage, client)
            yield stage, client


async def _ready(stage: Stage, client: httpx.AsyncClient) -> None:
    """Every plan runs at the gateway, and the consumer has opened the store."""
    async with asyncio.timeout(110):
        while True:
            with contextlib.suppress(httpx.HTTPError, StoreUnavailable):
                text = (await client.get("/metrics")).text
                running = sum(f'gateway_experiment_running{{experiment="{p.alias}"}} 1' in text for p in stage.played)
                with reading(stage.url) as connection:
                    if running == len(stage.played) and len(stored_plans(connection)) >= running:
                        return
            await asyncio.sleep(0.05)


def ratio(played: Sequence[Played]) -> float:
    return median(each.pairs for each in played) / played[0].world.fixed_pairs


def table(stage: Stage) -> str:
    """One row a world: medians over its seeds."""
    head = ("world", "margin", "sd", "horizon", "fixed n", "before", "pairs", "ratio", "requests", "paid", "verdicts")
    rows = [head, ("---",) * len(head)]
    for world in dict.fromkeys(each.world for each in stage.played):
        played = [each for each in stage.played if each.world == world]
        pairs, requests, paid = (median(getattr(p, what) for p in played) for what in ("pairs", "requests", "paid"))
        red = world.expected == "red"
        rows.append(
            (
                world.name, f"{world.margin:g}", f"{world.deviation:.2f}", str(world.horizon or "auto"),
                "–" if red else f"{world.fixed_pairs:.0f}", str(world.before or "–"), f"{pairs:.0f}",
                "–" if red else f"{ratio(played):.2f}", f"{requests:.0f}", f"{paid:.0f}",
                ", ".join(f"{p.verdict} {p.pairs}" for p in played),
            )
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def wrong(stage: Stage) -> list[str]:
    """Verdicts against the planted truth. One that is withheld is not wrong; on a biased path, `ship` would be."""
    return [
        f"{each.world.name}, seed {each.seed}: {each.verdict}, expected {each.world.expected}"
        for each in stage.played
        if each.verdict not in ("hold", each.world.expected, "reject" if each.world.bias else "hold")
    ]


async def test_a_large_difference_is_decided_within_100_pairs(tmp_path: Path, stream_url: str) -> None:
    """A path that makes the control differ from itself turns the gate red instead. Every pair is repeated, since the
    gateway's own ids decide which pairs have one: the only thing here that no seed fixes."""
    worlds = [replace(world, repeat=1.0) for world in (*LARGE, BIASED)]
    async with stage_of(tmp_path, stream_url, worlds, 1) as (stage, client):
        for each in stage.played:
            each.waves = (25, 25)
        await stage.play(client, 10)
    assert [each.verdict for each in stage.played] == [world.expected for world in worlds], table(stage)
    assert all(each.pairs <= 100 for each in stage.played), table(stage)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_planted_worlds_cost_about_a_fixed_test(
    tmp_path: Path, stream_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage_of(tmp_path, stream_url, WORLDS, int(os.environ.get("SEEDS", "3"))) as (stage, client):
        await stage.play(client, 100)
    with capsys.disabled():
        print(f"\n{table(stage)}")  # noqa: T201 - the table of docs/evidence.md
    assert not wrong(stage)
    for world in WORLDS:
        played = [each for each in stage.played if each.world == world]
        pairs = median(each.pairs for each in played)
        if world.expected == "red":
            assert sum(each.verdict == "red" for each in played) > len(played) / 2, world.name
        elif world.guardrails == STRICT:
            assert pairs <= ALWAYS_VALID, world.name
        elif world.fixed_pairs < FEW:
            assert pairs <= FLOOR, world.name
        else:
            assert ratio(played) <= 1.3, world.name


class Partly(Stage):
    """A third of the requests is shadowed, and all are recorded."""

    def config(self, control: str, candidate: str) -> dict[str, Any]:
        made = super().config(control, candidate)
        for experiment in made["experiments"].values():
            experiment["shadow"] = 0.33
        return made | {"sampling": {"rate": 1.0}}

    async def ask(self, client: httpx.AsyncClient, n: int) -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._ask(client, turn, self.played[0], i) for i in range(n)))

    def primary(self) -> Any:
        with reading(self.url) as connection:
            plan = current_plan(stored_plans(connection, self.played[0].alias))
            return None if plan is None else finding(StoredEvidence(connection, plan), "candidate").primary


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_requests_that_are_not_shadowed_save_pairs(tmp_path: Path, stream_url: str) -> None:
    """The control's right answers are the candidate's wrong ones half of the time, and the score says which."""
    world = World("equal, noisy", 0.7, 0.7, "ship", margin=0.05, guardrails=())
    async with stage_of(tmp_path, stream_url, [world], 1, Partly) as (stage, client):
        await stage.ask(client, 900)
        async with asyncio.timeout(60):
            while (found := stage.primary()) is None or found.pairs < 230:
                await asyncio.sleep(0.2)
    assert 0.2 < found.saved < 0.4, "a half of the variance, by two thirds of the requests"
    assert found.unadjusted == pytest.approx(found.b.value - found.a.value)


class Silent(Stage):
    """The candidate returns nothing, with HTTP 200, where it would be wrong; `repetition` does not apply to that."""

    def answer(self, arm: str) -> Callable[[Any], str]:
        say = super().answer(arm)
        return lambda received: "It is so, and it stays so." if say(received) == RIGHT else ""

    def config(self, control: str, candidate: str) -> dict[str, Any]:
        made = super().config(control, candidate)
        for each in self.played:
            made["experiments"][each.alias]["empty"] = "allowed" if each.world == EMPTY_ALLOWED else "failed"
        return made | {"scorers": {"repetition": {}}}


EMPTY_FAILS = World(
    "empty answers fail", 1.0, 0.5, "reject", margin=0.15, guardrails=(("error_rate", 0.1),), scorer="repetition",
    repeat=1.0,
)  # fmt: skip
EMPTY_ALLOWED = World(
    "empty answers allowed", 1.0, 0.5, "red", margin=0.15, guardrails=(), scorer="repetition", repeat=1.0
)


@pytest.mark.timeout(400)  # some hundred calls and their verdicts, on a machine that may be busy
async def test_a_candidate_with_empty_answers_does_not_ship(tmp_path: Path, stream_url: str) -> None:
    """Empty answers leave the comparison if a plan allows them, and the gate on completeness notices."""
    async with stage_of(tmp_path, stream_url, [EMPTY_FAILS, EMPTY_ALLOWED], 1, Silent) as (stage, client):
        for each in stage.played:
            each.waves = (25, 25)
        await stage.play(client, 8)
    assert [each.verdict for each in stage.played] == [each.world.expected for each in stage.played], table(stage)


class OnCode(Stage):
    """The candidate is wrong on code alone, which is a third of the calls and shadowed as often as the rest."""

    def answer(self, arm: str) -> Callable[[Any], str]:
        say = super().answer(arm)
        return lambda received: (
            WRONG if arm == "candidate" and received.json["metadata"]["product"] == "code" else say(received)
        )

    def config(self, control: str, candidate: str) -> dict[str, Any]:
        made = super().config(control, candidate)
        values = {"metadata.product": ["code"]}
        for experiment in made["experiments"].values():
            experiment["segments"] = {"by": [*values], "values": values, "margin": 0.3, "weak_spots": 0}
        return made

    async def _ask(self, client: httpx.AsyncClient, turn: asyncio.Semaphore, each: Played, i: int) -> None:
        messages = [{"role": "user", "content": f"Is it so? {i}"}]
        body = {"model": each.alias, "messages": messages, "metadata": {"product": "mail" if i % 3 else "code"}}
        async with turn:
            answer = await client.post("/v1/chat/completions", json=body, headers={"x-gateway-reference": RIGHT})
        assert answer.status_code == 200, answer.text


ON_CODE = World("wrong on code", 0.9, 0.9, "ship_except", margin=0.2, fixed=1.0, guardrails=(), repeat=1.0)


@pytest.mark.timeout(400)  # some hundred calls and their verdicts, on a machine that may be busy
async def test_a_segment_that_loses_stays_with_the_control(tmp_path: Path, stream_url: str) -> None:
    async with stage_of(tmp_path, stream_url, [ON_CODE], 1, OnCode) as (stage, client):
        stage.played[0].waves = (50, 50)
        await stage.play(client, 8)
        with reading(stage.url) as connection:
            plan = current_plan(stored_plans(connection, stage.played[0].alias))
            assert plan is not None
            found = finding(StoredEvidence(connection, plan), "candidate")
    assert stage.played[0].verdict == "ship_except", found.decision
    assert found.segments is not None
    assert found.segments.kept is not None
    assert found.segments.kept.excepted == ("metadata.product=code",)
    assert "keep metadata.product=code on old/" in found.decision.sentence
