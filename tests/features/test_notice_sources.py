"""Each source finds its causes in a real store and on a real stream server, under ids that stay the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.errors import StreamDown
from gateway.core.limits import LimitScope, counter_name, limits_of
from gateway.core.ramp import RampChange, RampEvent, rolled_back, started
from gateway.features.consumer_report import ConsumerReport
from gateway.features.experiments.notice_source import VerdictNotices
from gateway.features.ramp.notice_source import RampNotices
from gateway.features.retirement.notice_source import RetirementNotices
from gateway.features.status.notice_source import ConfigNotices, ConsumerNotices, KeyNotices
from gateway.features.task import TaskContext
from gateway.features.usage.notice_source import BudgetNotices
from gateway.observability.eval_metrics import ExperimentFigures
from gateway.scoring.registry import BuiltScorers
from gateway.store.ramp_events import add_ramp_events
from gateway.store.store import Store
from gateway.stream import Corridor
from gateway.stream.leases import LeaseReport, LeaseServer

Context = Callable[..., TaskContext]
NOW = datetime.now(UTC).timestamp()


def a_config(**sections: Any) -> Config:
    text = yaml.safe_dump({
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        **sections,
    })  # fmt: skip
    return parse(text)


@pytest.fixture
async def store(place_store: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    async with Store(place_store(tmp_path / "gateway.db")) as opened:
        yield opened


@pytest.fixture
async def context(store: Store, stream_url: str, stream_name: str) -> AsyncIterator[Context]:
    """Makes the context of a consumer's task."""
    corridor, absent = Corridor(stream_url, stream_name), Any
    yield lambda config=None, **more: TaskContext(
        config or a_config(), store, corridor, absent, BuiltScorers({}, {}), absent, "c1", **more
    )
    await corridor.aclose()


async def test_budgets_are_those_that_gateways_count(context: Context, stream_name: str) -> None:
    limits = {"usd_per_month": 100, "requests_per_minute": 5, "soft": {"usd_per_month": 1}}
    of = context(a_config(teams={"search": {"limits": limits}}))
    scope = LimitScope("team", "search", limits_of(limits))
    name = counter_name(scope, scope.limits[1], NOW)
    assert "usd_per_month" in name
    server = LeaseServer(of.corridor.client, stream_name, "w1")
    ends_ms, units = round((NOW + 86_400) * 1000), round(82e9)
    await server.exchange([LeaseReport(name, units, units, -1, 0, 0, round(1e11), 0, ends_ms, 60_000)])
    (found,) = await BudgetNotices(of).look(NOW)
    assert (found.title, found.severity) == ("team search has used 80% of its usd_per_month", "warning")
    assert found.text == "$82.00 of $100.00."
    (again,) = await BudgetNotices(of).look(NOW)
    assert again.id == found.id


@pytest.mark.parametrize(("spent", "passed"), [(49, None), (50, "50%"), (80, "80%"), (100, "100%")])
async def test_budgets_in_gpu_seconds_are_told_at_three_steps(
    context: Context, stream_name: str, spent: int, passed: str | None
) -> None:
    """Budgets of a model within a team are told too."""
    limits = {"gpu_seconds_per_day": 100, "models": {"chat": {"gpu_seconds_per_day": 100}}}
    of = context(a_config(teams={"search": {"limits": limits}}))
    [limit] = limits_of(limits)
    scopes = [LimitScope("team", "search", (limit,)), LimitScope("model", "team-search/chat", (limit,))]
    server, units, ends_ms = (
        LeaseServer(of.corridor.client, stream_name, "w1"),
        spent * 10**9,
        round(NOW * 1000) + 10**8,
    )
    names = [counter_name(scope, limit, NOW) for scope in scopes]
    await server.exchange([LeaseReport(n, units, units, -1, 0, 0, 10**11, 0, ends_ms, 60_000) for n in names])
    found = await BudgetNotices(of).look(NOW)
    told = [f"{scope} has used {passed} of its gpu_seconds_per_day" for scope in scopes if passed]
    assert [each.title for each in found] == told
    assert all(each.text.startswith(f"{spent}.0 GPU-seconds of 100.0 GPU-seconds.") for each in found)


async def test_ramps_are_told_by_their_transitions_of_the_last_hour(context: Context, store: Store) -> None:
    begun = started("swap", "p" * 16, RampChange(NOW - 10, "ada", "begins"))
    back = rolled_back(begun, RampChange(NOW - 5, "controller", "it failed"), 60.0)
    old = started("old", "q" * 16, RampChange(NOW - 9000, "ada", "begins"))
    events = [
        RampEvent("1-0", begun, None, {}), RampEvent("2-0", back, (begun.state, begun.step), {}),
        RampEvent("0-0", old, None, {}),
    ]  # fmt: skip
    await store.run(lambda connection: add_ramp_events(connection, events))
    found = await RampNotices(context()).look(NOW)
    assert [(each.id, each.title, each.severity) for each in found] == [
        ("ramp:1-0", "ramp of swap: shadowing", "info"), ("ramp:2-0", "ramp of swap: rolled back", "warning"),
    ]  # fmt: skip
    assert found[1].text == "it failed (controller)"


@pytest.mark.parametrize(("days", "stage"), [(59, 60), (20, 30), (5, 7), (-1, 0)])
async def test_a_model_is_announced_once_in_each_stage(context: Context, days: int, stage: int) -> None:
    day = (datetime.fromtimestamp(NOW, UTC).date() + timedelta(days=days)).isoformat()
    target = {"upstream": "local", "model": "m", "retires": day}
    source = RetirementNotices(context(a_config(models={"chat": {"targets": [target]}})))
    (found,) = await source.look(NOW)
    assert found.id == f"retirement:local/m:{day}:{stage}"
    assert await source.look(NOW + 60) == (), "a day is the finest that it knows"
    assert await RetirementNotices(context()).look(NOW) == []


async def test_verdicts_are_those_of_the_figures_and_holds_are_none(context: Context) -> None:
    figures = [
        ExperimentFigures("swap", "candidate", "ship", 400, plan="p1"),
        ExperimentFigures("other", "candidate", "hold", 3),
    ]  # fmt: skip
    (found,) = await VerdictNotices(context(figures=lambda: figures)).look(NOW)
    assert (found.id, found.path) == ("verdict:p1:candidate:ship", "/console/experiments/swap")
    assert found.title == "experiment swap: ship it"


async def test_a_config_that_many_processes_refuse_is_one_cause(context: Context) -> None:
    of = context()
    for n, ok in enumerate((False, False, True)):
        beat = {"host": "h", "pid": n, "at": NOW, "config": {"ok": ok, "refused": "" if ok else "models.chat: missing"}}
        await of.corridor.state.set_gateway_heartbeat(f"g{n}", beat)
    silent = {"host": "h", "pid": 9, "at": NOW - 100, "config": {"ok": False, "refused": "models.chat: missing"}}
    await of.corridor.state.set_gateway_heartbeat("g9", silent)
    (found,) = await ConfigNotices(of).look(NOW)
    assert found.title == "2 processes refuse the newest gateway.yaml"
    assert found.text.startswith("models.chat: missing\n")
    assert found.data["by"] == ["h/0", "h/1"]


async def test_an_upstream_that_refuses_our_key_is_announced_once_a_day(context: Context) -> None:
    of = context()
    idle = {"down": False, "in_flight": 0, "queued": 0}
    upstreams = {"openai": {**idle, "key_refused": "HTTP 401 invalid_api_key"}, "local": idle}
    for incarnation, at in (("g1", NOW), ("g2", NOW), ("dead", NOW - 31)):
        beat = {
            "at": at,
            "host": "h",
            "pid": 1,
            "upstreams": upstreams if at == NOW else {"azure": upstreams["openai"]},
        }
        await of.corridor.state.set_gateway_heartbeat(incarnation, beat)
    (found,) = await KeyNotices(of).look(NOW)
    assert (found.title, found.severity, found.subject) == ("upstream openai refuses our key", "critical", "upstream")
    assert found.text.startswith("HTTP 401 invalid_api_key. ")
    (later,) = await KeyNotices(of).look(NOW + 1)
    assert later.id.rpartition(":")[0] == found.id.rpartition(":")[0]


async def test_a_consumer_that_is_gone_is_announced_unless_replaced(context: Context) -> None:
    of, state = context(), context().corridor.state
    beats = {"box-1": NOW - 40, "box-2": NOW - 100, "pod-3": NOW - 1, "left": NOW - 1}
    for name, at in beats.items():
        await state.heartbeat(name, at)
        started = NOW - 60 if name == "pod-3" else NOW - 9000
        await state.remember(f"report:{name}", ConsumerReport(started=started).to_json(), 60)
    await state.forget_consumer("left")
    (found,) = await ConsumerNotices(of).look(NOW)
    assert (found.title, found.severity) == ("consumer box-1 is gone", "warning")
    assert found.id == "consumer:box-1:silent", "pod-3 replaced box-2"


async def test_a_refused_config_is_known_without_the_stream_server(context: Context) -> None:
    of = context(config_refused=lambda: "gateway.yaml: surely_unknown is not a section")
    down = TaskContext(of.config, of.store, Corridor("redis://127.0.0.1:1/0", "s"), *[Any] * 3, "c1")  # type: ignore[arg-type]
    with pytest.raises(StreamDown):
        await ConfigNotices(down).look(NOW)
    (found,) = await ConfigNotices(replace(down, config_refused=of.config_refused)).look(NOW)
    assert found.title == "1 process refuses the newest gateway.yaml"
    assert "surely_unknown" in found.text
    await down.corridor.aclose()
