"""Exemplars: of each bucket of a latency, and of each kind of failure, the newest call whose trace was sampled.

Prometheus gets them in the OpenMetrics format alone. prometheus_client keeps none where several workers count, so each
worker writes its own to a file in their directory; of a series' exemplars, a scrape shows the newest of all workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from heapq import nlargest
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import orjson
from prometheus_client.samples import Exemplar

MOST = 1000
"""Exemplars that one worker writes, the newest."""

TracedCall = tuple[float, float, int, str]
"""The value, the Unix time of the call's end, its trace and its id. A plain tuple: a named one costs a call more."""


class SeriesExemplar(NamedTuple):
    """The newest traced call of one series."""

    series: str
    """Name and labels, as a line of the page begins."""
    value: float
    at: float
    """Unix seconds."""
    trace: str
    call: str

    @property
    def text(self) -> bytes:
        """The end of the series' line in OpenMetrics."""
        labels = f'trace_id="{self.trace}",call_id="{self.call}"'
        return f" # {{{labels}}} {self.value!r} {self.at:.3f}".encode()


def exemplar_of(traced: TracedCall) -> Exemplar:
    value, at, trace, call = traced
    return Exemplar({"trace_id": f"{trace:032x}", "call_id": call}, value, at)


def of_series(series: str, traced: TracedCall) -> SeriesExemplar:
    value, at, trace, call = traced
    return SeriesExemplar(series, value, at, f"{trace:032x}", call)


def series_line(name: str, labels: dict[str, str]) -> str:
    """The beginning of a series' line."""
    inner = ",".join(f'{label}="{escaped(value, quote=True)}"' for label, value in labels.items())
    return f"{name}{{{inner}}}" if inner else name


def escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text


class ExemplarFiles:
    """The exemplars of all workers, a file for each."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._written: list[SeriesExemplar] = []

    def write(self, exemplars: Iterable[SeriesExemplar]) -> None:
        """Replaces this worker's file, if its newest exemplars have changed."""
        newest = nlargest(MOST, exemplars, key=itemgetter(2))
        if newest == self._written:
            return
        self._written, path = newest, self._shared / f"exemplars_{os.getpid()}.json"
        own = path.with_suffix(".new")
        own.write_bytes(orjson.dumps([list(row) for row in newest]))
        own.replace(path)

    def read(self) -> dict[bytes, bytes]:
        """The ends of lines by their beginnings, of the newest exemplar of each series."""
        newest: dict[str, SeriesExemplar] = {}
        for path in self._shared.glob("exemplars_*.json"):
            with suppress(OSError, orjson.JSONDecodeError):
                for row in map(SeriesExemplar._make, orjson.loads(path.read_bytes())):
                    known = newest.get(row.series)
                    newest[row.series] = row if known is None or row.at > known.at else known
        return {series.encode(): row.text for series, row in newest.items()}
