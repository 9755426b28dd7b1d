"""`gateway guard promote|pause|resume|rollback|status|history`, on a real stream server."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun
from gateway.core.guard_ramp import design_of, ramp_name
from gateway.core.ramp import CONTROLLER, RampChange, RampRecord, advanced, rolled_back
from gateway.stream import Corridor

Run = Callable[..., str]
INJECTION = {"on": "request", "scorer": "prompt_injection", "ramp": {"steps": [0.1, 1.0], "cooldown_s": 600}}
REASON = ("--reason", "28 of 30 labelled hits were right")


@pytest.fixture
def path(tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway.yaml with two guards, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "gateway.yaml", stream_url, stream_name)
    return tmp_path / "gateway.yaml"


def write(path: Path, stream_url: str, stream_name: str, **guard: Any) -> None:
    text = {
        "open": True, "upstreams": {"a": {"kind": "fake"}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "stream": {"url": stream_url, "name": stream_name},
        "guards": {"injection": {**INJECTION, **guard}, "long": {"on": "request", "scorer": "length", "max_chars": 9}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(text))


@pytest.fixture
def run(path: Path) -> Run:
    """Runs `gateway guard …`."""

    def go(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["guard", *words])
        assert found.exit_code == code, (found.output, found.exception)
        return found.output.replace("\N{NARROW NO-BREAK SPACE}", " ")

    return go


def refused(*words: str) -> str:
    found = CliRunner().invoke(app, ["guard", *words])
    assert isinstance(found.exception, CannotRun), found.output
    return str(found.exception)


@pytest.fixture
def server(stream_url: str, stream_name: str) -> Callable[..., Any]:
    """Does something with the ramp as the consumer does."""

    def do(work: Callable[[Corridor], Any]) -> Any:
        async def doing() -> Any:
            corridor = Corridor(stream_url, stream_name)
            try:
                return await work(corridor)
            finally:
                await corridor.aclose()

        return asyncio.run(doing())

    return do


async def record_of(corridor: Corridor) -> RampRecord:
    return (await corridor.ramps.records())[ramp_name("injection")]


async def step(corridor: Corridor) -> None:
    record = await record_of(corridor)
    design = design_of(record)
    assert design is not None
    after = advanced(record, design.ramp, RampChange(time.time(), CONTROLLER, "everything holds"))
    assert await corridor.ramps.change(record, after, b"{}")


def says(action: str, reason: str) -> Callable[[Corridor], Any]:
    rate = {"rate": 0.004, "low": 0.001, "high": 0.012, "max": 0.02, "units": 900, "rests_on": ""}
    proof = {"metric": "retries", "difference": -0.001, "low": -0.03, "high": 0.02, "margin": 0.02, "found": "unclear"}
    decision = {"action": action, "reason": reason, "also": ["soaks for another 60 s"]}
    found = {"block_rate": rate, "proofs": [{**proof, "units": [900, 80]}], "decision": decision}
    return lambda corridor: corridor.ramps.set_evidence(
        ramp_name("injection"), orjson.dumps({**found, "at": time.time() + 60})
    )


def test_a_ramp_begins_pauses_and_is_rolled_back(run: Run, server: Any) -> None:
    assert "no ramp has begun: gateway guard promote injection" in run("status", "injection")
    begun = run("promote", "injection", *REASON)
    assert begun == "injection: flag for every unit; begins its ramp to block\n"
    record = server(record_of)
    assert (record.state, record.by, record.reason) == ("shadow", getpass.getuser(), REASON[1])
    server(step)
    assert run("pause", "injection", "--reason", "a new client") == (
        "injection: block for 10 % of the units, flag for the others; step 1 of 2, paused\n"
    )
    run("resume", "injection", "--reason", "it runs")
    assert run("rollback", "injection", "--reason", "it refuses invoices") == (
        "injection: observe for every unit; rolled back\n"
    )
    assert "cools down" in refused("promote", "injection", *REASON)
    assert "cools down" in refused("resume", "injection", *REASON)


def test_the_status_says_what_a_step_waits_for(run: Run, server: Any) -> None:
    run("promote", "injection", *REASON)
    server(step)
    server(says("hold", "retries is not shown to be harmless on served answers yet"))
    shown = run("status", "injection")
    assert "hits      0.4 % of calls, 0.1 to 1.2 %; at most 2 % (900 units)" in shown
    assert "retried   +0.1 points, −2.0 to +3.0 (margin 2 %; 80 units acted on, 900 others)" in shown
    assert "waits     retries is not shown to be harmless" in shown
    assert "also      soaks for another 60 s" in shown
    found = conforms("guard status", run("status", "--json"))
    one, other = found["guards"]
    assert (one["guard"], one["state"], one["action"], one["share"]) == ("injection", "ramp", "block", 0.1)
    assert (other["guard"], other["state"], other["action"]) == ("long", None, "observe")
    assert one["waits_for"][0].startswith("retries")


def test_promote_takes_the_step_that_waits_and_no_other(run: Run, server: Any) -> None:
    run("promote", "injection", *REASON)
    assert "there is no evidence yet: is a consumer running?" in refused("promote", "injection", *REASON)
    server(says("hold", "soaks for another 60 s"))
    assert "its next step waits: soaks for another 60 s" in refused("promote", "injection", *REASON)
    server(says("ready", "everything holds"))
    assert "block for 10 % of the units" in run("promote", "injection", *REASON)
    assert "roll it back first to begin another" in refused("promote", "injection", "--steps", "0.5,1", *REASON)


def test_steps_and_action_of_the_command_come_first(run: Run, server: Any) -> None:
    run("promote", "injection", "--steps", "0.5,1", "--to", "flag", *REASON)
    design = design_of(server(record_of))
    assert design is not None
    assert (design.to, design.steps) == ("flag", (0.5, 1.0))
    server(step)
    assert "flag for 50 % of the units, observe for the others" in run("status", "injection")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "injektion"), 'did you mean "injection"'),
        (("promote", "injection", "--to", "observe"), "expected flag, redact or block"),
        (("promote", "injection", "--steps", "five"), "expected shares"),
        (("status", "nothing"), 'no guard "nothing"'),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(run: Run, words: tuple[str, ...], message: str) -> None:
    reason = REASON if words[0] == "promote" else ()
    shown = " ".join(run(*words, *reason, code=2).replace("│", " ").split())
    assert message in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "injection", "--steps", "0.5,0.1,1"), "rising shares above 0"),
        (("promote", "long", "--to", "redact"), "length judges the whole text"),
        (("pause", "injection"), "no ramp has begun"),
    ],
)
def test_a_guard_that_cannot_be_promoted_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in refused(*words, *REASON)


def test_a_guard_that_blocks_already_has_nothing_to_promote(
    run: Run, path: Path, stream_url: str, stream_name: str
) -> None:
    write(path, stream_url, stream_name, action="block")
    assert "stricter than block" in refused("promote", "injection", *REASON)


def test_a_changed_guard_is_promoted_anew(run: Run, path: Path, server: Any, stream_url: str, stream_name: str) -> None:
    run("promote", "injection", *REASON)
    server(step)
    write(path, stream_url, stream_name, threshold=0.9)
    assert "observe for every unit; step 1 of 2" in run("status", "injection"), "gateways do not apply it"
    assert "begins its ramp" in run("promote", "injection", *REASON)


def test_a_rolled_back_guard_begins_again_after_the_cool_down(run: Run, server: Any) -> None:
    run("promote", "injection", *REASON)

    async def long_ago(corridor: Corridor) -> None:
        record = await record_of(corridor)
        after = rolled_back(record, RampChange(time.time() - 3600, CONTROLLER, "block rate: too high"), 600.0)
        assert await corridor.ramps.change(record, after, b"{}")

    server(long_ago)
    assert "begins its ramp" in run("promote", "injection", *REASON)


def test_the_history_names_who_and_why(run: Run, server: Any) -> None:
    run("promote", "injection", *REASON)
    server(step)
    lines = run("history", "injection").splitlines()
    assert f"begun  by {getpass.getuser()}: {REASON[1]}" in lines[1]
    assert "advanced to step 1  by controller: everything holds" in lines[2]
    changes = conforms("guard history", run("history", "injection", "--json").split("\n", 1)[1])
    assert [change["kind"] for change in changes] == ["begun", "advanced"]
