"""Results of the LM Evaluation Harness (lm-eval): `results_DATE.json`, and the samples of --log_samples next to it.

Source: docs/interface.md of EleutherAI/lm-evaluation-harness; the layout is that of its EvaluationTracker: one object a
line, with doc_id, filter, metrics (names) and each metric as a member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.core.errors import CannotRun
from gateway.core.json_values import as_list, as_object, as_text
from gateway.features.row_files import DatasetRow, TableColumns, read_rows

_SAMPLES = re.compile(r"samples_(?P<task>.+?)(_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+))?")
_RESULTS = re.compile(r"results_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)")
MEMBERS = frozenset({"doc_id", "metrics"})
"""Members that a line of samples has, and other tables of the same name have not."""
_KEPT = ("doc", "doc_hash")
_COLUMNS = TableColumns("", lambda _: None, frozenset())


def task_of(path: Path) -> str | None:
    """The task in the name of a file of samples; None for another kind of name."""
    found = _SAMPLES.fullmatch(path.stem)
    return found["task"] if found else None


def samples(path: Path, task: str) -> Iterator[DatasetRow]:
    """The items of a task with each metric as METRIC, and as METRIC,FILTER where answers were filtered.

    An item of several filters has a line for each; METRIC alone is that of the first filter of the file.
    """
    first: str | None = None
    for row in read_rows(path, _COLUMNS):
        if row.values is None:
            yield row
            continue
        kept = as_text(row.values.get("filter"))
        first = kept if first is None else first
        yield DatasetRow(row.place, _with_metrics(row.values, task, kept, first=kept == first))


def _with_metrics(row: Mapping[str, Any], task: str, kept: str, *, first: bool) -> Mapping[str, Any]:
    names = [name for name in as_list(row.get("metrics")) if isinstance(name, str)]
    filtered = {f"{name},{kept}": row.get(name) for name in names} if kept not in ("", "none") else {}
    plain = {name: row.get(name) for name in names} if first else {}
    return {
        "id": f"{task}/{row.get('doc_id')}",
        "task": task,
        **{name: row.get(name) for name in _KEPT},
        **plain,
        **filtered,
    }


def is_results(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("results"), dict) and {"configs", "n-samples", "versions"} & document.keys() != set()


def model_of(document: Mapping[str, Any]) -> str:
    return as_text(document.get("model_name"))


def lower_metrics(document: Mapping[str, Any]) -> frozenset[str]:
    """The metrics of which some task says that lower is better."""
    tasks = map(as_object, as_object(document.get("higher_is_better")).values())
    return frozenset(name for task in tasks for name, higher in task.items() if higher is False)


def of_results(path: Path, document: Mapping[str, Any]) -> Callable[[], Iterator[DatasetRow]]:
    """Reads the samples of every task of a file of results. Raises CannotRun if it has none."""
    found = _RESULTS.fullmatch(path.stem)
    date = found["date"] if found else None
    tasks = as_object(document.get("results"))
    files = [(task, _file_of(path, task, date)) for task in sorted(tasks)]
    there = [(task, file) for task, file in files if file is not None]
    if not there:
        raise CannotRun(
            f"{path}: no samples_TASK_DATE.jsonl of its tasks is next to it; run lm-eval with --log_samples"
        )

    def read() -> Iterator[DatasetRow]:
        for task, file in there:
            for row in samples(file, task):
                yield replace(row, place=f"{file.name}: {row.place}")

    return read


def _file_of(results: Path, task: str, date: str | None) -> Path | None:
    name = f"samples_{task}_{date}.jsonl" if date else f"samples_{task}.jsonl"
    file = results.with_name(name)
    return file if file.is_file() else None


def newest_results(directory: Path) -> Path:
    """The newest file of results of a directory that lm-eval has written, its --output_path or a model's folder in it.

    Raises CannotRun if there is none, or if it has results of several models.
    """
    found = [path for path in directory.rglob("results_*.json") if _RESULTS.fullmatch(path.stem)]
    models = sorted({path.parent for path in found})
    if not models:
        raise CannotRun(f"{directory}: no results_DATE.json of lm-eval is in it; give a file of scores")
    if len(models) > 1:
        named = " ".join(map(str, models))
        raise CannotRun(f"{directory}: it has results of {len(models)} models; name their directories: {named}")
    return max(found, key=lambda path: path.stem)
