"""Logs of inspect_ai (`.eval`, or its JSON form), read by its own reader: the extra `inspect`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.features.row_files import DatasetRow

LARGEST_BYTES = 1 << 30
"""Size limit of the unpacked parts: the header and the summaries of the samples, not their transcripts."""
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # correct, partial, incorrect, no answer, as inspect's own metrics
_READ = ("header.json", "summaries.json", "_journal/")


def is_log(document: Mapping[str, Any]) -> bool:
    return {"eval", "plan", "status"} <= document.keys()


def header_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """(the model that was evaluated, notes for readers). Raises CannotRun for a log that is not one, or not whole."""
    _bounded(path)
    header = _read(path, "read_eval_log", header_only=True)
    ended = (
        f"{path}: the evaluation ended with the status {header.status}; only the samples that it logged are compared."
    )
    return str(header.eval.model), () if header.status == "success" else (ended,)


def samples(path: Path) -> Iterator[DatasetRow]:
    """The runs of each sample, with each score in a column of its scorer's name.

    A score that is an object has a column SCORER.KEY for each of its members. A run that ended with an error has none.
    """
    for sample in _read(path, "read_eval_log_sample_summaries"):
        scores: dict[str, Any] = {}
        for name, score in (sample.scores or {}).items():
            if isinstance(score.value, dict):
                scores |= {f"{name}.{key}": _number(value) for key, value in score.value.items()}
            else:
                scores[name] = _number(score.value)
        place = f"sample {sample.id}, epoch {sample.epoch}"
        yield DatasetRow(place, {"id": str(sample.id), "epoch": sample.epoch, "metadata": sample.metadata, **scores})


def _number(value: Any) -> Any:
    return _LETTERS.get(value, value) if isinstance(value, str) else value


def _read(path: Path, reader: str, **options: Any) -> Any:
    try:
        log: Any = import_module("inspect_ai.log")
    except ModuleNotFoundError as error:
        raise CannotRun(f"{path}: logs of inspect need its reader: {install_command('inspect')}") from error
    try:
        return getattr(log, reader)(str(path), **options)
    except Exception as error:  # of a foreign reader, which documents none
        why = f"not a log that this inspect_ai reads ({type(error).__name__}: {error})"
        raise CannotRun(f"{path}: {why}; a log of a newer one needs: pip install -U inspect-ai") from error


def _bounded(path: Path) -> None:
    """Refuses an archive that would unpack to more than LARGEST_BYTES, from its table of contents alone."""
    if path.suffix.lower() != ".eval":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist() if member.filename.startswith(_READ))
    except (zipfile.BadZipFile, OSError) as error:
        raise CannotRun(
            f"{path}: not a log of inspect: {error}; a log that is still being written cannot be read"
        ) from error
    if size > LARGEST_BYTES:
        raise CannotRun(
            f"{path}: would unpack to {size / 2**20:,.0f} MB; at most {LARGEST_BYTES >> 20:,} MB are read: "
            "convert it with `inspect log convert`, or keep fewer samples"
        )
