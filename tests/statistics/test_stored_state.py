"""Every sequential object can be saved and restored at any point and continues bit-identically."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.statistics.asymptotic import AsymptoticMean
from gateway.statistics.betting import BettingMean
from gateway.statistics.empirical_bernstein import EmpiricalBernstein
from gateway.statistics.evalues import BettingTest
from gateway.statistics.srm import SequentialRatio

SEQUENCES: dict[str, Callable[[], Any]] = {
    "asymptotic": lambda: AsymptoticMean(burn_in=1),
    "bernstein": lambda: EmpiricalBernstein(0.1, -1.0, 2.0),
    "betting": lambda: BettingMean(cells=50),
    "betting test": lambda: BettingTest(0.4),
    "ratio": lambda: SequentialRatio([1.0, 2.0, 1.0]),
}


def feed(sequence: Any, values: list[float]) -> None:
    for x in values:
        if isinstance(sequence, SequentialRatio):
            sequence.add(int(3 * x) % 3)
        else:
            sequence.add(x)


def read(sequence: Any) -> Any:
    if isinstance(sequence, SequentialRatio | BettingTest):
        return sequence.p_value
    return sequence.interval()


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0, 1), max_size=30), cut=st.integers(0, 30))
def test_a_restored_sequence_continues_bit_identically(make: Any, values: list[float], cut: int) -> None:
    through, before = make(), make()
    feed(through, values)

    feed(before, values[:cut])
    restored = type(before).from_state(json.loads(json.dumps(before.state(), allow_nan=False)))
    feed(restored, values[cut:])

    assert restored.state() == through.state()
    assert read(restored) == read(through)


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
def test_a_state_is_a_copy(make: Any) -> None:
    """Later values, here or in a restored object, do not change it."""
    sequence = make()
    feed(sequence, [0.2, 0.7])
    state = sequence.state()
    kept = json.dumps(state)

    feed(sequence, [0.9])
    feed(type(sequence).from_state(state), [0.1])

    assert json.dumps(state) == kept


@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
def test_unknown_and_missing_fields_are_rejected_by_name(make: Any) -> None:
    state = make().state()

    with pytest.raises(ValueError, match=f"{type(make()).__name__} state: surprise missing or unknown"):
        type(make()).from_state(state | {"surprise": 1})
    state.popitem()
    with pytest.raises(ValueError, match="missing or unknown"):
        type(make()).from_state(state)
