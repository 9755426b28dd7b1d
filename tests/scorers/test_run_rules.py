"""The rules on runs, by what the config says; each also has its golden cases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.config.scorers import ScorerConfig
from gateway.core.completion import ToolCall
from gateway.core.errors import ConfigError
from gateway.core.score import Score, Skipped
from gateway.scorers.run_correction import RunCorrection
from gateway.scorers.run_finished import RunFinished
from gateway.scorers.run_length import RunCalls, RunTokens
from gateway.scorers.run_loops import RunLoops
from gateway.scorers.run_tool_errors import RunToolErrors
from gateway.scoring.registry import RegisteredRun, build_all
from gateway.scoring.types import RunCall, RunStep, RunSubject

RULES = {
    "run_calls": RunCalls,
    "run_correction": RunCorrection,
    "run_finished": RunFinished,
    "run_loops": RunLoops,
    "run_tokens": RunTokens,
    "run_tool_errors": RunToolErrors,
}
NAMES = tuple(RULES)


def built(name: str, **options: Any) -> RegisteredRun:
    return build_all({name: ScorerConfig(**options)}).runs[name]


def score(of: RegisteredRun, run: RunSubject) -> Score | Skipped:
    return asyncio.run(of.scorer.score_run(run))  # type: ignore[arg-type]


def calling(*arguments: str, name: str = "look") -> tuple[RunCall, ...]:
    return tuple(
        RunCall(tool_calls=(ToolCall(f"{n}", name, each),), finish_reason="tool_calls")
        for n, each in enumerate(arguments)
    )


def test_scorers_of_runs_are_apart_from_those_of_answers() -> None:
    made = build_all({name: ScorerConfig() for name in (*NAMES, "length", "edit_distance")})
    assert {name: type(of.scorer) for name, of in made.runs.items()} == RULES
    assert (list(made.single), list(made.pairs)) == (["length"], ["edit_distance"])
    assert set(made.all()) == {*NAMES, "length", "edit_distance"}


def test_a_config_may_say_what_they_score() -> None:
    assert built("run_loops", unit="run").config_hash != built("run_loops").config_hash
    with pytest.raises(ConfigError, match=r"scorers.run_loops.unit: input should be 'run'"):
        built("run_loops", unit="call")
    with pytest.raises(ConfigError, match=r"scorers.length.unit: unknown option"):
        build_all({"length": ScorerConfig(unit="run")})  # type: ignore[call-arg]


@pytest.mark.parametrize(("times", "value"), [(2, 0.0), (3, 0.0), (4, 1.0)])
def test_a_loop_is_as_many_equal_calls_as_the_config_says(times: int, value: float) -> None:
    run = RunSubject("r", calling('{"a":1}', '{"a":2}', '{ "a": 1}', '{"a":1}', "not json"))
    found = score(built("run_loops", times=times), run)
    assert isinstance(found, Score)
    assert (found.value, found.detail["most"], found.detail["calls"]) == (value, 3.0, 5.0)


def test_a_tool_of_another_name_is_another_call() -> None:
    run = RunSubject("r", (*calling("{}", "{}"), *calling("{}", name="read")))
    assert score(built("run_loops"), run).value == 1.0  # type: ignore[union-attr]


def test_tests_that_run_again_after_a_change_are_not_a_loop() -> None:
    results = [RunStep("tool", text, tool_call_id=f"{n}") for n, text in enumerate(("2 fail", "1 fails", "ok"))]
    run = RunSubject("r", calling("{}", "{}", "{}"), tuple(results))
    assert score(built("run_loops"), run).value == 0.0  # type: ignore[union-attr]
    assert score(built("run_loops", same_result=True), run).value == 1.0  # type: ignore[union-attr]
    unknown = score(built("run_loops", same_result=True), RunSubject("r", run.calls, complete=False))
    assert isinstance(unknown, Skipped)


def test_a_pattern_says_what_an_error_is() -> None:
    steps = tuple(RunStep("tool", text) for text in ("KO: nothing", "OK", "error: x"))
    run = RunSubject("r", (RunCall(text="x"),), steps)
    assert score(built("run_tool_errors"), run).value == pytest.approx(2 / 3)  # type: ignore[union-attr]
    assert score(built("run_tool_errors", pattern="^KO|^error"), run).value == pytest.approx(1 / 3)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"scorers\.run_tool_errors"):
        built("run_tool_errors", pattern="(")


@pytest.mark.parametrize("most", [1, 50, 20_000])
def test_a_run_within_its_bounds_is_as_good_as_any(most: int) -> None:
    run = RunSubject("r", (RunCall(tokens=10),) * 4)
    assert score(built("run_calls", most=most), run).value == min(1.0, most / 4)  # type: ignore[union-attr]
    assert score(built("run_tokens", most=most), run).value == min(1.0, most / 40)  # type: ignore[union-attr]
