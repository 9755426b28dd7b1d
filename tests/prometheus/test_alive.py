"""Every query of every panel, and every alert rule, against a real Prometheus over the running whole.

What a query waits for is made to happen: an upstream that fails, a consumer that dies, an entry that is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import math
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.chat_engines import chat_answer
from fixtures.learned_routes import ROUTE

from gateway.cli.dashboards import panels_of
from gateway.fake import HOLD, Fault
from gateway.features.decisions.model import CertificateAttempt, Promise
from gateway.features.decisions.rows import save_attempt
from gateway.features.guards.hourly.usual_range import ALPHA as GUARD_ALPHA
from gateway.features.guards.hourly.usual_range import DriftState, config_of, state_to_json
from gateway.features.labels.desk import LabelRequest, export_blind_sheet, import_labels
from gateway.features.learned.drift import QUALITY_ALPHA
from gateway.features.route.work import keep_returned
from gateway.statistics.change_detection import ChangeDetector
from gateway.statistics.recalibration import IDENTITY
from gateway.store.query import writing
from gateway.store.store import Store
from gateway.stream.shard import GROUP

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent.parent
STREAM, DEAD = "whole:exchanges", "whole:dead"
HOUR_MS = 3_600_000
LIMITED = {200, 429, 503}  # the last: the stream server is late, and this worker has used its part (limits_unavailable)
CACHED = json.dumps(
    {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3,
                  "prompt_tokens_details": {"cached_tokens": 1}},
    }
).encode()  # fmt: skip


DECISION = json.dumps({
    "model": "read", "input": "Twice!", "questions": [{"type": "predicate", "instructions": "It was charged twice."}],
}).encode()  # fmt: skip


def queries() -> list[tuple[str, str]]:
    """(dashboard: panel: legend, PromQL) of every panel, with every variable at "All"."""
    found = []
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "1m")
                for variable in dashboard["templating"]["list"]:
                    expr = expr.replace(f'"${variable["name"]}"', '".*"')
                assert "$" not in expr
                found.append((f"{path.stem}: {panel['title']}: {target['legendFormat']}", expr))
    return found


def alerts() -> dict[str, str]:
    """PromQL of each alert rule, by its name."""
    rules = yaml.safe_load((ROOT / "grafana" / "alerts" / "gateway.yml").read_text("utf-8"))
    return {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


async def samples_behind(whole: Any, promql: str) -> str:
    """The samples in Prometheus of each series that a query selects, as far as 40 lines say them."""
    selected = sorted(set(re.findall(r"\b(?:gateway|gen_ai)_\w+(?:\{[^}]*\})?", promql)))
    rows = [row for selector in selected for row in await whole.query(selector)]
    lines = [f"{json.dumps(row['metric'])} {row['value'][1]}" for row in rows[:40]]
    return "\n".join([f"{len(rows)} samples of {', '.join(selected)}:", *lines])


class Rung:
    """The alerts that have rung, now or before: Prometheus keeps them."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    async def names(self) -> set[str]:
        rows = await self._whole.query('max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[10m]))')
        return {row["metric"]["alertname"] for row in rows}

    async def until(self, until: Any, *names: str) -> None:
        """Raises TimeoutError, with what Prometheus and the programs say."""

        async def all_rang() -> bool:
            return set(names) <= await self.names()

        try:
            await until(all_rang, "they do not ring")
        except TimeoutError as error:
            missing = set(names) - await self.names()
            error.add_note(f"missing: {missing}")
            for name in sorted(missing):
                error.add_note(await samples_behind(self._whole, alerts()[name]))
            error.add_note(await self._whole.scrapes())
            error.add_note(self._whole.output)
            raise


async def an_experiment_begins(whole: Any) -> None:
    """The experiment has too few calls for a verdict, so that a scrape sees it change later."""
    whole.doubles["good"].says('{"ok": ', "true}")
    whole.doubles["worse"].says("no JSON at all")
    await whole.load(4, response_format={"type": "json_object"})
    await whole.until_value('gateway_experiment_verdict{experiment="swap",verdict="hold"}', lambda n: n == 1)


async def ordinary_traffic(whole: Any, people: int = 60) -> None:
    """Answers plain and streamed, shadows, a split, a route, tags, judges, feedback; what is cut, refused, redacted."""
    whole.doubles["good"].says('{"ok": ', "true}")
    whole.doubles["worse"].says("no JSON at all")
    whole.doubles["judge"].says('{"score": 4}')
    whole.doubles["read"].replies(lambda received: chat_answer((("yes", 0.6), ("no", 0.2))))
    whole.doubles["cutting"].always(Fault.cut_after(2))
    json_wanted = {"response_format": {"type": "json_object"}}
    statuses = [*await whole.load(80, **json_wanted), *await whole.load(20, stream=True, **json_wanted)]
    run = {"metadata": {"run_id": "task"}}
    assert set(await whole.spread([whole.call("chat", always=True, **run) for _ in range(4)])) == {200}
    tagged = {"metadata": {"tags": {"feature": "search"}}}
    statuses += [*await whole.load(4, "unpriced", **tagged), *await whole.load(60, "tight", **json_wanted)]
    statuses += [*await whole.load(4, "many", **json_wanted), *await whole.load(4, "routed", **json_wanted, **tagged)]
    assert set(statuses) == {200}
    await whole.load(3, "cut", stream=True)
    assert {*await whole.load(2, "mute"), *await whole.load(8, "mute", stream=True)} == {200}
    assert set(await whole.spread([("/v1/decisions", DECISION, "sk-web-key", "")] * 8)) == {200}
    await whole.spread([whole.call("split", user=f"user-{i}") for i in range(people)])
    await whole.rated(people)
    secret = [{"role": "user", "content": "write to ada@example.org"}]
    await whole.spread([whole.call("chat", key="sk-private-key", messages=secret, always=True) for _ in range(4)])
    assert await whole.load(1, "no-such-model") == [404]
    assert await whole.spread([wrong_key(whole)]) == [401]
    feedback = json.dumps({"id": "chatcmpl-1", "value": True}).encode()
    assert await whole.spread([("/v1/feedback", feedback, "sk-web-key", "")]) == [202]


def wrong_key(whole: Any) -> tuple[str, bytes, str, str]:
    return "/v1/chat/completions", whole.call("chat")[1], "sk-nobodys", ""


async def calls_are_refused(whole: Any) -> None:
    """The calls are for keys and models that nobody knows."""
    assert set(await whole.spread([wrong_key(whole)] * 600)) == {401}
    assert set(await whole.load(900, "no-such-model")) == {404}


async def an_upstream_is_down_and_up_again(whole: Any) -> None:
    whole.doubles["denying"].always(Fault.status(503))
    await whole.until_value('max(gateway_upstream_down{upstream="denying"})', lambda n: n == 1)
    whole.doubles["denying"].always(None)
    await whole.until_value('max(gateway_upstream_down{upstream="denying"})', lambda n: n == 0)


async def served(whole: Any, model: str, n: int) -> None:
    """n answers to the team `near`. What the other worker holds of its limit comes back after two idle seconds."""
    left = n

    async def all_served() -> bool:
        nonlocal left
        statuses = await whole.spread([whole.call(model, key="sk-near-key")] * left)
        assert set(statuses) <= LIMITED
        left -= statuses.count(200)
        return left == 0

    await whole.until(all_served, f"{left} of {n} calls were not answered")


async def keys_come_and_go(whole: Any, rung: Rung) -> None:
    """One is made, two teams use up their limits, and somebody writes to the stream server by hand."""
    made = (await whole.admin("POST", "/keys", name="made")).json()

    async def opens() -> bool:
        statuses: list[int] = await whole.spread([whole.call("chat", key=made["secret"])])
        return statuses == [200]

    await whole.until(opens, "the key is not in force")
    assert (await whole.admin("GET", "/keys", token="a guess")).status_code == 401
    whole.doubles["unpriced"].answers(200, CACHED)
    await served(whole, "chat", 44)
    await served(whole, "unpriced", 1)
    whole.doubles["unpriced"].says()

    assert await whole.spread([whole.call("tiered", key="sk-poor-key")] * 4) == [200] * 4
    path, body, key, more = whole.call("chat", key="sk-agent-key")
    of_run = path, body, key, f"{more}x-gateway-run: task-1\r\n"
    ended = await whole.spread([of_run] * 6)
    assert 429 in ended, "its ceiling is one call"
    assert set(ended) <= LIMITED

    async def refused() -> bool:  # a worker that waits for the stream server in vain lends its part: another call more
        statuses: list[int] = await whole.spread([whole.call("chat", key="sk-spent-key")] * 3)
        assert set(statuses) <= LIMITED
        return 429 in statuses

    await whole.until(refused, "the used up limit refuses no call")
    await rung.until(whole.until, "GatewayLimitNearlyUsed", "GatewayLimitUsedUp")
    redis, head = whole.redis(), "whole:directory:head"
    version = int(redis.hget(head, "version")) + 1
    redis.hset("whole:directory:records", "key:odd", "no record")
    redis.xadd("whole:directory:changes", {"name": "key:odd"}, id=f"{version}-1")
    redis.hset(head, "version", version)
    await whole.until_value("sum(gateway_directory_malformed_total)", lambda n: n == 2, "once in each worker")
    await rung.until(whole.until, "GatewayKeysNotPublished")


async def a_ramp_goes_forth_and_back(whole: Any, rung: Rung) -> None:
    """People override it by hand, and later undo that."""

    async def begun() -> bool:
        gate: dict[str, Any] = (await whole.admin("GET", "/experiments/ramped/gate")).json()
        return gate.get("state") == "shadow"

    await whole.until(begun, "the ramp does not begin")
    for verb in ("override", "rollback"):
        done = await whole.admin("POST", f"/experiments/ramped/{verb}", reason="to see it happen")
        assert done.status_code == 200, done.text
    await rung.until(whole.until, "GatewayRampRolledBack")


async def no_worker_answers(whole: Any, rung: Rung) -> None:
    with whole.workers_paused():
        await rung.until(whole.until, "GatewayNoneAnswers")


async def a_worker_dies(whole: Any, rung: Rung) -> None:
    os.kill(whole.workers[0], signal.SIGKILL)
    for wire in whole.wires:
        wire.close()  # some were connected to it
    await rung.until(whole.until, "GatewayWorkersDie")


async def upstreams_fail(whole: Any) -> None:
    whole.doubles["broken"].always(Fault.status(500))
    whole.doubles["denying"].always(Fault.status(401))
    assert 200 not in await whole.load(8, "broken")


async def a_first_token_that_is_slow(whole: Any) -> None:
    """One stream holds for more than ten seconds at an upstream with one place, and others queue behind it."""
    whole.doubles["slow"].says("a", "b")
    await whole.load(1, "queued", stream=True)
    quick = 'sum(gen_ai_server_time_to_first_token_seconds_count{upstream="narrow"})'
    await whole.until_value(quick, lambda n: n == 1)
    whole.doubles["slow"].says(HOLD, "late")


async def slow_streams_begin(whole: Any, group: asyncio.TaskGroup) -> None:
    """All of them wait from now on: in a worker one at the upstream, the others in its queue."""
    for wire in whole.spare:
        group.create_task(wire.ask(*whole.call("queued", stream=True)))
    waiting = " + ".join(
        f'sum(gateway_upstream_{which}_requests{{upstream="narrow"}})' for which in ("inflight", "queued")
    )
    await whole.until_value(waiting, lambda n: n == len(whole.spare))


async def slow_streams_are_counted(whole: Any) -> None:
    """Every one, although configs have come and gone since it began."""
    seconds = "gen_ai_server_time_to_first_token_seconds"
    slow = f'sum({seconds}_count{{upstream="narrow"}}) - sum({seconds}_bucket{{upstream="narrow",le="10.0"}})'
    try:
        await whole.until_value(slow, lambda n: n == len(whole.spare))
    except TimeoutError as error:
        error.add_note(await samples_behind(whole, slow))
        error.add_note(whole.output)
        raise


async def the_oldest_waits(whole: Any, rung: Rung, until: Any) -> None:
    """A consumer took an entry an hour ago, and died. The entry is unreadable: its claimant makes it a dead letter."""
    await rung.until(until, "GatewayScoresStale")
    redis = whole.redis()
    (oldest,) = redis.xpending_range(STREAM, GROUP, "-", "+", 1)
    redis.xclaim(STREAM, GROUP, "dead", 0, [oldest["message_id"]], idle=HOUR_MS, justid=True)
    await rung.until(until, "GatewayDeadLetters")  # before the stream overflows, which would trim it


async def an_entry_vanishes(whole: Any) -> None:
    """Somebody deletes an exchange from the stream that no consumer has read."""
    with whole.paused(whole.consumer):
        redis = whole.redis()
        for _ in range(3):  # what comes first is still handed to the consumer, which waits for it
            await whole.spread([whole.call("unpriced", always=True) for _ in range(4)])
            await asyncio.sleep(0.1)
        await whole.until(lambda: vanishes(redis), "no exchange came")


def vanishes(redis: Any) -> bool:
    """Deletes an exchange that no consumer has been given yet; False if there is none."""
    (group,) = redis.xinfo_groups(STREAM)
    for entry, fields in redis.xrange(STREAM, min=b"(" + group["last-delivered-id"]):
        if fields[b"kind"] == b"exchange":
            return bool(redis.xdel(STREAM, entry))
    return False


async def the_stream_overflows(whole: Any) -> None:
    with whole.paused(whole.consumer):
        await whole.spread([whole.call("unpriced", always=True) for _ in range(1500)])
        await whole.until(lambda: whole.redis().xlen(STREAM) < 1300, "nothing was trimmed")


async def the_stream_server_is_away(whole: Any, rung: Rung, until: Any) -> None:
    whole.stream.kill()
    large = [{"role": "user", "content": "x" * 20_000}]
    await whole.spread([whole.call("unpriced", messages=large, always=True) for _ in range(60)])
    dropping = ("GatewayRecorderFilling", "GatewayExchangesDropped")
    await rung.until(until, "GatewayStreamUnreachable", *dropping, "GatewayKeysStale")
    whole.stream.start()


async def configs_come_and_go(whole: Any, rung: Rung) -> None:
    """One under which redaction cannot end in time, one with a mistake, and the first again."""
    good = whole.config_path.read_text()
    hasty = yaml.safe_load(good)
    hasty["redaction"]["deadline_s"] = 1e-9
    whole.write_config(yaml.safe_dump(hasty))
    await whole.until(lambda: whole.gateway.output.count("config reloaded") >= 2, "the config is not read")
    # What comes while the buffer still is full after the outage is dropped before anything is redacted.
    await whole.until_value("max(gateway_recorder_fill_ratio)", lambda n: n < 0.1)
    secret = [{"role": "user", "content": "write to ada@example.org"}]
    calls = [whole.call("chat", key="sk-private-key", messages=secret, always=True) for _ in range(2)]
    assert await whole.spread(calls) == [200, 200]
    # More than these where `swap` still has budget: a shadow's answer is redacted for the same key.
    await whole.until_value("sum(gateway_redaction_failed_total)", lambda n: n >= 2, "redaction does not fail")
    whole.write_config("upstreams: 3")
    await rung.until(whole.until, "GatewayConfigRefused")
    whole.write_config(good)


async def a_leaf_is_taken_back(whole: Any) -> None:
    """The watch of the route writes it so; the consumer publishes it within half a minute."""
    digest = json.loads((whole.directory / f"gateway.route.{ROUTE}.json").read_text())["digest"]
    async with Store(f"sqlite:///{whole.directory / 'data' / 'gateway.db'}") as store:
        await store.run(lambda c: keep_returned(c, digest, frozenset({0}), time.time()))


Row = dict[str, str]


async def a_sheet_is_labelled(
    whole: Any, asked: LabelRequest, count: int, verdict: Callable[[int, Row], str]
) -> tuple[list[Row], bool]:
    """The rows of the next sheet, and whether all of its labels have a known probability.

    They do not behind a call that a consumer stored after the sheet was made and that comes first in the order of the
    draw, until a later sheet has that call too.
    """
    store = f"sqlite:///{whole.directory / 'data' / 'gateway.db'}"
    sheet = whole.directory / "sheet.csv"
    sheet.write_text(await asyncio.to_thread(export_blind_sheet, store, asked, count, "csv"))
    with sheet.open() as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return rows, True
    with sheet.open("w") as file:
        out = csv.DictWriter(file, rows[0].keys())
        out.writeheader()
        out.writerows({**row, "verdict": verdict(i, row)} for i, row in enumerate(rows))
    imported = await asyncio.to_thread(import_labels, store, sheet, asked, None)
    return rows, imported.past_gap == 0


async def people_label(whole: Any) -> None:
    asked, n = LabelRequest("helpful", "ada"), 0

    async def all_count() -> bool:
        nonlocal n
        rows, known = await a_sheet_is_labelled(whole, asked, 200, lambda i, _: "good" if i % 3 else "bad")
        n += len(rows)
        return known

    await whole.until(all_count, "labels stay behind an answer that is not labelled")
    assert n >= 30, "too little was judged for ten labels of one model"


async def people_label_a_guard(whole: Any) -> None:
    """The first calls in the order of the draw, until some have a hit and some have none."""
    asked = LabelRequest("guard mails", "ada")
    kinds: set[bool] = set()

    def has_hit(row: Row) -> bool:
        return "[email]" in row["question"]

    async def both_count() -> bool:
        rows, known = await a_sheet_is_labelled(whole, asked, 400, lambda _, row: "bad" if has_hit(row) else "good")
        kinds.update(map(has_hit, rows))
        return known and len(kinds) == 2

    await whole.until(both_count, "labels of calls with a hit, or of calls without, are missing")


async def a_guard_changes(whole: Any) -> None:
    """The state of its alarm is written by hand, as a consumer writes it after a day."""
    detector = ChangeDetector([0.0] * 4, [0.01] * 4, GUARD_ALPHA)
    detector.add([[1.0] * 4] * 500)
    now = time.time()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(whole.directory / "data" / "gateway.db", timeout=30)) as other, other:
            newest = (
                "SELECT on_side, config_hash FROM guard_decisions WHERE guard = 'mails' ORDER BY received DESC LIMIT 1"
            )
            config = config_of(*other.execute(newest).fetchone())
            drifted = DriftState(config, now + 1e6, now, (0.01, 0.01), calls=1.0, detector=detector.state(), since=now)
            other.execute(
                "INSERT OR REPLACE INTO drift_states (scorer, alias, state, at) VALUES (?, ?, ?, ?)",
                ("guard mails", "", state_to_json(drifted), now),
            )

    await asyncio.to_thread(write)


async def a_certificate_lapses(whole: Any) -> None:
    """The lapsed attempt is written by hand, as a consumer writes it after a drift."""
    promise, now = Promise("auto", "helpful", 0.05, 0.9, "threshold"), time.time()
    lapsed = CertificateAttempt(promise, "q", IDENTITY, 0, (), now, now, 100, lapsed=now, reason="drift")

    def write() -> None:
        with writing(f"sqlite:///{whole.directory / 'data' / 'gateway.db'}") as connection:
            save_attempt(connection, lapsed)

    await asyncio.to_thread(write)


async def the_store_is_locked(whole: Any, rung: Rung, until: Any) -> None:
    with contextlib.closing(sqlite3.connect(whole.directory / "data" / "gateway.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        await rung.until(until, "GatewayConsumerStuck")
        other.rollback()


async def the_split_is_not_the_planned_one(whole: Any) -> None:
    """Only users who fall into one arm come, as if a balancer sent the others elsewhere."""
    mine = whole.of_arm("candidate", (f"late-{i}" for i in range(240)))
    await whole.spread([whole.call("split", user=user) for user in mine])


async def the_predictor_does_harm(whole: Any) -> None:
    """The consumer has trained a model. Its card and the state of its drift alarms are then written by hand."""
    detector = ChangeDetector([0.9], [1.0], QUALITY_ALPHA)
    detector.add([[0.0]] * 500)
    drifted = {"at": time.time() + 1e6, "feature_set": "", "version": "", "edges": [], "quality": detector.state()}
    state = json.dumps({**drifted, "input": detector.state()})

    def write() -> bool:
        with contextlib.closing(sqlite3.connect(whole.directory / "data" / "gateway.db", timeout=30)) as other, other:
            newest = other.execute(
                "SELECT version, card FROM predictor_models ORDER BY created DESC LIMIT 1"
            ).fetchone()
            if newest is None:
                return False
            # Where all answers that the model had not seen are good, its card ranks and calibrates nothing.
            known = {name: value for name, value in json.loads(newest[1]).items() if value is not None}
            if known.get("variance_ratio_low") == 1.1:
                return True
            ranked = {"auc": 0.6, "slope": 0.9, **known}
            card = json.dumps({**ranked, "variance_ratio_low": 1.1, "variance_ratio_high": 1.5})
            other.execute("UPDATE predictor_models SET card = ? WHERE version = ?", (card, newest[0]))
            other.execute("INSERT OR REPLACE INTO drift_states (scorer, alias, state, at) VALUES (?, ?, ?, ?)",
                          ("valid_json", "chat", state, time.time()))  # fmt: skip
        return True

    async def shown() -> bool:
        """Written again while it is not shown: a training that ends meanwhile makes a newer card."""
        if not await asyncio.to_thread(write):
            return False
        ranks = [await whole.value(f"max(gateway_eval_predictor_{name})") for name in ("auc", "slope")]
        return not any(map(math.isnan, ranks))

    await whole.until(shown, "no model is trained and shown")
    # The consumer has restarted; and a window has an interval from 30 effective scores on.
    await whole.spread([whole.call("unpriced", always=True) for _ in range(80)])


async def scores_miss_their_objective(whole: Any) -> None:
    async def rings() -> bool:
        await whole.worse_answers()
        return "GatewayScoreObjectiveMissed" in await Rung(whole).names()

    try:
        await whole.until(rings, "GatewayScoreObjectiveMissed does not ring")
    except TimeoutError as error:
        recorded = 'count_over_time({__name__=~"gateway:score_objective_(missed|upper|effective_samples)"}[1m])'
        error.add_note(json.dumps(await whole.query(recorded), indent=1))
        error.add_note(await samples_behind(whole, "gateway_eval_alias_score_unit_weight_total"))
        error.add_note(await whole.scrapes())
        error.add_note(whole.output)
        raise


async def everything_happens(whole: Any, rung: Rung) -> None:
    until = whole.until
    await an_experiment_begins(whole)
    await ordinary_traffic(whole)
    await keys_come_and_go(whole, rung)
    await a_ramp_goes_forth_and_back(whole, rung)
    await an_upstream_is_down_and_up_again(whole)
    await upstreams_fail(whole)
    await a_first_token_that_is_slow(whole)
    async with asyncio.TaskGroup() as group:
        await slow_streams_begin(whole, group)
        held = time.monotonic()
        await the_oldest_waits(whole, rung, until)
        # Again, since a rate needs two scrapes with a change between; and once more, since what an open breaker refuses
        # is a series of its own.
        await whole.until_value('sum(gateway_requests_total{alias="broken"})', lambda n: n == 8)
        await ordinary_traffic(whole, 0)
        await calls_are_refused(whole)
        await upstreams_fail(whole)
        await whole.until_value('sum(gateway_requests_total{alias="broken"})', lambda n: n == 16)
        await upstreams_fail(whole)
        await an_entry_vanishes(whole)
        await rung.until(until, "GatewayUnaccounted")
        await the_stream_overflows(whole)
        await rung.until(until, "GatewayStreamTrimmedUnread")
        await the_stream_server_is_away(whole, rung, until)
        await configs_come_and_go(whole, rung)
        await a_leaf_is_taken_back(whole)
        await the_store_is_locked(whole, rung, until)
        await the_split_is_not_the_planned_one(whole)
        await rung.until(until, "GatewayScorerBudgetUsed")  # all that the budget pays for is judged
        await people_label(whole)
        await people_label_a_guard(whole)
        await a_guard_changes(whole)
        await a_certificate_lapses(whole)
        await until(lambda: time.monotonic() - held > 10.5, "ten seconds do not pass")
        whole.doubles["slow"].says("soon")
        whole.doubles["slow"].release()
    await slow_streams_are_counted(whole)
    await rung.until(until, "GatewayVerdictChanged", "GatewayExperimentGateRed", "GatewayFirstTokenSlow")
    await no_worker_answers(whole, rung)
    await a_worker_dies(whole, rung)
    await scores_miss_their_objective(whole)
    await whole.consumer.stop()
    await rung.until(until, "GatewayTargetDown")
    await whole.consumer.start()  # it reads labels when it starts, and every 30 s
    whole.doubles["unpriced"].answers(200, CACHED)  # again, since a rate needs a change between two scrapes
    assert await whole.spread([whole.call("unpriced", key="sk-near-key")]) == [200]
    whole.doubles["unpriced"].says()


async def test_every_alert_rings_and_every_panel_lives(whole: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rung, began = Rung(whole), time.time()
    asked = queries()
    dead = list(asked)

    async def all_alive() -> bool:
        dead[:] = [(where, expr) for where, expr in dead if not await alive(whole, expr, began)]
        return not dead

    await everything_happens(whole, rung)
    await the_predictor_does_harm(whole)
    await rung.until(whole.until, *alerts())
    try:
        await whole.until(all_alive, "panels are dead")
    except TimeoutError:
        samples = [await samples_behind(whole, expr) for _, expr in dead]
        shown = ["these show nothing:", *(where for where, _ in dead), *samples, await whole.scrapes(), whole.output]
        pytest.fail("\n".join(shown))
    panels = {where.rpartition(": ")[0] for where, _ in asked}
    with capsys.disabled():
        print(f"\n{len(panels)} panels with {len(asked)} queries alive, {len(alerts())} alert rules rang")  # noqa: T201


async def alive(whole: Any, expr: str, since: float) -> bool:
    """Whether it has given a number at some second; 0/0 is none."""
    return any(not math.isnan(float(n)) for row in await whole.history(expr, since) for _, n in row["values"])


async def test_odd_names_keys_and_paths_make_no_series(whole: Any) -> None:
    """A client's invention never becomes a label."""

    async def count() -> int:
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{whole.ports[0]}/metrics", timeout=20)).text
        return sum(not line.startswith("#") for line in text.splitlines())

    path = "/v1/chat/completions"
    body = whole.call("chat")[1]
    odd = [whole.call(f"m{i}") for i in range(500)]
    odd += [(path, body, f"sk-odd-{i}", "") for i in range(500)]
    odd += [(f"/v1/odd/{i}", b"{}", "sk-web-key", "") for i in range(500)]
    await whole.spread([odd[0], odd[500], odd[-1]])  # each kind is refused under its own code: those series are new
    await whole.until_value(
        'count(gateway_refused_total{code=~"not_found|model_not_found|invalid_api_key"})', lambda n: n == 3
    )
    before = await count()
    assert set(await whole.spread(odd)) == {401, 404}
    assert await count() == before
