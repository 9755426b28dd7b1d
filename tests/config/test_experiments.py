from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.experiments import Experiment
from gateway.config.upstreams import TargetRef

CONTROL, CANDIDATE = {"upstream": "a", "model": "m"}, {"upstream": "b", "model": "n"}


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate({"model": "chat", "control": CONTROL, "candidate": CANDIDATE, **changes})


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({}, (0.1, 0.0, 0.25)),
        ({"shadow": 0.3, "repeat_control": 0}, (0.3, 0.0, 0.0)),
        ({"mode": "split"}, (0.0, 0.5, 0.0)),
        ({"mode": "split", "split": 0.2}, (0.0, 0.2, 0.0)),
        ({"mode": "both"}, (0.1, 0.5, 0.25)),
        ({"mode": "likelihood", "repeat_control": 0.1}, (0.1, 0.0, 1.0)),
    ],
)
def test_shares_have_defaults_only_in_their_modes(changes: dict[str, Any], shares: tuple[float, ...]) -> None:
    one = experiment(**changes)
    assert (one.shadow_share, one.split_share, one.repeat_share) == shares


def test_a_lone_candidate_is_the_arm_candidate() -> None:
    assert experiment().arms == {"candidate": TargetRef(**CANDIDATE)}
    several = experiment(candidate=None, candidates={"small": CANDIDATE, "large": CANDIDATE})
    assert list(several.arms) == ["small", "large"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01T09:00:00Z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01T09:00:00", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01T10:00:00+01:00", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, 9), datetime(2026, 12, 1, 9, tzinfo=UTC)),
        (datetime(2026, 12, 1).date(), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: Any, moment: datetime) -> None:
    assert experiment(start=text, stop=text).start == moment.timestamp()
    assert experiment(stop=text).stop == moment.timestamp()


@pytest.mark.parametrize("value", ["soon", 3, True])
def test_a_start_that_is_not_a_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"expected a time such as 2026-12-01T09:00:00Z"):
        experiment(start=value)


def test_the_summary_names_the_shares_or_off() -> None:
    assert experiment(mode="both", shadow=0.2).summary() == "shadow on 20%, split 50%"
    assert experiment(enabled=False).summary() == "off"


def test_a_likelihood_experiment_has_a_primary_and_a_noise_floor() -> None:
    one = experiment(mode="likelihood")
    assert (one.chosen_primary, one.scored_twice_share) == ("nats_per_token", 0.25)
    assert experiment(mode="likelihood", repeat_control=0).scored_twice_share == 0.0
    assert experiment(primary="judge").chosen_primary == "judge"
    assert experiment().scored_twice_share == 0.0
    assert one.summary() == "likelihood on 10%"
