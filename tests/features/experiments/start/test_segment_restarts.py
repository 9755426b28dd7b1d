"""What `gateway ab start` prints is what is in force, over starts, traffic and stops on an empty store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fixtures.stores import Ledgerbook
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.core.plan import PlanState
from gateway.core.segments import SegmentDesign, segment_name
from gateway.features.experiments.report.build import report_of
from gateway.store import engine
from gateway.store.location import default_url
from gateway.store.plans import save_plans
from gateway.stream import Corridor

REFUSED = "fewer than 50 calls of chat were recorded in the last day, so the values of metadata.product are unknown"


class World:
    """A folder with a gateway.yaml whose experiment has segments, its store and its stream server."""

    def __init__(self, folder: Path, stream: dict[str, str], scorers: Any, exchange: Callable[..., Any]) -> None:
        self.folder, self.stream, self._scorers, self._exchange = folder, stream, scorers, exchange
        self.config({"by": ["metadata.product"], "margin": 0.16})

    def config(self, segments: dict[str, Any]) -> None:
        swap = {
            "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"},
            "shadow": 1.0, "start": "manual", "primary": "refusal", "margin": 0.1, "segments": segments,
        }  # fmt: skip
        text = {
            "open": True,
            "upstreams": {"a": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
            "scorers": {"refusal": {}},
            "stream": self.stream,
            "experiments": {"swap": swap},
        }
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump(text))

    @property
    def plan(self) -> Any:
        return plans_of(load(self.folder / "gateway.yaml"))["swap"]

    def serve(self, **counts: int) -> None:
        """Records calls of the last minute, by product."""
        url = default_url(self.folder / ".gateway")
        opened = engine.writer(url)
        store = Ledgerbook(url, opened, self._scorers)
        for product, n in counts.items():
            body = orjson.dumps({"messages": [], "metadata": {"product": product}})
            made = {"alias": "chat", "received": time.time() - 60.0, "client_bytes": 300, "request": body}
            store.write(*(self._exchange("1", **made) for _ in range(n)))
        opened.dispose()

    def run(self, *words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, list(words))
        raised = str(found.exception) if isinstance(found.exception, CannotRun) else ""
        assert found.exit_code == code, (found.output, found.exception)
        return found.output + raised

    def on_stream(self, work: Callable[[Corridor], Any]) -> Any:
        async def asking() -> Any:
            corridor = Corridor(self.stream["url"], self.stream["name"])
            try:
                return await work(corridor)
            finally:
                await corridor.aclose()

        return asyncio.run(asking())

    @property
    def in_force(self) -> PlanState:
        state = self.on_stream(lambda corridor: corridor.state.plans()).get("swap")
        assert isinstance(state, PlanState)
        return state

    def started(self) -> str:
        """The output of `ab start`, checked against the plan in force."""
        shown = self.run("ab", "start", "swap")
        plan = self.in_force.plan
        assert f"plan {plan.hash}" in shown
        if "running already" not in shown:
            assert plan.segments is not None
            named = ", ".join(segment_name(*each) for each in plan.segments.segments)
            assert f"each not worse by 0.16: {named}\n" in shown
            assert f"it closes at about {plan.max_pairs} pairs" in shown
        return shown


@pytest.fixture
def world(
    tmp_path: Path,
    stream_url: str,
    stream_name: str,
    stated_scorer: Any,
    exchange: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Starts, stops and serves an experiment by segments, on a store and a stream server of its own."""
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, {"url": stream_url, "name": stream_name}, {"stated": stated_scorer()}, exchange)


def test_start_prints_what_is_in_force_from_an_empty_store(world: World) -> None:
    """The first verdict of a plan whose segments nobody knew was a wrong `ship`: it must not start."""
    assert REFUSED in world.run("ab", "start", "swap", code=1)
    assert REFUSED in world.run("check", "gateway.yaml"), "there is no store yet"
    world.serve()
    assert REFUSED in world.run("ab", "start", "swap", code=1)
    assert REFUSED in world.run("check", "gateway.yaml", code=1)
    world.serve(code=30, german=20, plain=30)
    assert "starts from zero" not in world.started()
    first = world.in_force.plan
    assert "running already" in world.started()
    world.run("ab", "stop", "swap")
    assert first.hash in world.started(), "the same values are the same plan"
    world.run("ab", "stop", "swap")
    world.serve(mail=40)
    assert f"; the previous plan was {first.hash}" in (shown := world.started())
    assert "its segments are not those of the previous plan, so its evidence starts from zero" in shown
    assert "metadata.product=mail" in shown


def test_check_does_not_refuse_a_plan_that_runs(world: World) -> None:
    """A plan of an earlier version, which froze as `other` alone, goes on until somebody starts it again."""
    old = PlanState(world.plan, "running", time.time())
    world.serve()
    opened = engine.writer(default_url(world.folder / ".gateway"))
    with opened.begin() as connection:
        save_plans(connection, [old], time.time())
    opened.dispose()
    assert REFUSED not in world.run("check", "gateway.yaml")


def test_stated_values_are_in_force_on_an_empty_store(world: World) -> None:
    world.config({"by": ["metadata.product"], "margin": 0.16, "values": {"metadata.product": ["code"]}})
    world.serve()
    assert "metadata.product=code, metadata.product=other" in world.started()


def test_a_report_cautions_about_segments_without_values(simulation: Any, begin_experiment: Any) -> None:
    experiment = begin_experiment(segments=SegmentDesign(("metadata.product", "tools")))
    experiment.add(simulation.a_pair(i, simulation.seen(0.5), candidate=simulation.seen(0.5)) for i in range(3))
    with experiment.engine.connect() as connection:
        made = report_of(connection, "swap")
    assert made.cautions[0].startswith("No value of metadata.product was known when this plan started")
