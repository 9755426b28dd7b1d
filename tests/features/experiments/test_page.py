"""The page Experiments: the verdict with what it rests on, and experiments that are made and started by forms."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
import yaml
from fixtures.simulated import Simulated, a_pair, seen

from gateway.config.loading import load_for_console, parse
from gateway.config.made_experiments import made_path
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, HarmStop, Plan, PlanState, StoredPlan
from gateway.core.ramp import RampChange, RampDesign, RampEvent, rolled_back, started
from gateway.core.segments import SegmentDesign
from gateway.features.experiments.page import demo_notice
from gateway.features.experiments.rows.dropped import keep_dropped
from gateway.features.labels.desk import LabelRequest, LabelVerdict, next_item, open_desk, save_labels
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import save_plans
from gateway.store.ramp_events import add_ramp_events
from gateway.store.sequences import save
from gateway.verdict.findings import drops_of
from gateway.verdict.sequences.progress import PlanProgress

SCORER = {"version": "1", "direction": "maximise", "bounds": (0.0, 1.0), "heavy": False}
NAME = "<script>alert(1)</script>\u202eevil"
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eevil"
FORM = {
    "name": "swap", "control": "chat local/small", "upstream": "local", "candidate_model": "large", "mode": "shadow",
    "share": "25", "primary": "valid_json", "margin": "0.05", "guardrail": ["error_rate", ""],
    "guardrail_margin": ["0.02", ""], "start": "1",
}  # fmt: skip


def a_plan(name: str = "swap", **fields) -> Plan:
    plain = {"shadow": 1.0, "primary": "valid_json", "margin": 0.1, "guardrails": (Guardrail("error_rate", 0.1),)}
    candidates = (("candidate", Target("local", "large")),)
    return Plan(name, "chat", Target("local", "small"), candidates, **{**plain, **fields})


async def begun(pages, plan: Plan) -> None:
    """The plan is in the store, as the consumer keeps it."""
    state = PlanState(plan, "running", time.time())
    await pages.store.run(lambda c: save_plans(c, [state], time.time()))


async def test_an_experiment_is_made_and_started_without_touching_yaml(pages):
    client = await pages.login()
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/experiments/of/swap"), answer.text
    section = pages.config[-1].experiments["swap"]
    assert (section.shadow_share, dict(section.guardrails), section.start) == (0.25, {"error_rate": 0.02}, "manual")
    config = pages.config[-1]
    admin = config.admin.model_copy(update={"grafana_url": "https://grafana.example.com"})
    pages.config.append(config.model_copy(update={"admin": admin}))
    page = await pages.get(client, "/console/experiments/of/swap")
    assert 'href="https://grafana.example.com/d/assay-experiments?var-experiment=swap"' in page
    assert "running" in page
    assert "No evidence is in the store yet." in page
    assert "made in the console" in await pages.get(client, "/console/experiments")
    answer = await pages.send(client, "/console/experiments/of/swap", "/console/experiments/stop", {"name": "swap"})
    assert answer.status_code == 303
    assert "stopped" in await pages.get(client, "/console/experiments/of/swap")
    answer = await pages.send(client, "/console/experiments/of/swap", "/console/experiments/start", {"name": "swap"})
    assert "running" in await pages.get(client, "/console/experiments/of/swap")
    await pages.send(client, "/console/experiments/of/swap", "/console/experiments/stop", {"name": "swap"})
    answer = await pages.send(client, "/console/experiments/of/swap", "/console/experiments/remove", {"name": "swap"})
    assert answer.status_code == 303
    assert "swap" not in pages.config[-1].experiments


def test_scripted_models_are_a_demo() -> None:
    """The page says so, and which rule does not hold."""
    models = {"chat": {"targets": [{"upstream": "local", "model": "small"}]}}
    upstreams = ({"local": {"kind": kind, "base_url": "http://h/v1"}} for kind in ("fake", "vllm"))
    texts = (yaml.safe_dump({"upstreams": upstream, "models": models}) for upstream in upstreams)
    scripted, real = (parse(text, environ={}) for text in texts)
    assert demo_notice(scripted, a_plan(min_hours=24.0)) == "A demo: its models are scripted."
    without = demo_notice(scripted, a_plan(min_hours=0.0))
    assert without == "A demo: its models are scripted, and hours are not covered (min_hours: 0)."
    assert demo_notice(real, a_plan(min_hours=0.0)) == demo_notice(scripted, None) == ""


async def test_a_guard_is_the_candidate_of_a_form(pages):
    """The form asks only where there are guards; it names what does not fit, and keeps the choice."""
    client, path = await pages.login(), pages.data / "gateway.yaml"
    assert 'name="guard"' not in await pages.get(client, "/console/experiments/new")
    more = {"guards": {"secrets": {"on": "answer", "scorer": "secrets"}}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | more))
    pages.config.append(load_for_console(path))
    page = await pages.get(client, "/console/experiments/new?guard=secrets&share=100")
    assert '<option value="secrets" selected>the guard secrets</option>' in page
    assert 'name="share" value="100"' in page
    form = {**FORM, "guard": "secrets", "guardrail": ["", ""], "guardrail_margin": ["", ""]}
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", form)
    assert "the guard secrets is the candidate already" in answer.text
    assert '<option value="secrets" selected>' in answer.text
    form["candidate_model"] = ""
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/experiments/of/swap"), answer.text
    assert pages.config[-1].experiments["swap"].candidate.guard == "secrets"
    assert "running" in await pages.get(client, "/console/experiments/of/swap")


async def a_labelled_judge(pages, make_exchange):
    """60 answers that a judge calls good and bad in turn; of 40 of them, people contradict every eighth."""
    judge = pages.scorers["valid_json"]
    judge = replace(judge, scorer=SimpleNamespace(**{**SCORER, "name": "valid_json", "kind": "llm"}))
    pages.scorers["valid_json"] = judge
    for i in range(60):
        await pages.add(make_exchange(f"answer {i}"), score=float(i % 2))
    url = pages.store_url
    desk = await asyncio.to_thread(open_desk, url, LabelRequest("valid_json", "ada"))
    for n in range(40):
        drawn = await asyncio.to_thread(next_item, url, desk)
        said = float(int(drawn.blind.answers[0].split()[1]) % 2)
        label = desk.label(drawn, LabelVerdict(1 - said if n % 8 == 0 else said))
        await asyncio.to_thread(save_labels, url, [label])


async def test_the_judges_margin_is_shown_before_and_after_start(pages, make_exchange):
    await a_labelled_judge(pages, make_exchange)
    client = await pages.login()
    form = {name: value for name, value in FORM.items() if name != "start"}
    await pages.send(client, "/console/experiments/new", "/console/experiments/new", form)
    page = await pages.get(client, "/console/experiments/of/swap")
    assert "Before you start it:" in page
    assert "Your margin of 0.05 on valid_json is" in page
    assert "as people judge" in page
    answer = await pages.send(client, "/console/experiments/of/swap", "/console/experiments/start", {"name": "swap"})
    notice = await client.get(answer.headers["location"])
    assert "Your margin of 0.05 on valid_json is" in notice.text
    assert "Before you start it:" not in notice.text


async def shown(pages, client, path, text):
    """The page, once what is read in the background is on it."""
    async with asyncio.timeout(30):
        while text not in (page := await pages.get(client, path)):
            await asyncio.sleep(0.05)
    return page


async def test_the_form_that_starts_says_a_judges_margin(pages, make_exchange):
    """The sentence is on the form for the form's own margin, for the one that was filled in, and after the start."""
    await a_labelled_judge(pages, make_exchange)
    client = await pages.login()
    page = await shown(pages, client, "/console/experiments/new", "Your margin of 0.02 on valid_json is")
    assert "as people judge" in page
    wrong = {**FORM, "margin": "0.07", "share": "a lot"}
    async with asyncio.timeout(30):
        while True:
            answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", wrong)
            if "Your margin of 0.07 on valid_json is" in answer.text:
                break
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", FORM)
    assert answer.status_code == 303, answer.text
    notice = await client.get(answer.headers["location"])
    assert "swap is running." in notice.text
    assert "Your margin of 0.05 on valid_json is" in notice.text
    assert "Before you start it:" not in notice.text


async def test_a_form_with_mistakes_keeps_its_input(pages):
    client = await pages.login()
    bad = {**FORM, "margin": "wide", "system": HOSTILE, "share": "a lot"}
    answer = await pages.send(client, "/console/experiments/new", "/console/experiments/new", bad)
    assert answer.status_code == 400
    assert "margin" in answer.text
    assert "share" in answer.text
    assert "<script>alert" not in answer.text
    assert 'value="large"' in answer.text
    assert not made_path(pages.data / "gateway.yaml").exists()


async def test_a_viewer_has_no_start_button_and_is_refused(pages):
    owner, viewer = await pages.login(), await pages.login("viewer")
    await pages.send(owner, "/console/experiments/new", "/console/experiments/new", {**FORM, "start": ""})
    page = await pages.get(viewer, "/console/experiments/of/swap")
    assert "/console/experiments/start" not in page
    answer = await pages.send(viewer, "/console/experiments", "/console/experiments/start", {"name": "swap"})
    assert answer.status_code == 403
    assert (await viewer.get("/console/experiments/new")).status_code == 403


async def test_a_plan_with_evidence_shows_gates_metrics_and_the_horizon(pages):
    plan = a_plan(method="hybrid", max_pairs=200)
    await begun(pages, plan)
    client = await pages.login()
    page = await pages.get(client, "/console/experiments/of/swap")
    for part in ("Gates", "Metrics", "How this was decided", "error_rate", plan.hash):
        assert part in page, part
    listed = await pages.get(client, "/console/experiments")
    assert '<h1 class="sentence">1 experiment, not started: hold</h1>' in listed
    assert "Hold" in listed
    assert "local/large" in listed


async def test_compared_candidates_have_a_table_and_a_chart(pages):
    """The better one leads, the worse one is dropped; the list says so, too."""
    arms = tuple((arm, Target("local", arm)) for arm in (NAME, "fast"))
    plan = replace(a_plan(family="best", primary="quality"), candidates=arms, guardrails=())
    await begun(pages, plan)

    def fill(connection) -> None:
        progress = PlanProgress(plan, plan.hash, {})
        for i in range(60):
            scores = {"fast": (0.9, 0.002), NAME: (0.2, 0.001)}
            answers = {arm: seen(score, cost_usd=usd) for arm, (score, usd) in scores.items()}
            progress.take(i + 1, a_pair(i, seen(0.5, cost_usd=0.003), **answers))
        save(connection, progress.changes(), 1.0)
        out = drops_of(StoredEvidence(connection, StoredPlan(plan, plan.hash, "running", 1.0), 1.0))
        keep_dropped(connection, plan.hash, out, 1.0)

    await pages.store.run(fill)
    client = await pages.login()
    page = await pages.get(client, "/console/experiments/of/swap")
    for part in ("The candidates, compared", "Cost and quality", "USD per thousand", "Dropped", "on the front"):
        assert part in page, part
    assert "The best of 2 is open; fast leads: quality 0.90 instead of 0.50" in page
    assert "The best of 2 candidates for chat is undecided; fast: leads" in page, "with all its numbers, folded"
    other = await pages.get(client, f"/console/experiments/of/swap?{urlencode({'candidate': NAME})}")
    assert "quality 0.20 instead of 0.50; worse by" in other, "a report on another one is about it"
    assert "The best of 2 is open" not in other
    assert "<script>alert" not in page
    assert "\u202e" not in page
    listed = await pages.get(client, "/console/experiments")
    assert "Compared" in listed
    assert "Dropped" in listed
    assert "quality 0.20 instead of 0.50; worse by" in listed


async def test_names_from_the_store_are_shown_as_text(pages):
    await begun(pages, a_plan(HOSTILE))
    client = await pages.login()
    page = await pages.get(client, "/console/experiments")
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


async def test_a_rolled_back_ramp_is_not_listed_as_on_its_way(pages, corridor):
    """The plan runs, and copies calls; the control answers all of them."""
    plan = a_plan(method="hybrid", max_pairs=200, ramp=RampDesign((0.5, 1.0), 0.0, 1))
    await begun(pages, plan)
    assert await corridor.state.set_plan(PlanState(plan, "running", time.time()))
    begins = started("swap", plan.hash, RampChange(1.0, "controller", "begins"))
    back = rolled_back(begins, RampChange(2.0, "controller", "it fails"), 60.0)
    events = [RampEvent("1-0", begins, None, {}), RampEvent("2-0", back, ("shadow", -1), {})]
    await pages.store.run(lambda c: add_ramp_events(c, events))
    page = await pages.get(await pages.login(), "/console/experiments")
    assert ("Rolled back" in page, "of the way" in page, ">running<" in page) == (True, False, False)


@pytest.mark.parametrize("ramp", [RampDesign((0.5, 1.0), 0.0, 1), None])
async def test_a_plan_stopped_for_harm_is_resumed_on_its_page(pages, corridor, ramp):
    """A ramp has one button for it, with a reason, although its record is rolled back."""
    plan, stop = a_plan(method="hybrid", max_pairs=200, ramp=ramp), HarmStop(1.0, 60, -0.3, 7.5)
    await begun(pages, plan)
    assert await corridor.state.set_plan(PlanState(plan, "running", time.time() - 9.0, harm=stop))
    begins = started("swap", plan.hash, RampChange(1.0, "controller", "begins"))
    back = rolled_back(begins, RampChange(2.0, "controller", "harm"), 0.0)
    if ramp is not None:
        assert await corridor.ramps.change(None, begins, b"{}")
        assert await corridor.ramps.change((await corridor.ramps.records())["swap"], back, b"{}")
        events = [RampEvent("1-0", begins, None, {}), RampEvent("2-0", back, ("shadow", -1), {})]
        await pages.store.run(lambda c: add_ramp_events(c, events))
    client, path = await pages.login("operator"), "/console/experiments/of/swap"
    page = await pages.get(client, path)
    assert "stopped: harm" in page
    assert (page.count(">Resume<"), page.count(">Stop<"), page.count(">Start<")) == (1, 1, 0)
    form = {"name": "swap", "verb": "resume", "reason": "seen"}
    assert (await pages.send(client, path, "/console/experiments/ramp", form)).status_code == 303
    assert not (await corridor.state.plans())["swap"].harmed
    assert "stopped: harm" not in await pages.get(client, path)


async def test_the_list_begins_with_what_was_decided_last(pages, corridor):
    """Running ones lead; a roll-back counts as a change, and each experiment is one line until it is opened."""
    now, ramp = time.time(), RampDesign((0.5, 1.0), 0.0, 1)
    plain = {"primary": "quality", "guardrails": (), "repeat_control": 1.0}
    decided = [a_plan(name, **plain) for name in ("shipped", "over")]
    held = [a_plan(name, ramp=ramp if name == "back" else None) for name in ("back", "open", "idle")]
    for n, plan in enumerate(decided):
        simulated = Simulated(plan, pages.store_url, n=1000 * n)
        pairs = [a_pair(i, seen(0.5), candidate=seen(0.9), repeat=seen(0.5)) for i in range(400)]
        await asyncio.to_thread(simulated.add, pairs)
        simulated.close()
    stored = [PlanState(plan, "running", now - 1000) for plan in held]
    await pages.store.run(lambda c: save_plans(c, stored, now - 1000))
    ages = {"back": 900, "shipped": 500, "open": 10, "over": 50, "idle": 5}
    for plan in (*decided, *held):
        state = "stopped" if plan.name in ("over", "idle") else "running"
        assert await corridor.state.set_plan(PlanState(plan, state, now - ages[plan.name]))
    begins = started("back", held[0].hash, RampChange(now - 800, "controller", "begins"))
    back = rolled_back(begins, RampChange(now - 100, "controller", "it fails"), 60.0)
    events = [RampEvent("1-0", begins, None, {}), RampEvent("2-0", back, ("shadow", -1), {})]
    await pages.store.run(lambda c: add_ramp_events(c, events))

    page = await pages.get(await pages.login(), "/console/experiments")
    rows = re.findall(r"<article .*?</article>", page, re.DOTALL)
    closed = [re.sub(r"<details><summary.*?</details>", "", row, flags=re.DOTALL) for row in rows]
    assert [re.search(r"of/(\w+)", row)[1] for row in closed] == ["back", "shipped", "open", "over", "idle"]
    assert ["Ship</span>" in row for row in closed] == [False, True, False, True, False]
    assert all(row.count("<div") == 1 and "<p" not in row for row in closed), "a second line"
    assert all('class="evidence"' in row for row in rows), "folded"


async def test_an_unknown_experiment_is_not_found(pages):
    client = await pages.login()
    answer = await client.get("/console/experiments/of/nobody")
    while "refresh" in answer.headers:
        answer = await client.get("/console/experiments/of/nobody")
    assert answer.status_code == 404


async def test_each_change_of_a_ramp_has_a_reason(pages, corridor):
    plan = a_plan(ramp=RampDesign((0.1, 1.0), 0.0, 1))
    assert await corridor.state.set_plan(PlanState(plan, "running", time.time()))
    owner, operator = await pages.login(), await pages.login("operator")
    path, form = "/console/experiments/of/swap", "/console/experiments/ramp"

    async def command(client, verb, reason="because", **more):
        return await pages.send(client, path, form, {"name": "swap", "verb": verb, "reason": reason, **more})

    assert (await command(operator, "pause", HOSTILE)).status_code == 303
    page = await pages.get(owner, path)
    assert "paused" in page
    assert "Resume" in page
    assert "\u202e" not in page
    assert (await command(operator, "resume")).status_code == 303
    assert (await command(operator, "override")).status_code == 403, "an operator goes no step without evidence"
    assert (await command(operator, "promote")).status_code == 409, "there is no evidence"
    assert (await command(owner, "override")).status_code == 303
    page = await pages.get(owner, path)
    assert "step 1 of 2" in page
    assert "overridden" in page
    assert (await command(owner, "rollback", "")).status_code == 400, "a reason is needed"
    assert (await command(owner, "rollback")).status_code == 303
    assert "rolled back" in await pages.get(owner, path)
    assert (await command(owner, "explode")).status_code == 400
    assert [r.state for r in (await corridor.ramps.records()).values()] == ["rolled_back"]


async def test_one_click_promotes_all_but_the_segments_that_do_not_hold(pages, corridor, ramp_on_server):
    plan = a_plan(ramp=RampDesign((0.1, 1.0), 0.0, 1), segments=SegmentDesign(("tools", "stream")))
    ramp = ramp_on_server(corridor, plan, time.time())
    await ramp.plan_runs()
    await ramp.begins()
    await ramp.holds_without("tools=yes")
    client, path = await pages.login("operator"), "/console/experiments/of/swap"
    page = await pages.get(client, path)
    assert "Promote all but" in page
    assert '<input type="hidden" name="without" value="tools=yes">' in page
    fields = {"name": "swap", "verb": "promote-except", "reason": "as shown", "without": ["tools=yes"]}
    assert (await pages.send(client, path, "/console/experiments/ramp", fields)).status_code == 303
    (record,) = (await corridor.ramps.records()).values()
    assert (record.state, record.kept) == ("ramp", ("tools=yes",))
    assert "The control keeps every call with" in await pages.get(client, path)


async def test_a_guard_is_a_candidate_without_a_price(pages):
    """The list and the page speak of the guard, of no repeat of the control, and of nothing paid."""
    target = Target("guard", "leaks", "0123456789abcdef")
    plan = replace(a_plan(primary="quality"), candidates=(("candidate", target),), guardrails=(), method="guaranteed")
    await begun(pages, plan)

    def fill(connection) -> None:
        progress = PlanProgress(plan, plan.hash, {})
        for i in range(80):
            served = seen(0.9)
            copy = seen(0.0) if i % 2 else replace(served, tied=True)
            progress.take(i + 1, a_pair(i, served, candidate=copy))
        save(connection, progress.changes(), 1.0)

    await pages.store.run(fill)
    client = await pages.login()
    page = await pages.get(client, "/console/experiments/of/swap")
    for part in ("Enforcing the guard leaks on chat with local/small: worse by more than", "none is sent again"):
        assert part in page, part
    for part in ("Price so far", "control asked again", "the control is never repeated", "Latency is not compared"):
        assert part not in page, part
    assert "guard/leaks[0123456789abcdef]" in await pages.get(client, "/console/experiments")


async def test_a_new_plan_does_not_show_the_pairs_of_the_old_one(pages, corridor):
    """The store still has the earlier plan alone: the consumer keeps a new one a moment after its start."""
    client, old = await pages.login(), a_plan()
    await begun(pages, old)
    await corridor.state.set_plan(PlanState(old, "running", 1.0))
    url = "/console/experiments/of/swap"
    assert f"plan <code>{old.hash}</code>" in await pages.get(client, url)
    new = replace(old, margin=0.2)
    known = (await corridor.state.plans())["swap"]
    assert await corridor.state.set_plan(PlanState(new, "running", time.time()), known)
    page = await pages.get(client, url)
    assert f"The plan <code>{new.hash}</code> has no pair in the store yet." in page
    assert f"plan <code>{old.hash}</code>" in page
    assert '<div id="verdict">' not in page
    assert "No evidence yet" in await pages.get(client, "/console/experiments")


@pytest.mark.parametrize(
    ("score", "badge", "shown"),
    [(0.9, "Ship", ("Make it a ramp", "Copy the YAML", "Stop")), (0.1, "Reject", ("Keep the control",))],
)
async def test_a_verdict_ends_in_the_button_of_the_next_step(pages, corridor, score, badge, shown):
    client, path = await pages.login(), "/console/experiments/of/swap"
    await pages.send(client, "/console/experiments/new", "/console/experiments/new", {**FORM, "start": ""})
    plan = a_plan(primary="quality", guardrails=(), repeat_control=1.0)
    made = (await corridor.state.plans()).get("swap")
    assert await corridor.state.set_plan(PlanState(plan, "running", time.time()), made)

    simulated = Simulated(plan, pages.store_url)
    answers = [a_pair(i, seen(0.5), candidate=seen(score), repeat=seen(0.5)) for i in range(400)]
    await asyncio.to_thread(simulated.add, answers)
    simulated.close()
    page = await pages.get(client, path)
    assert f" {badge}</span>" in page
    buttons = ("Make it a ramp", "Copy the YAML", "Keep the control", "Stop")
    assert tuple(text for text in buttons if f">{text}<" in page) == shown
    viewer = await pages.get(await pages.login("viewer"), path)
    assert not [text for text in buttons if f">{text}<" in viewer and text != "Copy the YAML"]
    if "Keep the control" in shown:
        sent = await pages.send(client, path, "/console/experiments/stop", {"name": "swap"})
        assert sent.status_code == 303
        assert ">Keep the control<" not in await pages.get(client, path)
