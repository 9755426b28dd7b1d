"""Writes the dashboards and the tables of docs/metrics.md. Run: python grafana/generate.py [--into DIRECTORY]

A query that asks for a metric or a label which the code does not export is refused here, so that a renamed metric
cannot leave a dead panel; a test holds the committed files to what this writes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from cost import COST_AND_LIMITS
from evaluation import EVALUATION
from experiments import EXPERIMENTS
from fleet import FLEET
from guards import GUARDS
from overview import OVERVIEW
from panels import Dashboard, document
from traffic import TRAFFIC

from gateway.observability.catalog import MetricSpec, catalogue, unknown

DASHBOARDS = {
    "overview": OVERVIEW,
    "traffic": TRAFFIC,
    "cost": COST_AND_LIMITS,
    "evaluation": EVALUATION,
    "experiments": EXPERIMENTS,
    "guards": GUARDS,
    "fleet": FLEET,
}
PROMETHEUS_OWN = {"instance", "job", "le", "alertname", "alertstate"}
ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "metrics.md"
GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTED = re.compile(r"\b((?:gateway|gen_ai)_[a-z_]+)(\{[^}]*\})?")
MATCHED = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
RECORDED = re.compile(r"\bgateway:[a-z_]+")
OF_RECORDED = {"alias", "upstream", "model", "scorer", "window"}
MARK = "<!-- {} of generate.py: {} -->"


def recorded_names() -> set[str]:
    """The series that the rules record."""
    return set(
        re.findall(r"- record: (\S+)", (ROOT / "grafana" / "alerts" / "gateway.yml").read_text(encoding="utf-8"))
    )


def mistakes(query: str) -> list[str]:
    """The metrics and labels of a query that nothing exports."""
    exported = {series: each for each in catalogue() for series in each.series}
    selected = SELECTED.findall(GROUPED.sub("", query))
    found = unknown({name for name, _ in selected} - exported.keys())
    if found:
        return found
    recorded = set(RECORDED.findall(query))
    if recorded - recorded_names():
        return [f"{name} is recorded by no rule" for name in sorted(recorded - recorded_names())]
    allowed = PROMETHEUS_OWN.union(*(exported[name].labels for name, _ in selected), OF_RECORDED if recorded else ())
    asked = {(name, label) for name, matchers in selected for label in MATCHED.findall(matchers)}
    wrong = [
        f"{name} has no label {label}"
        for name, label in sorted(asked)
        if label not in {*exported[name].labels, *PROMETHEUS_OWN}
    ]
    grouped = {label.strip() for inner in GROUPED.findall(query) for label in inner.split(",") if label.strip()}
    return wrong + [f"no metric of the query has the label {label}" for label in sorted(grouped - allowed)]


def queries(dashboard: Dashboard) -> Iterable[tuple[str, str]]:
    """The place and the PromQL of each query of panels and variables."""
    for row in dashboard.rows:
        for panel in row.panels:
            yield from ((f"{dashboard.title} / {row.title} / {panel.title}", query.expr) for query in panel.queries)
    for variable in dashboard.variables:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.values).groups()  # type: ignore[union-attr]
        yield f"{dashboard.title} / ${variable.name}", f"count by ({label}) ({metric})"


def reference(rows: Iterable[MetricSpec]) -> str:
    """A table in Markdown."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in rows:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "–"
        lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with each of its tables replaced, between its marks."""
    for program in ("gateway", "consumer", "console"):
        begin, end = MARK.format("begin", program), MARK.format("end", program)
        table = reference(each for each in catalogue() if each.program == program)
        page, n = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, b=begin, t=table, e=end: f"{b}\n{t}\n{e}",
            page,
            flags=re.S,
        )
        if n != 1:
            raise SystemExit(f"docs/metrics.md: {begin} and {end} must be there once")
    return page


def write(into: Path) -> None:
    wrong = [f"{where}: {m}" for d in DASHBOARDS.values() for where, query in queries(d) for m in mistakes(query)]
    if wrong:
        raise SystemExit("\n".join(wrong))
    folder = into / "grafana" / "dashboards"
    folder.mkdir(parents=True, exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        text = json.dumps(document(dashboard), indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (into / "docs").mkdir(exist_ok=True)
    (into / "docs" / "metrics.md").write_text(with_tables(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[2]) if sys.argv[1:2] == ["--into"] else ROOT)
