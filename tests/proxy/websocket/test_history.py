"""The conversations of open connections, within their bounds after any sequence of turns."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.websocket.history import ConnectionHistory, ConversationTurn, ProcessHistory

turns = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([None, "a", "b", "c"]), st.integers(0, 60), st.booleans()), max_size=60
)


def turn(number: int, size: int) -> ConversationTurn:
    return ConversationTurn(f"{number:04}", (b"x" * size,))


@given(turns)
def test_the_bounds_hold_after_any_turns(steps: list[Any]) -> None:
    process = ProcessHistory(100)
    connections = [ConnectionHistory(process, 60) for _ in range(3)]
    for number, (which, lane, size, clears) in enumerate(steps):
        if clears:
            connections[which].clear()
            continue
        connections[which].keep(lane, turn(number, size))
        found = connections[which].find(f"{number:04}")
        assert (found is not None) == (size + 4 <= 60), "the newest is kept, unless it is too large alone"
        assert all(connection.held <= 60 for connection in connections)
        assert process.held == sum(connection.held for connection in connections) <= 100
    for connection in connections:
        connection.clear()
    assert process.held == 0


def test_the_least_recently_used_entry_is_forgotten_first() -> None:
    process = ProcessHistory(100)
    one, two, three = (ConnectionHistory(process) for _ in range(3))
    one.keep(None, turn(1, 40))
    two.keep(None, turn(2, 40))
    assert one.find("0001") is not None
    three.keep(None, turn(3, 40))
    assert (one.find("0001") is None, two.find("0002") is None) == (False, True)


def test_a_lane_has_its_latest_response_alone() -> None:
    history = ConnectionHistory(ProcessHistory())
    history.keep("a", turn(1, 1))
    history.keep("b", turn(2, 1))
    history.keep("a", turn(3, 1))
    assert [history.find(f"{n:04}") is not None for n in (1, 2, 3)] == [False, True, True]
    assert (history.latest("a"), history.latest("c")) == ("0003", None)
