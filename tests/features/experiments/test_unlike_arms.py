"""Arms that differ in everything but their answers: model name, `system`, `set`, headers, kind and dialect of the
upstream. In one world they are equally good, in the other the candidate is right less often by a known amount. Every
comparison of the product is played in both, over sockets: shadow, split, both, a ramp's evidence, replay.

Which answers are right, which units a candidate serves, and which prompts are long is fixed by seeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import math
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from fixtures.program_command import gateway_command
from servers import free_port

from gateway.config.loading import load
from gateway.core.plan import StoredPlan, current_plan
from gateway.core.ramp import RampDesign
from gateway.core.randomization import SECRET_BYTES, draw
from gateway.fake import FakeUpstream
from gateway.features.gateway_choice import GatewayLocation
from gateway.features.ramp.served import served_values
from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import replay
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.callers import caller_alarms
from gateway.ramps.periods import StepPeriod
from gateway.ramps.plan_proofs import served_proofs_of
from gateway.reports.model import Comparison
from gateway.store.engine import StoreUnavailable, writer
from gateway.store.location import default_url
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import DRAWS, deployment_secret, stored_plans
from gateway.store.query import Reading, reading
from gateway.verdict.findings import Finding, finding

AT_ONCE = 24
MARGIN = 0.1
PLANTED = {"equal": 0.0, "worse": -0.128}
RIGHT = {"short": 0.96, "long": 0.84}  # of the control's answers; long prompts are harder
ALLOWED = 3  # of 20 seeds: intervals at 0.05 that miss, or wrong verdicts; more have a probability of 0.016
PATIENT = {"connect_s": 60, "first_token_s": 60, "answer_s": 60, "idle_s": 60, "total_s": 120}  # on a busy machine
CONTROL = {"upstream": "old", "model": "m-a"}
CANDIDATE = {
    "upstream": "new", "model": "m-candidate-of-another-family", "headers": {"x-arm": "b"},
    "system": "Answer with one word, in lower case, and nothing else. " * 3,
    "set": {"temperature": 0.3, "max_tokens": 77, "stop": ["\n\n", "END"]},
}  # fmt: skip


@dataclass(frozen=True)
class Played:
    """One comparison in one world, under one seed."""

    mode: str
    world: str
    seed: int
    calls: int

    @property
    def alias(self) -> str:
        return f"{self.mode}-{self.world}-{self.seed}"

    def prompt(self, i: int) -> str:
        more = " Think of every exception that you know." * 12 if self._long(i) else ""
        return f"{self.alias} {i}: is it so?{more}"

    def right(self, arm: str, i: int) -> bool:
        share = RIGHT["long" if self._long(i) else "short"] + (PLANTED[self.world] if arm == "candidate" else 0.0)
        return draw(f"{self.alias}:{arm}", str(i)) < share

    def _long(self, i: int) -> bool:
        return draw(f"{self.alias}:long", str(i)) < 0.5


class Stage:
    """A gateway and a consumer, and everything that is played on them."""

    def __init__(self, directory: Path, stream: str, played: Sequence[Played]) -> None:
        self.directory, self.stream, self.played = directory, stream, played
        self.by_alias = {each.alias: each for each in played}
        self.port, self.metrics_port = free_port(), free_port()
        self.url = default_url(directory / "data")

    def answer(self, arm: str) -> Callable[[Any], str]:
        def say(received: Any) -> str:
            content = received.json["messages"][-1]["content"]
            text = content if isinstance(content, str) else content[0]["text"]
            alias, number = text.partition(":")[0].split(" ")
            return "yes" if self.by_alias[alias].right(arm, int(number)) else "no"

        return say

    def config(self, old: str, new: str) -> dict[str, Any]:
        shares = {"shadow": {"shadow": 1.0}, "split": {"split": 0.5}, "both": {"split": 0.5, "shadow": 1.0}}

        def experiment(each: Played) -> dict[str, Any]:
            return {
                "model": each.alias, "control": CONTROL, "candidate": CANDIDATE, "mode": each.mode, "unit": "user",
                "primary": "exact", "margin": MARGIN, "min_hours": 0, "budget": {"concurrency": 512},
                "gate": {"latency": False, "load": None}, **shares[each.mode],
            }  # fmt: skip

        live = [each for each in self.played if each.mode in shares]
        return {
            "open": True,
            "upstreams": {
                "old": {"kind": "openai", "base_url": old, "api_key": "k"},
                "new": {"kind": "anthropic", "base_url": new, "api_key": "k"},
            },
            "models": {
                **{each.alias: {"targets": [CONTROL], "timeouts": PATIENT} for each in live},
                "plain": {"targets": [CONTROL], "timeouts": PATIENT},
                "dressed": {"targets": [CANDIDATE], "timeouts": PATIENT},
            },
            "stream": {"url": self.stream, "name": f"unlike-{uuid.uuid4().hex[:12]}"},
            "scorers": {"exact": {}},
            "experiments": {each.alias: experiment(each) for each in live},
        }  # fmt: skip

    @property
    def live(self) -> list[Played]:
        return [each for each in self.played if each.mode != "replay"]

    async def play(self, client: httpx.AsyncClient) -> None:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(each: Played, i: int) -> None:
            body = {"model": each.alias, "messages": [{"role": "user", "content": each.prompt(i)}]}
            headers = {"x-gateway-reference": "yes", "x-gateway-user": f"{each.seed}-{i}"}
            async with turn:
                answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text

        for each in self.live:
            await asyncio.gather(*(one(each, i) for i in range(each.calls)))
        async with asyncio.timeout(300):
            while not self._complete():
                await asyncio.sleep(0.1)

    def _complete(self) -> bool:
        """Whether every served answer has its score, and every pair is settled."""
        with reading(self.url) as connection:
            scored = dict(connection.exec_driver_sql(
                "SELECT e.experiment, count(*) FROM exchanges e JOIN scores s ON s.exchange_id = e.id "
                "WHERE e.role = 'served' AND s.scorer = 'exact' GROUP BY 1"
            ).all())  # fmt: skip
            waiting = connection.exec_driver_sql("SELECT count(*) FROM pairs WHERE state = 'open'").scalar_one()
            stopped = {p.plan.name for p in stored_plans(connection) if p.state == "stopped"}
        enough = (scored.get(e.alias, 0) >= e.calls for e in self.live if e.alias not in stopped)
        return waiting == 0 and all(enough)

    async def replayed(self, each: Played) -> tuple[str, Comparison]:
        path = self.directory / f"{each.alias}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerows([["examples", "ground_truth"], *([each.prompt(i), "yes"] for i in range(each.calls))])
        config = self.directory / "gateway.yaml"
        url = f"http://127.0.0.1:{self.port}/v1"
        place = GatewayLocation(config, load(config), self.directory / "data", url)
        options = ReplayOptions(("plain", "dressed"), scorers=("exact",), margin=MARGIN, command="gateway replay")
        found = await replay(scan(path), options, place, lambda _: None, lambda _: None)
        [report] = found.reports
        assert report.primary is not None
        return report.verdict, report.primary


@contextlib.asynccontextmanager
async def program(stage: Stage, *words: str) -> AsyncIterator[None]:
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
        await process.wait()


@contextlib.asynccontextmanager
async def staged(directory: Path, stream: str, played: Sequence[Played]) -> AsyncIterator[Stage]:
    """The stage, after all calls of its experiments. The secret of their draws is always the same."""
    stage = Stage(directory, stream, played)
    (directory / "data").mkdir()
    opened = writer(stage.url)
    with opened.begin() as connection:
        deployment_secret(connection, DRAWS, bytes(range(SECRET_BYTES)))
    opened.dispose()
    async with FakeUpstream(remember=False) as old, FakeUpstream(remember=False) as new:
        old.replies(stage.answer("control"))
        new.replies(stage.answer("candidate"))
        (directory / "gateway.yaml").write_text(yaml.safe_dump(stage.config(old.base_url, new.base_url)))
        async with (
            program(stage, "evaluate", "--metrics-port", str(stage.metrics_port)),
            program(stage, "serve", "--port", str(stage.port)),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", timeout=150) as client,
        ):
            await _ready(stage, client)
            await stage.play(client)
            yield stage


async def _ready(stage: Stage, client: httpx.AsyncClient) -> None:
    names = [each.alias for each in stage.live]
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(httpx.HTTPError, StoreUnavailable):
                text = (await client.get("/metrics")).text
                if all(f'gateway_experiment_running{{experiment="{name}"}} 1' in text for name in names):
                    return
            await asyncio.sleep(0.05)


def found_of(connection: Reading, each: Played) -> tuple[StoredPlan, Finding]:
    plan = current_plan(stored_plans(connection, each.alias))
    assert plan is not None
    return plan, finding(StoredEvidence(connection, plan), "candidate")


def misses(c: Comparison, truth: float) -> bool:
    low = -math.inf if c.difference.low is None else c.difference.low
    high = math.inf if c.difference.high is None else c.difference.high
    return not low <= truth <= high


def is_wrong(verdict: str, world: str) -> bool:
    return verdict == ("reject" if world == "equal" else "ship")


def ramp_is_wrong(connection: Reading, plan: StoredPlan, world: str) -> bool:
    """The evidence of a ramp at half of the units, from the same answers: an alarm on an equal candidate, or a proof
    that a worse one is harmless."""
    ramped = replace(plan.plan, mode="both", ramp=RampDesign((0.5, 1.0), 0.0, 1))
    terms, step = AlarmTerms.of(ramped), [StepPeriod(0, 0.0, math.inf)]
    served = served_values(connection, StoredPlan(ramped, plan.hash, "running", plan.since), step, terms, time.time())
    if world == "equal":
        return any(each.raised for each in (*caller_alarms(served.values, terms), *served.findings))
    proofs = {each.metric: each.found for each in served_proofs_of(served.blocks, ramped)}
    assert "exact" in proofs
    return proofs["exact"] in ("equivalent", "non_inferior")


@dataclass
class Tally:
    """Counts of what one comparison found in one world, over its seeds."""

    seeds: int = 0
    missed: int = 0
    wrong: int = 0
    red: int = 0  # with a gate that raised an alarm, such as on the planned shares
    verdicts: str = ""

    def take(self, verdict: str, c: Comparison, world: str) -> None:
        self.seeds += 1
        self.missed += misses(c, PLANTED[world])
        self.wrong += is_wrong(verdict, world)
        self.verdicts += verdict[0]


async def tallies(stage: Stage) -> dict[tuple[str, str], Tally]:
    """(comparison, world) → what it found."""
    made: dict[tuple[str, str], Tally] = {}
    with reading(stage.url) as connection:
        for each in stage.live:
            plan, found = found_of(connection, each)
            assert found.primary is not None
            made.setdefault((each.mode, each.world), Tally()).take(found.decision.verdict, found.primary, each.world)
            made[each.mode, each.world].red += any(gate.state < 0 for gate in found.gates)
            if each.mode == "split":
                check_adjustment(found.primary)
                ramp = made.setdefault(("ramp", each.world), Tally())
                ramp.seeds += 1
                ramp.wrong += ramp_is_wrong(connection, plan, each.world)
    for each in stage.played:
        if each.mode == "replay":
            made.setdefault(("replay", each.world), Tally()).take(*await stage.replayed(each), each.world)
    return made


def check_adjustment(c: Comparison) -> None:
    """The lengths of prompts explain a part of the answers, and nothing of an arm is in them."""
    assert c.raw is not None
    assert c.raw.value is not None
    assert c.difference.value == pytest.approx(c.raw.value, abs=0.02)


def table(made: dict[tuple[str, str], Tally]) -> str:
    head = [
        "| comparison | world | seeds | interval missed | wrong | red gate | ship, hold, reject |",
        "|" + "---|" * 7,
    ]
    rows = [
        f"| {mode} | {world} | {t.seeds} | {t.missed} | {t.wrong} | {t.red} | "
        f"{', '.join(str(t.verdicts.count(letter)) for letter in 'shr') if t.verdicts else '–'} |"
        for (mode, world), t in sorted(made.items())
    ]
    return "\n".join([*head, *rows])


async def test_unlike_arms_are_compared_by_their_answers(tmp_path: Path, stream_url: str) -> None:
    played = [Played(mode, world, 1, n) for mode, n in (("split", 420), ("shadow", 90)) for world in PLANTED]
    async with staged(tmp_path, stream_url, played) as stage:
        made = await tallies(stage)
    assert not any(tally.wrong or tally.missed or tally.red for tally in made.values()), table(made)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_every_comparison_holds_with_unlike_arms(
    tmp_path: Path, stream_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = int(os.environ.get("SEEDS", "20"))
    calls = {"split": 1500, "both": 400, "shadow": 150, "replay": 200}
    played = [Played(m, w, s, n) for m, n in calls.items() for w in PLANTED for s in range(1, seeds + 1)]
    async with staged(tmp_path, stream_url, played) as stage:
        made = await tallies(stage)
    with capsys.disabled():
        print(f"\n{table(made)}")  # noqa: T201 - the table of docs/statistics.md
    assert len(made) == 2 * (len(calls) + 1)
    assert all(max(t.wrong, t.missed, t.red) <= ALLOWED for t in made.values()), table(made)
