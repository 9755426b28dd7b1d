"""The page System, and the config in force."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from fixtures.retirements import use_week
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.loading import load_for_console, parse
from gateway.config.made_experiments import MadeExperiments, file_text
from gateway.config.retirements import day_of
from gateway.features.status.page import HIDDEN, MOST, ConfigValue, call_flow, headline, live_config, shown
from gateway.features.status.report import ConsumerStatus, GatewayStatus, Status, StreamStatus
from gateway.store.loss_accounting import Delivery
from gateway.stream import Lag

TEXT = """
keys: [{name: web, sha256: "%s"}]
upstreams:
  a:
    {kind: vllm, base_url: "http://user:hunter2@127.0.0.1:1/v1", api_key: "sk-literal", headers: {x-tenant: "t-secret"}}
  b: {kind: openai, api_key: "${SOME_KEY}"}
models: {chat: {targets: [{upstream: a, model: m}], fallback: [{upstream: b, model: n, on: [error]}]}}
stream: {url: "redis://u:hunter2@127.0.0.1:6379/0"}
admin: {tokens: [{name: ada, sha256: "%s", role: owner}]}
sampling: {rate: 0.25}
""" % ("a" * 64, "b" * 64)  # noqa: UP031
SECRETS = ("hunter2", "sk-literal", "sk-from-outside", "t-secret", "a" * 64, "b" * 64)


def values(made: MadeExperiments | None = None) -> dict[str, ConfigValue]:
    config = parse(TEXT, "gateway.yaml", {"SOME_KEY": "sk-from-outside"})
    found = live_config(TEXT, "gateway.yaml", made or MadeExperiments(Path("gateway.experiments.yaml")), config)
    return {value.path: value for section in found for value in section.values}


def test_every_value_says_where_it_comes_from() -> None:
    found = values()
    assert found["sampling.rate"] == ConfigValue("sampling.rate", "0.25", "gateway.yaml")
    assert found["sampling.unit"] == ConfigValue("sampling.unit", "request", "default")
    assert found["upstreams.b.api_key"].value == "$SOME_KEY"
    assert found["upstreams.b.api_key"].source == "environment, by gateway.yaml"
    assert found["models.chat.fallback[0].on[0]"].value == "error"


def test_no_secret_is_shown() -> None:
    found = values()
    said = " ".join(f"{each.path} {each.value}" for each in found.values())
    assert not [secret for secret in SECRETS if secret in said]
    assert found["upstreams.a.api_key"].value == HIDDEN
    assert found["upstreams.a.headers.x-tenant"].value == HIDDEN
    assert found["upstreams.a.base_url"].value == "http://…@127.0.0.1:1/v1"


def test_experiments_of_the_console_name_their_file() -> None:
    section = {
        "model": "chat",
        "control": {"upstream": "a", "model": "m"},
        "candidate": {"upstream": "a", "model": "o"},
    }
    found = values(MadeExperiments(Path("gateway.experiments.yaml"), file_text({"swap": section})))
    assert found["experiments.swap.model"].source == "gateway.experiments.yaml"


@pytest.mark.parametrize("text", ["", "a: [", "- x"])
def test_an_unreadable_file_still_shows_the_config_in_force(text: str) -> None:
    config = parse(TEXT, "gateway.yaml", {"SOME_KEY": "x"})
    found = live_config(text, "gateway.yaml", MadeExperiments(Path("x")), config)
    assert "sampling" in {section.name for section in found}


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="@/?#[]: \\"), min_size=6))
def test_a_password_in_a_url_is_never_shown(password: str) -> None:
    assert password not in shown(f"redis://me:{password}@localhost:6379/0")


HOME = "/console/system"
HOSTILE = b"<script>alert(1)</script>\x1b[31m\xe2\x80\xaeevil"


async def beating(corridor, **fields) -> None:
    now = time.time()
    report = {
        "host": "h", "pid": 1, "at": now, "started": now - 60, "rates": {"seen": 2.0}, "waiting": 0, "version": "1",
        "upstreams": {"local": {"down": True, "in_flight": 3, "queued": 1}}, "breakers_open": ["local/small"],
        **fields,
    }  # fmt: skip
    await corridor.state.set_gateway_heartbeat("i1", report)


async def buried(corridor, error: str = "why") -> str:
    await corridor.join()
    await corridor.append([{b"kind": HOSTILE, b"body": HOSTILE}])
    [entry] = await corridor.read("c1", 1, 1000)
    await corridor.dead_letters.add(entry, "unreadable", error)
    return [each.id async for each in corridor.dead_letters.all()][-1]


async def test_health_breakers_and_lag_are_shown(pages, corridor):
    await beating(corridor)
    client = await pages.login("viewer")
    page = await pages.get(client, HOME)
    for part in ("down at 1 of 1", "local/small open at 1 of 1", "h/1", "Ledger", "no consumer has a heartbeat"):
        assert part in page, part


async def test_parts_that_fail_are_shown_with_their_cause(pages, corridor, stream_name):
    """Gateways' parts are known by their heartbeats; the console's own are shown too."""
    reasons = ["the keys of a token issuer cannot be read: jwt.staff: <b>timed out</b>"]
    await beating(corridor, reasons=reasons, config={"ok": False, "refused": "models.chat: missing"})
    client = await pages.login("viewer")
    page = await pages.get(client, HOME)
    assert "the previous one is in force: h/1 (models.chat: missing); `gateway check` names the mistakes" in page
    assert "jwt.staff: &lt;b&gt;timed out&lt;/b&gt; (at h/1)" in page
    assert "This console" not in page
    await corridor.client.hset(f"{stream_name}:directory:head", mapping={"epoch": "other", "version": "1"})
    await pages.admin.publisher.look()
    page = await pages.get(client, HOME)
    assert "This console: <bdi>keys are not published: the stream server has the keys of another store" in page


async def test_the_config_has_sources_and_no_secret(pages):
    client = await pages.login("viewer")
    page = await pages.get(client, f"{HOME}/config")
    assert "scorers.valid_json" in page
    assert "gateway.yaml" in page
    assert "default" in page
    assert "sk-evals" not in page, "the key by which judges reach the gateway"


async def test_a_dead_letter_is_shown_as_text_and_replayed(pages, corridor):
    id = await buried(corridor, HOSTILE.decode())
    client = await pages.login()
    for path in (f"{HOME}/dead", f"{HOME}/dead?reason=unreadable", f"{HOME}/dead/{id}"):
        page = await pages.get(client, path)
        assert "<script>alert" not in page, path
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "⟨U+202E⟩evil" in page, path
    answer = await pages.send(client, f"{HOME}/dead", f"{HOME}/dead/replay", {"id": id})
    assert answer.status_code == 303
    assert "There are none." in await pages.get(client, f"{HOME}/dead")
    assert "replay" in await pages.get(client, f"{HOME}/audit")
    assert (await client.get(f"{HOME}/dead/{id}")).status_code == 404


async def test_without_content_a_letter_has_no_text(pages, corridor):
    """An error may repeat what could not be read."""
    id = await buried(corridor, "cannot read: my password is hunter2")
    viewer = await pages.login("viewer")
    for path in (f"{HOME}/dead", f"{HOME}/dead/{id}"):
        page = await pages.get(viewer, path)
        assert "hunter2" not in page
    assert "needs <code>content: true</code>" in page
    assert "<h3>" not in page
    assert (await pages.send(viewer, HOME, f"{HOME}/dead/replay", {"id": id})).status_code == 403


async def test_the_audit_names_person_and_change(pages):
    client = await pages.login("operator")
    await pages.send(client, "/console/keys/new", "/console/keys/new", {"name": "web", "requests_per_day": "9"})
    page = await pages.get(client, f"{HOME}/audit")
    assert "otto" in page
    assert "requests_per_day" in page
    assert "create key" in page


async def test_models_that_retire_are_listed_with_their_calls(pages):
    found = yaml.safe_load((pages.data / "gateway.yaml").read_text())
    today = day_of(pages.admin.clock())
    day = today + timedelta(days=20)
    found["models"]["chat"]["targets"][0]["retires"] = day
    (pages.data / "gateway.yaml").write_text(yaml.safe_dump(found))
    client = await pages.login("viewer")
    assert "Models that retire" not in await pages.get(client, HOME)
    pages.config.append(load_for_console(pages.data / "gateway.yaml"))
    calls = {"alias": "chat", "upstream": "local", "model": "small"}
    await pages.store.run(lambda connection: use_week(connection, today, 30, **calls))
    page = " ".join((await pages.get(client, HOME)).split())
    row = page.partition("Models that retire")[2].partition("</section>")[0]
    assert str(day) in row
    for part in ("local/small", "20</bdi>", "chat, other</bdi>", ">30</td>", "none is listed", "gateway.yaml"):
        assert part in row, part


def looked(*problems: str) -> Status:
    alive = GatewayStatus("i1", "host", 1, "1", 1.0, 60.0, {"seen": 6.25}, 0)
    silent = replace(alive, incarnation="i2", age_s=99.0)
    stream = StreamStatus(Lag(0, 0, 0.0), 1, 0, 0, {}, (alive, alive, silent), (ConsumerStatus("c1", 1.0),))
    return Status(0.0, "redis://x", stream, None, problems)


def test_the_page_is_a_sentence_about_what_is_wrong() -> None:
    assert headline(looked(), ()) == "Everything runs: 2 gateways, 1 consumer, 12.5 calls a second"
    assert headline(looked("no gateway has a heartbeat"), ()) == "No gateway has a heartbeat"
    two = headline(looked("the stream server takes no writes, " * 9, "x"), ("y",))
    assert two.startswith("The stream server takes no writes, ")
    assert two.endswith("…, and 2 more problems")
    assert len(two) <= MOST
    assert headline(None, ()) == "This console sees neither gateways nor consumers"


def test_the_drawing_of_the_ledger_has_every_call_once() -> None:
    of = Delivery(
        seen=100, unsampled={"rate": 50}, sampled=50, dropped={"full": 3}, waiting=2, enqueued=45, settled=40,
        lost={"trimmed": 1}, unaccounted=1, in_flight=3,
    )  # fmt: skip
    flow = call_flow(of)
    assert flow is not None
    assert [(look, n) for look, _, n in flow.parts] == [("wins", 40), ("ties", 5), ("losses", 50), ("lost", 5)]
    assert sum(float(shape.attributes["width"]) for shape in flow.bar.shapes) == pytest.approx(1000)
    assert call_flow(Delivery()) is None
