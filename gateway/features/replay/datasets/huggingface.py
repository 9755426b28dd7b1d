"""Datasets of Hugging Face, read by its library `datasets`: from the hub, or from a directory on this machine.

The address is `hf://NAME[/CONFIG][:SPLIT]`, where NAME is `owner/name`, or `name` for the hub's oldest ones; or
`hf://PATH[:SPLIT]` with a PATH that begins with / or a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.core.sanitize import plain
from gateway.features.replay.datasets.row_formats import QUESTIONS, ColumnMap
from gateway.features.row_files import DatasetRow

SCHEME = "hf://"
_ON_DISK = ("dataset_dict.json", "state.json")
_ADDRESS = re.compile(r"(?P<name>[^:]+?)/*(?::(?P<split>[\w.\-+\[\]%]+))?")


@dataclass(frozen=True, slots=True)
class HuggingFaceDataset:
    """One split, loaded when it is first read."""

    address: str
    """The address without "hf://"."""
    columns: ColumnMap = field(default_factory=ColumnMap)
    _loaded: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.address}"

    @property
    def path(self) -> Path:
        """A path in the working directory, for files that are written next to a dataset."""
        return Path(re.sub(r"[^\w.-]+", "-", self.address).strip("-.") or "dataset")

    def rows(self) -> Iterator[DatasetRow]:
        """Raises CannotRun if the library is missing, the dataset cannot be loaded, or its columns do not fit."""
        if not self._loaded:
            self._loaded.append(_split(self))
        for number, values in enumerate(self._loaded[0], 1):
            yield DatasetRow(f"row {number}", values)


def _split(of: HuggingFaceDataset) -> Any:
    library = _library(of)
    found = _ADDRESS.fullmatch(of.address)
    if found is None:
        raise CannotRun(f"{of}: expected hf://NAME[/CONFIG][:SPLIT], as in hf://owner/name:test")
    try:
        loaded = _loaded(library, found["name"], found["split"])
    except Exception as error:  # the library raises its own, the hub client's and the file system's errors
        reason = plain(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise CannotRun(f"{of}: cannot be loaded: {reason[:500]}") from error
    data = _chosen(of, loaded, found["split"])
    names = list(getattr(data, "column_names", None) or [])
    missing = of.columns.missing(names) if of.columns else None
    if missing or (not of.columns and not any(name in names for name in QUESTIONS)):
        hint = missing or f"no column {QUESTIONS[2]}; found {', '.join(names[:12])}"
        raise CannotRun(f"{of}: {hint}; name the columns with --map question=COLUMN,reference=COLUMN")
    return data


def _library(of: HuggingFaceDataset) -> Any:
    try:
        return import_module("datasets")
    except ModuleNotFoundError as error:
        raise CannotRun(f"{of}: needs datasets: {install_command('datasets')}") from error


def _loaded(library: Any, name: str, split: str | None) -> Any:
    """A split, or all of them by name. Without a name that begins with / or a dot, from the hub or its cache."""
    if name.startswith(("/", ".")):
        path = Path(name)
        if any((path / each).exists() for each in _ON_DISK):
            return library.load_from_disk(str(path))
        if not path.exists():
            raise FileNotFoundError(f"no directory {path}")
        return library.load_dataset(str(path))
    parts = name.split("/")
    _check_elsewhere("/".join(parts[:2]))
    if len(parts) == 3:
        return library.load_dataset("/".join(parts[:2]), parts[2], split=split)
    try:
        return library.load_dataset(name, split=split)
    except library.exceptions.DatasetNotFoundError:
        if len(parts) != 2:
            raise
        _check_elsewhere(parts[0])
        return library.load_dataset(parts[0], parts[1], split=split)


def _check_elsewhere(name: str) -> None:
    """Raises FileExistsError for a name that the library would read from this machine in place of the hub."""
    if Path(name).exists():
        raise FileExistsError(f"{name} is also a path on this machine; write {SCHEME}./{name} to read that one")


def _chosen(of: HuggingFaceDataset, loaded: Any, split: str | None) -> Any:
    if not isinstance(loaded, Mapping):
        return loaded
    names: Sequence[str] = list(loaded)
    if split in loaded:
        return loaded[split]
    if split is None and len(names) == 1:
        return loaded[names[0]]
    problem = f"no split {split}" if split else "it has several splits"
    raise CannotRun(f"{of}: {problem}; add one of {', '.join(f':{name}' for name in names)}")
