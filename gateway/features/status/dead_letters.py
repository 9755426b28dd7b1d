"""Dead letters as `gateway dead` shows them: which entry, why, and its content. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.conversation import turns
from gateway.core.exchange import Exchange, Record, from_fields
from gateway.core.sanitize import plain
from gateway.stream import DeadLetter

_BRIEF = 100  # characters of an error in a list


def to_dict(letter: DeadLetter, *, complete: bool) -> dict[str, Any]:
    """complete: with the fields of the entry, unparsed."""
    record = record_of(letter)
    found: dict[str, Any] = {
        "id": letter.id, "buried": letter.added_at, "reason": letter.reason, "error": letter.error,
        "entry": letter.entry, "kind": kind_of(letter),
        "exchange_id": record.id if isinstance(record, Exchange) else None,
    }  # fmt: skip
    if complete:
        found["fields"] = {name.decode("utf-8", "replace"): value for name, value in letter.fields.items()}
    return found


def record_of(letter: DeadLetter) -> Record | None:
    """None: the record cannot be decoded."""
    try:
        return from_fields(letter.fields)
    except ValueError:
        return None


def kind_of(letter: DeadLetter) -> str:
    return letter.fields.get(b"kind", b"unknown").decode("utf-8", "replace")


def table(letters: Sequence[DeadLetter], reasons: Mapping[str, int]) -> RenderableType:
    """reasons: the number of all dead letters, by reason."""
    total = sum(reasons.values())
    counts = ", ".join(f"{name} {n}" for name, n in sorted(reasons.items()))
    head = _safe(f"{total} dead letters: {counts}" if total else "no dead letters", "bold")
    return Group(head, *([_rows(letters)] if letters else []))


def _rows(letters: Sequence[DeadLetter]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("letter", "time", "reason", "what", "error"):
        drawn.add_column(name, no_wrap=name in ("letter", "time"))
    for letter in letters:
        error = " ".join(letter.error.split())
        brief = error if len(error) <= _BRIEF else error[: _BRIEF - 1] + "…"
        drawn.add_row(*map(_safe, (letter.id, _time(letter.added_at), letter.reason, _what(letter), brief)))
    return drawn


def to_terminal(letter: DeadLetter) -> RenderableType:
    """One dead letter with its content."""
    return Group(*_page(letter))


def _page(letter: DeadLetter) -> Iterator[RenderableType]:
    yield _safe(f"{letter.id}  {_time(letter.added_at)}  {letter.reason}", "bold")
    yield _safe(f"it was entry {letter.entry}: {_what(letter)}")
    yield _safe("\nerror", "bold red")
    yield _safe(letter.error)
    record = record_of(letter)
    if isinstance(record, Exchange):
        for who, text in turns(record.request):
            yield _safe(f"\n{who}", "bold cyan")
            yield _safe(text)
        yield _safe("\nresponse", "bold green")
        yield _safe(record.response.decode("utf-8", "replace"))
        return
    for name, value in letter.fields.items():
        yield _safe(f"\n{name.decode('utf-8', 'replace')}", "bold cyan")
        yield _safe(_pretty(value))


def _pretty(value: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return value.decode("utf-8", "replace")


def _what(letter: DeadLetter) -> str:
    record = record_of(letter)
    if isinstance(record, Exchange):
        return f"exchange {record.id} ({record.alias} → {record.target})"
    return kind_of(letter) if record is not None else f"{kind_of(letter)} that cannot be read"


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix).astimezone().isoformat(" ", "seconds")


def _safe(text: str, style: str = "") -> Text:
    return Text(plain(text), style)
