"""The console, Prometheus and the command line say the same of one planted week: calls, failures, dollars, a scorer's
mean with its interval, a verdict's difference."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures.console_world import TOKEN, ConsoleWorld, hosted_console
from fixtures.planted_prometheus import PATIENCE_S, PlantedPrometheus
from fixtures.planted_week import HOURS, PlantedWeek, config_text, planted_week

from gateway.cli.dashboard_bands import legend_of
from gateway.cli.dashboards import dashboard_for, panels_of
from gateway.config.loading import load_for_consumer

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parent.parent.parent
WEEK = f"{HOURS}h1ms"  # from the first scrape of the week to the last, both included
FAILED = 'outcome!~"ok|client_gone|client_deadline|blocked|client_error|queue_full"'  # as on the dashboards
NO_BREAK = "\u202f"


@dataclass(frozen=True)
class Readers:
    """The three ways to read the week."""

    week: PlantedWeek
    world: ConsoleWorld
    prometheus: str
    """Address of a Prometheus that has the week's scrapes."""
    report: dict[str, Any]
    """The output of `gateway report swap --json`."""

    def value(self, promql: str) -> float:
        (row,) = self.rows(promql)
        return float(row["value"][1])

    def rows(self, promql: str) -> list[dict[str, Any]]:
        query = {"query": promql, "time": self.week.end}
        reply = httpx2.get(f"{self.prometheus}/api/v1/query", params=query, timeout=20).json()
        assert reply["status"] == "success", reply.get("error")
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def page(self, path: str, expected: str) -> str:
        """The text of a page of the console, without tags, once it has what it reads in the background."""
        with httpx2.Client(base_url=self.world.url, timeout=60, trust_env=False) as client:
            assert client.post("/console/login", data={"token": TOKEN}).status_code == 303
            end = time.monotonic() + PATIENCE_S
            while True:
                text = " ".join(re.sub("<[^>]*>", " ", client.get(path).text).replace(NO_BREAK, " ").split())
                if expected in text or time.monotonic() > end:
                    return text
                time.sleep(0.2)

    def metric(self, name: str) -> dict[str, Any]:
        (found,) = (metric for metric in self.report["metrics"] if metric["metric"] == name)
        return dict(found)

    def command(self, *words: str) -> dict[str, Any]:
        return said_by(self.world, *words)

    @property
    def since(self) -> str:
        """The first day of the week."""
        return datetime.fromtimestamp(self.week.calls[0].at, UTC).date().isoformat()


def said_by(world: ConsoleWorld, *words: str) -> dict[str, Any]:
    options = ("--json", "--config", str(world.config), "--data", str(world.data))
    done = subprocess.run([sys.executable, "-m", "gateway", *words, *options], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def readers(servers: Any) -> Iterator[Readers]:
    """A console, a Prometheus and a report of one week."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    week, directory = planted_week(), Path(tempfile.mkdtemp(prefix="gw"))
    prometheus = PlantedPrometheus(directory, *servers.free_ports(1))
    try:
        with hosted_console(directory, config_text(), week.fill) as world:
            prometheus.plant(week.openmetrics())
            with prometheus.running():
                yield Readers(week, world, prometheus.url, said_by(world, "report", "swap"))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def increase(metric: str, *matchers: str) -> str:
    selector = ", ".join(('alias="chat"', *matchers))
    return f"sum(increase({metric}{{{selector}}}[{WEEK}]))"


def arm(readers: Readers, name: str) -> dict[str, Any]:
    (found,) = (one for one in readers.report["arms"] if one["arm"] == name)
    return dict(found)


def test_calls_and_failures_are_the_same_everywhere(readers: Readers) -> None:
    calls, failed = len(readers.week.calls), sum(call.failed for call in readers.week.calls)
    assert readers.value(increase("gateway_requests_total")) == pytest.approx(calls, rel=1e-6)
    assert readers.value(increase("gateway_requests_total", FAILED)) == pytest.approx(failed, rel=1e-6)
    page = readers.page("/console/calls?since=7d&role=served", f"{failed} failed")
    assert re.search(rf"\b{calls} of [\d ]+ calls in the last 7 days, {failed} failed", page)
    control = arm(readers, "control")
    assert (control["asked"], control["failed"]) == (calls, failed)


def test_dollars_are_the_same_everywhere(readers: Readers) -> None:
    answered = sum(not call.failed for call in readers.week.calls)
    usd = answered * (1000 * 1.0 + 200 * 4.0) / 1e6
    assert readers.value(increase("gateway_cost_usd_total")) == pytest.approx(usd, rel=1e-6)
    headers, query = {"authorization": f"Bearer {TOKEN}"}, {"by": "source", "since": readers.since}
    console = httpx2.get(f"{readers.world.url}/admin/v1/usage", params=query, headers=headers, timeout=20).json()
    printed = readers.command("usage", "--by", "source", "--since", readers.since)
    for usage in (console, printed):
        (client,) = (row for row in usage["rows"] if row["source"] == "client")
        assert client["usd"] == pytest.approx(usd)
        assert client["calls"] == len(readers.week.calls)
    control = arm(readers, "control")
    assert control["cost_per_1k"]["value"] / 1000 * answered == pytest.approx(usd)


def score(readers: Readers, arm: str, end: str = "") -> float:
    return readers.value(f'max(gateway_eval_alias_score_mean{end}{{alias="chat", scorer="right", arm="{arm}"}})')


def test_the_mean_of_a_scorer_is_the_same_everywhere(readers: Readers) -> None:
    """The report's interval is the plan's, over pairs; that of Prometheus is the scorer's, over calls: their ends
    differ, and both contain what was planted."""
    planted = sum(call.better for call in readers.week.calls) / len(readers.week.calls)
    metric = readers.metric("right")
    assert score(readers, "candidate") == pytest.approx(planted)
    assert metric["b"] == pytest.approx(planted)
    assert score(readers, "candidate", "_low") < planted < score(readers, "candidate", "_high")
    assert metric["b_low"] < planted < metric["b_high"]
    page = readers.page("/console/experiments/of/swap", "better by")
    assert f"right {metric['a']:.2f} {metric['a_low']:.2f} … {metric['a_high']:.2f}" in page
    assert f"{metric['b']:.2f} {metric['b_low']:.2f} … {metric['b_high']:.2f}" in page


def test_failed_answers_are_in_the_verdict_and_not_in_the_mean(readers: Readers) -> None:
    """A verdict counts a failed answer as 0; a scorer has nothing to score there. The sums of the scores are equal."""
    scored = [call for call in readers.week.calls if not call.failed]
    assert score(readers, "control") == pytest.approx(sum(call.right for call in scored) / len(scored))
    assert readers.metric("right")["a"] == pytest.approx(sum(call.right for call in scored) / len(readers.week.calls))


def test_the_difference_of_a_verdict_is_the_same_everywhere(readers: Readers) -> None:
    metric = readers.metric("right")
    labels = '{experiment="swap", candidate="candidate", metric="right"}'
    for member, end in (("difference", ""), ("low", "_low"), ("high", "_high")):
        assert readers.value(f"gateway_experiment_difference{end}{labels}") == pytest.approx(metric[member])
    assert readers.value(f"gateway_experiment_metric_pairs{labels}") == metric["pairs"]
    assert readers.value(f"gateway_experiment_margin{labels}") == metric["margin"]
    (verdict,) = readers.rows('gateway_experiment_verdict{experiment="swap"} == 1')
    assert verdict["metric"]["verdict"] == readers.report["verdict"]
    page = readers.page("/console/experiments/of/swap", "better by")
    assert f"+{metric['difference']:.2f} +{metric['low']:.2f} … +{metric['high']:.2f}" in page
    assert readers.report["headline"]["text"].replace(NO_BREAK, " ") in page


def overview_of(readers: Readers) -> dict[str, Any]:
    """The dashboard that `gateway dashboards --config` writes for the config of the week."""
    path = ROOT / "grafana" / "dashboards" / "overview.json"
    overview = dashboard_for(json.loads(path.read_text("utf-8")), load_for_consumer(readers.world.config))
    assert overview is not None
    return overview


def test_every_mean_of_the_overview_has_its_band(readers: Readers) -> None:
    """Grafana finds the two lines of a band by the names that it makes of their labels."""
    (panel,) = (panel for panel in panels_of(overview_of(readers)) if panel["title"] == "Scores")
    lines = {end: set[str]() for end in ("low", "high")}
    for target in panel["targets"]:
        end = target["legendFormat"].split()[0]
        for row in readers.rows(re.sub(r'"\$\w+"', '".*"', target["expr"])):
            lines.setdefault(end, set()).add(legend_of(target["legendFormat"], row["metric"]))
    overrides = {o["matcher"]["options"]: o["properties"] for o in panel["fieldConfig"]["overrides"]}
    filled = {name: p["value"] for name, of in overrides.items() for p in of if p["id"] == "custom.fillBelowTo"}
    assert len(lines["high"]) >= 2, "the control's and the candidate's"
    assert {high: filled.get(high) for high in lines["high"]} == {
        high: high.replace("high", "low", 1) for high in lines["high"]
    }
    assert {filled[high] for high in lines["high"]} == lines["low"]


def test_every_query_of_the_overview_has_data_in_the_week(readers: Readers) -> None:
    overview = overview_of(readers)
    titles = [panel["title"] for panel in panels_of(overview)]
    assert len(titles) == 11, "all but that of ramps"
    for panel in panels_of(overview):
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "4h")
            rows = readers.rows(re.sub(r'"\$\w+"', '".*"', query))
            assert rows, f"{panel['title']}: {query}"
            assert all(row["value"][1] != "NaN" for row in rows), panel["title"]
