"""A replay's result for a terminal, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.evals.experiments.as_json import to_dict as report_dict
from gateway.evals.experiments.html.document import html
from gateway.evals.experiments.page import page as report_page
from gateway.evals.experiments.wording import number
from gateway.evals.plain import plain
from gateway.evals.replay.replay import Replayed
from gateway.evals.replay.sheet import Metric


def to_dict(found: Replayed) -> dict[str, Any]:
    """Deterministic but for its times: the same answers give the same numbers."""
    asked = found.question
    return {
        "replay": asked.name,
        "design": asked.design,
        "dataset": {"name": asked.dataset, "sha256": asked.dataset_hash, "rows": asked.rows, "of": asked.of},
        "repeats": asked.repeats,
        "targets": [_target(found, t) for t in found.sheet.targets],
        "reports": [report_dict(r) for r in found.reports],
    }


def _target(found: Replayed, target: str) -> dict[str, Any]:
    sheet = found.sheet
    failed = sheet.failed(target)
    return {
        "target": target,
        "asked": sheet.answers(target),
        "failed": int((failed == 1.0).sum()),
        "means": {m.name: _mean(found, m, target) for m in found.question.metrics},
    }


def _mean(found: Replayed, metric: Metric, target: str) -> float | None:
    values = found.sheet.values(metric, target)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def page(found: Replayed) -> RenderableType:
    return Group(*_head(found), _targets(found), *(part for r in found.reports for part in (Text(), report_page(r))))


def _head(found: Replayed) -> Iterator[RenderableType]:
    asked = found.question
    rows = f"{asked.rows} rows" if asked.rows == asked.of else f"the first {asked.rows} of {asked.of} rows"
    repeats = f", {asked.repeats} times each" if asked.repeats > 1 else ""
    yield _text(f"{asked.name}: {rows} of {asked.dataset}{repeats} (sha256 {asked.dataset_hash[:16]})", "bold")


def _targets(found: Replayed) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("target")
    for name in ("asked", "failed", *(m.name for m in found.question.metrics)):
        drawn.add_column(name, justify="right")
    for row in to_dict(found)["targets"]:
        means = [number(v, 3) for v in row["means"].values()]
        drawn.add_row(_text(row["target"]), str(row["asked"]), str(row["failed"]), *means)
    return drawn


def pages(found: Replayed, path: Path) -> Iterator[tuple[Path, str]]:
    """One page for each candidate: at the path, the further ones beside it under their names."""
    for i, report in enumerate(found.reports):
        name = re.sub(r"[^\w.-]+", "-", report.candidate)
        yield path if i == 0 else path.with_name(f"{path.stem}-{name}{path.suffix}"), html(report)


def _text(said: str, style: str = "") -> Text:
    return Text(plain(said), style)
