"""A judge that nobody has compared with people is a caution before its experiment starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.features.experiments.judge_cautions import judge_cautions
from gateway.scoring.asker import ExternalServices
from gateway.scoring.http_client import HttpConnections
from gateway.scoring.registry import build_all

JUDGE = {"use": "judge", "model": "referee", "criterion": "It solves the problem."}


def cautions(store: str, primary: str | None, experiment: str | None = None, **more: Any) -> list[str]:
    swap = {"model": "chat", "control": {"upstream": "a", "model": "m"}, "candidate": {"upstream": "a", "model": "n"}}
    swap |= {"primary": primary, "start": "manual"} if primary else {"start": "manual"}
    config = parse(
        yaml.safe_dump(
            {
                "open": True,
                "upstreams": {"a": {"kind": "fake"}},
                "models": {name: {"targets": [{"upstream": "a", "model": "m"}]} for name in ("chat", "referee")},
                "scorers": {"helpful": JUDGE, "refusal": {}},
                "experiments": {"swap": {**swap, **more}},
            }
        )
    )
    return judge_cautions(config, build_all(config.scorers, ExternalServices(HttpConnections())), store, experiment)


SAYS = (
    "experiments.swap.primary: The judge helpful decides and is not calibrated (0 labels); label some answers: "
    "gateway label next --scorer helpful."
)


@pytest.mark.parametrize(
    ("primary", "more", "expected"),
    [
        ("helpful", {}, [SAYS]),
        ("helpful", {"enabled": False}, []),
        ("refusal", {}, []),
        ("error_rate", {}, []),
        (None, {}, []),
    ],
    ids=["a judge", "of a disabled experiment", "a rule", "a built-in metric", "none"],
)
def test_only_a_judge_that_decides_is_a_caution(
    tmp_path: Path, primary: str | None, more: dict[str, Any], expected: list[str]
) -> None:
    assert cautions(f"sqlite:///{tmp_path / 'none.db'}", primary, **more) == expected


def test_labels_that_agree_end_the_caution(keep: Any, exchange: Any, tmp_path: Path) -> None:
    """A store that has scores of the judge and no labels says the same as one that has nothing."""
    store = keep([exchange(f"0.{i}") for i in range(1, 9)], name="helpful", kind="llm")
    assert cautions(store, "helpful") == [SAYS]
    assert cautions(store, "helpful", experiment="another") == []
