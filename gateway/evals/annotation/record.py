"""What `gateway label` does with a store: opens a desk on it, saves labels, lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.core.randomization import draw
from gateway.evals.annotation.desk import Desk, DrawnItem, LabelRequest
from gateway.evals.annotation.sheets import Form, blind_sheet, read, sheet
from gateway.evals.store import engine
from gateway.evals.store.labels import Label, listed, save, with_verdicts
from gateway.evals.store.query import reading

ALL = 1 << 62


def desk_at(url: str, wish: LabelRequest) -> Desk:
    """Raises NoStore, NotJudged, ValueError."""
    with reading(url) as connection:
        return Desk(connection, wish)


def next_at(url: str, desk: Desk) -> DrawnItem | None:
    """Its next item. Read for itself: a person thinks for minutes, and no transaction may stay open so long."""
    with reading(url) as connection:
        return desk.next(connection)


def keep(url: str, labels: Sequence[Label]) -> None:
    """Saves them, all or none."""
    opened = engine.writer(url)
    try:
        with opened.begin() as connection:
            save(connection, labels)
    finally:
        opened.dispose()


def taken(url: str, path: Path, wish: LabelRequest, share: float | None) -> list[Label]:
    """The labels of a sheet, saved. Raises BadSheet, NotJudged, NoStore and ValueError; then none is."""
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share is {share!r}, expected a number above 0, at most 1")
    desk = desk_at(url, wish)
    given = read(path, desk.of.subject, lambda id: draw(f"label-order:{wish.scorer}", id) < 0.5, desk.knows)
    labels = desk.brought(given, share)
    keep(url, labels)
    return labels


def to_fill(url: str, wish: LabelRequest, count: int, form: Form) -> str:
    """The next items as a sheet to be filled."""
    with reading(url) as connection:
        return blind_sheet(Desk(connection, wish).sheet(connection, count), form)


def given(url: str, scorer: str | None, form: Form) -> str:
    """All labels, newest first, each beside what the scorer said."""
    with reading(url) as connection:
        rows: list[dict[str, Any]] = []
        found = listed(connection, scorer, ALL)
        judged = with_verdicts(connection, found)
        for label in found:
            row = {"id": label.subject_id, **asdict(label)}
            del row["subject_id"]
            rows.append({**row, "judged": judged.get(label.id)})
    return sheet(rows, form)
