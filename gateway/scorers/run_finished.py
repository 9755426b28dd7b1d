"""Tests whether an agent's run came to an end of its own."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.completion import ToolCall
from gateway.core.exchange import CLIENT_ENDED
from gateway.core.score import Score, Skipped
from gateway.scoring.types import GoldenRun, RunCall, RunRule, RunSubject

_CUT = ("length", "max_tokens", "max_output_tokens", "incomplete", "pause_turn")
_NO_CONTENT = Skipped("a run whose answers are recorded")


@dataclass(frozen=True, slots=True)
class RunFinished(RunRule):
    """Scores 1 if the last answer is complete and calls no tool, 0 if the run ends with a failure, an answer that was
    cut off, a tool call whose result was never sent back, or a client that left.
    """

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        last = run.calls[-1]
        detail = {"calls": float(len(run.calls))}
        silent = not (last.text or last.tool_calls or last.refusal or last.finish_reason)
        if silent and not last.failed and last.outcome not in CLIENT_ENDED:
            return _NO_CONTENT
        label, why = _end(last)
        return Score(0.0 if why else 1.0, label, why or None, detail)

    def golden(self) -> tuple[GoldenRun, ...]:
        look, said = (
            RunCall(tool_calls=(ToolCall("1", "look", "{}"),), finish_reason="tool_calls"),
            RunCall(text="Done."),
        )
        return (
            GoldenRun("an answer at the end", RunSubject("r", (look, said)), 1.0),
            GoldenRun("a tool call at the end", RunSubject("r", (said, look)), 0.0),
            GoldenRun("cut off", RunSubject("r", (RunCall(text="Do", finish_reason="length"),)), 0.0),
            GoldenRun("failed", RunSubject("r", (look, RunCall("upstream_error", 503, None))), 0.0),
            GoldenRun("failed once, and went on", RunSubject("r", (RunCall("timeout", 504, None), said)), 1.0),
            GoldenRun("the client left", RunSubject("r", (RunCall("client_gone", text="Do"),)), 0.0),
            GoldenRun("nothing recorded", RunSubject("r", (RunCall(finish_reason=None),)), None),
        )


def _end(last: RunCall) -> tuple[str, str]:
    """The label, and why the run is not finished; "" if it is."""
    if last.failed:
        return "failed", f"the last call failed: {last.outcome}, HTTP {last.status}"
    if last.outcome == "blocked":
        return "blocked", "a guard refused the last call"
    if last.outcome in CLIENT_ENDED:
        return "left", "the client left during the last answer"
    if last.tool_calls:
        return (
            "unanswered",
            f"it ends with a call of {last.tool_calls[0].name[:80]!r}, whose result was never sent back",
        )
    if last.finish_reason in _CUT:
        return "cut off", f"the last answer was cut off: {last.finish_reason}"
    return "finished", ""
