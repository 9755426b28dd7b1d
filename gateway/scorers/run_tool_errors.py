"""Measures the share of an agent's tool calls that returned an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from gateway.config.privacy import compile_pattern
from gateway.core.score import Score, Skipped
from gateway.scoring.types import GoldenRun, RunCall, RunRule, RunStep, RunSubject

PATTERN = r"(?i)^\W*(error|exception|traceback|fatal|panic|command failed)\b|exit_?code\"?\s*[:=]\s*[1-9]"
_READ = 2_000  # characters of a result
_CALLS = (RunCall(text="Done."),)
NO_RESULT = Skipped("a run with a tool's result")
INCOMPLETE = Skipped("a run whose requests are recorded to their end")


@dataclass(frozen=True, slots=True)
class RunToolErrors(RunRule):
    """The share of tool results that are not errors. An error is marked as one by the client (`is_error`), or its
    beginning matches `pattern`."""

    pattern: Annotated[str, Field(min_length=1)] = PATTERN
    """Pattern for the beginning of a result: clients of OpenAI's APIs do not mark errors. Another pattern than the
    default is in RE2's syntax, and needs the extra `redaction`."""
    _compiled: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = self.pattern == PATTERN
        self._compiled.append(re.compile(PATTERN) if own else compile_pattern(self.pattern))

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        if not run.complete:
            return INCOMPLETE
        results = [step for step in run.steps if step.role == "tool"]
        if not results:
            return NO_RESULT
        errors = [step for step in results if step.failed or self._says_so(step.text)]
        detail = {"results": float(len(results)), "errors": float(len(errors))}
        why = f"the first: {errors[0].text[:200]}" if errors else None
        return Score(1.0 - len(errors) / len(results), f"{len(errors)} of {len(results)}", why, detail)

    def _says_so(self, text: str) -> bool:
        return self._compiled[0].search(text[:_READ].encode("utf-8", "replace").decode()) is not None

    def golden(self) -> tuple[GoldenRun, ...]:
        fine, marked = RunStep("tool", "42"), RunStep("tool", "no such file", failed=True)
        cases = [
            GoldenRun("none", RunSubject("r", _CALLS, (fine, fine)), 1.0),
            GoldenRun("one that is marked", RunSubject("r", _CALLS, (fine, marked)), 0.5),
            GoldenRun("no result", RunSubject("r", _CALLS, (RunStep("user", "Error!"),)), None),
            GoldenRun("cut off", RunSubject("r", _CALLS, (fine,), complete=False), None),
        ]
        if self.pattern == PATTERN:
            said = tuple(
                RunStep("tool", text) for text in ("Error: no such file", '{"exit_code": 1}', "no errors found")
            )
            cases.append(GoldenRun("two by what they say", RunSubject("r", _CALLS, said), 1 / 3))
        return tuple(cases)
