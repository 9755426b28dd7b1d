"""Distances between two answers are symmetric, in [0, 1], and 0 for the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Score
from gateway.scoring.registry import RegisteredPair, build_all
from gateway.scoring.types import PairScorer

JSON = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text("ab", max_size=2), x, max_size=3),
                    max_leaves=8)  # fmt: skip
CALLS = st.lists(st.builds(ToolCall, st.just("1"), st.sampled_from("fg"), st.sampled_from(['{"a": 1}', "{}", "x"])),
                 max_size=4).map(tuple)  # fmt: skip
ANSWERS = st.builds(
    Completion, text=JSON.map(repr) | st.text("ab {}\n", max_size=20), tool_calls=CALLS, finish_reason=st.just("stop")
)
DISTANCES = build_all({n: Section() for n in ("edit_distance", "json_distance", "tool_distance")}).pairs


@pytest.mark.parametrize("name", DISTANCES)
@given(ANSWERS, ANSWERS)
def test_distances_are_symmetric_and_bounded(ask_pair, pair, name, a, b):
    scorer = DISTANCES[name].scorer
    there, back, same = (ask_pair(scorer, pair(*each)) for each in ((a, b), (b, a), (a, a)))
    assert type(there) is type(back)
    if isinstance(there, Score):
        assert there.value == pytest.approx(back.value, abs=1e-12)
        assert 0.0 <= there.value <= 1.0
    if isinstance(same, Score):
        assert same.value == 0.0


def test_pair_scorers_are_registered_separately():
    built = build_all({"refusal": Section(), "edit_distance": Section(share=0.5)})
    assert (list(built.single), list(built.pairs)) == (["refusal"], ["edit_distance"])
    registered = built.pairs["edit_distance"]
    assert isinstance(registered, RegisteredPair)
    assert isinstance(registered.scorer, PairScorer)
    assert (registered.share, registered.scorer.direction, registered.scorer.bounds) == (0.5, "minimise", (0.0, 1.0))
