"""The cost of the predictor is measured by part. No number is judged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
from chats import chats
from predicting import measured, trained

pytestmark = pytest.mark.long  # it tests a benchmark, not the product


def test_the_cost_of_a_prediction_is_measured_by_part() -> None:
    cost = measured(trained(rows=200), batches=1, batch=16)
    assert min(cost.features, cost.trees, cost.draw, cost.storing) > 0
    assert cost.all == pytest.approx(cost.features + cost.trees + cost.draw + cost.storing)


def test_chats_are_the_same_for_the_same_seed_and_of_every_kind() -> None:
    answers = [e.response.partition(b'"content": ')[2] for e in chats(200)]
    assert answers == [e.response.partition(b'"content": ')[2] for e in chats(200)]
    for begin in (b"\"I'm sorry", b'"{\\"customer', b'"Here is a function', b'"Here is what'):
        assert any(answer.startswith(begin) for answer in answers)
