"""Dashboards for a config: no panel of a feature that it does not have, every panel of those that it has."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.dashboards import METRIC_FEATURES, dashboard_for, panels_of
from gateway.config.loading import parse
from gateway.observability.catalog import catalogue

DASHBOARDS = Path(__file__).parent.parent.parent / "grafana" / "dashboards"
SMALL: dict[str, Any] = {
    "open": True,
    "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
}
TOKEN = {"name": "ada", "sha256": sha256(b"t").hexdigest(), "role": "owner"}
SCORED = {"scorers": {"valid_json": {}}}
SWAP = {
    "model": "chat", "control": {"upstream": "local", "model": "small"},
    "candidate": {"upstream": "local", "model": "large"}, "primary": "valid_json",
}  # fmt: skip
FEATURES: dict[str, tuple[dict[str, Any], str]] = {
    "scorers": (SCORED, "gateway_eval_alias_score_mean"),
    "score objectives": (
        {**SCORED, "models": {"chat": {**SMALL["models"]["chat"], "score_objectives": {"valid_json": 0.9}}}},
        "gateway_eval_alias_score_objective",
    ),
    "runs": ({"scorers": {"run_finished": {}}}, "gateway_eval_run_score_mean"),
    "experiments": ({**SCORED, "experiments": {"swap": SWAP}}, "gateway_experiment_difference"),
    "splits": ({**SCORED, "experiments": {"swap": {**SWAP, "mode": "split"}}}, "gateway_split_total"),
    "ramps": ({**SCORED, "experiments": {"swap": {**SWAP, "ramp": {"steps": [1.0]}}}}, "gateway_ramp_share"),
    "guards": ({"guards": {"mails": {"on": "request", "scorer": "personal_data"}}}, "gateway_guard_hit_ratio"),
    "limits": (
        {"keys": [{"name": "web", "sha256": "a" * 64, "limits": {"requests_per_day": 5}}]},
        "gateway_limit_used_ratio",
    ),
    "tags": ({"tags": {"keys": ["feature"]}}, "gateway_tag_cost_usd_total"),
    "admin": ({"admin": {"tokens": [TOKEN]}}, "gateway_directory_version"),
    "redaction": ({"redaction": {}}, "gateway_redactions_total"),
    "predictor": ({**SCORED, "predictor": {"target": "valid_json"}}, "gateway_eval_predictor_auc"),
}
"""Sections of a config by the feature that they turn on, and a metric of it that panels show."""


def made_for(**sections: Any) -> dict[str, dict[str, Any]]:
    """Dashboards for a config, by name."""
    config = parse(yaml.safe_dump({**SMALL, **sections}))
    made = {path.stem: dashboard_for(json.loads(path.read_text("utf-8")), config) for path in DASHBOARDS.glob("*.json")}
    return {name: dashboard for name, dashboard in made.items() if dashboard is not None}


def asked(dashboards: dict[str, dict[str, Any]]) -> set[str]:
    return set(re.findall(r"\b(?:gateway[_:]|gen_ai_)\w+", json.dumps(list(dashboards.values()))))


@pytest.fixture(scope="module")
def smallest() -> dict[str, dict[str, Any]]:
    """Dashboards for a config without any feature."""
    return made_for()


def test_a_small_config_has_only_panels_that_can_show_something(smallest: dict[str, dict[str, Any]]) -> None:
    missing = tuple(metric for feature in METRIC_FEATURES for metric in feature.metrics)
    assert {name for name in asked(smallest) if name.startswith(missing)} == set()
    assert {"overview", "traffic", "cost", "evaluation", "fleet"} == set(smallest)
    assert {panel["title"] for panel in panels_of(smallest["overview"])} >= {"Calls", "Failed calls", "Cost"}
    assert "Scores" not in {panel["title"] for panel in panels_of(smallest["overview"])}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_of_the_config_brings_its_panels(feature: str, smallest: dict[str, dict[str, Any]]) -> None:
    sections, metric = FEATURES[feature]
    assert metric not in asked(smallest)
    assert metric in asked(made_for(**sections))


def test_a_feature_begins_the_name_of_a_metric() -> None:
    rules = yaml.safe_load((DASHBOARDS.parent / "alerts" / "gateway.yml").read_text("utf-8"))["groups"]
    names = [metric.name for metric in catalogue()]
    names += [rule["record"] for group in rules for rule in group["rules"] if "record" in rule]
    for feature in METRIC_FEATURES:
        for beginning in feature.metrics:
            assert any(name.startswith(beginning) for name in names), beginning


def test_panels_that_are_left_leave_no_gaps(smallest: dict[str, dict[str, Any]]) -> None:
    for dashboard in smallest.values():
        text = json.dumps(dashboard["panels"])
        for variable in dashboard["templating"]["list"]:
            assert variable["type"] != "query" or f"${variable['name']}" in text
        rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
        assert all(row["panels"] for row in rows if row["collapsed"])
        lines: dict[int, int] = {}
        for panel in panels_of(dashboard):
            at = panel["gridPos"]
            assert at["x"] == lines.get(at["y"], 0), panel["title"]
            lines[at["y"]] = at["x"] + at["w"]


def test_links_lead_to_the_console_that_the_config_names(tmp_path: Path) -> None:
    notify = {
        "console_url": "https://console.example.com/",
        "targets": {"ops": {"kind": "slack", "url": "https://hooks.example.com/1"}},
    }
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "notify": notify}))
    result = CliRunner().invoke(app, ["dashboards", "--config", str(config), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.stderr
    assert "nothing that it shows: guards" in result.stderr
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "dashboards").iterdir()}
    assert "experiments" not in written
    for dashboard in written.values():
        (console,) = (v for v in dashboard["templating"]["list"] if v["name"] == "console")
        assert console["query"] == console["current"]["value"] == "https://console.example.com"
    assert list((tmp_path / "out" / "provisioning").rglob("*.y*ml"))
