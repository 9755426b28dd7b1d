"""The table at the head of docs/evidence.md: what users of a gateway feel, from a run of `make bench`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from show import number

LABELS = {
    "p50": "added latency, p50, ms",
    "p99": "added latency, p99, ms",
    "first": "first token added, p50, ms",
    "agent_beside_p99": "p99 of 1 KB requests next to bodies of up to 6 MB, ms",
    "idle": "memory, idle, MB",
    "open": "memory, 1 000 streams open, MB",
    "plain": "CPU per plain request, 64 in flight, µs",
    "stream": "CPU per stream of 103 events, 64 open, µs",
    "agent_plain_5.9": "CPU per request of 5.9 MB, µs",
}
"""The row of the table for each row of a run."""
MISSING = "not measured"


def renewed(page: str, measured: Mapping[str, Mapping[str, float]], run: str) -> str:
    """The page with the rows that the run measured; all others stay. A system without a figure is named as missing.

    measured: medians by row and system. run: its date and machine, for the last column.
    Raises ValueError if the page has no such table.
    """
    lines = page.splitlines(keepends=True)
    systems = _systems(lines)
    for key, label in LABELS.items():
        if not measured.get(key):
            continue
        at = next((n for n, line in enumerate(lines) if line.startswith(f"| {label} |")), None)
        if at is None:
            raise ValueError(f"the page has no row {label!r}")
        cells = [number(measured[key][name]) if name in measured[key] else MISSING for name in systems]
        lines[at] = f"| {label} | {' | '.join(cells)} | {run} |\n"
    return "".join(lines)


def _systems(lines: list[str]) -> list[str]:
    head = next((line for line in lines if line.startswith("| | gateway |")), None)
    if head is None:
        raise ValueError("the page has no table of systems")
    return [cell.strip() for cell in head.split("|")[2:-2]]
