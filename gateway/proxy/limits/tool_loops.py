"""Tool calls that an agent makes again and again, as the end of a request shows them. Pure.

The rule is that of the scorer `run_loops` with `same_result`: equal tool, equal arguments in whatever order, equal
result. Only the request is read, so a call that continues a stored response shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from msgspec import Raw
from msgspec.json import Decoder

from gateway.core.run_steps import RunStep, canonical_call, steps_of_turn
from gateway.proxy.request.call import Call

_turns = Decoder(list[Raw]).decode
_turn = Decoder(dict).decode

_Made = tuple[str, str, str]
"""Tool, arguments and result."""


def loops_at_the_end(call: Call) -> int:
    """How often the last tool call of a request was made in a row, with the same result; 0 if it ends otherwise."""
    members = call.slices() if call.body else {}
    turns = members.get("messages") or members.get("input")
    if turns is None or not bytes(turns).lstrip().startswith(b"["):
        return 0
    made = _made_backwards(_steps_backwards(bytes(turns)))
    last = next(made, None)
    return 0 if last is None else 1 + sum(1 for _ in takewhile(lambda other: other == last, made))


def _steps_backwards(turns: bytes) -> Iterator[RunStep]:
    """Decodes one turn at a time, the newest first: usually few are needed."""
    for raw in reversed(_turns(turns)):
        if not bytes(raw).startswith(b"{"):
            return
        yield from reversed(list(steps_of_turn(_turn(raw))))


def _made_backwards(steps: Iterator[RunStep]) -> Iterator[_Made]:
    """Yields the tool calls whose results are known, the newest first, until somebody else speaks."""
    results: dict[str, str] = {}
    for step in steps:
        if step.role == "tool":
            results[step.tool_call_id] = step.text
        elif step.role != "assistant":
            return
        for tool_call in reversed(step.tool_calls):
            if tool_call.id not in results:
                return
            yield *canonical_call(tool_call), results[tool_call.id]
