"""The section `predictor`: a target that exists, and shares that can hold together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.config.predictor import PredictorConfig
from gateway.core.errors import ConfigError


def read(own_share: float = 0.3, **predictor: Any) -> Config:
    return parse(yaml.safe_dump({
        "open": True, "upstreams": {"a": {"kind": "fake"}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "scorers": {"helpfulness": {"use": "refusal", "share": own_share}},
        "predictor": {"target": "helpfulness", **predictor},
    }))  # fmt: skip


@pytest.mark.parametrize(
    ("target", "guided", "key"),
    [
        ("helpfulness", "helpfulness", "helpfulness"),
        ("labels:helpfulness", "helpfulness", "helpfulness"),
        ("feedback:thumb", None, "feedback:thumb"),
        ("feedback:implicit:reaction", None, "feedback:implicit:reaction"),
    ],
)
def test_a_target_is_a_scorer_labels_for_one_or_feedback(target: str, guided: str | None, key: str) -> None:
    predictor = read(target=target).predictor
    assert predictor is not None
    assert (predictor.guided, predictor.key) == (guided, key)


def test_without_the_section_nothing_is_predicted() -> None:
    assert (
        parse("open: true\nupstreams: {a: {kind: fake}}\nmodels: {c: {targets: [{upstream: a, model: m}]}}").predictor
        is None
    )


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ({"target": "helpfulnes"}, 'predictor.target: no scorer "helpfulnes"; did you mean "helpfulness"?'),
        ({"target": "labels:x"}, 'predictor.target: no scorer "x"; known: helpfulness, or feedback:NAME'),
        ({"target": "a b"}, "predictor.target"),
        ({"pi_min": 0.01}, "predictor.pi_min"),
        ({"share": 0.1, "pi_min": 0.2}, "share 0.1 is below pi_min 0.2"),
        ({"pi_min": 0.4}, "by default that of scorers.helpfulness, 0.3, which is below pi_min 0.4"),
        ({"min_rows": 500, "max_rows": 100}, "max_rows 100 is below min_rows 500"),
        ({"target": "feedback:thumb", "share": 0.5}, "given by people, so no judge has a share"),
        ({"retrain": 5}, "unknown key; did you mean"),
    ],
)
def test_contradictory_settings_are_refused(predictor: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(**predictor)
    assert message in str(refused.value)


def test_the_floor_of_the_probability_is_never_below_a_twentieth() -> None:
    plain, adaptive = PredictorConfig(target="x"), PredictorConfig(target="x", adaptive=True)
    assert (plain.adaptive, plain.floor(0.4)) == (False, 0.4), "every exchange has the same probability"
    assert [adaptive.floor(share) for share in (0.05, 0.1, 0.4, 1.0)] == [0.05, 0.05, 0.2, 0.5]
    assert PredictorConfig(target="x", adaptive=True, pi_min=0.05).floor(0.4) == 0.05, "an explicit value stays"
