from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.score import Score, Skipped
from gateway.scorers.decision_brier import DecisionBrier
from gateway.scorers.decision_right import NO_OPTION, REQUEST, DecisionRight
from gateway.scoring.golden import check_golden

ONE: dict[str, Any] = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"schema": {"type": "object", "properties": {"team": {"enum": ["billing", "other"]}}}},
    }
}


@pytest.mark.parametrize("scorer", [DecisionRight("right"), DecisionBrier("brier")])
def test_golden_cases_hold(scorer: Any) -> None:
    assert check_golden(scorer) == []


@pytest.mark.parametrize(("reference", "value"), [
    ("billing", 1.0), (" Billing\n", 1.0), ("other", 0.0), ('{"team": "billing"}', 1.0), ("legal", None), ("", None),
])  # fmt: skip
def test_the_reference_of_one_decision_may_be_its_value(subject: Any, reference: str, value: float | None) -> None:
    score = DecisionRight("right").score_immediately(subject('{"team": "billing"}', ONE, reference))
    assert (score.value if isinstance(score, Score) else None) == value


def test_a_request_for_text_is_not_scored(subject: Any) -> None:
    for scorer in (DecisionRight("right"), DecisionBrier("brier")):
        assert isinstance(scorer.score_immediately(subject("billing", {}, "billing")), Skipped)


@pytest.mark.parametrize("refund", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_loss_is_that_of_the_recorded_probability(subject: Any, refund: float) -> None:
    record = orjson.dumps({"probabilities": {"refund": [refund, 1 - refund]}}).decode()
    text = orjson.dumps({"team": "other", "refund": refund >= 0.5}).decode()
    found = subject(text, REQUEST, '{"refund": true}', decision=record)
    score = DecisionBrier("brier").score_immediately(found)
    assert isinstance(score, Score)
    assert score.value == pytest.approx((1 - refund) ** 2)


@pytest.mark.parametrize(("option", "reference", "value"), [
    ("billing", '{"team": "billing"}', 1.0), ("other", '{"team": "other"}', 0.0),
    ("other", '{"team": "billing"}', None),
    (True, '{"team": "billing", "refund": true}', 0.0), ("true", '{"team": "billing", "refund": true}', None),
    (1, '{"team": "billing", "refund": true}', None),
])  # fmt: skip
def test_an_option_counts_only_where_it_is_right(
    subject: Any, option: Any, reference: str, value: float | None
) -> None:
    scorer = DecisionRight("right", option)
    assert check_golden(scorer) == []
    score = scorer.score_immediately(subject('{"team": "billing", "refund": false}', REQUEST, reference))
    assert (score.value if isinstance(score, Score) else None) == value
    assert value is not None or score == NO_OPTION
