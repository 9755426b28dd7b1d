"""`gateway replay --runs` over sockets: recorded runs of planted agents, against a candidate and the control again."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures.json_outputs import conforms
from rich.console import Console

from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Target, new_id
from gateway.core.randomization import draw
from gateway.core.sanitize import to_json
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.gateway_choice import GatewayLocation, store_of
from gateway.features.replay.datasets.datasets import Dataset, scan
from gateway.features.replay.datasets.traffic_snapshot import freeze
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import ReplayResult, replay
from gateway.features.replay.report import pages, to_dict, to_terminal
from gateway.features.replay.results.findings import TURNS
from gateway.features.replay.rows import LogSelection
from gateway.scoring.golden import PLAIN_EXCHANGE
from gateway.store import engine
from gateway.store.rows import ScoredExchange
from gateway.store.write import ScoredBatch, write

RUNS, TURNS_OF_RUN = 100, 4
OTHERWISE = 0.35
"""Share of turns in which the control takes another step than before: it reads another file, which is no mistake."""
TOOLS = [{"type": "function", "function": {"name": "read", "parameters": {
    "type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}}}]  # fmt: skip
OPTIONS = ReplayOptions(("one", "two"), margin=0.03, runs=True)
QUIET: Callable[[object], None] = lambda _: None  # noqa: E731

Step = dict[str, Any]
Agent = Callable[[str, int, list[str]], Step]
"""(name of the task, number of the turn, files read before) → the arguments of `read`, or another tool's."""


def step(tool: str, **arguments: Any) -> Step:
    return {"id": "c", "type": "function", "function": {"name": tool, "arguments": orjson.dumps(arguments).decode()}}


def steady(source: str) -> Agent:
    """Reads the next file, or another one of the same use in OTHERWISE of the turns."""

    def act(task: str, turn: int, seen: list[str]) -> Step:
        other = draw(f"{source}:other", f"{task}:{turn}") < OTHERWISE
        return step("read", file=f"{'copy' if other else 'part'}-{turn}.txt")

    return act


def mistaken(source: str, share: float) -> Agent:
    """Acts as `steady` does, but names a wrong tool or argument in a share of turns."""

    def act(task: str, turn: int, seen: list[str]) -> Step:
        u = draw(f"{source}:wrong", f"{task}:{turn}")
        if u < share:
            return step("raed", file="part.txt") if u < share / 2 else step("read", path="part.txt")
        return steady(source)(task, turn, seen)

    return act


def careless(source: str, share: float) -> Agent:
    """Acts as `steady` does, but reads a file that is of no use in a share of turns: each call is valid."""

    def act(task: str, turn: int, seen: list[str]) -> Step:
        wrong = draw(f"{source}:careless", f"{task}:{turn}") < share
        return step("read", file="old.txt") if wrong else steady(source)(task, turn, seen)

    return act


def looping(task: str, turn: int, seen: list[str]) -> Step:
    """Reads again what it read last; valid in every single turn."""
    return step("read", file=seen[-1] if seen else "part-0.txt")


def answer_of(message: Step) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [message]},
              "finish_reason": "tool_calls"}  # fmt: skip
    return orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})


def acting(agents: dict[str, Agent]) -> Callable[[Received], FakeAnswer]:
    """An upstream on which each model is an agent. It knows nothing but the request."""

    def choose(asked: Received) -> FakeAnswer:
        task, *history = asked.json["messages"]
        calls = [m["tool_calls"][0]["function"] for m in history if m["role"] == "assistant"]
        seen = [str(orjson.loads(call["arguments"]).get("file")) for call in calls]
        message = agents[asked.json["model"]](task["content"], len(calls), seen)
        by = (("x-gateway-upstream", asked.json["model"]), ("x-gateway-model", "m"))
        return FakeAnswer(answer_of(message), headers=by)

    return choose


def recorded_run(agent: Agent, task: str) -> list[tuple[bytes, bytes]]:
    """(request, answer) of each turn, as an agent's client sends them."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    seen: list[str] = []
    found = []
    for turn in range(TURNS_OF_RUN):
        message = agent(task, turn, seen)
        found.append((orjson.dumps({"model": "one", "messages": messages, "tools": TOOLS}), answer_of(message)))
        seen.append(str(orjson.loads(message["function"]["arguments"])["file"]))
        said = {"role": "assistant", "content": None, "tool_calls": [message]}
        messages += [said, {"role": "tool", "tool_call_id": "c", "content": f"contents of {seen[-1]}"}]
    return found


@pytest.fixture
def recorded(place: GatewayLocation, tmp_path: Path) -> Callable[..., Dataset]:
    """Writes RUNS runs that `one` served into the store, and freezes them. served: the target of their records."""

    def record(seed: int = 0, served: Target = Target("one", "m")) -> Dataset:  # noqa: B008 - frozen
        url = store_of(place)
        place.data.mkdir(parents=True, exist_ok=True)
        opened, judged = engine.writer(url), []
        for n in range(RUNS):
            for turn, (request, answer) in enumerate(recorded_run(steady(f"then:{seed}"), f"task {seed}:{n}")):
                its: dict[str, Any] = {"id": new_id(), "received": 1e9 + n * 60 + turn, "alias": "one", "caller": "web"}
                its |= {"target": served, "seq": n * TURNS_OF_RUN + turn, "run": f"task {seed}:{n}"}
                e = replace(PLAIN_EXCHANGE, **its, request=request, response=answer, run_source="x-gateway-run")
                judged.append(ScoredExchange(replace(e, unit=e.id), completion_of(e), []))
        with opened.begin() as connection:
            write(connection, ScoredBatch({}, judged), 1e9)
        opened.dispose()
        path = tmp_path / f"runs-{seed}.jsonl"
        freeze(url, LogSelection("one", None, RUNS, runs=True), path)
        return scan(path)

    return record


async def replayed(
    dataset: Dataset, at: GatewayLocation, served: FakeUpstream, candidate: Agent, said: list[str] | None = None
) -> ReplayResult:
    served.replies(acting({"one": steady("now"), "two": candidate}))
    notes = [] if said is None else said
    return await replay(dataset, OPTIONS, at, notes.append, QUIET)


def terminal(found: ReplayResult) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(to_terminal(found))
    return out.getvalue()


async def test_an_equal_candidate_ships_however_often_it_takes_another_step(
    recorded, named: GatewayLocation, served: FakeUpstream, tmp_path: Path
) -> None:
    """The control parts from itself in 46 % of the turns, and so does an equal candidate: that decides nothing."""
    said: list[str] = []
    found = await replayed(recorded(), named, served, steady("two"), said)
    assert said[0].startswith(
        "price: 800 calls, less those already answered: 400 turns of 100 runs to each of 2 targets"
    )
    assert len(served.calls) == 800, "the control is asked again"
    [report] = found.reports
    assert (report.verdict, report.primary.metric, report.primary.pairs) == ("ship", "tool_calls", RUNS)
    assert found.runs is not None
    [parting] = found.runs.partings
    assert (found.runs.runs, found.runs.turns, found.runs.calls, parting.runs) == (100, 400, 800, 100)
    expected = 2 * OTHERWISE * (1 - OTHERWISE)
    assert parting.candidate.value == pytest.approx(expected, abs=0.08)
    assert parting.itself.value == pytest.approx(expected, abs=0.08)
    assert parting.difference.low < 0 < parting.difference.high
    assert [t.turn for t in parting.by_turn] == ["1", "2", "3", "4"]
    shown = terminal(found)
    assert "On 100 runs of runs-0.jsonl, from one to two: " in shown
    assert "How far they part, turn by turn" in shown
    assert "This decides nothing" in shown
    [(_, page)] = pages(found, tmp_path / "out.html")
    assert "How far they part, turn by turn" in page
    conforms("replay", to_json(to_dict(found)))


async def test_wrong_tools_and_arguments_are_rejected(recorded, named: GatewayLocation, served: FakeUpstream) -> None:
    [report] = (await replayed(recorded(), named, served, mistaken("two", 0.15))).reports
    assert report.verdict == "reject"


async def test_a_looping_agent_is_reported_as_not_visible(
    recorded, named: GatewayLocation, served: FakeUpstream
) -> None:
    """Each of its answers is a valid call, so it ships; the report says that loops are not visible."""
    found = await replayed(recorded(), named, served, looping)
    [report] = found.reports
    assert report.verdict == "ship"
    assert TURNS in report.limits
    assert found.runs is not None
    assert "loops" in found.runs.not_visible
    assert "A loop cannot develop" in " ".join(terminal(found).split())
    assert found.runs.partings[0].difference.low > 0, "what is seen: it takes other steps"


async def test_an_alias_parts_from_itself_whichever_target_served(
    recorded, named: GatewayLocation, served: FakeUpstream
) -> None:
    dataset = recorded(served=Target("other", "x"))
    found = await replayed(dataset, named, served, steady("two"))
    assert found.runs is not None
    assert found.runs.partings[0].itself.value is not None


async def test_options_that_do_not_fit_runs_are_refused(
    recorded, named: GatewayLocation, served: FakeUpstream, questions: Callable[[int], Path]
) -> None:
    dataset = recorded()
    with pytest.raises(CannotRun, match=r"3 of 3 rows of .* are not turns of a recorded run"):
        await replay(scan(questions(3)), OPTIONS, named, QUIET, QUIET)
    with pytest.raises(CannotRun, match="loops are not visible"):
        await replay(dataset, replace(OPTIONS, scorers=("run_loops",)), named, QUIET, QUIET)
    with pytest.raises(CannotRun, match="the control is asked again"):
        await replay(dataset, replace(OPTIONS, reuse_control=True), named, QUIET, QUIET)
    assert served.calls == []


async def test_a_valid_call_with_a_wrong_argument_is_seen_by_agreement(
    recorded, named: GatewayLocation, served: FakeUpstream
) -> None:
    """Every call is valid, so `tool_calls` ships it; `tool_calls_agree` compares with the recorded calls."""
    dataset, agent = recorded(), careless("two", 0.5)
    assert dataset.rows == RUNS * TURNS_OF_RUN
    served.replies(acting({"one": steady("now"), "two": agent}))
    both = replace(OPTIONS, scorers=("tool_calls_agree", "tool_calls"))
    [report] = (await replay(dataset, both, named, QUIET, QUIET)).reports
    assert (report.verdict, report.primary.metric, report.primary.pairs) == ("reject", "tool_calls_agree", RUNS)
    [valid] = [metric for metric in report.metrics if metric.metric == "tool_calls"]
    assert valid.difference.value == 0.0


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_planted_agents_over_sockets(recorded, named: GatewayLocation, served: FakeUpstream) -> None:
    """Forty seeds of each: an equal agent ships in at least 30, and one with wrong calls is rejected in at least 36."""
    verdicts: dict[str, list[str]] = {"equal": [], "mistaken": []}
    for seed in range(40):
        dataset = recorded(seed)
        for name, agent in (("equal", steady(f"two:{seed}")), ("mistaken", mistaken(f"two:{seed}", 0.1))):
            at = replace(named, data=named.data / f"{name}-{seed}")
            at.data.mkdir(parents=True)
            [report] = (await replayed(dataset, at, served, agent)).reports
            verdicts[name].append(report.verdict)
    assert verdicts["equal"].count("ship") >= 30
    assert verdicts["equal"].count("reject") <= 2
    assert verdicts["mistaken"].count("reject") >= 36
