"""Measures whether runs stay within a number of calls or of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from gateway.core.score import Score, Skipped
from gateway.scoring.types import GoldenRun, RunCall, RunRule, RunSubject

Most = Annotated[int, Field(ge=1)]
NO_TOKENS = Skipped("a run whose tokens are known")


@dataclass(frozen=True, slots=True)
class RunCalls(RunRule):
    """Scores 1 if the run takes `most` calls or fewer, else the share of its calls that `most` is, so 0.5 for twice as
    many.
    """

    most: Most = 50

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        return _within(len(run.calls), self.most, "calls")

    def golden(self) -> tuple[GoldenRun, ...]:
        calls = (RunCall(text="Done."),)
        return (
            GoldenRun("one call", RunSubject("r", calls), 1.0),
            GoldenRun("twice as many", RunSubject("r", calls * (2 * min(self.most, 10_000))), 0.5)
            if self.most <= 10_000
            else GoldenRun("few calls", RunSubject("r", calls * 2), 1.0),
        )


@dataclass(frozen=True, slots=True)
class RunTokens(RunRule):
    """Scores 1 if the run takes `most` tokens or fewer, input and output of all calls, else the share of them that
    `most` is.
    """

    most: Most = 1_000_000

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        known = [call.tokens for call in run.calls if call.tokens is not None]
        return _within(sum(known), self.most, "tokens") if known else NO_TOKENS

    def golden(self) -> tuple[GoldenRun, ...]:
        call = RunCall(text="Done.", tokens=self.most)
        return (
            GoldenRun("as many as there may be", RunSubject("r", (call,)), 1.0),
            GoldenRun("twice as many", RunSubject("r", (call, call)), 0.5),
            GoldenRun("unknown", RunSubject("r", (replace(call, tokens=None),)), None),
        )


def _within(n: int, most: int, what: str) -> Score:
    detail = {what: float(n)}
    if n <= most:
        return Score(1.0, f"{n} {what}", detail=detail)
    return Score(most / n, f"{n} {what}", f"{n} {what}, expected at most {most}", detail)
