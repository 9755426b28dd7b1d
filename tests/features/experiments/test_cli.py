"""`gateway ab`: a plan is frozen and put where every gateway reads it; what is stopped stays stopped."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fixtures.json_outputs import conforms
from fixtures.stores import Ledgerbook
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.core.completion import completion_of
from gateway.core.errors import CannotRun
from gateway.core.exchange import Target
from gateway.core.plan import HarmStop, PlanState
from gateway.core.segments import segment_name
from gateway.core.sequence import SequenceChanges, SequenceName
from gateway.store import engine
from gateway.store import write as writing
from gateway.store.harm_stops import keep_harm
from gateway.store.location import default_url
from gateway.store.plans import save_plans
from gateway.store.rows import ScoredExchange
from gateway.store.sequences import save
from gateway.store.tables import pairs
from gateway.store.write import ScoredBatch
from gateway.stream import Corridor
from gateway.verdict.metrics import PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, SequenceRule

Run = Callable[..., Any]
SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"},
    "shadow": 1.0, "start": "manual", "primary": "refusal", "margin": 0.05, "guardrails": {"error_rate": 0.02},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `gateway ab …` next to a gateway.yaml. run.config: changes what stands in its experiment."""
    monkeypatch.chdir(tmp_path)

    def config(**changes: Any) -> None:
        text = {
            "open": True,
            "upstreams": {"a": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
            "scorers": {"refusal": {}},
            "stream": {"url": stream_url, "name": stream_name},
            "experiments": {"swap": {k: v for k, v in {**SWAP, **changes}.items() if v is not None}},
        }
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(text))

    def go(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["ab", *words])
        assert found.exit_code == code, (found.output, found.exception)
        return found.output

    config()
    go.config = config  # type: ignore[attr-defined]
    go.plan = lambda: plans_of(load(tmp_path / "gateway.yaml"))["swap"]  # type: ignore[attr-defined]
    return go


def shared(stream_url: str, stream_name: str, work: Callable[[Corridor], Any]) -> Any:
    async def asking() -> Any:
        corridor = Corridor(stream_url, stream_name)
        try:
            return await work(corridor)
        finally:
            await corridor.aclose()

    return asyncio.run(asking())


def known(stream_url: str, stream_name: str) -> Any:
    return shared(stream_url, stream_name, lambda corridor: corridor.state.plans()).get("swap")


def test_start_freezes_the_plan_and_puts_it_in_the_stream_server(run: Any, stream_url: str, stream_name: str) -> None:
    assert f"swap is running with plan {run.plan().hash}\n" in run("start", "swap")
    state = known(stream_url, stream_name)
    assert (state.plan, state.state) == (run.plan(), "running")
    assert "is running already" in run("start", "swap")
    assert known(stream_url, stream_name) == state


def test_the_status_says_when_no_more_is_paid_for(run: Any) -> None:
    assert "ends      not started" in run("status", "swap")
    run("start", "swap")
    assert "ends      with its verdict or at " in run("status", "swap")
    run("stop", "swap")
    assert "ends      it is stopped: no more shadow requests are paid for" in run("status", "swap")
    before = run.plan().hash
    run.config(after_verdict="continue")
    assert run.plan().hash == before, "the evidence stays"
    run("start", "swap")
    assert "ends      at " in run("status", "swap")


def test_several_drafts_for_one_alias_run_one_after_the_other(run: Any, stream_url: str, stream_name: str) -> None:
    run.config(start="manual")
    text = yaml.safe_load(Path("gateway.yaml").read_text())
    text["experiments"]["draft"] = {**text["experiments"]["swap"], "margin": 0.2}
    Path("gateway.yaml").write_text(yaml.safe_dump(text))
    run("start", "swap")
    refused = CliRunner().invoke(app, ["ab", "start", "draft"]).exception
    assert "draft: experiment swap is running on chat" in str(refused)
    run("stop", "swap")
    run("start", "draft")
    assert known(stream_url, stream_name).state == "stopped"
    assert "running" in run("status", "draft")


def test_a_changed_plan_is_a_plan_of_its_own(run: Any, stream_url: str, stream_name: str) -> None:
    run("start", "swap")
    before = run.plan().hash
    run.config(margin=0.1)
    assert "changed" in run("list")
    assert f"; the previous plan was {before}" in run("start", "swap")
    assert known(stream_url, stream_name).plan.margin == 0.1


def keep_pairs(tmp_path: Path, plan: Any, arm: str, n: int = 40, hybrid: int = 0) -> None:
    """A store with pairs of an earlier plan, whose differences have a variance of 0.25. hybrid: the plan's horizon."""
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [PlanState(plan, "stopped", 1.0)], 1.0)
        rule = SequenceRule("hybrid", 0.05, horizon=hybrid) if hybrid else SequenceRule("bernstein", 0.05, 50.0)
        sequence = DifferenceSequence(rule, bounded=True)
        for i in range(n):
            sequence.add(PairValue(0.5, 0.5 + 0.5 * (-1) ** i, 0.5 * (-1) ** i))
        name = SequenceName(plan.hash, arm, "refusal", "1 c1")
        save(connection, SequenceChanges({name: (n, sequence.state())}, [], {}, []), 1.0)
    opened.dispose()


def test_the_horizon_follows_from_earlier_pairs(run: Any, tmp_path: Path, stream_url: str, stream_name: str) -> None:
    """A gateway that computes it from a guess does not replace it, and a second start leaves it as it is."""
    guessed = run.plan()
    assert (guessed.method, guessed.auto_horizon) == ("hybrid", True)
    keep_pairs(tmp_path, replace(guessed, margin=0.3), "candidate")
    assert "it closes at about 8" in run("start", "swap")
    plan = known(stream_url, stream_name).plan
    assert (guessed.max_pairs, plan.max_pairs) == (783, 839), "the guardrail needs the first, the variance the second"
    assert plan.same_design(guessed)
    assert "the same" in run("list")
    run("stop", "swap")
    assert f"swap is running with plan {plan.hash}\n" in run("start", "swap")
    assert known(stream_url, stream_name).plan == plan


def test_a_plan_that_closed_too_early_is_extended(run: Any, tmp_path: Path, stream_url: str, stream_name: str) -> None:
    """The variance was guessed and is larger. A new plan, since a horizon that moves is none."""
    run.config(margin=0.1, guardrails={})
    run("start", "swap")
    first = run.plan()
    keep_pairs(tmp_path, first, "candidate", first.max_pairs, hybrid=first.max_pairs)
    assert f"swap is running already, with plan {first.hash}" in run("start", "swap"), "it has not ended yet"
    run("stop", "swap")
    shown = run("start", "swap")
    longer = known(stream_url, stream_name).plan
    assert longer.max_pairs > 1.5 * first.max_pairs
    assert longer.same_design(first)
    assert f"swap is running with plan {longer.hash}; the previous plan was {first.hash}" in shown
    assert "the previous plan closed undecided" in shown
    run("stop", "swap")
    keep_pairs(tmp_path, longer, "candidate", 30, hybrid=longer.max_pairs)
    assert "the plan before" not in run("start", "swap"), "it is not closed"
    assert known(stream_url, stream_name).plan == longer


def keep_closed(tmp_path: Path, plan: Any, mean: float = -0.025, n: int = 400, state: str = "stopped") -> None:
    """A store with a plan whose primary has taken its last look without a verdict, and whose guardrail holds."""
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [PlanState(plan, state, time.time())], 1.0)
        sequences = {
            "refusal": DifferenceSequence(SequenceRule("hybrid", 0.05, horizon=400), bounded=True),
            "error_rate": DifferenceSequence(SequenceRule("rare", 0.05), bounded=True),
            "cost_per_1k": DifferenceSequence(SequenceRule("asymptotic", 0.05), bounded=False),
        }
        for i in range(n):
            sequences["refusal"].add(PairValue(0.5, 0.5, mean + 0.25 * (-1) ** i))
            sequences["cost_per_1k"].add(PairValue(4.0, 2.0, 2.0))
        for _ in range(2000):
            sequences["error_rate"].add(PairValue(0, 0, 0))
        states = {
            SequenceName(plan.hash, "candidate", metric, "1 c1" if metric == "refusal" else "-"): (s.n, s.state())
            for metric, s in sequences.items()
        }
        noise = DifferenceSequence(SequenceRule("hybrid", 0.01, horizon=100), bounded=True)
        for i in range(100):
            noise.add(PairValue(0.5, 0.5, 0.01 * (-1) ** i))
        states[SequenceName(plan.hash, "repeat", "refusal", "1 c1")] = (100, noise.state())
        save(connection, SequenceChanges(states, [], {}, []), 1.0)
        connection.execute(
            pairs.insert(),
            [
                {"id": f"{i}", "experiment": "swap", "plan": plan.hash, "position": f"{1000 + 60000 * i}-0",
                 "received": 1000.0 + 60.0 * i, "asked": '["candidate"]', "state": "joined", "place": i + 1,
                 "arms": '{"candidate": {"exchange": "x", "state": "ok"}}'}
                for i in range(n)
            ],
        )  # fmt: skip
    opened.dispose()


CLOSES: dict[str, Any] = {"max_pairs": 400, "min_hours": 0}


def test_a_closed_plan_goes_on(run: Any, tmp_path: Path, stream_url: str, stream_name: str) -> None:
    """The hash stays, the number of pairs is next to it, and the price is what `ab power --more` prints."""
    run.config(**CLOSES)
    run("start", "swap")
    plan = known(stream_url, stream_name).plan
    run("stop", "swap")
    keep_closed(tmp_path, plan)
    priced = run("power", "swap", "--more").replace("\u202f", "")
    found = re.search(r"about (\d+) more pairs: (.+), about \$(\S+)", priced)
    assert found is not None, priced
    assert float(found[3]) == pytest.approx(int(found[1]) * 0.003, abs=0.006)
    told = orjson.loads(run("power", "swap", "--more", "--json"))
    assert (told["pairs"], told["enough"]) == (int(found[1]), True)
    shown = run("start", "swap", "--more")
    assert f"swap goes on with plan {plan.hash}" in shown
    state = known(stream_url, stream_name)
    assert (state.plan.hash, state.state, state.more) == (plan.hash, "running", int(found[1]))


@pytest.mark.parametrize(
    ("config", "changes", "before", "says"),
    [
        ({}, {"rules": 2}, {}, "has rules 2, which end with the last look"),
        ({"margin": 0.1}, {}, {}, r"the config has changed since plan \w+ was started \(margin\)"),
        ({}, {}, {"mean": 0.3}, "has its verdict: candidate ship"),
        ({}, {}, {"mean": -0.4}, "has its verdict: candidate reject"),
        ({}, {}, {"n": 300}, "has not taken its last look: `gateway ab start swap` goes on with it"),
        ({}, {}, {"state": "running"}, "is still running"),
    ],
)
def test_a_plan_that_cannot_go_on_says_why(
    run: Any, tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], before: dict[str, Any], says: str
) -> None:
    run.config(**CLOSES)
    plan = replace(run.plan(), **changes)
    keep_closed(tmp_path, plan, **before)
    run.config(**CLOSES, **config)
    for words in (("start", "swap", "--more"), ("power", "swap", "--more")):
        refused = CliRunner().invoke(app, ["ab", *words])
        assert isinstance(refused.exception, CannotRun), (refused.output, refused.exception)
        assert re.search(says, str(refused.exception)), refused.exception


def test_nothing_goes_on_before_there_is_a_plan(run: Any) -> None:
    refused = CliRunner().invoke(app, ["ab", "start", "swap", "--more"]).exception
    assert "so none can go on" in str(refused)


@pytest.mark.parametrize(
    ("changes", "arm", "n"),
    [({}, "candidate", 19), ({}, "repeat", 40), ({"control": Target("a", "older")}, "candidate", 40)],
    ids=["too few pairs", "only repeats", "another control"],
)
def test_the_horizon_is_the_files_without_such_pairs(
    run: Any, tmp_path: Path, stream_url: str, stream_name: str, changes: dict[str, Any], arm: str, n: int
) -> None:
    keep_pairs(tmp_path, replace(run.plan(), margin=0.3, **changes), arm, n)
    run("start", "swap")
    assert known(stream_url, stream_name).plan == run.plan()


def test_a_plan_that_cannot_decide_says_so_when_it_starts(run: Any) -> None:
    run.config(max_pairs=120)
    shown = run("start", "swap")
    caution = "max_pairs 120 is unlikely to decide a margin of 0.05; that needs about"
    assert shown.index(caution) < shown.index("see: gateway ab status"), "before anything is paid"
    assert caution in CliRunner().invoke(app, ["check", "gateway.yaml"]).output


def test_a_stated_horizon_is_compared_with_earlier_pairs(run: Any, tmp_path: Path) -> None:
    """500 pairs decide the margin at the variance that is assumed, 0.1, and not at that of earlier pairs, 0.25."""
    run.config(max_pairs=500, guardrails={})
    check = lambda: CliRunner().invoke(app, ["check", "gateway.yaml"]).output  # noqa: E731
    assert "is unlikely to decide" not in check()
    keep_pairs(tmp_path, replace(run.plan(), margin=0.3), "candidate")
    caution = "that needs about 839 pairs at the variance of earlier pairs of these targets"
    assert caution in check()
    assert caution in run("start", "swap")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"margin": 0}, "experiments.swap.margin: 0, which no candidate can be shown to meet"),
        ({"candidate": {"upstream": "a", "model": "m"}}, "experiments.swap.candidate: is the control itself (a/m)"),
        ({"max_pairs": 50}, "experiments.swap.max_pairs: 50 pairs cannot show a margin of 0.05"),
    ],
)
def test_check_and_start_refuse_a_plan_that_cannot_decide(run: Any, changes: dict[str, Any], words: str) -> None:
    run.config(**changes)
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    started = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert (checked.exit_code, started.exit_code) == (1, 1)
    assert words in checked.output
    assert words in str(started.exception)


def test_check_start_and_power_name_a_population_without_units(run: Any, tmp_path: Path, exchange: Any) -> None:
    """The recorded calls name no user and no conversation, and come from one key."""
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    Ledgerbook("", opened, {}).write(*(exchange() for _ in range(60)))
    opened.dispose()
    run.config(population="others")
    words = "population others, but none of the last day's 60 recorded calls of chat names its user or conversation"
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    started = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert (checked.exit_code, started.exit_code) == (1, 1)
    assert words in checked.output
    assert words in str(started.exception)
    assert words in run("power", "swap")
    run.config(population="these")
    assert "swap is running" in run("start", "swap")


def test_stop_is_for_all_and_lasts(run: Any, stream_url: str, stream_name: str) -> None:
    run("start", "swap")
    assert "swap is stopped" in run("stop", "swap")
    assert known(stream_url, stream_name).state == "stopped"
    assert "had been stopped already" in run("stop", "swap")
    assert "swap: stopped since" in run("status", "swap")
    assert "swap is running with plan" in run("start", "swap")


@pytest.mark.parametrize("words", [("start", "swop"), ("status", "swop"), ("power", "swop"), ("stop", "swap")])
def test_a_name_that_is_not_there_is_said(run: Any, words: tuple[str, ...]) -> None:
    output = run(*words, code=2)
    assert "no experiment" in output


def test_a_judge_that_decides_is_a_caution_at_the_start(run: Any, tmp_path: Path) -> None:
    run.config(primary="helpful")
    config = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    config["scorers"]["helpful"] = {"use": "judge", "model": "referee", "criterion": "It solves the problem."}
    config["models"]["referee"] = {"targets": [{"upstream": "a", "model": "r"}]}
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    assert "The judge helpful decides and is not calibrated (0 labels)" in run("start", "swap")
    run.config()
    assert "not calibrated" not in run("start", "swap")


def test_the_price_in_the_docs_is_what_the_command_prints(run: Any, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text(encoding="utf-8")
    (tmp_path / "gateway.yaml").write_text(page.split("```yaml\n", 1)[1].split("```")[0])
    shown = page.split("## What a verdict costs", 1)[1].split("```text\n", 1)[1].split("```")[0].splitlines()
    assert len(shown) >= 9, "at least the table, whose further conditions the page describes"
    assert run("power", "swap", "--per-day", "5000").splitlines()[: len(shown)] == shown


def test_a_disabled_experiment_is_not_started(run: Any) -> None:
    run.config(enabled=False)
    assert "enabled is false" in run("start", "swap", code=2)
    assert "disabled in the config" in run("list")


def test_a_stop_for_harm_is_shown_and_resumed(run: Any, stream_url: str, stream_name: str) -> None:
    run("start", "swap")

    async def stop(corridor: Corridor) -> None:
        known = (await corridor.state.plans())["swap"]
        assert await corridor.state.set_plan(replace(known, harm=HarmStop(5.0, 60, -0.3, 7.5)), known)

    shared(stream_url, stream_name, stop)
    shown = run("status", "swap")
    assert shown.startswith("swap: stopped: harm since ")
    assert "  harm      stopped: harm. After 60 pairs the difference in refusal is below −0.300" in shown
    found = orjson.loads(run("status", "swap", "--json"))
    assert found["state"] == "stopped: harm"
    assert "a reject takes about 7.5 more hours of traffic" in found["harm"]
    assert run("resume", "swap", "--reason", "seen") == "swap goes on: it was stopped for harm\n"
    assert run("status", "swap").startswith("swap: running since ")
    assert "harm" not in orjson.loads(run("status", "swap", "--json"))


def test_status_tells_what_became_of_shadows_and_what_they_used(run: Any, stream_url: str, stream_name: str) -> None:
    run("start", "swap")
    plan = run.plan().hash

    async def use(corridor: Corridor) -> None:
        await corridor.state.add(
            "shadows", {f"{plan}:candidate:asked": 7, f"{plan}:not_offered_busy": 2, "old:asked": 9}
        )
        await corridor.state.add(
            f"spent:{int(time.time() // 86_400)}", {"swap:tokens": 1200, "swap:usd": 0.25, "other:usd": 9}
        )

    shared(stream_url, stream_name, use)
    made = conforms("ab status", run("status", "swap", "--json"))
    assert made["shadows"] == {"candidate:asked": 7, "not_offered_busy": 2}
    assert made["used_today"] == {"tokens": 1200, "usd": 0.25}
    assert (made["state"], made["verdict"]) == ("running", None)
    output = run("status", "swap")
    assert "candidate:asked 7, not_offered_busy 2" in output
    assert "not_offered_busy: the candidate's concurrency was used up: budget.concurrency" in output
    assert made["targets"] == {"control": str(run.plan().control), "candidate": str(run.plan().candidates[0][1])}
    assert f"  control   {run.plan().control}\n  candidate {run.plan().candidates[0][1]}\n" in output
    assert "1200 tokens, 0.2500 USD" in output


def test_list_is_empty_where_there_is_none(run: Any, tmp_path: Path) -> None:
    text = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({**text, "experiments": {}}))
    assert "no experiment in gateway.yaml" in run("list")


def test_without_a_stream_server_it_says_so(run: Any, tmp_path: Path) -> None:
    text = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    text["stream"]["url"] = f"unix://{tmp_path}/nobody"
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(text))
    found = CliRunner().invoke(app, ["ab", "list"])
    assert isinstance(found.exception, CannotRun)
    assert "Is a gateway of this config running?" in str(found.exception)


def test_power_is_a_guess_before_there_is_a_pair_and_says_so(run: Any) -> None:
    made = conforms("ab power", run("power", "swap", "--json"))
    refusals, errors, gate = made["metrics"]
    assert (refusals["metric"], refusals["variance"], refusals["have"]) == ("refusal", 0.1, 0)
    assert "is assumed" in refusals["basis"]
    assert (errors["variance"], gate["metric"], gate["per_pair"]) == (0.0, "aa", 0.25)
    assert made["needed"] == max(each["pairs"][0] for each in made["metrics"])
    assert made["waits_for"] == {"metric": "refusal", "candidate": "candidate"}
    assert made["prices"][0]["days"] is None


def test_power_is_in_requests_paid_calls_and_days(run: Any) -> None:
    text = run("power", "swap", "--per-day", "5000")
    assert len(text.splitlines()) <= 15
    first = text.splitlines()[0]
    assert first.startswith("A verdict on swap needs about ")
    assert all(part in first for part in ("pairs: ", "requests", "paid calls", " It waits for refusal."))
    assert "░" in run("power", "swap", "--chart")


def test_a_scorer_that_sees_a_share_makes_a_verdict_dearer(run: Any, tmp_path: Path) -> None:
    before = conforms("ab power", run("power", "swap", "--json"))["metrics"][0]
    text = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({**text, "scorers": {"refusal": {"share": 0.1}}}))
    made = conforms("ab power", run("power", "swap", "--json"))["metrics"][0]
    assert (made["per_pair"], made["needed"]) == (0.1, before["needed"])
    assert made["pairs"][0] == 10 * before["pairs"][0]


def test_power_falls_back_on_the_control_against_itself(run: Any, tmp_path: Path) -> None:
    """Quieter answers need fewer pairs; a wider margin too."""
    plan = run.plan()
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [PlanState(plan, "running", 1.0)], 1.0)
        sequence = DifferenceSequence(SequenceRule("bernstein", 0.05, 50.0), bounded=True)
        for i in range(40):
            sequence.add(PairValue(0.5, 0.5 + 0.1 * (-1) ** i, 0.1 * (-1) ** i))
        name = SequenceName(plan.hash, "repeat", "refusal", "1 c1")
        save(connection, SequenceChanges({name: (40, sequence.state())}, [], {}, []), 1.0)
    opened.dispose()
    planned = conforms("ab power", run("power", "swap", "--json"))["metrics"][0]
    assert planned["variance"] == pytest.approx(0.01, rel=0.05)
    assert planned["basis"] == "the control against itself, 40 pairs"
    wider = conforms("ab power", run("power", "swap", "--margin", "0.1", "--json"))["metrics"][0]
    assert wider["needed"] < planned["needed"] < 2000
    assert "A verdict on swap needs about" in run("power", "swap")


def test_power_prices_the_plan_that_would_start(run: Any, tmp_path: Path) -> None:
    """A changed plan at the variance of earlier pairs, 0.25, as `ab start` would begin it; a running one as it is."""
    earlier = replace(run.plan(), margin=0.3)
    keep_pairs(tmp_path, earlier, "candidate")
    made = conforms("ab power", run("power", "swap", "--json"))["metrics"][0]
    assert (made["margin"], made["have"], made["basis"]) == (0.05, 0, "earlier pairs of these targets")
    assert made["variance"] == pytest.approx(0.25, rel=0.05)
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [PlanState(earlier, "running", 2.0)], 2.0)
    opened.dispose()
    shown = CliRunner().invoke(app, ["ab", "power", "swap"])
    assert f"the config has changed; this is the price of the running plan {earlier.hash}" in shown.stderr


def test_status_says_what_the_verdict_waits_for(run: Any, tmp_path: Path) -> None:
    plan = run.plan()
    run("start", "swap")
    opened = engine.writer(default_url(tmp_path / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [PlanState(plan, "running", 1.0)], 1.0)
        sequence = DifferenceSequence(SequenceRule("bernstein", 0.05, 50.0), bounded=True)
        for i in range(40):
            sequence.add(PairValue(0.5, 0.3, -0.2 if i % 2 else 0.0))
        name = SequenceName(plan.hash, "candidate", "refusal", "1 c1")
        save(connection, SequenceChanges({name: (40, sequence.state())}, [], {}, []), 1.0)
        keep_harm(connection, plan.hash, HarmStop(5.0, 60, -0.3, 7.5), 5.0)
    opened.dispose()
    text = run("status", "swap")
    assert ": refusal 0.300 instead of 0.500; " in text
    assert "worse by 0.100 so far, likely" in text
    assert "open: primary refusal: " in text
    made = conforms("ab status", run("status", "swap", "--json"))["candidates"][0]
    assert (made["candidate"], made["verdict"]) == ("candidate", "hold")
    (caution,) = made["cautions"]
    assert caution.startswith("The candidate is stopped: harm.")
    assert caution in text
    assert {each["name"] for each in made["progress"]["open"]} >= {"refusal", "error_rate", "aa"}


def test_status_without_a_name_shows_every_experiment(run: Any) -> None:
    run("start", "swap")
    assert "swap: running since" in run("status")
    (listed,) = conforms("ab list", run("list", "--json"))
    assert (listed["experiment"], listed["state"]) == ("swap", "running")
    (found,) = conforms("ab status", run("status", "--json"))
    assert found["experiment"] == "swap"


def test_status_shows_the_end_of_a_split_and_the_promotions_of_a_ramp(run: Any) -> None:
    run.config(mode="split", shadow=None, repeat_control=None)
    shown = run("start", "swap")
    assert "it continues after its verdict, since its calls cost nothing extra: gateway ab stop swap" in shown
    assert "`ship` waits for 24 hours of traffic" in shown
    run.config(ramp={"steps": [0.1, 0.5, 1.0]})
    shown = run("start", "swap")
    assert "its ramp has 3 steps" in shown
    assert "run it 4 times" in shown
    run("stop", "swap")
    run.config(ramp={"steps": [0.1, 0.5, 1.0], "mode": "auto"})
    shown = run("start", "swap")
    assert "its ramp takes its 3 steps by itself" in shown
    assert "promote" not in shown


SEGMENTS = {"by": ["tools", "metadata.product"], "values": {"metadata.product": ["code"]}}


def test_start_and_power_name_the_segments_that_ship_needs(run: Any, stream_url: str, stream_name: str) -> None:
    run.config(segments=SEGMENTS)
    priced = run("power", "swap")
    assert "segment tools=yes" in priced
    assert "segments: `ship` also needs each of 4 segments not to be worse by 0.1" in priced
    shown = run("start", "swap")
    named = "tools=no, tools=yes, metadata.product=code, metadata.product=other"
    assert f"`ship` also needs these segments, each not worse by 0.1: {named}" in shown
    assert known(stream_url, stream_name).plan.segments.by == ("tools", "metadata.product")


@pytest.fixture
def serve(tmp_path: Path, exchange: Any) -> Callable[..., None]:
    """Stores 30 recorded calls of the model for each product that it is given."""

    def serving(*products: str) -> None:
        opened = engine.writer(default_url(tmp_path / ".gateway"))
        with opened.begin() as connection:
            for product in products:
                body = orjson.dumps({"messages": [], "metadata": {"product": product}})
                usual = {"alias": "chat", "received": time.time() - 60.0, "client_bytes": 300, "request": body}
                calls = [exchange("1", **usual) for _ in range(30)]
                judged = [ScoredExchange(call, completion_of(call), ()) for call in calls]
                writing.write(connection, ScoredBatch({}, judged), time.time())
        opened.dispose()

    return serving


def test_start_prints_the_plan_in_force(
    run: Any, serve: Callable[..., None], stream_url: str, stream_name: str
) -> None:
    """Over start, traffic, stop and start, on a store that is empty at first."""
    run.config(segments={"by": ["metadata.product"]})
    refused = str(CliRunner().invoke(app, ["ab", "start", "swap"]).exception)
    assert "the values of metadata.product are unknown: write `values`, or start after some traffic" in refused
    assert known(stream_url, stream_name) is None
    for products in (("chat", "code"), ("chat", "code", "german")):
        serve(*products)
        shown = run("start", "swap")
        plan = known(stream_url, stream_name).plan
        assert f"swap is running with plan {plan.hash}" in shown
        named = ", ".join(segment_name(*each) for each in plan.segments.segments)
        assert f"`ship` also needs these segments, each not worse by 0.1: {named}" in shown
        assert {f"metadata.product={product}" for product in products} < set(named.split(", "))
        run("stop", "swap")
        assert f"swap is running with plan {plan.hash}" in run("start", "swap")
        assert f"swap is running already, with plan {plan.hash}" in run("start", "swap")
        run("stop", "swap")


RunGateway = Callable[..., subprocess.CompletedProcess[str]]


def test_an_experiment_without_evidence_is_named(gateway: RunGateway) -> None:
    gateway("migrate")
    result = gateway("report", "swap")
    assert (result.returncode, result.stdout) == (1, "")
    assert '"swap"' in result.stderr


def test_without_a_store_there_is_no_report(gateway: RunGateway, tmp_path: Path) -> None:
    result = gateway("report", "swap", "--html", "swap.html")
    assert (result.returncode, result.stdout) == (1, "")
    assert not (tmp_path / "swap.html").exists()


TWO = {"candidate": None, "candidates": {arm: {"upstream": "a", "model": arm} for arm in ("x", "y")}, "family": "best"}


def test_candidates_that_are_compared_say_how_they_end(run: Run) -> None:
    run.config(**TWO)
    began = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert began.exit_code == 0, began.output
    assert "a candidate that cannot be the best gets no more requests" in began.output
    assert "it stops once one candidate is the best, or none is left" in began.output
    ends = next(line for line in run("status", "swap").splitlines() if line.startswith("  ends"))
    assert ends.startswith("  ends      with the best candidate, or when none is left or at about ")
    pairs = ends.partition(" pairs")[0].split()[-1]
    assert f"it ends at about {pairs} pairs, if no candidate is shown to be the best before" in began.output
    assert "best of 2: each comparison, with the control and between candidates" in run("power", "swap")


def test_candidates_without_a_score_of_their_own_are_not_compared(run: Run, tmp_path: Path) -> None:
    """A distance compares an answer with the served one."""
    run.config(**TWO, primary="edit_distance")
    config = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({**config, "scorers": {"edit_distance": {}, "refusal": {}}}))
    why = "experiments.swap.primary: edit_distance compares an answer with the served one"
    checked = CliRunner().invoke(app, ["check", "gateway.yaml"])
    assert checked.exit_code == 1
    assert why in checked.output
    started = CliRunner().invoke(app, ["ab", "start", "swap"])
    assert isinstance(started.exception, CannotRun)
    assert why in str(started.exception)


def test_status_shows_no_pairs_of_an_earlier_plan(run: Any, tmp_path: Path, stream_url: str, stream_name: str) -> None:
    """A new plan is in force a moment before a consumer stores it; the earlier one's pairs are not its own."""
    run("start", "swap")
    keep_pairs(tmp_path, run.plan(), "candidate")
    assert "no evidence in the store yet" not in run("status", "swap")
    run.config(margin=0.2)
    run("start", "swap")
    assert "verdict   no evidence in the store yet" in run("status", "swap")
