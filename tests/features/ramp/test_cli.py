"""`gateway ab pause|resume|rollback|promote|override|history|gate`, on a real stream server."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.store import engine
from gateway.store.location import default_url
from gateway.store.ramp_events import add_ramp_events
from gateway.stream import Corridor

Run = Callable[..., str]
SWAP: dict[str, Any] = {
    "model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"},
    "primary": "refusal", "ramp": {"steps": [0.25, 1.0], "cooldown_s": 60}, "segments": {"by": ["tools"]},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `gateway ab …` next to a gateway.yaml with a ramp."""
    monkeypatch.chdir(tmp_path)
    text = {
        "open": True, "upstreams": {"a": {"kind": "fake"}}, "scorers": {"refusal": {}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "stream": {"url": stream_url, "name": stream_name}, "experiments": {"swap": SWAP},
    }  # fmt: skip
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(text))

    def go(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["ab", *words])
        assert found.exit_code == code, (found.output, found.exception)
        return found.output

    go("start", "swap")
    return go


@pytest.fixture
def server(run: Run, ramp_on_server: Any, stream_url: str, stream_name: str, tmp_path: Path) -> Callable[..., Any]:
    """Does something with the ramp as the consumer does."""
    plan = plans_of(load(tmp_path / "gateway.yaml"))["swap"]

    def do(work: Callable[[Any], Any]) -> Any:
        async def doing() -> Any:
            corridor = Corridor(stream_url, stream_name)
            try:
                return await work(ramp_on_server(corridor, plan, time.time()))
            finally:
                await corridor.aclose()

        return asyncio.run(doing())

    do(lambda ramp: ramp.begins())
    return do


def refused(*words: str) -> str:
    found = CliRunner().invoke(app, ["ab", *words])
    assert isinstance(found.exception, CannotRun), found.output
    return str(found.exception)


def test_a_ramp_is_paused_resumed_and_rolled_back(run: Run, server: Any) -> None:
    server(lambda ramp: ramp.steps())
    assert run("pause", "swap", "--reason", "the upstream moves") == "swap is at a step 1, paused\n"
    assert run("resume", "swap", "--reason", "moved") == "swap is at a step 1\n"
    assert run("rollback", "swap", "--reason", "customers complain") == "swap is rolled back\n"
    record = server(lambda ramp: ramp.record())
    assert (record.state, record.by, record.reason) == ("rolled_back", getpass.getuser(), "customers complain")
    assert record.cooling_until == pytest.approx(record.at + 60)
    assert "cools down" in refused("resume", "swap", "--reason", "again")


def test_the_status_shows_where_the_ramp_stands(run: Run, server: Any) -> None:
    server(lambda ramp: ramp.steps())
    run("pause", "swap", "--reason", "the upstream moves")
    text, found = run("status", "swap"), conforms("ab status", run("status", "swap", "--json"))
    assert "  ramp      ramp, step 1 of 2: 0.25 of the units, paused\n" in text
    assert (found["ramp"]["share"], found["ramp"]["paused"]) == (0.25, True)


def test_promote_waits_for_the_evidence_and_override_does_not(run: Run, server: Any) -> None:
    assert "there is no evidence yet" in refused("promote", "swap", "--reason", "x")
    server(lambda ramp: ramp.says("ready"))
    assert run("promote", "swap", "--reason", "agreed") == "swap is at a step 1\n"
    assert run("override", "swap", "--full", "--reason", "it ends tonight") == "swap is promoted\n"
    assert server(lambda ramp: ramp.record()).overridden


def test_promote_except_says_what_stays_with_the_control(run: Run, server: Any) -> None:
    server(lambda ramp: ramp.holds_without("tools=yes"))
    assert "Ship, but keep tools=yes" in refused("promote", "swap", "--reason", "x")
    assert "did you mean" in refused("promote", "swap", "--except", "tool=yes", "--reason", "x")
    done = run("promote", "swap", "--except", "tools=yes", "--reason", "agreed")
    assert done == "swap is at a step 1; tools=yes stays with the control\n"
    assert "  control   keeps tools=yes\n" in run("status", "swap")
    assert conforms("ab gate", run("gate", "swap", "--json", code=2))["kept"] == ["tools=yes"]


def test_without_a_ramp_exceptions_are_served_by_a_route(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    text = yaml.safe_load(path.read_text())
    text["experiments"]["plain"] = {"start": "manual", **{k: v for k, v in SWAP.items() if k != "ramp"}}
    path.write_text(yaml.safe_dump(text))
    run("stop", "swap")
    run("start", "plain")
    said = run("promote", "plain", "--except", "tools=yes", "--reason", "x", code=2)
    assert "add `ramp: {}` to it" in said
    assert "gateway route except plain --write" in " ".join(said.split())
    assert "route except" not in run("promote", "plain", "--reason", "x", code=2)


@pytest.mark.parametrize("verb", ["pause", "resume", "rollback", "promote", "override"])
def test_a_reason_is_needed(run: Run, verb: str) -> None:
    assert "--reason" in run(verb, "swap", code=2)
    assert 'no experiment "other"' in run(verb, "other", "--reason", "x", code=2)


def test_the_gate_has_an_exit_code_for_scripts(run: Run, server: Any) -> None:
    assert "swap: inconclusive" in run("gate", "swap", code=2)
    server(lambda ramp: ramp.says("ready", "everything holds"))
    assert "everything holds" in run("gate", "swap")
    run("rollback", "swap", "--reason", "worse than said")
    found = conforms("ab gate", run("gate", "swap", "--json", code=1))
    assert (found["status"], found["state"], found["reason"]) == ("failure", "rolled_back", "worse than said")


def test_a_gate_that_cannot_be_read_is_inconclusive(run: Run, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
    config["stream"]["url"] = f"unix://{tmp_path}/nobody-listens"
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    assert "nobody-listens" in run("gate", "swap", code=2)
    (tmp_path / "gateway.yaml").write_text("upstreams: 3\n")
    assert "upstreams" in run("gate", "swap", code=2)


def test_the_history_is_complete_before_and_after_it_is_stored(run: Run, server: Any, tmp_path: Path) -> None:
    run("pause", "swap", "--reason", "lunch")
    assert "2 changes are in force and not in the store yet" in run("history", "swap")

    async def stored(ramp: Any) -> None:
        waiting = await ramp.corridor.ramps.waiting()
        opened = engine.writer(default_url(tmp_path / ".gateway"))
        with opened.begin() as connection:
            add_ramp_events(connection, waiting.events)
        opened.dispose()
        await ramp.corridor.ramps.remove(waiting.ids)

    server(stored)
    run("resume", "swap", "--reason", "back")
    lines = run("history", "swap").splitlines()
    assert [line.split("  ")[1] for line in lines if "  by " in line] == ["shadowing", "paused", "resumed"]
    assert lines[-1].endswith(f"by {getpass.getuser()}: back")
    changes = conforms("ab history", run("history", "swap", "--json").split("\n", 1)[1])
    assert [row["reason"] for row in changes][1:] == ["lunch", "back"]


def test_a_ramp_that_has_not_begun_has_no_history(run: Run) -> None:
    assert run("history", "swap") == "swap: no ramp has begun\n"
