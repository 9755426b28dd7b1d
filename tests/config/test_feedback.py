"""The section `feedback`."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from gateway.config.feedback import FeedbackConfig, ImplicitLanguage
from gateway.features.feedback.implicit import ImplicitFeedback


def test_implicit_feedback_is_off_by_default():
    assert FeedbackConfig().implicit == ()


def test_every_language_has_rules():
    for language in get_args(ImplicitLanguage):
        assert ImplicitFeedback(FeedbackConfig(implicit=(language,)).implicit).signs("") == ()
    with pytest.raises(ValidationError, match="implicit"):
        FeedbackConfig(implicit=("xx",))


def test_a_range_is_two_rising_numbers():
    assert FeedbackConfig(range={"stars": [1, 5]}).range == {"stars": (1.0, 5.0)}
    for wrong in ([1, 1], [5, 1], [0, float("inf")]):
        with pytest.raises(ValidationError, match="two numbers that rise"):
            FeedbackConfig(range={"stars": wrong})
    with pytest.raises(ValidationError, match="pattern"):
        FeedbackConfig(range={"two words": [0, 1]})
