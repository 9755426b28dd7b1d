"""One verdict with its numbers, from the store; where the plan is not known, both arms and no verdict."""

from __future__ import annotations

import random
from types import SimpleNamespace

import jsonschema_rs
import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Count, Target
from gateway.evals.experiments.without_plan import NO_PLAN
from gateway.evals.reports.experiment.as_json import schema
from gateway.evals.reports.experiment.build import ExperimentNotFound, report_of
from gateway.evals.store.query import reading


def read(room, name="swap", candidate=None):
    with reading(room.store_url) as connection:
        return report_of(connection, name, candidate)


# ── with a plan ──


@pytest.fixture
async def decided(room, plan, paired):
    """400 pairs in which the candidate says nearly what the control says, and half of them ask the control again."""
    rng = random.Random(3)
    await room.begin(plan)
    async with room.consuming():
        for at in range(0, 400, 100):
            sent = []
            for _ in range(at, at + 100):
                base = rng.uniform(0.4, 0.8)
                arms = {"candidate": f"{base + rng.uniform(-0.02, 0.02):.4f}"}
                arms |= {"repeat": f"{base + rng.uniform(-0.02, 0.02):.4f}"} if rng.random() < 0.5 else {}
                sent += paired(plan, f"{base:.4f}", arms)
            await room.send(*sent)
        await room.until_settled(400)
    return room


async def test_what_was_measured_is_decided_and_said_in_one_sentence(decided, plan):
    made = read(decided)
    assert (made.experiment, made.plan, made.pairs) == ("swap", plan.hash, 400)
    assert made.verdict == "ship"
    assert made.sentence.startswith("Switching `chat` from local/small to local/new: the same within 0.1 on *said* (")
    assert made.sentence.endswith("Guardrails hold. Ship.")
    assert {gate.name: gate.state for gate in made.gates} == {"aa": 1, "losses": 1, "judge": 1}
    assert made.primary.pairs == 400
    assert -0.1 < made.primary.difference.low < 0 < made.primary.difference.high < 0.1
    assert made.primary.noise is not None
    assert [arm.arm for arm in made.arms] == ["control", "candidate", "repeat"]
    assert made.trails[0].metric == "said"
    assert 300 < made.trails[0].points[-1][0] <= 400
    assert len(made.examples) == 8
    ids = {row[0] for row in decided.sql("SELECT id FROM exchanges")}
    assert {i for each in made.examples for i in (each.exchange, each.beside)} <= ids


async def test_the_command_says_it_on_the_terminal_as_json_and_as_a_page(decided, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["report", "swap", "--data", str(tmp_path / "data")]
    shown = CliRunner().invoke(app, base)
    assert shown.exit_code == 0, shown.exception
    assert "Guardrails hold. Ship." in shown.output
    made = orjson.loads(CliRunner().invoke(app, [*base, "--json", "--candidate", "candidate"]).stdout)
    assert made["primary"]["corrected"] is None
    jsonschema_rs.validator_for(schema()).validate(made)
    assert (made["verdict"], made["primary"]["metric"]) == ("ship", "said")
    assert made["gates"]["aa"]["state"] == "green"
    label = ["label", "next", "--scorer", "said", "--as", "ada", "--count", "200", "--data", str(tmp_path / "data")]
    assert CliRunner().invoke(app, label, input="good\n" * 200).exit_code == 0
    primary = orjson.loads(CliRunner().invoke(app, [*base, "--json"]).stdout)["primary"]
    assert primary["corrected"]["low"] <= 0.0 <= primary["corrected"]["high"], "to people all answers are good"
    written = CliRunner().invoke(app, [*base, "--html", "swap.html"])
    assert "wrote swap.html" in written.stderr
    page = (tmp_path / "swap.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Guardrails hold. Ship." in page


async def test_a_candidate_that_is_not_the_plans_is_said_with_those_that_are(decided):
    with pytest.raises(ExperimentNotFound, match=r'no candidate "condidate"; it has: candidate'):
        read(decided, candidate="condidate")


async def test_a_plan_of_which_nothing_has_come_is_held(room, plan):
    await room.begin(plan)
    async with room.consuming() as desk:
        await room.until(lambda: desk.experiments.leads)
    made = read(room)
    assert (made.verdict, made.pairs, sum(arm.asked for arm in made.arms)) == ("hold", 0, 0)
    assert "no pair" in made.sentence


# ── without one ──


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


def metric(made, name):
    (found,) = [c for c in made.metrics if c.metric == name]
    return found


async def test_without_a_plan_each_arm_has_its_weighted_means_and_no_verdict_is_given(room, swap):
    made = read(room)
    assert (made.verdict, made.reasons, made.primary, made.gates) == ("hold", (NO_PLAN,), None, ())
    said = metric(made, "said")
    assert said.a.value == pytest.approx(swap.truth)
    assert said.a.low < swap.truth < said.a.high
    assert said.b.value == pytest.approx(0.5, abs=0.01)
    assert said.difference.value is None
    assert said.effective_n == pytest.approx(said.pairs), "of the smaller arm, whose calls weigh the same"
    assert [(arm.arm, arm.target) for arm in made.arms] == [("candidate", "local/new"), ("control", "local/small")]


async def test_latency_and_tokens_are_weighted_too(room, swap):
    made = read(room)
    total = metric(made, "total_s")
    assert total.a.value == pytest.approx(2.0 - swap.truth)
    assert total.a.low < 2.0 - swap.truth < total.a.high
    assert metric(made, "first_token_s").a.value == 0.5
    assert metric(made, "first_token_s").b.value is None
    assert metric(made, "output_tokens").a.value == 5.0
    assert metric(made, "error_rate").a.value == 0.0


async def test_shadows_whose_served_answer_never_came_are_no_pairs(room, swap):
    assert read(room).pairs == sum(e.role == "shadow" for e in swap.sent) - 1


async def test_an_experiment_that_is_not_there_is_said_with_those_that_are(room, swap):
    with pytest.raises(ExperimentNotFound, match=r'"swop".*there are: swap'):
        read(room, "swop")


async def test_of_several_plans_under_one_name_the_latest_is_shown(room, swap, exchange):
    more = [exchange("1", experiment="swap", plan="p2", arm="control", stratum="default+swap", pi=0.5)]
    async with room.consuming():
        await room.send(*more)
        await room.until_read()
    made = read(room)
    assert (made.plan, [arm.asked for arm in made.arms]) == ("p2", [1])
