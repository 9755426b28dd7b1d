"""Tests whether the user corrected the agent at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.score import Score, Skipped
from gateway.scoring.types import GoldenRun, RunCall, RunRule, RunSubject

_CALLS = (RunCall(text="Done."),)
NO_LANGUAGE = Skipped("`feedback.implicit`, which names the languages whose rules read messages")
NO_REACTION = Skipped("a message of the user after an answer")


@dataclass(frozen=True, slots=True)
class RunCorrection(RunRule):
    """Scores 0 if the user's last message says that the previous answer is wrong, or asks the same again, else 1.

    A run without a message of the user after the first answer has no score: silence is not evidence.
    """

    async def score_run(self, run: RunSubject) -> Score | Skipped:
        if run.reaction is None:
            return NO_LANGUAGE
        if not run.reaction:
            return NO_REACTION
        wrong = [sign for sign in run.reaction if sign in ("wrong", "repeat")]
        if wrong:
            return Score(0.0, "corrected", f"the user's last message: {', '.join(wrong)}")
        return Score(1.0, "thanked" if "thanks" in run.reaction else "went on")

    def golden(self) -> tuple[GoldenRun, ...]:
        return (
            GoldenRun("wrong", RunSubject("r", _CALLS, reaction=("said", "wrong")), 0.0),
            GoldenRun("asked again", RunSubject("r", _CALLS, reaction=("said", "repeat")), 0.0),
            GoldenRun("thanks", RunSubject("r", _CALLS, reaction=("said", "thanks")), 1.0),
            GoldenRun("another task", RunSubject("r", _CALLS, reaction=("said",)), 1.0),
            GoldenRun("no message", RunSubject("r", _CALLS, reaction=()), None),
            GoldenRun("no language", RunSubject("r", _CALLS), None),
        )
