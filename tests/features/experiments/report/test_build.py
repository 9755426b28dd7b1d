"""One verdict with its numbers, from the store."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from types import SimpleNamespace

import jsonschema_rs
import orjson
import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.ramp import RampChange, RampDesign, RampEvent, overridden, rolled_back, started
from gateway.features.experiments.judges import calibration_cautions
from gateway.features.experiments.report.build import ExperimentNotFound, read_all, report_of
from gateway.features.experiments.rows.queries import cached_bills
from gateway.features.experiments.work import figures_of
from gateway.features.labels.agreement import RateEstimate
from gateway.statistics.judge_rates import JudgeAccuracy
from gateway.store import engine
from gateway.store.query import reading
from gateway.store.ramp_events import add_ramp_events
from gateway.store.reader_config import StoreLocation
from gateway.store.tables import exchanges, scores
from gateway.verdict.report.as_json import schema, to_json
from gateway.verdict.report.presentation import sentence_of


def read(room, name="swap", candidate=None):
    with reading(room.store_url) as connection:
        return report_of(connection, name, candidate)


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


def with_cache(answer, cached):
    """The answer with a usage of 2 000 input tokens."""
    usage = {"prompt_tokens": 2000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": cached}}
    return replace(answer, response=orjson.dumps(orjson.loads(answer.response) | {"usage": usage}))


PRICED = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1", api_key: "${KEY_THAT_READERS_LACK}"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
prices:
  as_of: 2026-12-01
  models:
    local/small: {input: 1.0, output: 4.0, cached_input: 0.5}
    local/new: {input: 0.8, output: 2.0, cached_input: 0.08}
"""


def bill_at(room, plan, usd):
    """Stores what each arm's calls cost, as a consumer with prices does."""
    opened = engine.connect_writer(room.store_url)
    with opened.begin() as connection:
        for arm, each in usd.items():
            ours = exchanges.c.plan == plan.hash, exchanges.c.arm == arm
            connection.execute(exchanges.update().where(*ours).values(cost_usd=each))
    opened.dispose()


async def test_a_shadow_without_the_served_cache_has_a_range(room, plan, paired, tmp_path):
    await room.begin(plan)
    async with room.consuming():
        for _ in range(30):
            control, candidate = paired(plan, "0.5", {"candidate": "0.5"})
            await room.send(with_cache(control, 1500), with_cache(candidate, 0))
        await room.until_settled(30)
    bill_at(room, plan, {"control": (500 * 1.0 + 1500 * 0.5 + 40) / 1e6, "candidate": (2000 * 0.8 + 20) / 1e6})
    with reading(room.store_url) as connection:
        bills = cached_bills(connection, plan.hash)
        assert {arm: (bill.calls, bill.cached_share) for arm, bill in bills.items()} == {
            "control": (30, 0.75),
            "candidate": (30, 0.0),
        }
        assert cached_bills(connection, plan.hash, served=True).keys() == {"control"}
    assert any("which the ramp's arm is billed" in caution for caution in read(room).cautions)
    path = tmp_path / "gateway.yaml"
    path.write_text(PRICED)
    [priced] = read_all(StoreLocation(room.store_url, config=path), "swap")
    [caution] = [text.replace("\u202f", " ") for text in priced.cautions if "served cache" in text]
    assert "costs 58 % less a call if as much of its input is cached, and 26 % more if nothing is." in caution
    path.write_text("upstreams: 3\n")
    [unread] = read_all(StoreLocation(room.store_url, config=path), "swap")
    assert any("which the ramp's arm is billed" in caution for caution in unread.cautions)


async def test_a_measured_experiment_has_a_verdict_in_one_sentence(decided, plan):
    made = read(decided)
    assert (made.experiment, made.plan, made.pairs) == ("swap", plan.hash, 400)
    assert made.verdict == "ship"
    assert made.sentence.startswith("Switching chat from local/small to local/new: the same within 0.1 on stated (")
    assert made.sentence.endswith("Guardrails hold. Ship.")
    assert {gate.name: gate.state for gate in made.gates} == {"aa": 1, "losses": 1, "judge": 1, "path": 1}
    assert made.primary.pairs == 400
    assert -0.1 < made.primary.difference.low < 0 < made.primary.difference.high < 0.1
    assert made.primary.noise is not None
    assert [arm.arm for arm in made.arms] == ["control", "candidate", "repeat"]
    assert made.trails[0].metric == "stated"
    assert 300 < made.trails[0].points[-1][0] <= 400
    assert len(made.examples) == 8
    ids = {row[0] for row in decided.sql("SELECT id FROM exchanges")}
    assert {i for each in made.examples for i in (each.exchange, each.beside)} <= ids


async def test_prometheus_has_the_reports_sentence(decided):
    with reading(decided.store_url) as connection:
        (figures,) = figures_of(connection, time.time())
        said = sentence_of(report_of(connection, "swap"))
    assert figures.sentence == said.text
    assert said.text.endswith("within 0.02 either way. Ship.")


async def test_the_verb_shows_text_json_and_a_page(decided, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["report", "swap", "--data", str(tmp_path / "data")]
    shown = CliRunner().invoke(app, base)
    assert shown.exit_code == 0, shown.exception
    assert shown.output.splitlines()[0].endswith("; within 0.02 either way. Ship.")
    made = conforms("report", CliRunner().invoke(app, [*base, "--json", "--candidate", "candidate"]).stdout)
    assert made["primary"]["corrected"] is None
    assert (made["verdict"], made["primary"]["metric"]) == ("ship", "stated")
    assert made["gates"]["aa"]["state"] == "green"
    label = ["label", "next", "--scorer", "stated", "--as", "ada", "--count", "40", "--data", str(tmp_path / "data")]
    assert CliRunner().invoke(app, label, input="good\n" * 40).exit_code == 0
    primary = orjson.loads(CliRunner().invoke(app, [*base, "--json"]).stdout)["primary"]
    assert (primary["corrected_basis"]["source"], primary["corrected_basis"]["looks"]) == ("pairs", "every")
    assert primary["corrected"]["low"] <= 0.0 <= primary["corrected"]["high"], "to people all answers are good"
    with monkeypatch.context() as nowhere:
        nowhere.setenv("PATH", str(tmp_path))
        refused = CliRunner().invoke(app, [*base, "--png", "swap.png"])
    assert refused.exit_code != 0
    assert "swap.png cannot be made: none of chromium" in str(refused.exception or refused.output)
    written = CliRunner().invoke(app, [*base, "--html", "swap.html"])
    assert "wrote swap.html" in written.stderr
    page = (tmp_path / "swap.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert (tmp_path / "swap.html").stat().st_mode & 0o777 == 0o600
    assert "Guardrails hold. Ship." in page


async def test_an_unknown_candidate_is_reported_with_the_known_ones(room, plan):
    await room.begin(plan)
    async with room.consuming():
        await room.until(lambda: room.leads("c1"))
    with pytest.raises(ExperimentNotFound, match=r'no candidate "condidate"; it has: candidate'):
        read(room, candidate="condidate")


async def test_a_plan_without_pairs_is_held(room, plan):
    await room.begin(plan)
    async with room.consuming():
        await room.until(lambda: room.leads("c1"))
    made = read(room)
    assert (made.verdict, made.pairs, sum(arm.asked for arm in made.arms)) == ("hold", 0, 0)
    assert "no pair" in made.sentence


@pytest.fixture
async def swap(room, exchange):
    """One call of an experiment whose plan is not in the store."""
    async with room.consuming():
        await room.send(exchange("1", experiment="swap", plan="p1", arm="control", received=1000.0))
        await room.until_read()


async def test_an_unknown_experiment_is_reported_with_known_ones(room, swap):
    with pytest.raises(ExperimentNotFound, match=r'"swop".*known experiments: swap'):
        read(room, "swop")


# Directions, and what is known of a judge.


def scored(experiment, n=20, *, kind="code", direction="maximise", values=(0.2, 0.8), value01=None):
    """Stores n scores of `quality` in the experiment's plan."""
    rows = [
        {
            "score_id": f"s{i}", "exchange_id": f"e{i}", "subject": "exchange", "plan": experiment.plan.hash,
            "scorer": "quality", "version": "1", "config_hash": "c1", "repeat": 0, "kind": kind,
            "direction": direction, "data_type": "number", "status": "scored", "value": values[i % len(values)],
            "value01": None if value01 is None else value01[i % len(value01)], "pi": 1.0, "stratum": "",
            "seconds": 0.1, "answered": 1.0, "created": 1.0,
        }
        for i in range(n)
    ]  # fmt: skip
    with experiment.engine.begin() as connection:
        connection.execute(scores.insert(), rows)


@pytest.fixture
def compared(begin_experiment, simulation):
    """30 pairs in which the control has 0.7 on `quality` and the candidate 0.9, as 1 is the best."""
    experiment = begin_experiment()
    experiment.add(
        simulation.a_pair(i, simulation.seen(0.7), candidate=simulation.seen(0.9), repeat=simulation.seen(0.7))
        for i in range(30)
    )
    return experiment


def test_a_metric_where_less_is_better_is_shown_as_measured(compared):
    scored(compared, direction="minimise", values=(0.3, 0.1), value01=(0.7, 0.9))
    with compared.engine.connect() as connection:
        made = report_of(connection, "swap")
    c = made.primary
    assert (c.better, c.a.value, c.b.value) == ("lower", pytest.approx(0.3), pytest.approx(0.1))
    assert c.difference.value == pytest.approx(0.2), "positive: the candidate is better"
    assert c.a.low < c.a.value < c.a.high
    assert made.guardrails[0].better == "lower"


def test_a_metric_where_more_is_better_stays_as_it_is(compared):
    scored(compared, values=(0.7, 0.9), value01=(0.7, 0.9))
    with compared.engine.connect() as connection:
        c = report_of(connection, "swap").primary
    assert (c.better, c.a.value, c.b.value) == ("higher", pytest.approx(0.7), pytest.approx(0.9))


def test_the_course_ends_with_the_interval_of_now(compared, simulation):
    one = simulation.seen(0.5)
    compared.add(
        simulation.a_pair(30 + i, one, candidate=one, repeat=one) for i in range(3)
    )  # no point is stored at 33
    with compared.engine.connect() as connection:
        made = report_of(connection, "swap")
    assert made.primary is not None
    course = next(each for each in made.trails if each.metric == made.primary.metric)
    e = made.primary.difference
    assert course.points[-1] == (made.primary.pairs, e.value, e.low, e.high)
    counts = [point[0] for point in course.points]
    assert counts == sorted(set(counts))


def test_a_judge_without_labels_is_a_caution(compared):
    scored(compared, kind="llm")
    with compared.engine.connect() as connection:
        (caution,) = report_of(connection, "swap").cautions
    assert caution == (
        "The judge quality decides and is not calibrated (0 labels); "
        "label some answers: gateway label next --scorer quality."
    )


def test_a_judge_that_gives_one_value_is_a_caution(compared):
    scored(compared, n=40, kind="llm", values=(1.0,))
    with compared.engine.connect() as connection:
        cautions = report_of(connection, "swap").cautions
    assert cautions[-1] == "The judge quality gives 1 to 100% of the answers: it hardly distinguishes them."


def test_a_scorer_that_is_not_a_judge_needs_no_calibration(compared):
    scored(compared, values=(1.0,))
    with compared.engine.connect() as connection:
        assert report_of(connection, "swap").cautions == ()


@pytest.mark.parametrize(("low", "kappa"), [(-0.2, "is 0.10 (-0.20 … 0.40)"), (None, "is undefined")])
def test_a_judge_that_agrees_by_chance_is_a_caution(low, kappa):
    rate = None if low is None else RateEstimate(0.1, low, 0.4, 60)
    found = SimpleNamespace(labels=60, agreement=SimpleNamespace(kappa=rate, accuracy=None))
    assert [each.partition("kappa ")[2] for each in calibration_cautions("quality", found, 0.05)] == [f"{kappa}."]
    agrees = RateEstimate(0.6, 0.4, 0.8, 60)
    good = SimpleNamespace(labels=60, agreement=SimpleNamespace(kappa=agrees, accuracy=None))
    assert list(calibration_cautions("quality", good, 0.05)) == []


def test_labels_translate_the_margin():
    known = SimpleNamespace(kappa=RateEstimate(0.6, 0.4, 0.8, 200), accuracy=JudgeAccuracy(0.8, 100, 0.8, 100))
    found = SimpleNamespace(labels=200, agreement=known, scorer=SimpleNamespace(subject="exchange"))
    (text,) = calibration_cautions("quality", found, 0.05)
    assert "Your margin of 0.05 on quality is 0.072 to 0.11 as people judge" in text
    assert "set `margin: 0.024`" in text


def test_every_candidate_has_its_report(begin_experiment, simulation):
    target = simulation.a_plan().candidates[0][1]
    experiment = begin_experiment(candidates=(("x", target), ("y", target)))
    experiment.add([simulation.a_pair(0, simulation.seen(0.5), x=simulation.seen(0.6), y=simulation.seen(0.7))])
    assert [each.candidate for each in read_all(StoreLocation(experiment.url), "swap")] == ["x", "y"]


def test_an_override_of_an_earlier_plan_stays_in_the_report(begin_experiment):
    design = RampDesign((0.1, 1.0), 0.0, 1)
    held = begin_experiment(mode="both", ramp=design, method="anytime", aa="alarm", repeat_control=0.5)
    first = started("swap", "earlier", RampChange(1.0, "controller", "begins"))
    forced = overridden(first, design, RampChange(2.0, "mia", "the judge was down"))
    begun = started("swap", held.hash, RampChange(3.0, "controller", "a new plan"), forced)
    back = rolled_back(begun, RampChange(4.0, "controller", "errors"), 60.0)
    before = [None, ("shadow", -1), ("ramp", 0), ("shadow", -1)]
    events = [RampEvent(f"{i}-0", r, before[i], {}) for i, r in enumerate((first, forced, begun, back))]
    with held.engine.begin() as connection:
        add_ramp_events(connection, events)
    with reading(held.url) as connection:
        found = report_of(connection, "swap").ramp
    assert (found.state, found.share, [c.kind for c in found.changes]) == (
        "rolled_back",
        0.0,
        ["shadowing", "rolled_back"],
    )
    assert [(c.by, c.reason, c.plan) for c in found.overrides] == [("mia", "the judge was down", "earlier")]
    jsonschema_rs.validator_for(schema()).validate(orjson.loads(to_json(report_of_url(held.url))))


def report_of_url(url):
    with reading(url) as connection:
        return report_of(connection, "swap")


async def test_a_plan_that_is_not_stored_yet_is_said(room, exchange):
    async with room.consuming():
        await room.send(exchange("1", experiment="swap", plan="p1", arm="control"))
        await room.until_read()
    with pytest.raises(ExperimentNotFound, match='the plan of experiment "swap" is not in the store yet'):
        read(room)
    with pytest.raises(ExperimentNotFound, match=r'no exchange of experiment "other".*known experiments: swap'):
        read(room, "other")
