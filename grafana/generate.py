"""Writes grafana/dashboards/gateway.json: traffic and scores on one page. Run: python grafana/generate.py

Panels are written here, beside their queries, so that a reader changes one line and a test sees a dead metric.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 8


@dataclass(frozen=True)
class Panel:
    """queries: (legend, PromQL). unit: Grafana's name. stat: one number instead of a graph."""

    title: str
    queries: list[tuple[str, str]]
    unit: str = "short"
    stat: bool = False
    about: str = ""
    width: int = WIDTH
    extra: dict[str, Any] = field(default_factory=dict)


RATE = "[$__rate_interval]"


def quantile(q: float, metric: str, by: str) -> str:
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{RATE})))"


ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Now",
        [
            Panel("In flight", [("", "sum(gateway_inflight_requests)")], stat=True, width=4),
            Panel("Requests a second", [("", f"sum(rate(gateway_requests_total{RATE}))")], "reqps", True, width=4),
            Panel(
                "Not answered",
                [("", f'sum(rate(gateway_requests_total{{outcome!~"ok|client_gone"}}{RATE})) or vector(0)')],
                "reqps", True, "Calls that ended in an upstream's error, a timeout or a cut.", 4,
            ),
            Panel("Breakers open", [("", "sum(gateway_breaker_open) or vector(0)")], stat=True, width=4),
            Panel(
                "Unaccounted exchanges", [("", "max(gateway_eval_unaccounted)")], stat=True, width=4,
                about="Exchanges that the stream acknowledged and that are neither scored, dead-lettered nor waiting. "
                "Anything above 0 is a loss.",
            ),
            Panel("Oldest unscored", [("", "max(gateway_eval_oldest_unscored_seconds)")], "s", True, width=4),
        ],
    ),
    (
        "Traffic",
        [
            Panel("Requests by alias", [("{{alias}}", f"sum by (alias) (rate(gateway_requests_total{RATE}))")], "reqps"),
            Panel(
                "How calls end",
                [("{{upstream}} {{outcome}}", f"sum by (upstream, outcome) (rate(gateway_requests_total{RATE}))")], "reqps",
            ),
            Panel(
                "Attempts at upstreams",
                [("{{upstream}} {{result}}", f"sum by (upstream, result) (rate(gateway_attempts_total{RATE}))")], "reqps",
            ),
            Panel(
                "Duration",
                [(f"p{int(q * 100)} {{{{gen_ai_request_model}}}}",
                  quantile(q, "gen_ai_server_request_duration_seconds", "gen_ai_request_model")) for q in (0.5, 0.95)], "s",
            ),
            Panel(
                "Time to first token",
                [(f"p{int(q * 100)} {{{{gen_ai_response_model}}}}",
                  quantile(q, "gen_ai_server_time_to_first_token_seconds", "gen_ai_response_model")) for q in (0.5, 0.95)], "s",
            ),
            Panel(
                "Time per output token",
                [("p50 {{gen_ai_response_model}}",
                  quantile(0.5, "gen_ai_server_time_per_output_token_seconds", "gen_ai_response_model"))], "s",
            ),
            Panel("Tokens a second",
                  [("{{upstream}} {{type}}", f"sum by (upstream, type) (rate(gateway_tokens_total{RATE}))")]),
            Panel(
                "Overhead of the gateway",
                [("p50", f"histogram_quantile(0.5, sum by (le) (rate(gateway_overhead_seconds_bucket{RATE})))"),
                 ("p99", f"histogram_quantile(0.99, sum by (le) (rate(gateway_overhead_seconds_bucket{RATE})))")], "s",
            ),
            Panel("Refused", [("{{status}} {{code}}", f"sum by (status, code) (rate(gateway_refused_total{RATE}))")], "reqps"),
        ],
    ),
    (
        "Scores",
        [
            Panel(
                "Weighted mean of each score",
                [("{{scorer}} {{model}} {{arm}}", "max by (scorer, model, arm) (gateway_eval_score_mean)")], width=12,
                about="Hájek mean with realised sampling rates: what the score would be over all traffic.",
            ),
            Panel(
                "Its interval, valid at any time",
                [("low {{scorer}} {{model}} {{arm}}", "max by (scorer, model, arm) (gateway_eval_score_mean_low)"),
                 ("high {{scorer}} {{model}} {{arm}}", "max by (scorer, model, arm) (gateway_eval_score_mean_high)")], width=12,
            ),
            Panel("Scores by status",
                  [("{{scorer}} {{status}}", f"sum by (scorer, status) (max by (scorer, model, arm, status) (rate(gateway_eval_scores_total{RATE})))")], "ops"),
            Panel(
                "The ledger",
                [("seen", f"sum(rate(gateway_eval_seen_total{RATE}))"),
                 ("sampled", f"sum(rate(gateway_eval_sampled_total{RATE}))"),
                 ("enqueued", f"sum(rate(gateway_eval_enqueued_total{RATE}))"),
                 ("dropped {{reason}}", f"sum by (reason) (rate(gateway_eval_dropped_total{RATE}))")], "ops",
            ),
            Panel("Shadow requests",
                  [("{{experiment}} {{result}}", f"sum by (experiment, result) (rate(gateway_shadow_total{RATE}))")], "ops"),
        ],
    ),
]  # fmt: skip


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})  # fmt: skip
        y += 1
        x = 0
        height = 4 if all(p.stat for p in row) else HEIGHT
        for panel in row:
            if x + panel.width > 24:
                x, y = 0, y + height
            panels.append(_panel(panel, len(panels) + 1, x, y, height))
            x += panel.width
        y += height
    return {
        "uid": "assay-gateway", "title": "Assay Gateway", "tags": ["llm", "gateway", "evaluation"], "timezone": "",
        "schemaVersion": 39, "version": 1, "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "editable": True,
        "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
        "annotations": {"list": []}, "links": [], "panels": panels,
    }  # fmt: skip


def _panel(panel: Panel, number: int, x: int, y: int, height: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + i), "expr": query, "legendFormat": legend or "__auto", "datasource": SOURCE}
        for i, (legend, query) in enumerate(panel.queries)
    ]
    return {
        "id": number, "type": "stat" if panel.stat else "timeseries", "title": panel.title, "description": panel.about,
        "datasource": SOURCE, "gridPos": {"h": height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": None}, "overrides": []}, "options": {}, "targets": targets,
        **panel.extra,
    }  # fmt: skip


def main() -> None:
    path = Path(__file__).parent / "dashboards" / "gateway.json"
    path.write_text(json.dumps(dashboard(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
