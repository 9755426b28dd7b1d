"""Bands between the ends of means by alias, on dashboards for a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.dashboard_bands import MOST_BANDS, legend_of
from gateway.cli.dashboards import dashboard_for, panels_of
from gateway.config.loading import parse

DASHBOARDS = Path(__file__).parent.parent.parent / "grafana" / "dashboards"
LOCAL = {"upstream": "local", "model": "small"}
LARGE = {"upstream": "local", "model": "large"}
CONFIG: dict[str, Any] = {
    "open": True,
    "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"chat": {"targets": [LOCAL]}, "code": {"targets": [LOCAL], "fallback": [LARGE]}},
    "scorers": {"valid_json": {}, "run_finished": {}},
}


def bands(dashboard: str, title: str, **sections: Any) -> dict[str, str]:
    """The lower line of each band of a panel, by its upper one."""
    made = dashboard_for(json.loads((DASHBOARDS / f"{dashboard}.json").read_text("utf-8")), parsed(**sections))
    assert made is not None
    (panel,) = (panel for panel in panels_of(made) if panel["title"] == title)
    properties = {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    return {name: p["custom.fillBelowTo"] for name, p in properties.items() if "custom.fillBelowTo" in p}


def parsed(**sections: Any) -> Any:
    return parse(yaml.safe_dump({**CONFIG, **sections}))


def test_every_target_of_an_alias_has_a_band_for_each_scorer() -> None:
    assert bands("overview", "Scores") == {
        "high chat valid_json (local/small )": "low chat valid_json (local/small )",
        "high code valid_json (local/small )": "low code valid_json (local/small )",
        "high code valid_json (local/large )": "low code valid_json (local/large )",
    }


def test_the_arms_of_an_experiment_have_bands_of_their_own() -> None:
    swap = {"model": "chat", "control": LOCAL, "candidate": LARGE, "primary": "valid_json"}
    found = bands("overview", "Scores", experiments={"swap": swap})
    assert found["high chat valid_json (local/large candidate)"] == "low chat valid_json (local/large candidate)"
    assert "high code valid_json (local/large candidate)" not in found


@pytest.mark.parametrize("title", ["Mean by alias", "Mean by alias in the window"])
def test_the_dashboard_of_evaluation_has_bands_too(title: str) -> None:
    assert bands("evaluation", title)["high chat → local/small valid_json "] == "low chat → local/small valid_json "


def test_a_panel_has_a_limited_number_of_bands() -> None:
    models = {f"m{n}": {"targets": [LOCAL]} for n in range(300)}
    models["m299"]["score_objectives"] = {"valid_json": 0.9}  # type: ignore[assignment]
    found = bands("overview", "Scores", models=models)
    assert len(found) == MOST_BANDS
    assert next(iter(found)) == "high m299 valid_json (local/small )", "objectives come first"


def test_dashboards_without_a_config_have_no_band() -> None:
    for path in DASHBOARDS.glob("*.json"):
        assert "fillBelowTo" not in path.read_text("utf-8"), "it would name one series, and fill every other to it"


def test_a_label_that_a_series_lacks_is_empty_in_its_legend() -> None:
    assert legend_of("low {{alias}} ({{ arm }})", {"alias": "chat"}) == "low chat ()"
