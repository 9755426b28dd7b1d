"""Long streams: an event costs the same however many came before it, and only what may be needed is held.

Counted are function calls, which no load changes, and bytes that are allocated.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import calls
import long_answers

FEW, MANY = 100, 600

# Function calls for an event, by kind of stream, with Python 3.11 (test_hot.py).
BOUNDS = {
    "chat, text": 13, "chat, reasoning": 11, "chat, logprobs": 19, "messages, thinking": 15,
    "chat from Anthropic's events": 14, "messages from chat events": 14, "responses": 23,
    "responses from chat events": 25, "responses from Anthropic's events": 32,
}  # fmt: skip


@pytest.mark.parametrize("name", long_answers.STREAMS)
def test_an_event_costs_the_same_however_many_came_before(name: str) -> None:
    few, many = calls.of_streams(long_answers.STREAMS[name], FEW, MANY)
    each = (many - few) / (MANY - FEW)
    assert each <= BOUNDS[name] * 1.02, f"{each:.2f} calls for an event; it was {BOUNDS[name]}"


@pytest.mark.parametrize("name", ["chat, reasoning", "messages, thinking", "chat from Anthropic's events"])
def test_a_stream_that_no_target_can_continue_is_not_held(name: str) -> None:
    few, many = long_answers.held_bytes(long_answers.STREAMS[name], FEW, MANY)
    assert many - few < (MANY - FEW) * 5, f"{many - few} bytes more of {MANY - FEW} events more"


def test_text_that_another_target_could_continue_is_held_once() -> None:
    few, many = long_answers.held_bytes(long_answers.STREAMS["chat, text"], FEW, MANY)
    assert many - few < (MANY - FEW) * 70, "its text alone, and not the events"
    few_kb, many_kb = (long_answers.stream_cost(long_answers.STREAMS["chat, text"], n).peak_kb for n in (FEW, MANY))
    assert (many_kb - few_kb) * 1e3 < (MANY - FEW) * 120, "nor are the events made again at the end"
