"""The scores of one model: the columns of its file with ids, scores and clusters, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.core.did_you_mean import did_you_mean
from gateway.core.errors import CannotRun
from gateway.core.json_values import decoded, value_at
from gateway.core.sanitize import plain
from gateway.features.compare.score_files import FEEDBACK, ScoreFile
from gateway.verdict.items.scores import Columns

IDS = (
    "dataset_item_id", "datasetItemId", "item_id", "itemId", "sample_id", "question_id", "example_id", "doc_id", "id",
    "uid", "uuid", "item", "example", "question", "prompt_id", "task_id", "key", "index", "idx", "row", "trace_id",
    "traceId", "session_id", "sessionId",
)  # fmt: skip
"""Columns that an id is usually in, the most telling first."""
SCORES = (
    "score", "value", "acc", "accuracy", "exact_match", "correct", "is_correct", "em", "f1", "grade", "rating",
    "reward", "pass", "passed", "success", "resolved",
)  # fmt: skip
"""Columns that a score is usually in."""
_OF_RUNS = ("epoch", "repeat", "run", "seed", "trial", "attempt", "timestamp", "created_at", "updated_at")
_MOST_ERRORS = 5
_MOST_ID_CHARACTERS = 2000


class WrongColumns(Exception):
    """The columns of the files do not fit the options. option: the one that would help."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """Columns and members that are read from each file."""

    id: str | None = None
    """The column of ids. None if it is guessed."""
    score: str | None = None
    cluster: str | None = None
    """Name of the column with the cluster of an item; None if items are independent."""
    bounds: tuple[float, float] | None = None
    """The lowest and the highest possible score. None: [0, 1] if all scores are in it, else unknown."""
    missing: float | str = "fail"
    """Value of an item without a score: a number, "drop" (it is left out), or "fail" (it is an error)."""

    @property
    def wanted(self) -> frozenset[str]:
        """The columns of Parquet that are decoded."""
        given = [name for name in (self.id, self.score, self.cluster) if name is not None]
        heads = [name.partition(".")[0] for name in given]
        return frozenset({*IDS, *SCORES, *given, *heads, "name", "data_type", "string_value", FEEDBACK, "metadata"})


@dataclass(slots=True)
class ModelScores:
    """The scores of one model, by item."""

    file: ScoreFile
    runs: dict[str, list[float]] = field(default_factory=dict)
    """The scores of an item, one a run."""
    clusters: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    """Places of rows without a score that are left out."""
    filled: int = 0
    """Rows without a score that count as the number of `missing`."""

    @property
    def repeated(self) -> list[str]:
        """The ids with several runs."""
        return [item for item, runs in self.runs.items() if len(runs) > 1]


def choose(files: Sequence[ScoreFile], options: ScoreOptions) -> Columns:
    """Chooses the columns, which all files must have. Raises WrongColumns."""
    peeks = [file.peek() for file in files]
    for file, rows in zip(files, peeks, strict=True):
        if not rows:
            raise CannotRun(f"{file.path}: there are no rows; expected a row for each item")
    found_id = options.id or _guessed_id(files, peeks)
    score = options.score or _guessed_score(files, peeks, found_id)
    for option, column in (("--id", options.id), ("--score", options.score)):
        if column is not None:
            _must_have(files, peeks, option, column)
    if options.cluster is not None and not any(_has(rows, options.cluster) for rows in peeks):
        _must_have(files, peeks, "--cluster", options.cluster)
    guessed = [name for name, given in (("id", options.id), ("score", options.score)) if given is None]
    return Columns(found_id, score, options.cluster, tuple(guessed))


def _has(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return any(column in row or value_at(row, column, decoded) is not None for row in rows)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:12])
    return f"{shown}, …" if len(names) > 12 else shown or "none"


def _must_have(
    files: Sequence[ScoreFile], peeks: Sequence[Sequence[Mapping[str, Any]]], option: str, column: str
) -> None:
    for file, rows in zip(files, peeks, strict=True):
        if not _has(rows, column):
            names = _names(rows)
            hint = did_you_mean(column, names)
            raise WrongColumns(option, f"{file.path} has no column {plain(column)}{hint}; it has {_listed(names)}")


def _guessed_id(files: Sequence[ScoreFile], peeks: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    for column in IDS:
        if all(_has(rows, column) for rows in peeks):
            return column
    for file, rows in zip(files, peeks, strict=True):
        names = _names(rows)
        if not set(names) & set(IDS):
            raise WrongColumns("--id", f"{file.path} has none of the usual columns of ids; it has {_listed(names)}")
    raise WrongColumns("--id", "the files have no usual column of ids in common; name one that all have")


def _guessed_score(files: Sequence[ScoreFile], peeks: Sequence[Sequence[Mapping[str, Any]]], found_id: str) -> str:
    shared = [name for name in _names(peeks[0]) if all(_has(rows, name) for rows in peeks)]
    numeric = [name for name in shared if name != found_id and all(_numeric(rows, name) for rows in peeks)]
    usual = [name for name in SCORES if name in numeric]
    candidates = usual or [name for name in numeric if name not in (*IDS, *_OF_RUNS)]
    if len(candidates) == 1 or (usual and not any(file.long for file in files)):
        return candidates[0]
    if candidates:
        raise WrongColumns("--score", f"several columns may be the score: {_listed(candidates)}; name one")
    raise WrongColumns("--score", f"no column that all files have holds numbers; they share {_listed(shared)}")


def _numeric(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column holds numbers, as far as it holds anything."""
    values = [value for row in rows if (value := value_at(row, column, decoded)) not in (None, "")]
    return bool(values) and sum(isinstance(number_of(value), float) for value in values) * 2 > len(values)


def number_of(value: Any) -> float | str | None:
    """A score as a number; None if there is none (empty, null or NaN); text: why it is not a number."""
    if isinstance(value, bool | int | float | Decimal):
        return None if value != value else float(value)
    if value is None:
        return None
    if not isinstance(value, str):
        return f"expected a number, got {'an object' if isinstance(value, Mapping) else type(value).__name__}"
    text = value.strip()
    if text.lower() in ("", "nan", "null", "none", "n/a", "na"):
        return None
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        comma = text.replace(",", "", 1).lstrip("-").isdigit()
        remedy = "write a decimal point" if comma else "map words to numbers, or name another column with --score"
        return f'"{plain(text)[:60]}" is not a number; {remedy}'


def read_scores(file: ScoreFile, columns: Columns, options: ScoreOptions) -> ModelScores:
    """Raises CannotRun that names the file, the first places, the values, and what to do."""
    found, errors, more = ModelScores(file), list[str](), 0
    for row in file.rows():
        values = row.values or {}
        if file.long and columns.score not in values:
            continue
        try:
            _take(found, row.place, values, columns, options)
        except ValueError as error:
            more += len(errors) >= _MOST_ERRORS
            errors += [plain(f"{file.path}: {row.place}: {error}")] if len(errors) < _MOST_ERRORS else []
    if errors:
        raise CannotRun("\n".join([*errors, *([f"{file.path}: and {more:,} more rows"] if more else [])]))
    if not found.runs:
        raise CannotRun(f"{file.path}: no row has a score in {plain(columns.score)}")
    return found


def _take(found: ModelScores, place: str, row: Mapping[str, Any], columns: Columns, options: ScoreOptions) -> None:
    item = _label(value_at(row, columns.id, decoded), f"no id in column {columns.id}")
    value = number_of(value_at(row, columns.score, decoded))
    if isinstance(value, str):
        raise ValueError(f"{columns.score}: {value}")
    if value is None:
        value = _missing(columns.score, options.missing)
        if value is None:
            found.dropped.append(place)
            return
        found.filled += 1
    _check(columns.score, value, options.bounds)
    found.runs.setdefault(item, []).append(value)
    if columns.cluster is not None:
        _cluster(found, item, row, columns.cluster)


def _missing(score: str, missing: float | str) -> float | None:
    if missing == "fail":
        raise ValueError(
            f"no score in {score} (empty or NaN); --missing 0 counts such items as 0, --missing drop leaves them out"
        )
    return None if isinstance(missing, str) else missing


def _check(score: str, value: float, bounds: tuple[float, float] | None) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{score} is {value:g}; expected a finite number")
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise ValueError(
            f"{score} {value:g} is outside {bounds[0]:g} … {bounds[1]:g}; correct it, or give another --range LOW,HIGH"
        )


def _cluster(found: ModelScores, item: str, row: Mapping[str, Any], column: str) -> None:
    value = value_at(row, column, decoded)
    if value is None and not found.clusters:
        return  # the column may be in another file
    cluster = _label(value, f"no cluster in column {column}")
    known = found.clusters.setdefault(item, cluster)
    if known != cluster:
        raise ValueError(f"item {plain(item)} is in cluster {plain(known)} and in {plain(cluster)}")


def _label(value: Any, absent: str) -> str:
    """An id or a cluster as text: 7, 7.0 and "7" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value.strip() if isinstance(value, str) else "" if value is None else str(value)
    if not text or value != value:
        raise ValueError(f"{absent}; every row needs one")
    if len(text) > _MOST_ID_CHARACTERS:
        raise ValueError(f"{absent}: a text of {len(text):,} characters is not an id; name another column")
    return text


def examples(names: Iterator[str] | Sequence[str], most: int = 3) -> str:
    """The first few names, for notes."""
    shown = [plain(name)[:60] for name, _ in zip(names, range(most), strict=False)]
    return ", ".join(shown)
