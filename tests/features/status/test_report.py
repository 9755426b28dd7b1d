"""`gateway status`: everything on one screen, from the stream server and the store; problems come first."""

from __future__ import annotations

import asyncio
import io
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest
import yaml
from fixtures.json_outputs import conforms
from fixtures.program_command import gateway_command
from rich.console import Console
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.stream import StreamConfig
from gateway.core.exchange import Count
from gateway.core.keys import KeyRecord, TeamRecord
from gateway.core.limits import LimitScope, counter_name, limits_of
from gateway.features.consumer_report import ConsumerReport
from gateway.features.keys.limits_used import scope_of
from gateway.features.status.report import look, to_terminal
from gateway.store import engine
from gateway.store.directory import DirectoryRow, begin_change, save_row
from gateway.store.predictions import StoredModel, save_model
from gateway.store.reader_config import ReaderConfig, whole
from gateway.store.store import StoreDown
from gateway.stream.leases import LeaseServer
from gateway.stream.types import TrimmedEntries

SECRET = "not-for-anybodys-eyes"


@pytest.fixture
def command(room, tmp_path, monkeypatch):
    """Runs `gateway status …` where gateway.yaml names the room's stream and store."""
    monkeypatch.chdir(tmp_path)
    sections = {
        "stream": {"url": room.stream_url, "name": room.stream_name},
        "store": {"url": room.store_url},
        "scorers": {"stated": {"budget_usd": 2.0}},
        "experiments": {"swap": {"budget": {"tokens_per_day": 1000}}},
        "predictor": {"target": "stated"},
        "upstreams": {"openai": {"kind": "openai", "api_key": "${SURELY_NOT_SET}"}},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(sections))

    async def run(*arguments: str):
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["status", *arguments]))

    return run


@pytest.fixture
def reasons_page():
    """Serves /health pages with these reasons; returns their URLs."""
    servers = []

    def serve(*reasons: str) -> str:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = orjson.dumps({"status": "ok", "reasons": reasons})
                self.send_response(200 if self.path == "/health" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Page)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


async def trimmed(shard, unread: int, to: str) -> None:
    """Writes the shard's count of entries that were trimmed before they were read, as trimming does."""
    await shard.client.hset(shard.trimmed_key, mapping={"unread": unread, "to": to})


async def lives(room, incarnation: str, age_s: float = 0.0, **rates: float) -> None:
    says = {"at": time.time() - age_s, "started": time.time() - 7200, "host": "box", "pid": int(incarnation, 36)}
    rates = {"seen": 0.0, "sampled": 0.0, "enqueued": 0.0, "dropped": 0.0, **rates}
    await room.corridor.state.set_gateway_heartbeat(incarnation, {**says, "version": "1", "rates": rates, "waiting": 3})


async def test_a_healthy_system_has_no_problems(room, exchange, tally, command):
    sent = [exchange("1") for _ in range(5)]
    cell = {"stratum": "default", "alias": "chat", "target": "local/small", "arm": ""}
    unsampled = (Count(**cell, n=15, reason="not_drawn"),)
    async with room.consuming("eye"):
        await lives(room, "g1", seen=41.5, sampled=4.0)
        await room.send(*sent, tally(sent, seen={"default": 20}, unsampled=unsampled))
        await room.until_read()
        await room.until(lambda: room.shown and room.shown[-1].unaccounted == 0)
        shown = await command()
        found_json = conforms("status", (await command("--json")).output)
    assert shown.exit_code == 0, shown.output
    for words in (
        "no problems", "box/577", "41.5", "eye", "20 = sampled 5 + unsampled 15 (not_drawn 15)",
        "5 = enqueued 5", "stored or dead-lettered 5", "unaccounted 0", "dead letters none",
    ):  # fmt: skip
        assert words in " ".join(shown.output.split()), words
    assert found_json["problems"] == []
    assert found_json["delivery"]["scores"] == {"stated": {"scored": 5}}
    assert found_json["stream"]["consumers"][0]["name"] == "eye"
    assert found_json["stream"]["gateways"][0]["rates"]["seen"] == 41.5


async def test_the_card_of_the_predictor_is_shown_and_that_it_is_off(room, exchange, tmp_path):
    card = {
        "held_out": 400, "mae": 0.21, "mae_of_mean": 0.2, "auc": 0.55, "slope": 0.4, "variance_ratio": 1.6,
        "variance_ratio_low": 1.2, "variance_ratio_high": 2.1, "weight": 0.1, "psi": {"length": 0.4},
    }  # fmt: skip
    opened = engine.writer(room.store_url)
    with opened.begin() as connection:
        save_model(connection, StoredModel("v1", "stated", 1.0, 0.0, 1.0, 400, "{}", card, ("length",)))
    opened.dispose()
    around = ReaderConfig(room.store_url, room.stream_url, StreamConfig())

    shown = await look(replace(around, target="stated"), room.corridor)
    without = await look(around, room.corridor)

    assert shown.to_dict()["predictors"][0]["card"] == card
    assert "the predictor of stated costs precision, so it is off" in shown.problems
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(to_terminal(shown))
    text = console.export_text()
    assert "mean error 0.210, always the mean 0.200; AUC 0.55" in text
    assert "variance 1.60 (1.20 to 2.10) of that without a predictor" in text
    assert "length 0.40" in text
    assert without.predictors == ()


async def test_the_last_cause_of_each_upstream_is_shown(room, command):
    says = {"at": time.time(), "started": time.time() - 60, "host": "box", "pid": 7, "rates": {}, "waiting": 0}
    idle = {"down": False, "in_flight": 0, "queued": 0}
    upstreams = {"openai": {**idle, "key_refused": "HTTP 401 invalid_api_key"}, "local": idle, "fine": idle}
    causes = {"local/m": "HTTP 503", "openai/gpt": "HTTP 401 invalid_api_key"}
    more = {"upstreams": upstreams, "breakers_open": list(causes), "breaker_causes": causes}
    reasons = ["an upstream refuses the gateway's key: upstreams.openai: HTTP 401 invalid_api_key"]
    await room.corridor.state.set_gateway_heartbeat("g1", {**says, **more, "reasons": reasons})
    text = " ".join((await command()).output.split())
    for words in (
        "! an upstream refuses the gateway's key: upstreams.openai: HTTP 401 invalid_api_key (at box/7)",
        "! circuit breaker of local/m is open at 1 of 1 gateway processes: HTTP 503",
        "openai key refused 0 0 gpt HTTP 401 invalid_api_key",
        "local failing 0 0 m HTTP 503", "fine up 0 0 none",
    ):  # fmt: skip
        assert words in text, f"{words}\n{text}"


async def test_problems_come_first_and_set_the_exit_code(room, exchange, tally, command):
    sent = [exchange("1") for _ in range(5)]
    await room.corridor.append([{b"kind": b"junk"}])
    async with room.consuming("eye"):
        await room.send(*sent[:3], tally(sent))
        await room.until_read()
        await room.until(lambda: room.shown and room.shown[-1].unaccounted == 2)
    now = time.time()
    await room.corridor.state.heartbeat("late", now - 300)
    await room.corridor.state.remember("blocked:late", '{"judge": "denied: HTTP 401"}', 60)
    await lives(room, "g2", age_s=120)
    await room.corridor.state.add(
        f"spent:{time.strftime('%Y-%m-%d', time.gmtime(now))}", {"stated:usd": 2.5, "stated:tokens": 7}
    )
    await room.corridor.state.add(f"spent:{int(now // 86400)}", {"swap:tokens": 10.0, "swap:usd": 0.0})
    await trimmed(room.corridor.home, 4, "1-0")
    await room.send(exchange("1"))
    shown = await command()
    assert shown.exit_code == 1
    text = " ".join(shown.output.split())
    for words in (
        "! no consumer is running: 1 entries are waiting", "! consumers without a heartbeat: late",
        "! gateways without a heartbeat: box/578", "! 4 entries were trimmed before they were read",
        "! 1 dead letters: `gateway dead list`",
        "! scorer judge is blocked: denied: HTTP 401", "! scorer stated has spent today's 2 usd",
        "! 2 exchanges are missing, and no known loss explains it", "unaccounted 2", "scorer stated 2.5 usd 2 125%",
        "shadow swap 10 tokens 1000 1%",
    ):  # fmt: skip
        assert words in text, f"{words}\n{shown.output}"
    assert "swap 0 usd" not in text, "what has no limit and was not spent is not shown"
    assert text.index("no known loss explains it") < text.index(" waiting, ")


async def test_budgets_that_are_nearly_used_are_listed_and_are_no_problem(room, command, tmp_path):
    """Those of gateway.yaml and of the console, with their calls to a model; a limit per minute is left out."""
    now = time.time()
    limits = {"usd_per_month": 50, "requests_per_minute": 10, "models": {"chat": {"tokens_per_day": 1000}}}
    config = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    config = {name: config[name] for name in ("stream", "store")} | {
        "open": True,
        "upstreams": {"local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "teams": {"search": {"limits": limits}},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    made = KeyRecord(id="key_1", name="web", digests=(), limits={"requests_per_day": 100, "usd_per_day": 1})
    opened = engine.writer(room.store_url)
    with opened.begin() as connection:
        save_row(connection, DirectoryRow(made, now, now, begin_change(connection)))
    opened.dispose()

    counters = LeaseServer(room.corridor.client, room.stream_name, "consumer")
    team, key = scope_of(TeamRecord("search", limits)), scope_of(made)
    of_model = LimitScope("model", "team-search/chat", limits_of(limits["models"]["chat"]))
    shares = {"usd_per_month": 0.9, "requests_per_minute": 1.0, "requests_per_day": 1.2, "usd_per_day": 0.79}
    for scope in (team, key, of_model):
        for limit in scope.limits:
            used = round(shares.get(limit.name, 0.8) * limit.amount * limit.scale)
            await counters.raise_spent(counter_name(scope, limit, now), used, round((now + 900) * 1000))

    shown = await command()
    near = conforms("status", (await command("--json")).output)["near_limits"]
    assert [(each["scope"], each["name"], each["limit"], each["spent"]) for each in near] == [
        ("key", "web", "requests_per_day", 120.0),
        ("team", "search", "usd_per_month", 45.0),
        ("model", "team-search/chat", "tokens_per_day", 800.0),
    ]
    assert [round(each["share"], 6) for each in near] == [1.2, 0.9, 0.8]
    text = " ".join(shown.output.split())
    assert "key web requests_per_day 120 100 120%" in text
    assert "team search usd_per_month 45 50 90%" in text
    assert not [line for line in shown.output.splitlines() if line.startswith("!") and "usd" in line]


async def test_a_full_stream_server_is_named_and_nothing_else(room, command):
    """No heartbeat can be written, which says nothing about who runs."""
    await lives(room, "g1", age_s=120)
    await room.corridor.state.heartbeat("late", time.time() - 300)
    await room.corridor.client.config_set("maxmemory", "1")
    try:
        shown = " ".join((await command()).output.split())
    finally:
        await room.corridor.client.config_set("maxmemory", "0")
    assert "! the stream server takes no writes" in shown
    assert "command not allowed when used memory > 'maxmemory'" in shown
    assert "without a heartbeat" not in shown
    assert "no gateway has a heartbeat" not in shown
    assert await room.corridor.state.refusal() is None
    assert await room.corridor.client.keys("*:writable") == []


async def test_old_heartbeats_name_the_clock(room, command):
    await lives(room, "g1", age_s=300)
    shown = " ".join((await command()).output.split())
    assert "no gateway has a heartbeat: the newest is 5 m old, unless this machine's clock is wrong" in shown


async def test_a_clock_that_is_an_hour_off_is_named(room, command):
    """A gateway's clock is an hour late, and then this machine's, so that the heartbeat is from the future."""
    await lives(room, "g1", age_s=3600)
    shown = " ".join((await command()).output.split())
    assert "no gateway has a heartbeat: the newest is 60 m old, unless this machine's clock is wrong" in shown
    await lives(room, "g1", age_s=-3600)
    shown = " ".join((await command()).output.split())
    assert "heartbeats are 60 m ahead of this machine's clock, which or a gateway's is wrong" in shown
    assert "no gateway has a heartbeat" not in shown


async def test_a_store_that_takes_no_writes_is_named(room, exchange, command):
    """The consumer is paused and says why; the entry is stored once the cause is gone."""
    async with room.opened("eye") as (consumer, context), asyncio.TaskGroup() as tasks:
        write, full = context.store.write, [True]

        async def write_or_not(batch):
            if full:
                raise StoreDown("store: No space left on device")
            return await write(batch)

        context.store.write = write_or_not
        tasks.create_task(consumer.run())
        await room.send(exchange("1"))
        async with asyncio.timeout(60):
            while "scoring is paused at eye: store: No space left" not in " ".join((await command()).output.split()):
                pass
        full.clear()
        await room.until_read()
        async with asyncio.timeout(60):
            while "scoring is paused" in (await command()).output:
                pass
        consumer.stop()


async def test_a_scorer_that_always_fails_is_named_and_found(room, exchange, command, tmp_path):
    async with room.consuming("eye"):
        await room.send(*(exchange("no number at all") for _ in range(7)))
        await room.until_read()
        async with asyncio.timeout(60):
            while "failed on" not in (found := " ".join((await command()).output.split())):
                pass
    assert "! scorer stated failed on 7 of 7 answers within ten minutes: ValueError: could not convert" in found
    query = "scorer=stated score_status=error"
    assert f"`gateway samples --where '{query}'` lists them" in found
    listed = await asyncio.to_thread(
        lambda: CliRunner().invoke(
            app, ["samples", "--where", query, "--json", "--config", str(tmp_path / "gateway.yaml")]
        )
    )
    assert len(orjson.loads(listed.output)) == 7


async def test_losses_with_a_known_cause_are_named(room, exchange, tally, command):
    sent = [exchange("1") for _ in range(5)]
    async with room.consuming("eye") as desk:
        await room.send(*sent[:3])
        await room.until_read()
        entry = f"{time.time() * 1000:.0f}-0"
        await trimmed(room.corridor.home, 2, entry)
        await room.until(lambda: desk.metrics.figures.trimmed_unread == 2)
        await room.send(tally(sent))
        await room.until(lambda: desk.metrics.figures.lost.get("trimmed") == 2)
    assert await room.corridor.home.trimmed() == TrimmedEntries(2, entry)
    assert "lost on the way: trimmed 2" in (await command()).output


async def test_a_paused_consumer_is_not_answered_by_more_consumers(room, command):
    now = time.time()
    await room.corridor.state.heartbeat("eye", now)
    await room.corridor.state.remember("report:eye", ConsumerReport(paused="store: disk is full").to_json(), 60)
    await room.corridor.join()
    old = f"{int((now - 1000) * 1000)}-0"
    await room.corridor.home.client.xadd(room.corridor.home.key, {"kind": "junk"}, id=old)
    shown = " ".join((await command()).output.split())
    assert re.search(r"the oldest entry has been waiting for 1\d\d\d s: it is read once scoring goes on", shown), shown
    assert "scoring is paused at eye: store: disk is full" in shown
    assert "run more consumers" not in shown


async def test_a_config_that_cannot_be_read_is_named_with_the_rest(room, command, tmp_path):
    """The usual store and stream server of the data directory are read in its place."""
    (tmp_path / "gateway.yaml").write_text("stream: [no, list\n")
    shown = await command("--data", str(tmp_path))
    assert shown.exit_code == 2
    first, second, *_ = (line for line in shown.output.splitlines() if line.startswith("!"))
    assert first.startswith("! gateway.yaml cannot be read, so this report is of the stream server")
    assert second.startswith("! stream server: ")
    found = conforms("status", (await command("--data", str(tmp_path), "--json")).output)
    assert "gateway.yaml" in found["config_unreadable"]


async def test_processes_are_asked_while_the_stream_server_is_away(command, tmp_path, reasons_page):
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"stream": {"url": "redis://127.0.0.1:1/0"}}))
    one, same = (
        reasons_page("the newest gateway.yaml was refused: x"),
        reasons_page("the newest gateway.yaml was refused: x", "b"),
    )
    asked = [word for url in (one, same, "http://127.0.0.1:1") for word in ("--process", url)]
    shown = await command(*asked)
    text, hosts = " ".join(shown.output.split()), [url.removeprefix("http://") for url in (one, same)]
    assert shown.exit_code == 2
    assert f"! the newest gateway.yaml was refused: x (at {', '.join(hosts)})" in text
    assert f"! b (at {hosts[1]})" in text
    assert "! /health does not answer (at 127.0.0.1:1)" in text


async def test_a_missing_server_or_store_is_reported(command, tmp_path):
    url = f"redis://u:{SECRET}@127.0.0.1:1/0"
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"stream": {"url": url}}))
    shown = await command()
    assert shown.exit_code == 2
    assert "stream server 127.0.0.1:1" in shown.output
    assert "! stream server: " in shown.output
    assert "no store at" in shown.output
    both = shown.output + (await command("--json")).output
    assert SECRET not in both


async def test_watching_prints_one_line_of_json_per_look(room, tmp_path):
    """`--watch --json` prints it until it is told to stop."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"stream": {"url": room.stream_url, "name": room.stream_name}}))
    words = ["status", "--watch", "--every", "0.2", "--json", "--config", str(path)]
    process = await asyncio.create_subprocess_exec(
        *gateway_command(*words, "--data", str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        lines = [orjson.loads(await process.stdout.readline()) for _ in range(2)]
        process.terminate()
        await process.communicate()
    assert lines[0]["at"] < lines[1]["at"]


async def test_a_look_changes_nothing_on_the_server(room, exchange, tmp_path):
    """Nothing is read from the stream, made or acknowledged."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"stream": {"url": room.stream_url, "name": room.stream_name}}))
    await room.send(exchange("1"))
    found = await look(whole(path, tmp_path), room.corridor)
    assert found.stream is not None
    assert (found.stream.lag.waiting, found.stream.lag.pending) == (1, 0)
    assert await room.corridor.snapshots() == {}, "no group was made"
    assert any("no consumer is running: 1 entries are waiting" in problem for problem in found.problems)


async def test_unconfirmed_keys_are_a_problem_with_their_versions(room, command):
    async def beat(incarnation: str, **directory: object) -> None:
        says = {"at": time.time(), "started": time.time() - 60, "host": "box", "pid": int(incarnation, 36)}
        more = {"rates": {}, "waiting": 0, "directory": directory}
        await room.corridor.state.set_gateway_heartbeat(incarnation, {**says, **more})

    await beat("g1", version=12, age_s=0.2, source="stream")
    await beat("g2", version=11, age_s=7300.0, source="snapshot")
    await beat("g3", version=0, age_s=None, source="none")
    shown = " ".join((await command()).output.split())
    assert "! keys are as they were 2 h ago, because no newer ones can be read: box/578" in shown
    assert "keys version 11 at 1, version 12 at 1 of 3 gateway processes, confirmed 2 h ago at most" in shown
    gateways = conforms("status", (await command("--json")).output)["stream"]["gateways"]
    assert sorted((g["keys_version"], g["keys_age_s"]) for g in gateways if g["keys_version"]) == [
        (11, 7300.0),
        (12, 0.2),
    ]
