"""Dashboards, alerts and the metrics' reference are what their code writes, and ask only for what is exported."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gateway.cli.dashboards import panels_of
from gateway.observability.catalog import MetricSpec, catalogue

ROOT = Path(__file__).parent.parent
GRAFANA = ROOT / "grafana"
DASHBOARDS = ("overview", "traffic", "cost", "evaluation", "experiments", "guards", "fleet")
OF_PROMETHEUS_ALONE = {"titleFormat", "textFormat"}  # of annotations: the schema of dashboards does not name them

Json = dict[str, Any]


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    """The module generate.py. Its neighbours may be named as modules that other tests have imported."""
    with pytest.MonkeyPatch.context() as patch:
        for path in GRAFANA.glob("*.py"):
            patch.delitem(sys.modules, path.stem, raising=False)
        patch.syspath_prepend(GRAFANA)
        yield importlib.import_module("generate")
        for path in GRAFANA.glob("*.py"):
            sys.modules.pop(path.stem, None)


@pytest.fixture(params=DASHBOARDS)
def dashboard(request: pytest.FixtureRequest) -> Json:
    """Each dashboard as it is committed."""
    return load(request.param)


def load(name: str) -> Json:
    found: Json = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def rules(kind: str) -> list[Json]:
    """The rules of one kind: alert or record."""
    groups = yaml.safe_load((GRAFANA / "alerts" / "gateway.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def alerts() -> list[Json]:
    return rules("alert")


def panels(dashboard: Json) -> list[Json]:
    return list(panels_of(dashboard))


def rows(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] == "row"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that grafana/generate.py writes."""
    into = tmp_path_factory.mktemp("written")
    subprocess.run([sys.executable, str(GRAFANA / "generate.py"), "--into", str(into)], check=True, cwd=ROOT)
    return into


@pytest.mark.parametrize("name", [*(f"grafana/dashboards/{d}.json" for d in DASHBOARDS), "docs/metrics.md"])
def test_each_file_is_what_its_code_writes(written: Path, name: str) -> None:
    assert (written / name).read_text("utf-8") == (ROOT / name).read_text("utf-8"), "run: python grafana/generate.py"


def test_a_new_panel_changes_only_its_own_lines(generate: ModuleType) -> None:
    """The lines are in the JSON of its dashboard, whichever row it is added to."""
    shapes = importlib.import_module("panels")
    new = shapes.stat("Quite new", "up", "Whether a target is scraped.")
    for dashboard in generate.DASHBOARDS.values():
        for number, row in enumerate(dashboard.rows):
            changed = [*dashboard.rows]
            changed[number] = replace(row, panels=[*row.panels, new])
            after, before = shapes.document(replace(dashboard, rows=changed)), shapes.document(dashboard)
            assert len(panels(after)) == len(panels(before)) + 1
            for holder in (after, *rows(after)):
                holder["panels"] = [panel for panel in holder["panels"] if panel["title"] != new.title]
            assert after == before, row.title


def test_two_panels_of_one_name_in_a_row_are_refused(generate: ModuleType) -> None:
    shapes = importlib.import_module("panels")
    twin = shapes.Panel("Twin", [shapes.Query("up")], "Whether a target is scraped.")
    with pytest.raises(SystemExit, match='"Twin" and "Twin" get the same id'):
        shapes.document(shapes.Dashboard("u", "t", "a", [], [shapes.Row("Row", [twin, twin])]))


def test_nothing_else_lies_among_the_dashboards() -> None:
    assert {path.stem for path in (GRAFANA / "dashboards").iterdir()} == set(DASHBOARDS)


def test_the_reference_lists_every_metric_with_labels_and_help() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for each in catalogue():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{each.name}` | {each.kind} |")]
        (row,) = (row for row in rows if each.help.replace("|", "\\|") in row)
        assert all(f"`{label}`" in row for label in each.labels)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sum(rate(gateway_request_total[5m]))", 'did you mean "gateway_requests_total"?'),
        ('sum(gateway_requests_total{key="x"})', "gateway_requests_total has no label key"),
        ("sum by (key) (gateway_requests_total)", "no metric of the query has the label key"),
        ("gateway:score_objective_uper", "gateway:score_objective_uper is recorded by no rule"),
        ("gateway_overhead_seconds", 'did you mean "gateway_overhead_seconds_'),
    ],
)
def test_a_query_for_what_is_not_exported_is_refused(generate: ModuleType, query: str, message: str) -> None:
    assert message in "; ".join(generate.mistakes(query))


def test_every_alert_asks_for_what_is_exported(generate: ModuleType) -> None:
    for rule in alerts():
        assert not generate.mistakes(rule["expr"]), rule["alert"]


def test_every_recorded_series_asks_for_what_is_exported(generate: ModuleType) -> None:
    for rule in rules("record"):
        assert not generate.mistakes(rule["expr"]), rule["record"]


def test_no_metric_is_exported_that_no_panel_shows(generate: ModuleType) -> None:
    asked = " ".join(query for each in generate.DASHBOARDS.values() for _, query in generate.queries(each))
    noted = (each["annotations"]["list"] for each in map(generate.document, generate.DASHBOARDS.values()))
    asked += " ".join(annotation["expr"] for annotations in noted for annotation in annotations)
    unseen = {m.name for m in catalogue() if not any(re.search(rf"\b{s}\b", asked) for s in m.series)}
    assert unseen == set()


def lost(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Members of `before` that are not in `after`, which has passed through Grafana's own schema."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{at}.{key}"
            else:
                yield from lost(value, after[key], f"{at}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{at}[{i}]")
    elif before != after:
        yield f"{at}: {before!r} is {after!r}"


def test_a_dashboard_comes_unchanged_through_grafanas_own_schema(dashboard: Json) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    there = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert {each.rpartition(".")[2] for each in lost(dashboard, there)} == OF_PROMETHEUS_ALONE
    misspelt = {**dashboard, "panells": []}
    assert ".panells" in set(lost(misspelt, json.loads(JSONEncoder().encode(Dashboard.from_json(misspelt)))))


def test_panels_have_their_own_place_and_number(dashboard: Json) -> None:
    placed = [*rows(dashboard), *panels(dashboard)]
    numbers = [panel["id"] for panel in placed]
    assert len(set(numbers)) == len(numbers)
    cells = [
        (x, y)
        for p in placed
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
    assert all(x < 24 for x, _ in cells)


def test_every_panel_says_what_it_shows_in_which_unit(dashboard: Json) -> None:
    for panel in panels(dashboard):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [t["refId"] for t in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${source}"}


def test_dashboards_are_small_and_ask_little_when_opened(dashboard: Json) -> None:
    assert len(panels(dashboard)) <= 40
    assert dashboard["refresh"] == "1m"
    first, *others = rows(dashboard)
    assert not first["collapsed"]
    overview = dashboard["uid"] == "assay-overview"
    assert {row["collapsed"] for row in others} == {not overview}
    assert len(panels(dashboard)) == 12 or not overview


def test_panels_show_exemplars_of_metrics_that_have_them() -> None:
    with_them = ("gen_ai_server_request_duration_", "gen_ai_server_time_to_first_token_", "gateway_requests_total")
    asked = [t for name in DASHBOARDS for p in panels(load(name)) for t in p["targets"] if t.get("exemplar")]
    assert asked
    for target in asked:
        assert any(name in target["expr"] for name in with_them)
        assert target["range"], "Grafana asks for exemplars of a range alone"


def test_no_two_panels_show_the_same() -> None:
    """The Overview may repeat the most important ones."""
    asked = [panel["targets"][0]["expr"] for name in DASHBOARDS if name != "overview" for panel in panels(load(name))]
    assert [query for query, n in Counter(asked).items() if n > 1] == []


COUNTS = {
    "gateway_eval_alias_score_effective_samples",
    "gateway_eval_score_effective_samples", "gateway_eval_run_score_effective_samples", "gateway_eval_score_labels",
    "gateway_experiment_feedback_answers", "gateway_eval_predictor_rows", "gateway_eval_predictor_exchanges_total",
    "gateway_calibration_labels",
}  # fmt: skip
"""Metrics that count what a mean is of."""


def is_mean(metric: MetricSpec) -> bool:
    """An estimate: a metric that has ends, or one whose help calls it a mean."""
    ended = f"{metric.name}_low" in {other.name for other in catalogue()}
    an_end = metric.name.endswith(("_low", "_high", "_total", "_objective")) or metric.name in COUNTS
    return ended or (not an_end and re.search(r"(?i)\bmean\b|weighted share", metric.help) is not None)


def lonely_means(panel: Json) -> Iterator[str]:
    """Means of a panel that it shows with neither an interval nor their n."""
    asked = {name for target in panel["targets"] for name in re.findall(r"gateway[_:]\w+", target["expr"])}
    recorded = {name.removesuffix("_mean") for name in asked if ":" in name and name.endswith("_mean")}
    yield from (name for name in recorded if f"{name}_effective_samples" not in asked)
    shown = {target["legendFormat"].split()[0] for target in panel["targets"]}
    for metric in catalogue():
        if is_mean(metric) and metric.name in asked:
            ends = {f"{metric.name}_low", f"{metric.name}_high"}
            if not ends <= asked and not COUNTS & asked:
                yield metric.name
    quotient = any(re.search(r"_(sum|seconds_total|usd_total)\b.*/.*_total\b", t["expr"]) for t in panel["targets"])
    worded = re.search(r"\b([Mm]ean|[Aa]verage) (?:of|in|by|probability|cost)\b|per 1 000", panel["title"])
    counted = bool(shown & {"answers,", "exchanges,", "calls,"})
    if (quotient or worded) and not counted and not {"low", "high"} <= shown:
        yield panel["title"]


def test_no_panel_shows_a_mean_without_its_interval_or_n(dashboard: Json) -> None:
    """A share of all calls is counted, not estimated: it needs neither."""
    for panel in panels(dashboard):
        assert list(lonely_means(panel)) == [], panel["title"]


def test_a_mean_without_its_interval_is_found(dashboard: Json) -> None:
    """The check is not blind: without the ends, or without n, the panels of means fail it."""
    for panel in panels(dashboard):
        means = [t for t in panel["targets"] if re.search(r"gateway[_:]\w+(_mean|_difference)\b", t["expr"])]
        for target in means:
            assert list(lonely_means({**panel, "targets": [target]})), panel["title"]


def test_every_variable_of_a_query_is_one_of_the_dashboard(dashboard: Json) -> None:
    named = {v["name"] for v in dashboard["templating"]["list"]}
    text = json.dumps([[p["targets"], p.get("repeat"), p["title"]] for p in panels(dashboard)])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used - {"source"} <= named
    assert named - used - {"source", "console"} == set(), "a choice that changes nothing"


def test_the_dashboards_lead_to_each_other() -> None:
    all_of_them = [load(name) for name in DASHBOARDS]
    assert len({d["uid"] for d in all_of_them}) == len({d["title"] for d in all_of_them}) == len(DASHBOARDS)
    for each in all_of_them:
        link, console = each["links"]
        assert console["url"] == "${console}/console"
        assert set(link["tags"]) <= set(each["tags"])
        assert link["keepTime"]
        assert link["includeVars"]


def test_provisioning_points_at_what_compose_mounts() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/gateway.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"] if volume.startswith(".."))
    assert mounts["../grafana/dashboards"] == provider["options"]["path"]
    home = Path(compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (home.parent.as_posix(), home.stem) == (provider["options"]["path"], "overview")
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert "--enable-feature=exemplar-storage" in compose["prometheus"]["command"]
    links = {link["name"]: link["url"] for link in source["jsonData"]["exemplarTraceIdDestinations"]}
    assert links["call_id"] == "http://127.0.0.1:9102/console/calls/$${__value.raw}"
    assert set(links) == {"call_id", "trace_id"}
    rules = [v for v in compose["prometheus"]["volumes"] if v.startswith("../grafana/alerts:")]
    (pattern,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["rule_files"]
    assert Path(pattern).parent.as_posix() == rules[0].split(":")[1]


def anchors(page: str) -> set[str]:
    return {h.strip("# ").lower().replace(" ", "-") for h in page.splitlines() if h.startswith("#")}


def test_the_page_of_metrics_counts_what_there_is() -> None:
    counted = f"with {sum(len(panels(load(name))) for name in DASHBOARDS)} panels, and {len(alerts())} alert rules"
    assert counted in " ".join((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split())


def test_every_alert_has_a_runbook_section_and_a_severity() -> None:
    there = anchors((ROOT / "docs" / "operations.md").read_text("utf-8"))
    for rule in alerts():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in there, f"docs/operations.md has no section {rule['alert']}"
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
    sections = {a for a in there if a.startswith("gateway")}
    assert sections == {rule["alert"].lower() for rule in alerts()}


@pytest.fixture
def promtool() -> str:
    """The path of promtool; skipped where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def test_promtool_accepts_the_rules(promtool: str) -> None:
    finished = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", "alerts/gateway.yml"], capture_output=True, text=True, cwd=GRAFANA
    )
    assert f"SUCCESS: {len(alerts()) + len(rules('record'))} rules found" in finished.stdout, finished.stderr


@pytest.mark.timeout(900)  # promtool takes half a minute of CPU
def test_each_alert_fires_exactly_when_it_should(promtool: str) -> None:
    cases = yaml.safe_load((GRAFANA / "alerts" / "gateway.test.yml").read_text("utf-8"))["tests"]
    checks = [check for case in cases for check in case.get("alert_rule_test", [])]
    names = {rule["alert"] for rule in alerts()}
    assert {c["alertname"] for c in checks if c["exp_alerts"]} == names
    assert {c["alertname"] for c in checks if not c["exp_alerts"]} == names
    finished = subprocess.run(
        [promtool, "test", "rules", "alerts/gateway.test.yml"], capture_output=True, text=True, cwd=GRAFANA
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
