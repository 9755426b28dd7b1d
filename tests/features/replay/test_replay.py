"""A replay from the dataset to the reports, and the references that one writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.config.environment import write_evals_access
from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.fake import FakeAnswer, Fault, Received
from gateway.features.gateway_choice import GatewayLocation, store_of
from gateway.features.replay.datasets.datasets import scan
from gateway.features.replay.options import ReplayOptions
from gateway.features.replay.replay import replay, write_references
from gateway.features.replay.sending.asking import RequestPacing
from gateway.features.replay.sending.run import ReplayProgress, ReplayStopped
from gateway.store.engine import StoreUnavailable
from gateway.store.query import reading

pytestmark = pytest.mark.usefixtures("forked_children")

OPTIONS = ReplayOptions(
    ("one", "two"), scorers=("exact", "f1"), margin=0.1, pace=RequestPacing(attempts=1), command="gateway replay"
)
QUALITY = replace(OPTIONS, scorers=("quality",))
QUIET: Callable[[object], None] = lambda _: None  # noqa: E731


async def test_an_unknown_target_starts_a_gateway_of_its_own(
    place: GatewayLocation, questions: Callable[[int], Path], upstreams, served
) -> None:
    place.data.mkdir()
    write_evals_access(place.data, served.base_url)
    notes: list[str] = []
    found = await replay(scan(questions(10)), replace(OPTIONS, targets=("one", "two/n")), place, notes.append, QUIET)
    assert notes == ["starting a gateway for this replay"]
    assert [t.failed for t in found.targets] == [0, 0]
    assert {r.json["model"] for r in upstreams["one"].calls} == {"m"}
    assert {r.json["model"] for r in upstreams["two"].calls} == {"n"}
    assert served.calls == []
    assert found.targets[0].cost_per_1k is not None
    assert found.targets[1].cost_per_1k is None, "two/n has no price"


async def test_two_targets_are_asked_scored_and_compared(
    named: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    seen: list[int] = []
    asked = replace(OPTIONS, repeats=2)
    found = await replay(scan(questions(60)), asked, named, QUIET, lambda progress: seen.append(progress.done))
    assert seen == list(range(1, 241))
    one, two = (target.means["exact"] for target in found.targets)
    assert [(t.target, t.asked, t.failed) for t in found.targets] == [("one", 120, 0), ("two", 120, 0)]
    [report] = found.reports
    assert report.primary is not None
    assert (report.primary.metric, report.primary.pairs) == ("exact", 60)
    assert report.primary.difference.value == pytest.approx(two.value - one.value)
    assert 0.7 < one.value < 0.9
    assert found.targets[0].cost_per_1k.value == pytest.approx(1000 * (10 * 2 + 2 * 8) / 1e6)
    assert sorted({r.json["seed"] for r in served.calls}) == [0, 1]
    assert report.examples[0].question.startswith("question ")
    assert "no idea" in (report.examples[0].control, report.examples[0].candidate)


async def test_settings_of_one_target_are_in_its_requests_alone(
    named: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    asked = replace(OPTIONS, targets=("one", "one,temperature=0,system=Be brief."))
    found = await replay(scan(questions(20)), asked, named, QUIET, QUIET)
    plain, brief = (target.target for target in found.targets)
    assert (plain, brief.startswith("one[temperature=0,system=#")) == ("one", True)
    assert found.reports[0].candidate == brief
    bodies = [received.json for received in served.calls]
    told = [b for b in bodies if b["messages"][0] == {"role": "system", "content": "Be brief."}]
    assert (len(told), len(bodies)) == (20, 40)
    assert {b.get("temperature") for b in told} == {0}
    assert not any("temperature" in b for b in bodies if b not in told)


def outcomes_of(location: GatewayLocation) -> Counter[tuple[object, ...]]:
    """Numbers of stored answers by target, outcome, status and error: which gateway has answered, and what."""
    with reading(store_of(location)) as connection:
        rows = connection.exec_driver_sql("select target, outcome, status, error from replay_answers")
        return Counter(tuple(row) for row in rows)


async def test_a_targets_own_settings_win_over_those_of_its_alias(
    gateway_yaml: Callable[..., Path], tmp_path: Path, questions: Callable[[int], Path], upstreams, served
) -> None:
    """An alias with `set` would otherwise be compared with itself, under the name of the other setting."""
    target = {"upstream": "one", "model": "m", "set": {"temperature": 0.2, "top_p": 0.9}, "system": "As always."}
    path = gateway_yaml(models={"one": {"targets": [target]}})
    place = GatewayLocation(path, load(path), tmp_path / "data")
    words = ("one", "one,temperature=1.5,system=Be brief.")
    found = await replay(scan(questions(4)), replace(OPTIONS, targets=words), place, QUIET, QUIET)
    assert outcomes_of(place) == {("one", "ok", 200, None): 4, (found.targets[1].target, "ok", 200, None): 4}
    sent = [received.json for received in upstreams["one"].calls]
    asked = sorted((b["temperature"], b["top_p"], b["messages"][0]["content"]) for b in sent)
    assert asked == 4 * [(0.2, 0.9, "As always.")] + 4 * [(1.5, 0.9, "Be brief.")]
    assert "word for word" in found.reports[0].cautions[0], "the upstream answers both alike"
    with pytest.raises(CannotRun, match=r"models\.one sets temperature, system, which win over a request's"):
        await replay(
            scan(questions(4)), replace(OPTIONS, targets=words), replace(place, url=served.base_url), QUIET, QUIET
        )


async def test_an_interrupted_replay_continues(
    named: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    dataset, asked = scan(questions(30)), replace(OPTIONS, pace=RequestPacing(concurrency=2, attempts=1))
    running: list[asyncio.Task[object]] = []

    def stop(progress: ReplayProgress) -> None:
        if progress.done == 20:
            running[0].cancel()

    running.append(asyncio.ensure_future(replay(dataset, asked, named, QUIET, stop)))  # noqa: TID251 - awaited below
    with pytest.raises(CannotRun, match=r"stopped with \d+ of 60 answers stored; the same command continues"):
        await running[0]
    found = await replay(dataset, asked, named, QUIET, QUIET)
    assert found.progress.before >= 20
    assert found.reports[0].gates[0].says == "30 of 30 requests to each target have a result"
    assert len(served.calls) <= 60 + 2, "only requests in flight are sent twice"


async def test_a_dead_target_stops_the_replay(named: GatewayLocation, questions: Callable[[int], Path], served) -> None:
    served.always(Fault.status(500))
    asked = replace(OPTIONS, pace=RequestPacing(concurrency=2, attempts=1, stop_after=3))
    with pytest.raises(CannotRun):
        await replay(scan(questions(30)), asked, named, QUIET, QUIET)
    served.always(None)
    served.answers(500, b'{"error": {"message": "out of memory"}}')
    with pytest.raises(
        ReplayStopped, match=r"3 requests to \w+ failed in a row.*memory.*the same command continues from there"
    ):
        await replay(scan(questions(30)), asked, named, QUIET, QUIET)


async def test_a_spent_budget_leaves_a_report_without_a_verdict(
    named: GatewayLocation, questions: Callable[[int], Path]
) -> None:
    asked = replace(OPTIONS, pace=RequestPacing(concurrency=2, budget_usd=0.0004))
    found = await replay(scan(questions(60)), asked, named, QUIET, QUIET)
    assert found.progress.over_budget
    assert 0 < found.targets[0].asked < 60
    assert found.reports[0].verdict == "hold"


async def test_a_store_that_cannot_be_opened_is_reported(
    named: GatewayLocation, questions: Callable[[int], Path]
) -> None:
    (named.data / "gateway.db").mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match=r"sqlite:///.*gateway\.db cannot be opened"):
        await replay(scan(questions(3)), OPTIONS, named, QUIET, QUIET)


async def test_a_judge_uses_the_same_gateway(gateway_yaml, tmp_path: Path, questions, served) -> None:
    """The judge's calls use the same gateway. An unknown judge is an error; one of the same family is noted."""

    def choose(asked: Received) -> str:
        model, prompt = asked.json["model"], asked.json["messages"][-1]["content"]
        if model == "judge":
            return orjson.dumps({"reason": "so", "score": 1 if "no idea" in prompt else 5}).decode()
        return "no idea" if int(prompt.removeprefix("question ")) % (2 if model == "two" else 5) == 0 else "an answer"

    served.replies(choose)
    judge = {"use": "judge", "model": "judge", "criterion": "It is right.", "scale": [1, 5]}
    upstream_of = {"one": "one", "two": "two", "judge": "one"}
    models = {name: {"targets": [{"upstream": u, "model": f"llama-{name}"}]} for name, u in upstream_of.items()}
    path = gateway_yaml(models=models, scorers={"quality": judge})
    place = GatewayLocation(path, load(path), tmp_path / "data", served.base_url)
    notes: list[str] = []
    found = await replay(scan(questions(30)), QUALITY, place, notes.append, QUIET)
    one, two = (target.means["quality"].value for target in found.targets)
    assert (one, two) == (pytest.approx(0.8), pytest.approx(0.5))
    assert sum(r.json["model"] == "judge" for r in served.calls) == 60
    assert any(
        line.startswith("caution: scorers.quality: its judge one/llama-judge belongs to the same model family")
        for line in notes
    )
    misspelt = gateway_yaml(models=models, scorers={"quality": {**judge, "model": "jugde"}})
    with pytest.raises(CannotRun, match=r'scorers\.quality: no model "jugde"; did you mean "judge"'):
        await replay(scan(questions(3)), QUALITY, replace(place, config=load(misspelt)), QUIET, QUIET)


async def test_every_row_gets_the_models_answer_as_its_reference(
    named: GatewayLocation, questions: Callable[[int], Path], served
) -> None:
    def choose(asked: Received) -> FakeAnswer | str:
        question = asked.json["messages"][-1]["content"]
        if question == "question 3":
            return FakeAnswer(b'{"error":{"message":"too long"}}', status=400)
        return f"an answer to {question}"

    served.replies(choose)
    notes: list[str] = []
    dataset = scan(questions(12))
    asked = ReplayOptions(("one",), pace=RequestPacing(attempts=1))
    path = await write_references(dataset, asked, named, notes.append, lambda _: None)
    assert path == dataset.path.with_name("questions.with-references.jsonl")
    assert notes[-1] == "1 of 12 rows have no answer and so no reference"
    written = scan(path)
    assert [i.example() for i in written.items()] == [i.example() for i in dataset.items()]
    assert [i.reference for i in written.items()] == [
        None if i == 3 else f"an answer to question {i}" for i in range(12)
    ]
    assert [p.name for p in path.parent.glob("*.part")] == []
