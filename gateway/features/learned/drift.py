"""Drift alarms by model name: has the mean verdict left its usual range (quality), or a feature its own (input)?

The usual range comes from the first exchanges that were predicted with these features; the state of the alarms is JSON
in the table `drift_states`, which consumers advance in turn. Exchanges count in order of arrival, once SETTLED_S have
passed; one that arrives later than that is left out.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.features.learned.rows import (
    PredictedRow,
    aliases_predicted,
    load_state,
    newest_rows,
    rows_after,
    save_state,
    saved_states,
)
from gateway.observability.eval_metrics import DriftFigures
from gateway.statistics.change_detection import ChangeDetector, usual_range
from gateway.store.directory import AuditRow, add_audit
from gateway.store.query import Reading

QUALITY_ALPHA, INPUT_ALPHA = 1e-4, 1e-5
"""Error rates of the alarms: while nothing changes, an alarm comes on average at most once in 10 000 judged answers, or
in 100 000 exchanges."""
REFERENCES = (500, 1000)  # judged answers and exchanges that the usual ranges come from
QUALITY_MARGIN, INPUT_MARGIN = 0.01, 0.03  # changes smaller than this are none
SETTLED_S = 60.0
MOST_ROWS = 200  # of one model name in one step, 14 ms of CPU; of more, evenly spaced ones count
_BINS = 10
ROLE = "operator"
"""The actor in the audit who accepts a new usual range."""
Kind = Literal["quality", "input"]
KINDS: tuple[Kind, ...] = ("quality", "input")


@dataclass(frozen=True, slots=True)
class _State:
    at: float
    feature_set: str
    version: str
    """The scorer's version, with its config's hash."""
    quality: Mapping[str, Any] | None
    input: Mapping[str, Any] | None
    edges: Sequence[Sequence[float]]
    """The upper ends of all bins but the last, by feature."""
    accepted: Mapping[Kind, float] = field(default_factory=dict)
    """Unix seconds since which the usual range of a kind counts exchanges; a kind that is missing: all."""


@dataclass(frozen=True, slots=True)
class DriftWatch:
    """The look of a consumer at the newest predictions, from time to time."""

    scorer: str
    pi_min: float
    aliases: frozenset[str] | None = None
    """Model names of the config, which alone become labels; None: all."""

    def look(self, connection: Reading) -> tuple[DriftFigures, ...]:
        found = advance(connection, self.scorer, self.pi_min)
        return tuple(each for each in found if self.aliases is None or each.alias in self.aliases)


def advance(
    connection: Reading,
    scorer: str,
    pi_min: float,
    now: float | None = None,
    references: tuple[int, int] = REFERENCES,
) -> list[DriftFigures]:
    """Takes what has settled since the last call into the alarms of every model name, and returns them.

    scorer: the predictor's key. pi_min: the smallest probability of a draw. now: Unix seconds; None: the
    present. references: see REFERENCES.
    """
    until = (time.time() if now is None else now) - SETTLED_S
    found: list[DriftFigures] = []
    for alias in aliases_predicted(connection, scorer, until):
        text = load_state(connection, scorer, alias)
        before = None if text is None else _State(**orjson.loads(text))
        state = _step(connection, (scorer, alias), before, until, pi_min, references)
        if state is not None and state is not before:
            save_state(connection, scorer, alias, orjson.dumps(asdict(state)).decode(), state.at)
        if state is not None:
            found += _figures(scorer, alias, state)
    return found


def _step(
    connection: Reading,
    of: tuple[str, str],
    before: _State | None,
    until: float,
    pi_min: float,
    references: tuple[int, int],
) -> _State | None:
    if before is None:
        return _begin(connection, of, until, references, {})
    rows = rows_after(connection, *of, before.at, until)
    if not rows:
        return before
    newest = next((row.feature_set for row in reversed(rows) if row.features), before.feature_set)
    if newest != before.feature_set:
        return _begin(connection, of, until, references, before.accepted) or before
    every = -(-len(rows) // MOST_ROWS)
    same = [row for row in rows[::every] if row.feature_set == before.feature_set]
    judged = [row for row in rows if row.value is not None]
    if before.quality is None or (judged and judged[-1].version != before.version):
        since = before.accepted.get("quality", 0.0)
        quality, version = _quality_reference(connection, of, (since, until), references[0])
    else:
        quality, version = _judged(before.quality, judged, pi_min), before.version
    after = replace(before, at=rows[-1].received, version=version, quality=quality)
    if before.input is not None:
        return replace(after, input=_seen(before, same))
    begun = _input_reference(connection, of, (before.accepted.get("input", 0.0), until), references[1])
    return after if begun is None else replace(after, edges=begun.edges, input=begun.input)


@dataclass(frozen=True, slots=True)
class _InputReference:
    """The usual range of the features."""

    at: float
    feature_set: str
    edges: Sequence[Sequence[float]]
    input: Mapping[str, Any]


def _begin(
    connection: Reading, of: tuple[str, str], until: float, references: tuple[int, int], accepted: Mapping[Kind, float]
) -> _State | None:
    """The usual ranges, from the newest exchanges; None if there are too few."""
    begun = _input_reference(connection, of, (accepted.get("input", 0.0), until), references[1])
    if begun is None:
        return None
    quality, version = _quality_reference(connection, of, (accepted.get("quality", 0.0), until), references[0])
    return _State(begun.at, begun.feature_set, version, quality, begun.input, begun.edges, accepted)


def _input_reference(
    connection: Reading, of: tuple[str, str], between: tuple[float, float], n: int
) -> _InputReference | None:
    """The usual range from the newest n exchanges; None if there are too few. between: Unix seconds."""
    rows = newest_rows(connection, *of, between, n)
    rows = [row for row in rows if row.feature_set == rows[-1].feature_set and row.features]
    if len(rows) < n:
        return None
    x = _features(rows)
    finite = np.where(np.isfinite(x), x, 0.0)
    edges = [np.unique(np.quantile(column, np.arange(1, _BINS) / _BINS)).tolist() for column in finite.T]
    detector = ChangeDetector(*usual_range(_places(x, edges), INPUT_MARGIN), INPUT_ALPHA)
    return _InputReference(rows[-1].received, rows[-1].feature_set, edges, detector.state())


def _quality_reference(
    connection: Reading, of: tuple[str, str], between: tuple[float, float], n: int
) -> tuple[Mapping[str, Any] | None, str]:
    """Makes the state of a new alarm from the newest n judged answers, with the scorer's version; None if there are too
    few.
    """
    newest = newest_rows(connection, *of, between, n, judged=True)
    rows = [row for row in newest if row.version == newest[-1].version]
    if len(rows) < n:
        return None, rows[-1].version if rows else ""
    values = np.array([[row.value] for row in rows], dtype=np.float64)
    calls = np.array([1.0 / row.pi for row in rows])
    return ChangeDetector(*usual_range(values, QUALITY_MARGIN, calls), QUALITY_ALPHA).state(), rows[-1].version


def _judged(before: Mapping[str, Any], rows: Sequence[PredictedRow], pi_min: float) -> Mapping[str, Any]:
    if not rows:
        return before
    detector = ChangeDetector.from_state(before)
    weights = np.minimum(1.0, pi_min / np.array([row.pi for row in rows]))
    detector.add(np.array([[row.value] for row in rows], dtype=np.float64), weights)
    return detector.state()


def _seen(before: _State, rows: Sequence[PredictedRow]) -> Mapping[str, Any] | None:
    rows = [row for row in rows if row.features]
    if before.input is None or not rows:
        return before.input
    detector = ChangeDetector.from_state(before.input)
    detector.add(_places(_features(rows), before.edges))
    return detector.state()


def _features(rows: Sequence[PredictedRow]) -> NDArray[np.float64]:
    return np.stack([np.frombuffer(row.features, dtype="<f4") for row in rows]).astype(np.float64)


def _places(x: NDArray[np.float64], edges: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The bin of each value, from 0 (lowest) to 1. Values that are not finite are in the middle."""
    columns = [
        np.where(np.isfinite(x[:, i]), np.searchsorted(np.asarray(ends), x[:, i], side="left") / max(len(ends), 1), 0.5)
        for i, ends in enumerate(edges)
    ]
    return np.stack(columns, axis=1)


def _figures(scorer: str, alias: str, state: _State) -> list[DriftFigures]:
    found: list[DriftFigures] = []
    kinds: tuple[tuple[Kind, Mapping[str, Any] | None], ...] = (("quality", state.quality), ("input", state.input))
    for kind, saved in kinds:
        if saved is not None:
            detector = ChangeDetector.from_state(saved)
            stream, direction = detector.largest()
            what = direction if kind == "quality" else f"{stream} {direction}"
            found.append(DriftFigures(scorer, alias, kind, detector.log_statistic, detector.limit, what))
    return found


def saved_figures(connection: Reading, scorer: str) -> list[DriftFigures]:
    """The state of the alarms when a consumer last advanced them. Only reads."""
    states = sorted(saved_states(connection, scorer).items())
    return [each for alias, text in states for each in _figures(scorer, alias, _State(**orjson.loads(text)))]


def accept(
    connection: Reading,
    scorer: str,
    aliases: Collection[str] | None,
    kinds: Collection[Kind],
    actor: str,
    now: float | None = None,
) -> list[DriftFigures]:
    """Resets the usual ranges of these kinds: the alarms start again with exchanges that arrive from now on. Returns
    the state of the alarms before the reset, for the audit.

    scorer: the predictor's key. aliases: model names; None if all that have a state. now: Unix seconds; None: now.
    """
    now = time.time() if now is None else now
    forgotten: list[DriftFigures] = []
    for alias in sorted(saved_states(connection, scorer)):
        text = load_state(connection, scorer, alias) if aliases is None or alias in aliases else None
        if text is None:
            continue
        before = _State(**orjson.loads(text))
        found = [each for each in _figures(scorer, alias, before) if each.kind in kinds]
        if found:
            after = replace(before, accepted={**before.accepted, **{each.kind: now for each in found}})
            for each in found:
                after = replace(after, quality=None) if each.kind == "quality" else replace(after, input=None)
            save_state(connection, scorer, alias, orjson.dumps(asdict(after)).decode(), after.at)
            forgotten += found
    for each in forgotten:
        forgot = {"scorer": scorer, "statistic": each.statistic, "limit": each.limit, "alarm": each.alarm}
        subject = f"{each.alias} {each.kind}"
        add_audit(connection, AuditRow(now, actor, ROLE, "accept", "drift", subject, forgot, None))
    return forgotten


def drift_lines(figures: Sequence[DriftFigures], names: Sequence[str]) -> list[str]:
    """The alarms that are on, one sentence each. names: of the features."""
    lines = []
    for each in figures:
        if not each.alarm:
            continue
        stream, _, direction = each.what.rpartition(" ")
        what = f"the mean of {each.scorer}" if each.kind == "quality" else f"the feature {_name(stream, names)}"
        lines.append(f"drift: {each.alias}: {what} has gone {direction} from its usual range")
    return lines


def _name(stream: str, names: Sequence[str]) -> str:
    return names[int(stream)] if stream.isdigit() and int(stream) < len(names) else stream
