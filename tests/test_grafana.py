"""The dashboard is what its code writes, and every metric in it is one that we export."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import EvalMetrics, ProxyMetrics

GRAFANA = Path(__file__).parent.parent / "grafana"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((GRAFANA / "dashboards" / "gateway.json").read_text())


def exported() -> set[str]:
    """The name of every series of both rooms, before any has a value."""
    registry = CollectorRegistry()
    ProxyMetrics(registry)
    eval_names = {m.name for m in EvalMetrics(CollectorRegistry()).collect()}
    names = {m.name for m in registry.collect()} | eval_names
    return {n + suffix for n in names for suffix in ("", "_total", "_bucket", "_sum", "_count")}


def test_the_file_is_what_its_code_writes(dashboard: dict[str, Any]) -> None:
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    assert module.dashboard() == dashboard, "run: python grafana/generate.py"


def test_every_panel_asks_for_a_metric_that_exists(dashboard: dict[str, Any]) -> None:
    known = exported()
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            asked |= set(re.findall(r"\b(?:gateway|gen_ai)_[a-z_]+", re.sub(r"\([a-z_, ]+\)", "", target["expr"])))
    asked = {a for a in asked if not a.startswith(("gen_ai_request_model", "gen_ai_response_model"))}
    assert asked
    assert asked <= known, sorted(asked - known)


def test_panels_have_their_own_place_and_number(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    cells = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
    assert all(x < 24 for x, _ in cells)
