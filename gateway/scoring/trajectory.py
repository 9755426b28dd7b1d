"""The trajectory of a run: messages, calls and results, each once, in order. Pure; reads requests of any API.

Agents send the whole history with each call. Of each request only the messages count that the previous one did not
have, and of these no answers: those are known from the calls themselves. Requests are read one at a time, since those
of a run add up to a hundred times its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.json_values import parse_object
from gateway.core.run_steps import RunStep, steps_of
from gateway.scoring.types import RunCall


@dataclass(slots=True)
class Trajectory:
    """Collects the steps of a run, call by call."""

    steps: list[RunStep] = field(default_factory=list)
    complete: bool = True
    """Whether the steps are complete; False if a request was not recorded to its end."""
    _before: list[RunStep] = field(default_factory=list)
    _known: set[RunStep] = field(default_factory=set)
    """The steps, to be looked up."""
    _returned: set[str] = field(default_factory=set)
    """The tool calls whose results are known."""

    def add(self, request: bytes, call: RunCall) -> None:
        body = parse_object(request)
        if body is None or not body:
            self.complete = False
            messages: list[RunStep] = []
        else:
            messages = list(steps_of(body))
            shared = count_shared(self._before, messages)
            self._take([step for step in messages[shared:] if self._is_new(step)])
            self._before = messages
        if call.text or call.tool_calls or call.refusal:
            text = "\n".join(part for part in (call.text, call.refusal) if part)
            self._take([RunStep("assistant", text, call.tool_calls)])

    def _take(self, steps: list[RunStep]) -> None:
        self.steps += steps
        self._known.update(steps)

    def _is_new(self, step: RunStep) -> bool:
        """Whether the steps lack this message: where an agent shortens its history, the rest is sent again."""
        if step.role == "assistant":
            return not self.steps
        if step.role == "tool" and step.tool_call_id:
            new = step.tool_call_id not in self._returned
            self._returned.add(step.tool_call_id)
            return new
        return step not in self._known


def tool_results(request: bytes) -> list[str]:
    """The results of tools that a request sends."""
    return [step.text for step in steps_of(parse_object(request) or {}) if step.role == "tool"]


def count_shared(before: Sequence[object], messages: Sequence[object]) -> int:
    """Counts the messages with which both begin."""
    n = 0
    for one, other in zip(before, messages, strict=False):
        if one != other:
            break
        n += 1
    return n
