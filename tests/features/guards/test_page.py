"""The pages of guards: figures for everyone, and never a text or what matched."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from gateway.config.guards import GuardConfig
from gateway.core.guards import GuardDecision, GuardResult, to_json
from gateway.features.guards.page import headline, live_guards
from gateway.features.guards.ramp.view import shown_ramp
from gateway.features.guards.work import GuardWatch
from gateway.features.labels.rows import labels_of
from gateway.features.task import TaskWorker
from gateway.store.query import reading
from gateway.store.ramp_events import add_ramp_events
from gateway.store.store import Store

HOME, ONE, RAMP = "/console/guards", "/console/guards/of/secrets", "/console/guards/ramp"
QUEUE = "/console/label/queue?scorer=guard%20secrets"
SECRET = "sk-live-0123456789"


def words(html: str) -> str:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<main") :]))
    return text.replace("\u202f", " ").replace(" : ", ": ")


def decided(result: GuardResult, **fields: Any) -> dict[str, Any]:
    score = {"hit": 1.0, "near": 0.3, "pass": 0.0}.get(result)
    made = GuardDecision(
        "secrets", "answer", "observe", result, False, score, "timeout" if result == "failed" else None,
        ("github_token",) if result == "hit" else (), config_hash="c",
    )  # fmt: skip
    return {"guards": to_json([made]), **fields}


@pytest.fixture
async def guarded(pages: Any, make_exchange: Any) -> Any:
    """Forty calls of two keys, of which eight have a hit, two nearly, and one has no decision; summed by a consumer."""
    results: list[GuardResult] = [*["hit"] * 8, *["near"] * 2, "failed", *["pass"] * 29]
    now = pages.admin.clock()
    made = [
        make_exchange(
            f"an answer with {SECRET}" if result == "hit" else "fine",
            **decided(result, received=now - 600 + i, caller="bot" if i < 6 else "web", unit=f"u{i}"),
        )
        for i, result in enumerate(results)
    ]
    await pages.add(*made)
    async with Store(pages.store_url) as store:
        await GuardWatch(TaskWorker(store, "c1", lambda: now), ("secrets",)).look()
    guard = GuardConfig.model_validate({"on": "answer", "scorer": "secrets"})
    pages.config.append(pages.config[-1].model_copy(update={"guards": {"secrets": guard}}))
    return pages


async def test_without_a_guard_the_page_explains_it(pages: Any) -> None:
    page = words(await pages.get(await pages.login("viewer"), HOME))
    assert "No guard is configured." in page
    assert "It observes first" in page


async def test_a_viewer_sees_every_figure_and_no_text(guarded: Any) -> None:
    client = await guarded.login("viewer")
    html = await guarded.get(client, HOME)
    page = words(html)
    for part in ("secrets observes; it would block 20.5 % of calls; none of those is labelled.", "observe",
                 "39 of answers, 40 recorded", "no hit is labelled", "2.50 % of calls, 1 late"):  # fmt: skip
        assert part in page, part
    assert html.count("<svg") == 1
    assert "Label its calls" not in page
    assert "Compare answers" not in words(await guarded.get(client, ONE))
    page = words(await guarded.get(client, ONE))
    for part in ("bot 6 6 100.0 %", "web 33 2", "Nobody is refused", "timeout: 1", "recall is unknown", "github_token",
                 "Usual range not known yet", "no gateway reports it"):  # fmt: skip
        assert part in page, part
    assert SECRET not in page
    assert SECRET not in html


async def test_recent_hits_lead_to_their_calls(guarded: Any) -> None:
    client = await guarded.login("owner")
    html = await guarded.get(client, ONE)
    links = re.findall(r'href="(/console/calls/[^"]+)"', html)
    assert len(links) == 11, "hits, near ones, and the one without a decision"
    assert (await client.get(links[0])).status_code == 200
    assert "Label its calls" in words(html)
    assert 'href="/console/experiments/new?guard=secrets&amp;share=100"' in html, (
        "it observes, so it can be a candidate"
    )


@pytest.mark.parametrize("span", ["24h", "7d", "30d"])
async def test_each_time_span_is_shown(guarded: Any, span: str) -> None:
    page = words(await guarded.get(await guarded.login("viewer"), f"{ONE}?since={span}"))
    assert "39, of which 40 are recorded" in page


async def test_a_missing_guard_says_so(guarded: Any) -> None:
    client = await guarded.login("viewer")
    refused = await client.get(f"{HOME}?since=ever")
    assert (refused.status_code, "is not one of 24h, 7d, 30d" in refused.text) == (400, True)
    answer = await client.get(f"{HOME}/of/nobody")
    assert answer.status_code == 404
    assert "is not a guard of the config" in words(answer.text)


async def test_its_calls_are_labelled_blind_in_the_console(guarded: Any) -> None:
    client = await guarded.login("labeller")
    page = words(await guarded.get(client, "/console/label"))
    assert "Guards Calls with a hit, nearly one, and neither" in page
    html = await until_drawn(guarded, client)
    assert "b a hit would be right" in words(html)
    assert "may this pass the guard secrets?" in words(html)
    assert "github_token" not in html, "what the guard said is hidden"
    for verdict in ("b", "g"):
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', html))
        sent = {name: fields[name] for name in ("csrf", "scorer", "experiment", "favour", "item", "order")}
        done = await client.post("/console/label/verdict", data={**sent, "verdict": verdict})
        assert done.status_code == 303, done.text
        html = await until_drawn(guarded, client)
    with reading(guarded.store_url) as connection:
        given = labels_of(connection, "guard secrets")
    assert [(label.value, label.version, label.config_hash, label.labeller) for label in given] == [
        (0.0, "answer", "c", "lena"),
        (1.0, "answer", "c", "lena"),
    ]
    assert given[0].favour == 2.0, "29 calls without a hit, and ten with one or nearly"


async def until_drawn(pages: Any, client: Any) -> str:
    for _ in range(400):
        page: str = await pages.get(client, QUEUE)
        if "is being drawn" not in page:
            return page
    raise AssertionError("the queue is never drawn")


async def test_an_unknown_guard_has_no_queue(guarded: Any) -> None:
    client = await guarded.login("labeller")
    for _ in range(400):
        answer = await client.get("/console/label/queue?scorer=guard%20none")
        if answer.status_code != 200:
            break
    assert answer.status_code == 404
    assert "has decided on no recorded call" in words(answer.text)


def test_gateways_report_together() -> None:
    beats = [{"guards": {"a": {"failing": "", "breaker_open": True}}}, {"guards": {"a": {"failing": "timeout"}}}, {}]
    [(name, live)] = live_guards(beats).items()
    assert (name, live.failing, live.breaker_open, live.gateways) == ("a", "timeout", True, 2)
    assert live_guards([{"guards": "odd"}, {"guards": {"a": 3}}])["a"].failing == ""
    ramps = [{"action": "block", "share": part, "before": "flag"} for part in (0.05, 0.25, 0.25, 1.0)]
    found = live_guards([{"guards": {"a": {"ramp": ramp}}} for ramp in [*ramps, None, "odd", {"share": "x"}]])["a"]
    assert [text.replace("\u202f", " ") for text in found.applied] == [
        "block for 5.0 % of the units, flag for the others",
        "block for 25.0 % of the units, flag for the others",
        "block for 100 % of the units",
    ]
    assert headline([]) == "No guard is configured."


async def test_a_failing_guard_comes_first(guarded: Any, corridor: Any) -> None:
    config = guarded.config[-1]
    other = GuardConfig.model_validate({"on": "answer", "scorer": "length", "max_chars": 9})
    guarded.config.append(config.model_copy(update={"guards": {"quiet": other, **config.guards}}))
    await corridor.state.set_gateway_heartbeat(
        "i1", {"host": "h", "pid": 1, "at": time.time(), "guards": {"quiet": {"failing": "error: it raised"}}}
    )
    page = words(await guarded.get(await guarded.login("viewer"), HOME))
    assert "The guard quiet gives no decision: error: it raised." in page
    assert page.index("quiet observe") < page.index("secrets observe")


async def test_a_ramp_is_shown_and_changed_by_operators(guarded: Any, corridor: Any) -> None:
    client = await guarded.login("operator")
    html = await guarded.get(client, ONE)
    assert "Every unit gets observe." in words(html)
    assert re.findall(r'name="verb" value="(\w+)"', html) == ["promote"]
    assert re.findall(r'<option value="(\w+)"', html) == ["flag", "redact", "block"]
    form = {"name": "secrets", "verb": "promote", "reason": "agreed", "to": "block"}
    done = await guarded.send(client, ONE, RAMP, form)
    assert (done.status_code, done.headers["location"]) == (303, f"{ONE}#ramp")
    waiting = await corridor.ramps.waiting()
    await guarded.store.run(lambda c: add_ramp_events(c, waiting.events))
    html = await guarded.get(client, ONE)
    for part in ("first phase Every unit gets flag. otto: agreed", "Share of the units with the action block"):
        assert part in words(html), part
    assert 'aria-labelledby="guard-ramp-wide-title' in html
    assert re.findall(r'name="verb" value="(\w+)"', html) == ["promote", "pause", "rollback"]
    assert "first phase Every unit gets flag." in words(await guarded.get(client, HOME))
    ramp = {"action": "flag", "share": 1.0, "before": "observe"}
    beat = {"host": "h", "pid": 1, "at": time.time(), "guards": {"secrets": {"ramp": ramp}}}
    await corridor.state.set_gateway_heartbeat("i1", beat)
    assert "Gateways apply: flag for 100 % of the units" in words(await guarded.get(client, ONE))
    await guarded.send(client, ONE, RAMP, {"name": "secrets", "verb": "rollback", "reason": "too much"})
    html = await guarded.get(client, ONE)
    assert "✕ rolled back Every unit gets observe. otto: too much" in words(html)
    assert re.findall(r'name="verb" value="(\w+)"', html) == ["promote", "resume"]


async def test_a_ramp_is_not_changed_by_others_or_without_a_reason(guarded: Any) -> None:
    for role in ("viewer", "labeller"):
        client = await guarded.login(role)
        assert 'name="verb"' not in await guarded.get(client, ONE)
        sent = await guarded.send(client, "/console", RAMP, {"name": "secrets", "verb": "promote", "reason": "x"})
        assert sent.status_code == 403, role
    client = await guarded.login("operator")
    form = {"name": "secrets", "verb": "promote", "reason": "x"}
    assert (await client.post(RAMP, data=form)).status_code == 403, "without the token of its session"
    mistakes = (({"reason": " "}, 400), ({"verb": "override"}, 400), ({"name": "no"}, 404), ({"verb": "pause"}, 409))
    for wrong, status in mistakes:
        sent = await guarded.send(client, ONE, RAMP, {**form, **wrong})
        assert sent.status_code == status, (wrong, sent.text[:500])


def test_a_step_says_who_gets_what_and_what_it_waits_for() -> None:
    rate = {"rate": 0.004, "low": 0.001, "high": 0.012, "max": 0.02, "units": 800, "rests_on": ""}
    compared = {
        "metric": "thumbs_down", "difference": -0.01, "low": -0.03, "high": 0.01, "margin": 0.02, "found": "unclear",
        "units": [400, 40],
    }  # fmt: skip
    of: Any = {
        "state": "ramp", "step": 1, "steps": [0.05, 0.25, 1.0], "paused": False, "share": 0.25, "action": "block",
        "otherwise": "flag", "block_rate": rate, "compared": [compared], "waits_for": ["soaks for another 60 s"],
    }  # fmt: skip
    found = shown_ramp(of, (), 0.0)
    assert found.pill == ("step 2 of 3", "open")
    assert found.sentence.replace("\u202f", " ") == "25.0 % of the units get block, the others flag."
    first, second, last = (line.replace("\u202f", " ") for line in found.lines())
    assert first == "0.4 % of the calls of 800 units have a hit (0.1 % to 1.2 % at every look); at most 2.0 % may"
    assert second == "thumbs down with the action: \u22121.0 to +3.0 points against the other units (margin 2): unclear"
    assert last == "waits: soaks for another 60 s"
    assert found.chart is None
