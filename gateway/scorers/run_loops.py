"""Finds runs in which an agent makes the same tool call again and again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gateway.core.completion import ToolCall
from gateway.core.run_steps import canonical_call
from gateway.core.score import Score, Skipped
from gateway.scoring.types import GoldenRun, RunCall, RunRule, RunStep, RunSubject

_Key = tuple[str, str, str]
NO_CALL = Skipped("a run that calls a tool")
NO_RESULTS = Skipped("a run whose requests are recorded to their end")


@dataclass(frozen=True, slots=True)
class RunLoops(RunRule):
    """Scores 0 if the run makes the same tool call, with equal arguments, `times` times or more, else 1.

    detail: how often it makes its most frequent call.
    """

    times: Annotated[int, Field(ge=2)] = 3
    same_result: bool = False
    """Count only calls that also got the same result, so that tests which are run again after a change do not count."""

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        if self.same_result and not run.complete:
            return NO_RESULTS
        results = (
            {step.tool_call_id: step.text for step in run.steps if step.role == "tool"} if self.same_result else {}
        )
        calls = Counter(_key(call, results) for each in run.calls for call in each.tool_calls)
        if not calls:
            return NO_CALL
        (name, arguments, _), most = calls.most_common(1)[0]
        detail = {"most": float(most), "calls": float(calls.total())}
        if most < self.times:
            return Score(1.0, "no loop", detail=detail)
        return Score(0.0, "loop", f"calls {name[:80]}({arguments[:200]}) {most} times", detail)

    def golden(self) -> tuple[GoldenRun, ...]:
        one, two, three = (_made(f"{n}", "look", '{"at": 1, "b": 2}') for n in range(3))
        other = _made("9", "look", '{"at": 2}')
        again = RunSubject("r", (one, two, _made("2", "look", '{"b":2,"at":1}')))
        returned = tuple(RunStep("tool", "nothing", tool_call_id=f"{n}") for n in range(3))
        changed = (*returned[:2], RunStep("tool", "something", tool_call_id="2"))
        return (
            GoldenRun("two times", RunSubject("r", (one, two, other)), float(self.times > 2)),
            GoldenRun("three times, in another order of members", again, float(self.times > 3)),
            GoldenRun("the same results", RunSubject("r", (one, two, three), returned), float(self.times > 3)),
            GoldenRun(
                "other results", RunSubject("r", (one, two, three), changed),
                float(self.times > (2 if self.same_result else 3)),
            ),
            GoldenRun("no tool call", RunSubject("r", (RunCall(text="Hello."),)), None),
        )  # fmt: skip


def _made(id: str, name: str, arguments: str) -> RunCall:
    return RunCall(tool_calls=(ToolCall(id, name, arguments),), finish_reason="tool_calls")


def _key(call: ToolCall, results: dict[str, str]) -> _Key:
    """A call in one form, with what it returned if that counts."""
    return *canonical_call(call), results.get(call.id, "")
