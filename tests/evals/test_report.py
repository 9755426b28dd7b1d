"""The arms side by side, over all traffic; what is known is said, and no verdict is given."""

from __future__ import annotations

import random
from types import SimpleNamespace

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.evals.report import NO_VERDICT, NoExperiment, page, report
from gateway.evals.store.reading import reading
from gateway.exchange import Count, Target


@pytest.fixture
async def swap(room, exchange, tally):
    """600 calls; errors are slow, and all recorded; 30 % of the others are. Half of them are asked of the candidate."""
    rng = random.Random(5)
    sent, seen = [], {"default+swap": 0, "error+swap": 0}
    for i in range(600):
        hard = rng.random() < 0.25
        stratum = "error+swap" if hard else "default+swap"
        seen[stratum] += 1
        shadowed = rng.random() < 0.5
        pi = 1.0 if hard else 1 - 0.7 * 0.5
        if not (hard or shadowed or rng.random() < 0.3):
            continue
        fields = {"experiment": "swap", "plan": "p1", "received": 1000.0 + i}
        served = exchange("0" if hard else "1", stratum=stratum, pi=pi, arm="control",
                          total_s=2.0 if hard else 1.0, first_token_s=0.5, **fields)  # fmt: skip
        sent.append(served)
        if shadowed:
            text = "error" if rng.random() < 0.1 else "0.5"
            sent.append(exchange(text, stratum="shadow:swap", pi=0.5, arm="candidate", role="shadow",
                                 target=Target("local", "new"), pair=served.id, total_s=0.5, **fields))  # fmt: skip
    sent.append(exchange("1", experiment="swap", plan="p1", arm="candidate", role="shadow", pair="gone",
                         stratum="shadow:swap", pi=0.5, target=Target("local", "new")))  # fmt: skip
    shadows = Count("shadow:swap", "chat", "local/new", "candidate", sum(e.role == "shadow" for e in sent))
    counts = tuple(Count(s, "chat", "local/small", "control", n) for s, n in seen.items())
    async with room.consuming():
        for at in range(0, len(sent), 200):
            await room.send(*sent[at : at + 200])
        await room.send(tally(sent, seen=None))
        await room.send(tally(sent[:1]).__class__("g1", 2.0, len(sent), seen=(*counts, shadows)))
        await room.until_read()
    return SimpleNamespace(truth=seen["default+swap"] / 600, sent=sent, seen=seen)


def read(room):
    with reading(room.store_url) as connection:
        return report(connection, "swap", room.scorers)


async def test_each_arm_has_its_weighted_means_with_intervals(room, swap):
    control, candidate = read(room).arms
    assert (control.arm, control.role, control.models) == ("control", "served", ("local/small",))
    assert (candidate.arm, candidate.role, candidate.models) == ("candidate", "shadow", ("local/new",))
    (said,) = control.scores
    assert said.mean == pytest.approx(swap.truth)
    assert said.low < swap.truth < said.high
    assert said.direction == "maximise"
    assert 0 < said.effective_n < said.n
    (shadow,) = candidate.scores
    assert shadow.mean == pytest.approx(0.5, abs=0.01)
    failed = sum(e.response.find(b'"error"') > 0 for e in swap.sent)
    assert shadow.nonresponse == pytest.approx(failed / candidate.n)


async def test_latency_and_tokens_are_weighted_too(room, swap):
    control, candidate = ({m.name: m for m in arm.measures} for arm in read(room).arms)
    assert control["total_s"].mean == pytest.approx(2.0 - swap.truth)
    assert control["total_s"].low < 2.0 - swap.truth < control["total_s"].high
    assert control["first_token_s"].mean == 0.5
    assert candidate["first_token_s"].mean is None
    assert control["output_tokens"].mean == 5.0
    assert control["failure"].mean == 0.0


async def test_pairs_are_counted_and_no_verdict_is_given(room, swap):
    made = read(room)
    shadows = sum(e.role == "shadow" for e in swap.sent)
    served = len(swap.sent) - shadows
    assert (made.pairs.joined, made.pairs.shadow_alone) == (shadows - 1, 1)
    assert made.pairs.served_alone == served - (shadows - 1)
    assert made.sentence == NO_VERDICT
    assert made.weights == "realised"


async def test_people_and_programs_can_read_it(room, swap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["report", "swap", "--data", str(tmp_path / "data")]
    shown = CliRunner().invoke(app, base)
    assert shown.exit_code == 0, shown.exception
    for said in (
        "Experiment swap, plan p1",
        "control (served)",
        "candidate (shadow)",
        "said",
        "total, s",
        "No verdict",
    ):
        assert said in shown.output
    made = orjson.loads(CliRunner().invoke(app, [*base, "--json"]).output)
    assert (made["experiment"], made["plan"]) == ("swap", "p1")
    assert [arm["arm"] for arm in made["arms"]] == ["control", "candidate"]
    assert made["pairs"]["shadow_alone"] == 1


async def test_an_experiment_that_is_not_there_is_said_with_those_that_are(room, swap):
    with reading(room.store_url) as connection, pytest.raises(NoExperiment, match=r'"swop".*there are: swap'):
        report(connection, "swop", {})


async def test_a_name_under_which_several_plans_ran_is_weighted_nominally(room, swap, exchange):
    more = [exchange("1", experiment="swap", plan="p2", arm="control", stratum="default+swap", pi=0.5)]
    async with room.consuming():
        await room.send(*more)
        await room.until_read()
    made = read(room)
    assert (made.plan, made.weights, made.arms[0].n) == ("p2", "nominal", 1)
    assert page(made)
