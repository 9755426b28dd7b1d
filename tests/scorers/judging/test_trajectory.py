"""The text of a run for a judge: complete where it fits, and otherwise with shorter results of tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import ToolCall
from gateway.scorers.judging.trajectory import CHARACTERS_PER_TOKEN, trajectory_text
from gateway.scoring.types import RunCall, RunStep, RunSubject

CALLS = (RunCall(text="Done."), RunCall("upstream_error", 503))


def run(*steps: RunStep) -> RunSubject:
    return RunSubject("r", CALLS, steps)


def test_a_short_run_is_shown_whole() -> None:
    steps = (
        RunStep("user", "where?"), RunStep("assistant", "", (ToolCall("1", "look", '{"at": 1}'),)),
        RunStep("tool", "no such file", failed=True), RunStep("assistant", "Nowhere."),
    )  # fmt: skip
    assert trajectory_text(run(*steps), 1_000) == (
        '[user]\nwhere?\n\n[assistant]\n[calls look with {"at": 1}]\n\n[tool, which failed]\nno such file\n\n'
        "[assistant]\nNowhere.\n\n[the run ends after 2 calls; the last one: upstream_error, HTTP 503]"
    )


def test_the_oldest_results_of_tools_are_shortened_first() -> None:
    results = [RunStep("tool", letter * 2_000) for letter in "abc"]
    said = RunStep("assistant", "x" * 1_500)
    text = trajectory_text(run(results[0], said, *results[1:]), 1_100)
    assert [text.count(letter * 2_000) for letter in "abc"] == [0, 0, 1]
    assert "x" * 1_500 in text
    assert text.count("characters left out") == 2


def test_then_everything_else_is_shortened() -> None:
    text = trajectory_text(run(RunStep("user", "q" * 3_000), RunStep("tool", "r" * 900)), 400)
    assert "q" * 3_000 not in text
    assert "r" * 900 not in text
    assert text.startswith("[user]\nqqq")


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.integers(0, 5_000)), max_size=12),
       st.integers(200, 2_000))  # fmt: skip
def test_the_bound_holds(steps: list[tuple[str, int]], most: int) -> None:
    text = trajectory_text(run(*(RunStep(role, "x" * n) for role, n in steps)), most)
    assert len(text) <= CHARACTERS_PER_TOKEN * most + 60, "and the note on what was left out"
    assert text.endswith("HTTP 503]")


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_every_role_is_named(role: str) -> None:
    assert f"[{role}]\nhello" in trajectory_text(run(RunStep(role, "hello")), 200)
