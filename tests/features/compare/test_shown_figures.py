"""`gateway compare` shows each mean and difference within its interval: few items, clusters, and scores at a bound."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from fixtures.score_tables import write_table
from fixtures.shown_figures import figures_in_svg, outside

RNG = random.Random(5)
ROW = re.compile(r"\| ([−+]?[\d.]+)[^|]*\| ([−+]?[\d.]+) … ([−+]?[\d.]+)")
WORLDS: dict[str, tuple[Sequence[Sequence[float]], Sequence[str]]] = {
    "at the upper bound": ([[1.0] * 30, [1.0] * 29 + [0.0]], ()),
    "at both bounds": ([[0.0] * 30, [1.0] * 30], ()),
    "two items": ([[0.1, 0.9], [0.2, 0.8]], ()),
    "several": ([[RNG.random() for _ in range(40)] for _ in range(4)], ()),
    "one heavy cluster": ([[RNG.random() for _ in range(60)] for _ in range(2)], ("--cluster", "user")),
    "outliers": ([[RNG.gauss(0, 1) for _ in range(30)], [RNG.gauss(0, 1) for _ in range(29)] + [1e6]], ()),
}  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_each_point_lies_in_its_interval(tmp_path: Path, compare: Callable[..., Any], name: str) -> None:
    models, words = WORLDS[name]
    for i, scores in enumerate(models):
        rows = [{"id": str(k), "score": score, "user": "u0" if k % 6 else f"u{k}"} for k, score in enumerate(scores)]
        write_table(tmp_path / f"{i}.csv", rows)
    files = [str(tmp_path / f"{i}.csv") for i in range(len(models))]
    bounds = () if name == "outliers" else ("--range", "0,1")
    found = conforms("compare", compare(*files, *bounds, *words, "--json").stdout)
    assert all(pair["difference"]["value"] is not None for pair in found["comparisons"])
    page = tmp_path / "page.html"
    text = compare(*files, *bounds, *words, "--markdown", "--html", str(page)).stdout
    rows = [tuple(float(part.replace("−", "-")) for part in row) for row in ROW.findall(text.replace("\u202f", ""))]
    assert len(rows) >= len(models), text
    assert [row for row in rows if not row[1] <= row[0] <= row[2]] == []
    bars = list(figures_in_svg(page.read_text(encoding="utf-8")))
    assert outside(iter(bars)) == []
    assert len(bars) == len(found["comparisons"])
