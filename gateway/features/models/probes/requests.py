"""The requests of probes: of a file, or the neutral ones that ship with the gateway."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import orjson

from gateway.config.watch import PACKAGED, WatchConfig
from gateway.core.errors import CannotRun
from gateway.features.models.probes.model import ProbeRequest, request_key
from gateway.features.replay.datasets.datasets import item_of, rows

MOST_REQUESTS = 200
_MOST_SHOWN = 5


def fixed_requests(watch: WatchConfig, directory: Path) -> list[ProbeRequest]:
    """The requests of a file or the packaged ones. Raises CannotRun with the first mistakes of a file."""
    if watch.probes == PACKAGED:
        return packaged_requests()
    return file_requests(directory / str(watch.probes))


def packaged_requests() -> list[ProbeRequest]:
    lines = files("gateway.features.models.probes").joinpath("packaged.jsonl").read_bytes().splitlines()
    made = [item_of(orjson.loads(line), number).item for number, line in enumerate(lines, 1)]
    return [ProbeRequest(request_key(item.api, item.request), item.api, item.request) for item in made]


def file_requests(path: Path) -> list[ProbeRequest]:
    """The requests of a dataset in any form that `gateway replay` reads."""
    found: dict[str, ProbeRequest] = {}
    mistakes: list[str] = []
    for row in rows(path):
        if row.values is None and row.error is None:
            continue
        try:
            if row.values is None:
                raise ValueError(row.error)
            item = item_of(row.values, len(found) + 1).item
        except ValueError as error:
            mistakes.append(f"{path}: {row.place}: {error}")
            continue
        key = request_key(item.api, item.request)
        found.setdefault(key, ProbeRequest(key, item.api, item.request))
    if mistakes:
        raise CannotRun("\n".join(mistakes[:_MOST_SHOWN]))
    if not 1 <= len(found) <= MOST_REQUESTS:
        raise CannotRun(f"{path}: {len(found)} different requests; expected 1 to {MOST_REQUESTS}")
    return list(found.values())
