"""Labels of earlier configs: a deleted alias or model leaves its series after an hour.

Prometheus reads the last counts of a deleted alias for an hour; then its series are no longer exported. They continue
where they were if a config names it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.config.metric_labels import MetricLabels, TargetLabels

KEEP_S = 3600.0
_FILE = "labels.json"

Deleted = dict[tuple[str, ...], float | None]
"""Unix time of the deletion of each alias (one text) and target (upstream and model); None if it is in the config."""


@dataclass(frozen=True, slots=True)
class ExpiredLabels:
    """The aliases and targets that are no longer exported."""

    aliases: frozenset[str] = frozenset()
    targets: frozenset[TargetLabels] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.aliases or self.targets)

    def hide(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is no longer exported."""
        return labels.get("alias") in self.aliases or (labels.get("upstream"), labels.get("model")) in self.targets


class LabelHistory:
    """The aliases and targets of the config in force, and of earlier ones.

    Workers share a file, so that a worker that started later knows what was deleted before.
    """

    def __init__(self, shared: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """shared: the directory of the workers; None: a single process."""
        self._path = None if shared is None else shared / _FILE
        self._clock = clock
        self._deleted: Deleted = {}
        self._targets: dict[str, TargetLabels] = {}  # by "upstream/model"
        self._followed: MetricLabels | None = None

    def follow(self, labels: MetricLabels) -> None:
        """Notes what this config no longer names. labels: of the config in force."""
        if labels is self._followed:
            return
        self._followed, now = labels, self._clock()
        current = {*((alias,) for alias in labels.aliases), *labels.targets.values()}
        self._deleted = {name: at or now for name, at in self._known().items() if name not in current}
        self._deleted |= dict.fromkeys(current)
        self._targets = {"/".join(name): (name[0], name[1]) for name in self._deleted if len(name) == 2}
        self._write()

    def kept(self, *name: str) -> bool:
        """Whether an alias, or the upstream and the model of a target, is configured or was within the last hour."""
        return name in self._deleted and not self._is_expired(self._deleted[name])

    def target(self, name: str) -> TargetLabels | None:
        """The labels of a target of an earlier config. name: "upstream/model". None if no config has had it for an
        hour."""
        target = self._targets.get(name)
        return target if target is not None and self.kept(*target) else None

    def expired(self) -> ExpiredLabels:
        names = [name for name, at in self._known().items() if self._is_expired(at)]
        return ExpiredLabels(
            frozenset(name[0] for name in names if len(name) == 1),
            frozenset((name[0], name[1]) for name in names if len(name) == 2),
        )

    def _is_expired(self, deleted: float | None) -> bool:
        return deleted is not None and self._clock() - deleted > KEEP_S

    def _known(self) -> Deleted:
        if self._path is not None:
            with suppress(OSError, orjson.JSONDecodeError):  # no worker has written it yet
                self._deleted = _read(orjson.loads(self._path.read_bytes()))
        return self._deleted

    def _write(self) -> None:
        if self._path is None:
            return
        own = self._path.with_suffix(f".{os.getpid()}")
        own.write_bytes(orjson.dumps([[name, at] for name, at in self._deleted.items()]))
        own.replace(self._path)


def _read(rows: Iterable[tuple[list[str], float | None]]) -> Deleted:
    return {tuple(name): at for name, at in rows}
