"""The text of a run for a judge, within a bound: results of tools are shortened first, the oldest before the newest.

Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.scorers.judging.templates import shorten
from gateway.scoring.types import RunStep, RunSubject

CHARACTERS_PER_TOKEN = 4
_SHORT_RESULT = 200  # characters of a tool's result that is shortened
_SHORT_TEXT = 1_000  # of any other step, where shorter results do not suffice


def trajectory_text(run: RunSubject, most_tokens: int) -> str:
    """Every step, and how the run ended. Where it would be longer than `most_tokens`, at four characters each, the
    results of tools are shortened from the oldest on; then all other steps; and at last the middle is left out."""
    most = most_tokens * CHARACTERS_PER_TOKEN
    last = run.calls[-1]
    end = f"[the run ends after {len(run.calls)} calls; the last one: {last.outcome}, HTTP {last.status}]"
    room = most - len(end) - 2 * len(run.steps)
    texts = _within([step_text(step) for step in run.steps], run.steps, room)
    return shorten("\n\n".join([*texts, end]), most)


def _within(texts: list[str], steps: Sequence[RunStep], most: int) -> list[str]:
    total = sum(map(len, texts))
    results = [at for at, step in enumerate(steps) if step.role == "tool"]
    others = [at for at, step in enumerate(steps) if step.role != "tool"]
    for order, short in ((results, _SHORT_RESULT), (others, _SHORT_TEXT)):
        for at in order:
            if total <= most:
                return texts
            shorter = shorten(texts[at], short)
            if len(shorter) < len(texts[at]):
                total -= len(texts[at]) - len(shorter)
                texts[at] = shorter
    return texts


def step_text(step: RunStep) -> str:
    calls = [f"[calls {call.name} with {call.arguments}]" for call in step.tool_calls]
    title = "tool, which failed" if step.failed else step.role
    return "\n".join([f"[{title}]", *([step.text] if step.text else []), *calls])
