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
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
import pytest_asyncio
import yaml
from fixtures.chat_engines import chat_answer
from fixtures.learned_routes import ROUTE
from fixtures.planted_pages import PlantedPages, samples_of
from fixtures.planted_prometheus import PlantedPrometheus
from fixtures.program_command import gateway_command

from gateway.cli.dashboards import panels_of
from gateway.config.limits import RunLimits
from gateway.core.errors import KeyBusy
from gateway.core.exchange import Outcome
from gateway.core.limits import MEASURES, WINDOWS, Limit
from gateway.core.run_ceilings import OnEnd
from gateway.core.score import Status
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
from tests.prometheus.conftest import PATIENCE_S

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(3600)]
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


def queries(rate_interval: str = "1m") -> list[tuple[str, str]]:
    """(dashboard: panel: legend, PromQL) of every panel, with every variable at "All"."""
    found = []
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", rate_interval)
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
        rows = await self._whole.query('max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[2h]))')
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


async def runs_end(whole: Any, names: Sequence[str], total: int) -> None:
    """The ceiling of the key is one call of a run, which ends a run once it is over. total: ends up to these."""
    path, body, key, more = whole.call("chat", key="sk-agent-key")

    async def all_ended() -> bool:
        for name in names:
            assert set(await whole.spread([(path, body, key, f"{more}x-gateway-run: {name}\r\n")])) <= LIMITED
        return bool(await whole.value("sum(gateway_run_ends_total)") >= total)

    await whole.until(all_ended, "runs do not end")


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
    await runs_end(whole, ["task-1"], 1)  # Prometheus does not see the first count of a series
    await runs_end(whole, [f"task-{n}" for n in range(2, 12)], 11)

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


async def all_is_stored(whole: Any) -> None:
    """The consumer has stored every entry: a sheet that is made now has all calls, and none comes between its rows."""
    server = whole.redis()

    def none_waits() -> bool:
        (group,) = server.xinfo_groups(STREAM)
        newest = server.xinfo_stream(STREAM)["last-generated-id"]  # also where the consumer has deleted all it read
        return bool(group["last-delivered-id"] == newest and group["pending"] == 0)

    await whole.until_value("max(gateway_recorder_fill_ratio)", lambda n: n == 0)
    try:
        await whole.until(none_waits, "entries wait")
    except TimeoutError as error:
        error.add_note(
            f"{server.xinfo_groups(STREAM)}\nof which wait: {server.xpending_range(STREAM, GROUP, '-', '+', 20)}"
        )
        error.add_note(whole.output)
        raise


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
        with (
            contextlib.closing(sqlite3.connect(whole.directory / "data" / "gateway.db", timeout=PATIENCE_S)) as other,
            other,
        ):
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
    file = whole.directory / "data" / "gateway.db"
    with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S, check_same_thread=False)) as other:
        await asyncio.to_thread(other.execute, "BEGIN EXCLUSIVE")
        await rung.until(until, "GatewayConsumerStuck")
        other.rollback()


async def the_split_is_not_the_planned_one(whole: Any) -> None:
    """Only users who fall into one arm come, as if a balancer sent the others elsewhere."""
    mine = whole.of_arm("candidate", (f"late-{i}" for i in range(240)))
    await whole.spread([whole.call("split", user=user) for user in mine])


async def a_model_is_trained(whole: Any) -> None:
    """A person trains it: the consumer's own training yields to other programs, and may not end on a busy machine."""
    words = ("learn", "train", "--config", "gateway.yaml", "--data", "data")
    training = await asyncio.create_subprocess_exec(
        *gateway_command(*words), cwd=whole.directory, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await training.communicate()
    assert training.returncode == 0, output.decode()


async def the_predictor_does_harm(whole: Any) -> None:
    """A model is trained. Its card and the state of its drift alarms are then written by hand."""
    await a_model_is_trained(whole)
    detector = ChangeDetector([0.9], [1.0], QUALITY_ALPHA)
    detector.add([[0.0]] * 500)
    drifted = {"at": time.time() + 1e6, "feature_set": "", "version": "", "edges": [], "quality": detector.state()}
    state = json.dumps({**drifted, "input": detector.state()})

    def write() -> None:
        file = whole.directory / "data" / "gateway.db"
        with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as other, other:
            newest = other.execute(
                "SELECT version, card FROM predictor_models ORDER BY created DESC LIMIT 1"
            ).fetchone()
            # Where all answers that the model had not seen are good, its card ranks and calibrates nothing.
            known = {name: value for name, value in json.loads(newest[1]).items() if value is not None}
            if known.get("variance_ratio_low") == 1.1:
                return
            ranked = {"auc": 0.6, "slope": 0.9, **known}
            card = json.dumps({**ranked, "variance_ratio_low": 1.1, "variance_ratio_high": 1.5})
            other.execute("UPDATE predictor_models SET card = ? WHERE version = ?", (card, newest[0]))
            other.execute("INSERT OR REPLACE INTO drift_states (scorer, alias, state, at) VALUES (?, ?, ?, ?)",
                          ("valid_json", "chat", state, time.time()))  # fmt: skip

    async def shown() -> bool:
        """Written again while it is not shown: a training that ends meanwhile makes a newer card."""
        await asyncio.to_thread(write)
        ranks = [await whole.value(f"max(gateway_eval_predictor_{name})") for name in ("auc", "slope")]
        return not any(map(math.isnan, ranks))

    await whole.until(shown, "the model is not shown")
    # The consumer has restarted; and a window has an interval from 30 effective scores on.
    await whole.spread([whole.call("unpriced", always=True) for _ in range(80)])


async def scores_miss_their_objective(whole: Any) -> None:
    try:
        await whole.an_objective_is_missed()
        await Rung(whole).until(whole.until, "GatewayScoreObjectiveMissed")
    except TimeoutError as error:
        recorded = 'count_over_time({__name__=~"gateway:score_objective_(missed|upper|effective_samples)"}[1m])'
        error.add_note(json.dumps(await whole.query(recorded), indent=1))
        error.add_note(await samples_behind(whole, "gateway_eval_alias_score_unit_weight_total"))
        raise


async def everything_happens(whole: Any, rung: Rung) -> None:
    until = whole.until
    await an_experiment_begins(whole)
    await ordinary_traffic(whole)
    await whole.keep_pages()
    await keys_come_and_go(whole, rung)
    await a_ramp_goes_forth_and_back(whole, rung)
    await an_upstream_is_down_and_up_again(whole)
    await upstreams_fail(whole)
    await a_first_token_that_is_slow(whole)
    async with asyncio.TaskGroup() as group:
        await slow_streams_begin(whole, group)
        held = time.monotonic()
        await the_oldest_waits(whole, rung, until)
        await whole.keep_pages()
        # Again, since a rate needs two scrapes with a change between; and once more, since what an open breaker refuses
        # is a series of its own.
        await whole.until_value('sum(gateway_requests_total{alias="broken"})', lambda n: n == 8)
        await ordinary_traffic(whole, 0)
        await calls_are_refused(whole)
        await upstreams_fail(whole)
        await whole.until_value('sum(gateway_requests_total{alias="broken"})', lambda n: n == 16)
        await upstreams_fail(whole)
        await whole.keep_pages()
        await an_entry_vanishes(whole)
        await rung.until(until, "GatewayUnaccounted")
        await the_stream_overflows(whole)
        await rung.until(until, "GatewayStreamTrimmedUnread")
        await the_stream_server_is_away(whole, rung, until)
        await configs_come_and_go(whole, rung)
        await a_leaf_is_taken_back(whole)
        await whole.keep_pages()
        await the_store_is_locked(whole, rung, until)
        await the_split_is_not_the_planned_one(whole)
        await rung.until(until, "GatewayScorerBudgetUsed")  # all that the budget pays for is judged
        await all_is_stored(whole)
        await people_label(whole)
        await people_label_a_guard(whole)
        await a_guard_changes(whole)
        await a_certificate_lapses(whole)
        await whole.keep_pages()
        await until(lambda: time.monotonic() - held > 10.5, "ten seconds do not pass")
        whole.doubles["slow"].says("soon")
        whole.doubles["slow"].release()
    await slow_streams_are_counted(whole)
    await rung.until(until, "GatewayVerdictChanged", "GatewayExperimentGateRed", "GatewayFirstTokenSlow")
    await scores_miss_their_objective(whole)  # what a killed worker has counted holds the sums up for a minute
    await no_worker_answers(whole, rung)
    await a_worker_dies(whole, rung)
    await whole.keep_pages()
    await whole.consumer.stop()
    await rung.until(until, "GatewayTargetDown")
    await whole.consumer.start()  # it reads labels when it starts, and every 30 s
    whole.doubles["unpriced"].answers(200, CACHED)  # again, since a rate needs a change between two scrapes
    await served(whole, "unpriced", 1)
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
    await whole.keep_pages()
    panels = {where.rpartition(": ")[0] for where, _ in asked}
    with capsys.disabled():
        print(f"\n{len(panels)} panels with {len(asked)} queries alive, {len(alerts())} alert rules rang")  # noqa: T201


async def alive(whole: Any, expr: str, since: float) -> bool:
    """Whether it has given a number at some second; 0/0 is none."""
    return any(not math.isnan(float(n)) for row in await whole.history(expr, since) for _, n in row["values"])


async def test_odd_names_keys_and_paths_make_no_series(whole: Any) -> None:
    """A client's invention never becomes a label.

    Whatever else happens in the programs may make a series once, but what inventions make, they make again and again.
    """

    async def series() -> set[str]:
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
            text = (await client.get(f"http://127.0.0.1:{whole.ports[0]}/metrics")).text
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    body = whole.call("chat")[1]
    made: list[set[str]] = []

    async def none_is_made() -> bool:
        """500 odd models, keys and paths, which no call before has named."""
        before, names = await series(), [f"odd-{len(made)}-{i}" for i in range(500)]
        odd = [whole.call(name) for name in names]
        odd += [("/v1/chat/completions", body, f"sk-{name}", "") for name in names]
        odd += [(f"/v1/{name}", b"{}", "sk-web-key", "") for name in names]
        assert set(await whole.spread(odd)) == {401, 404}
        made.append(await series() - before)
        return not made[-1] or len(made) == 4

    await whole.until(none_is_made, "odd calls are not answered")
    assert not made[-1], f"every 1 500 odd calls make series: {[len(new) for new in made]}, as {min(made[-1])}"


EVERY_S = 3600.0
"""Between two scrapes of the planted week."""


MOMENTS = 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def moments(whole: Any) -> list[dict[str, str]]:
    """The pages of the gateway, the consumer and the console at each moment of the whole's history."""
    if len(whole.moments) < MOMENTS:
        pytest.skip("test_every_alert_rings_and_every_panel_lives keeps the pages that this one reads")
    return list(whole.moments)


def passes(rules: Path) -> list[list[dict[str, Any]]]:
    """The rules that record objectives of scores, in the order in which each finds what it asks for."""
    groups = yaml.safe_load(rules.read_text("utf-8"))["groups"]
    recorded = [rule for group in groups if "score" in group["name"] for rule in group["rules"] if "record" in rule]
    done: set[str] = set()
    found: list[list[dict[str, Any]]] = []
    while len(done) < len({rule["record"] for rule in recorded}):
        asked = {id(rule): set(re.findall(r"gateway:\w+", rule["expr"])) for rule in recorded}
        found.append([r for r in recorded if r["record"] not in done and asked[id(r)] <= done])
        assert found[-1], "rules that ask for each other"
        done |= {rule["record"] for rule in found[-1]}
    return found


def record(prometheus: PlantedPrometheus, directory: Path, week: PlantedPages) -> None:
    """Evaluates the recording rules over the week, pass by pass, since each needs what the last one made."""
    rules = directory / "recorded.yml"
    for number, recorded in enumerate(passes(ROOT / "grafana" / "alerts" / "gateway.yml")):
        rules.write_text(yaml.safe_dump({"groups": [{"name": f"p{number}", "interval": "15m", "rules": recorded}]}))
        with prometheus.running():
            prometheus.record(rules, week.start, week.end)


async def test_every_panel_has_data_over_a_planted_week(
    moments: list[dict[str, str]], whole: Any, servers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Series, labels and last counts are those of the programs' own pages; only their course in time is planted.

    Scrapes are an hour apart, which keeps the test cheap. By Grafana's rule $__rate_interval then is four of them, in a
    view of seven days too, and a value must count as the newest until the next scrape.
    """
    directory = whole.directory / "week"
    directory.mkdir()
    week = PlantedPages(moments, time.time() // EVERY_S * EVERY_S - 2 * EVERY_S, EVERY_S)
    prometheus = PlantedPrometheus(directory, *servers.free_ports(1), lookback="61m")
    await asyncio.to_thread(lambda: prometheus.plant(week.lines()))
    await asyncio.to_thread(record, prometheus, directory, week)
    asked, points, empty = queries("4h"), 0, []
    span = {"start": week.start + 4 * EVERY_S, "end": week.end, "step": EVERY_S}
    with prometheus.running():
        async with httpx2.AsyncClient(base_url=prometheus.url, timeout=PATIENCE_S) as client:
            for where, expr in asked:
                reply = (await client.get("/api/v1/query_range", params={"query": expr, **span})).json()
                assert reply["status"] == "success", f"{reply.get('error')}: {expr}"
                values = [float(n) for row in reply["data"]["result"] for _, n in row["values"]]
                numbers = sum(not math.isnan(n) for n in values)
                points += numbers
                empty += [] if numbers else [where]
            total = {"query": "sum(gateway_requests_total)", "time": week.end}
            (counted,) = (await client.get("/api/v1/query", params=total)).json()["data"]["result"]
    calls = sum(n for series, n in week.grown.items() if series.startswith("gateway_requests_total"))
    with capsys.disabled():
        print(f"\n{len(asked)} queries gave {points} numbers over a planted week, {len(empty)} gave none")  # noqa: T201
    assert empty == []
    assert float(counted["value"][1]) == pytest.approx(calls, rel=1e-5), "the week is not what was planted"


CLOSED: dict[str, set[str]] = {
    "outcome": {*get_args(Outcome), "client_error", "queue_full"},
    "status": {*get_args(Status)},
    "on_end": {*get_args(OnEnd)},
    "limit": {*RunLimits.model_fields, *(Limit(m, 1, w).name for m in MEASURES for w in (*WINDOWS, None))},
    "code": {KeyBusy.code or ""},
}
"""Values that the code can give a label, where no page needs to have each of them."""
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OF_SCRAPES = {"job", "instance"}
NAMES = {"alias", "upstream", "model", "scorer", "team", "tag", "key", "scope", "experiment", "candidate", "metric",
         "condition", "sentence", "route", "guard", "target", "name", "webhook", "stratum", "arm"}  # fmt: skip
"""Labels whose values are names of somebody's config."""


def labels_of(series: str) -> tuple[str, dict[str, str]]:
    return series.partition("{")[0], dict(LABEL.findall(series))


async def test_the_tests_of_rules_are_of_series_that_exist(moments: list[dict[str, str]]) -> None:
    """`promtool test rules` is fed by hand: its series have the labels of a real page, and where their values are no
    names from a config, values of a real page or of the code's closed set."""
    shapes: dict[str, set[frozenset[str]]] = {"up": {frozenset()}}
    values: dict[tuple[str, str], set[str]] = {}
    for page in (text for moment in moments for text in moment.values()):
        for series, _ in samples_of(page):
            name, labels = labels_of(series)
            shapes.setdefault(name, set()).add(frozenset(labels))
            for label, value in labels.items():
                values.setdefault((name, label), set()).add(value)
    tests = yaml.safe_load((ROOT / "grafana" / "alerts" / "gateway.test.yml").read_text("utf-8"))["tests"]
    given = {row["series"] for test in tests for row in test["input_series"]}
    wrong = set()
    for name, labels in map(labels_of, given):
        known = shapes.get(name, set())
        if labels.keys() - OF_SCRAPES not in known:
            wrong.add(f"{name} has {sorted(labels.keys() - OF_SCRAPES)}, on a page {[sorted(s) for s in known]}")
        for label in labels.keys() - OF_SCRAPES - NAMES:
            if labels[label] not in values.get((name, label), set()) | CLOSED.get(label, set()):
                wrong.add(f"{name} has no {label}={labels[label]}, on a page {sorted(values.get((name, label), ()))}")
    assert not wrong, "\n".join(sorted(wrong))
