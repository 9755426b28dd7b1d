"""The report: targets, and the table as text, Markdown, JSON and a picture. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

from phases import PLAIN, RECORDED, STREAM
from rows import Row
from shadowed import AGAIN, HEALTHY, OFF, SHADOWED, SOME_HANG

Rows = Mapping[str, Row]
OURS = "gateway"


@dataclass(frozen=True, slots=True)
class Target:
    """row: its key. than: the system that the gateway is compared with; None if the value itself is. of: whose
    value it is, where not the gateway's. cheaper: the other
    system's value over ours, instead of ours over the other's."""

    row: str
    at_most: float | None = None
    at_least: float | None = None
    than: str | None = None
    cheaper: bool = False
    of: str = OURS
    label: str = ""
    """Name in the summary; "" if it is not shown there."""

    def text(self, unit: str) -> str:
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        whose = "" if self.of == OURS else f"{self.of} "
        if self.than is None:
            return f"{whose}{sign} {limit:g} {unit.removesuffix(' CPU').removesuffix(' RSS')}"
        return f"{whose}{sign} {limit:g} × {'cheaper than ' if self.cheaper else ''}{self.than}"

    def value(self, rows: Rows) -> float | None:
        """The median over the rounds; None if one of both was not measured."""
        row = rows.get(self.row)
        ours = row.values.get(self.of) if row else None
        if not row or not ours:
            return None
        if self.than is None:
            return median(ours)
        if self.of in row.compared:
            return row.compared[self.of][0]
        theirs = row.values.get(self.than, ())
        ratios = [t / o if self.cheaper else o / t for o, t in zip(ours, theirs, strict=False)]
        return median(ratios) if ratios else None

    def verdict(self, rows: Rows) -> str:
        value = self.value(rows)
        if value is None:
            return "not run"
        high = self.at_most is not None and value > self.at_most
        low = self.at_least is not None and value < self.at_least
        return "FAIL" if high or low else "pass"


_SUMMARY = (
    Target("consumer", at_least=10_000, label="consumer, SQLite"),
    Target("consumer_postgres", at_most=120, label="consumer, PostgreSQL"),
    Target("consumer_sqlite_own", at_least=1.8, label="consumer, SQLite, 2 workers over 1"),
    Target("consumer_postgresql_own", at_least=1.8, label="consumer, PostgreSQL, 2 workers over 1"),
    Target("calls", at_most=230, of=PLAIN, label="calls, plain"),
    Target("calls", at_most=250, of=RECORDED, label="calls, recorded"),
    Target("calls", at_most=2200, of=STREAM, label="calls, stream"),
    Target("plain", at_most=1.35, than="vllm-router", label="plain request"),
    Target("plain", at_most=3.8, than="nginx", label="plain request"),
    Target("stream", at_most=1.5, than="nginx", label="stream"),
    Target("first", at_most=0.35, label="time to first token added, p50"),
    Target("sampling", at_most=1.2, label="CPU at 100 % sampling, of that at 0 %"),
    Target("idle", at_most=58, label="memory, idle"),
    Target("open_each", at_most=16, label="memory, a stream"),
    Target("many", at_most=250, label="memory, 10 000 streams"),
    Target("many_gap", at_most=2, label="p99 between events, 10 000 streams over 100"),
    Target("shadow_p50", at_most=1.05, than=OFF, of=SOME_HANG, label="shadows, p50"),
    Target("shadow_p99", at_most=1.15, than=OFF, of=SOME_HANG, label="shadows, p99"),
    Target("up", at_most=30, label="`make up` from a warm pip cache"),
    Target("ready", at_most=0.6, label="`gateway serve`, ready"),
)
"""The aims of the project; where a target of TARGETS was lower before, that one is shown too."""

TARGETS = (
    *_SUMMARY,
    Target("plain", at_most=0.85, than="vllm-router"),
    Target("plain", at_least=150, than="litellm", cheaper=True),
    Target("one", at_most=0.9, than="vllm-router"),
    Target("stream", at_most=1.0, than="vllm-router"),
    Target("p50", at_most=0.15),
    Target("p99", at_most=1.0),
    Target("first", at_most=0.3),
    Target("jitter", at_most=1.0),
    *(
        Target(f"{row}_p{percent}", at_most=limit, than=OFF, of=state)
        for row in ("shadow", "shadow_model")
        for percent, limit in ((50, 1.10), (99, 1.25))
        for state in (AGAIN, *SHADOWED)  # the first is the noise: without shadows, both times
        if (row == "shadow" and state != SOME_HANG) or (row != "shadow" and state in (AGAIN, HEALTHY, SOME_HANG))
    ),
    Target("body", at_most=2.5, than="nginx"),
    Target("open", at_most=105),
    Target("workers", at_least=1.8),
    Target("predictor", at_most=30),
    *(Target(f"agent_plain_{size}", at_most=4, than="nginx") for size in ("103", "570", "5.9")),
    Target("agent_plain_103", at_most=0.25, than="vllm-router"),
    Target("agent_beside_ratio", at_most=3),
)

AGENT_HEADING = "## Requests of coding agents"
_AGENT_INTRO = """\
Sizes as Langfuse measured them behind its gateway: of ten requests six have 103 KB, three 570 KB and one 5.9 MB (the
mix). A request has eight tool schemas and a history of tool calls and their results, with escapes. The upstream reads
it whole and answers with 1 KB, or with a stream of 100 events; 8 requests are in flight. The gateway has 1 000 keys,
limits of the key, its team and its organization, 10 % sampling and an experiment of another alias; nginx passes a
request on as it arrives (`proxy_request_buffering off`). The last rows are the throughput frontier of
[onthebench.ai](https://onthebench.ai): the most requests a second, of any number of connections from 1 to 256, at which
99 % of the requests end within the bound."""


def summary(rows: Sequence[Row]) -> list[str]:
    """The targets of the project in Markdown, whether met or missed."""
    known = {row.key: row for row in rows}
    words = {"pass": "met", "FAIL": "**missed**"}
    lines = ["| target | | value | |", "|---|---|---:|---|"]
    for target in _SUMMARY:
        unit = known[target.row].unit if target.row in known else ""
        verdict = target.verdict(known)
        cells = (target.label, target.text(unit).strip(), number(target.value(known)), words.get(verdict, verdict))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def number(value: float | None) -> str:
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace(",", " ")


def medians(row: Row) -> dict[str, float]:
    return {name: median(values) for name, values in row.values.items() if values}


def names(rows: Sequence[Row]) -> list[str]:
    """The systems, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def tables(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the same systems are grouped: those of the first row's table, then those that share none with it."""
    parts: list[list[Row]] = []
    for row in rows:
        part = next((p for p in parts if not row.values or set(names(p)) & set(row.values)), None)
        if part is None:
            parts.append([row])
        else:
            part.append(row)
    return parts


def text(rows: Sequence[Row]) -> str:
    """Text for a terminal. Under each row are the targets it must meet."""
    known = {row.key: row for row in rows}
    return "\n\n".join(_table(part, known) for part in tables(rows))


def _table(rows: Sequence[Row], known: Rows) -> str:
    systems = names(rows)
    lines = [f"{'':66}" + "".join(f"{name:>14}" for name in systems)]
    for row in rows:
        found = medians(row)
        lines.append(f"{row.label + ', ' + row.unit:66}" + "".join(f"{number(found.get(n)):>14}" for n in systems))
        for target in TARGETS:
            if target.row == row.key:
                value = f"{number(target.value(known)):>14}  {target.verdict(known)}{_spread(row, target)}"
                lines.append(f"{'':4}{'target: ' + target.text(row.unit):62}" + value)
    return "\n".join(lines)


def _spread(row: Row, target: Target) -> str:
    if target.of not in row.compared:
        return ""
    _, low, high = row.compared[target.of]
    return f" ({number(low)} … {number(high)})"


def markdown(rows: Sequence[Row], caption: str) -> str:
    """The whole page. The requests of coding agents are its last section."""
    others = [row for row in rows if not _of_agents(row)]
    known = {row.key: row for row in others}
    lines = ["# Benchmarks", "", "The last whole run of `make bench`, every row with its target.", ""]
    lines += [*_markdown_tables(others, known), "## Targets", "", *summary(others), "", caption, ""]
    page = "\n".join(lines)
    return with_agents(page, rows, caption) if len(others) < len(rows) else page


def with_agents(page: str, rows: Sequence[Row], caption: str) -> str:
    """The page with these rows in the section of coding agents' requests; all other sections as they were."""
    agents = [row for row in rows if _of_agents(row)]
    found = _markdown_tables(agents, {row.key: row for row in agents})
    lines = [AGENT_HEADING, "", _AGENT_INTRO, "", *found, caption, ""]
    return page.partition(f"\n{AGENT_HEADING}")[0] + "\n" + "\n".join(lines)


def only_agents(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(_of_agents(row) for row in rows)


def _of_agents(row: Row) -> bool:
    return row.key.startswith("agent_")


def _markdown_tables(rows: Sequence[Row], known: Rows) -> list[str]:
    lines: list[str] = []
    for part in tables(rows):
        systems = names(part)
        lines += [f"| | {' | '.join(systems)} | target |", f"|---|{'---:|' * len(systems)}---|"]
        for row in part:
            found = medians(row)
            values = " | ".join(number(found.get(name)) for name in systems)
            lines.append(f"| {row.label}, {row.unit} | {values} | {_targets(row, known)} |")
        lines.append("")
    return lines


def _targets(row: Row, rows: Rows) -> str:
    """ "≤ 5.5 × nginx: 4.90, pass; …"."""
    parts = []
    for target in TARGETS:
        if target.row == row.key:
            value = "" if target.value(rows) is None else f"{number(target.value(rows))}, "
            parts.append(f"{target.text(row.unit)}: {value}{target.verdict(rows)}{_spread(row, target)}")
    return "; ".join(parts)


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    known = {row.key: row for row in rows}
    return {
        "rows": [
            {"key": r.key, "label": r.label, "unit": r.unit, "medians": medians(r), "rounds": dict(r.values)}
            for r in rows
        ],
        "targets": [
            {
                "row": t.row, "target": t.text(known[t.row].unit), "value": t.value(known),
                "verdict": t.verdict(known), "compared": known[t.row].compared.get(t.of),
            }
            for t in TARGETS if t.row in known
        ],
    }  # fmt: skip


_STYLE = """<style>
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 14px; fill: #24292f }
.small { font-size: 12px; fill: #57606a } .title { font-weight: 600 } .ours { font-weight: 600 }
rect { fill: #8c959f } rect.ours { fill: #0969da } .cut { stroke: #fff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } rect { fill: #6e7681 } rect.ours { fill: #4493f8 }
  .cut { stroke: #0d1117 }
}
</style>"""
_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 760, 120, 110, 34, 64


def svg(row: Row, caption: str) -> str:
    """Horizontal bars by system, cheapest first. A bar much longer than the next is cut, and says its number."""
    found = sorted(medians(row).items(), key=lambda item: item[1])
    full = _longest([value for _, value in found])
    bars = [_bar(i, name, value, full) for i, (name, value) in enumerate(found)]
    height = _TOP + _ROW * len(found) + 16
    title = f"CPU of the gateway for one {row.label} (µs, less is better)"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
            f' height="{height}" role="img" aria-label="{escape(title)}">',
            _STYLE,
            f'<text class="title" x="16" y="26">{escape(title)}</text>',
            f'<text class="small" x="16" y="46">{escape(caption)}</text>',
            *bars,
            "</svg>",
            "",
        ]
    )


def _longest(values: Sequence[float]) -> float:
    """The value that fills the width: the largest that is not far from the next smaller one."""
    full = values[0]
    for smaller, value in pairwise(values):
        if value > 8 * smaller and len(values) > 2:
            break
        full = value
    return full


def _bar(i: int, name: str, value: float, full: float) -> str:
    room = _WIDTH - _LEFT - _RIGHT
    cut = value > full
    length = room if cut else max(2.0, room * 0.92 * value / full)
    y, ours = _TOP + _ROW * i, ' class="ours"' if name == OURS else ""
    parts = [
        f'<text{ours} x="{_LEFT - 10}" y="{y + 17}" text-anchor="end">{escape(name)}</text>',
        f'<rect{ours} x="{_LEFT}" y="{y}" width="{length:.1f}" height="24" rx="3"/>',
        f'<text{ours} x="{_LEFT + length + 8:.1f}" y="{y + 17}">{number(value)}</text>',
    ]
    if cut:
        x = _LEFT + room - 40
        parts += [f'<path class="cut" d="M{x + d} {y + 27} l8 -30"/>' for d in (0, 8)]
    return "".join(parts)
