"""A dataset: read once to find every mistake and its hash, then again, row by row, while it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from gateway.core.sanitize import plain
from gateway.evals.replay.items import DatasetItem, item_of
from gateway.evals.replay.row_files import DatasetError, rows

__all__ = ["Dataset", "DatasetError", "scan"]

_MISTAKES_SHOWN = 10
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file that can be asked. hash: 64 hex digits over its canonical rows, in order. rows: its questions;
    references: how many have one. blank: empty rows, which are passed over. ignored: names that mean nothing here.
    """

    path: Path
    hash: str
    rows: int
    references: int
    blank: int
    ignored: tuple[str, ...]
    _digests: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    def items(self) -> Iterator[DatasetItem]:
        """The rows in order, one at a time. Raises DatasetError when the file is not what it was."""
        number = 0
        for item in _items(self.path):
            at = number * _DIGEST_BYTES
            if _digest(item) != self._digests[at : at + _DIGEST_BYTES]:
                break
            yield item
            number += 1
        if number != self.rows:
            raise DatasetError(f"{self.path} was changed while it was replayed (row {number + 1}); start again")


def scan(path: Path) -> Dataset:
    """Reads the whole file and holds none of its rows. Raises DatasetError with the first mistakes, by their lines."""
    whole, digests, mistakes = sha256(), bytearray(), []
    counts = {"rows": 0, "references": 0, "blank": 0}
    ignored: set[str] = set()
    wrong = 0
    for row in rows(path):
        if row.values is None and row.mistake is None:
            counts["blank"] += 1
            continue
        try:
            if row.mistake is not None or row.values is None:
                raise ValueError(row.mistake)
            read = item_of(row.values, counts["rows"] + 1)
            canonical = read.item.canonical()
        except (ValueError, TypeError) as error:
            wrong += 1
            if wrong <= _MISTAKES_SHOWN:
                mistakes.append(plain(f"{path}: {row.place}: {error}"))
            continue
        whole.update(canonical + b"\n")
        digests += sha256(canonical).digest()[:_DIGEST_BYTES]
        ignored |= read.ignored
        counts["rows"] += 1
        counts["references"] += read.item.reference is not None
    if wrong > _MISTAKES_SHOWN:
        mistakes.append(f"{path}: and {wrong - _MISTAKES_SHOWN} more")
    if mistakes:
        raise DatasetError("\n".join(mistakes))
    if not counts["rows"]:
        raise DatasetError(f"{path}: no rows; expected at least one question")
    names = tuple(plain(name) for name in sorted(ignored))
    return Dataset(path, whole.hexdigest(), **counts, ignored=names, _digests=bytes(digests))


def _items(path: Path) -> Iterator[DatasetItem]:
    number = 0
    for row in rows(path):
        if row.mistake is not None:
            raise DatasetError(f"{path}: {row.place}: {row.mistake}")
        if row.values is None:
            continue
        number += 1
        try:
            yield item_of(row.values, number).item
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{path}: {row.place}: {error}") from error


def _digest(item: DatasetItem) -> bytes:
    return sha256(item.canonical()).digest()[:_DIGEST_BYTES]
