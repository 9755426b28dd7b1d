"""Dead letters: the entry, the reason, and its content; the console reads them and puts them back into the stream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

import orjson
from rich.console import Group, RenderableType
from rich.table import Table

from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import InvalidBody, NotThere, StoreAway
from gateway.core.conversation import turns
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange, Record, from_fields
from gateway.reports.terminal import plain_table, safe_text
from gateway.store.directory import AuditRow, add_audit
from gateway.stream import Corridor, DeadLetter

_BRIEF = 100  # characters of an error in a list


class DeadLetterOutput(TypedDict):
    """An entry of the stream that could not be used."""

    id: str
    buried: float
    """Unix seconds."""
    reason: str
    error: str
    entry: str
    """Id of the entry in the stream."""
    kind: str
    exchange_id: str | None
    """Id of the exchange; None if the entry is not a call, or cannot be decoded."""


class WholeDeadLetterOutput(DeadLetterOutput):
    fields: dict[str, str]
    """The fields of the entry, unparsed."""


class DeadLettersOutput(TypedDict):
    reasons: dict[str, int]
    """The number of all dead letters, by reason."""
    letters: list[DeadLetterOutput]


def to_dict(letter: DeadLetter, *, complete: bool) -> dict[str, Any]:
    """The letter as JSON has it. complete: with the fields of the entry, unparsed."""
    record = record_of(letter)
    found: dict[str, Any] = {
        "id": letter.id,
        "buried": letter.added_at,
        "reason": letter.reason,
        "error": letter.error,
        "entry": letter.entry,
        "kind": kind_of(letter),
        "exchange_id": record.id if isinstance(record, Exchange) else None,
    }
    if complete:
        found["fields"] = {name.decode("utf-8", "replace"): value for name, value in letter.fields.items()}
    return found


def record_of(letter: DeadLetter) -> Record | None:
    """The record; None if it cannot be decoded."""
    try:
        return from_fields(letter.fields)
    except ValueError:
        return None


def kind_of(letter: DeadLetter) -> str:
    return letter.fields.get(b"kind", b"unknown").decode("utf-8", "replace")


def table(letters: Sequence[DeadLetter], reasons: Mapping[str, int]) -> RenderableType:
    """Shows letters. reasons: the number of all dead letters, by reason."""
    total = sum(reasons.values())
    counts = ", ".join(f"{name} {n}" for name, n in sorted(reasons.items()))
    head = safe_text(f"{total} dead letters: {counts}" if total else "no dead letters", "bold")
    return Group(head, *([_rows(letters)] if letters else []))


def _rows(letters: Sequence[DeadLetter]) -> Table:
    drawn = plain_table(("letter", "time", "reason", "what", "error"), unbroken=("letter", "time"))
    for letter in letters:
        error = " ".join(letter.error.split())
        brief = error if len(error) <= _BRIEF else error[: _BRIEF - 1] + "…"
        drawn.add_row(*map(safe_text, (letter.id, _time(letter.added_at), letter.reason, _what(letter), brief)))
    return drawn


def to_terminal(letter: DeadLetter) -> RenderableType:
    """Shows one dead letter with its content."""
    return Group(*_parts(letter))


def _parts(letter: DeadLetter) -> Iterator[RenderableType]:
    yield safe_text(f"{letter.id}  {_time(letter.added_at)}  {letter.reason}", "bold")
    yield safe_text(f"it was entry {letter.entry}: {_what(letter)}")
    yield safe_text("\nerror", "bold red")
    yield safe_text(letter.error)
    record = record_of(letter)
    if isinstance(record, Exchange):
        for who, text in turns(record.request):
            yield safe_text(f"\n{who}", "bold cyan")
            yield safe_text(text)
        yield safe_text("\nresponse", "bold green")
        yield safe_text(record.response.decode("utf-8", "replace"))
        return
    for name, value in letter.fields.items():
        yield safe_text(f"\n{name.decode('utf-8', 'replace')}", "bold cyan")
        yield safe_text(_pretty(value))


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


_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}(@[0-9]{1,5})?")
MOST_REPLAYED = 1_000
"""The most letters that one command replays."""


@dataclass(frozen=True, slots=True)
class ReplayedLetters:
    done: int
    chosen: int
    """The others had been removed meanwhile."""


async def oldest_letters(corridor: Corridor, reason: str | None, count: int | None) -> AsyncIterator[DeadLetter]:
    """Yields the oldest dead letters of this reason; None: all of them. Raises StreamDown."""
    found = 0
    async for each in corridor.dead_letters.all():
        if reason in (None, each.reason):
            yield each
            found += 1
            if found == count:
                return


async def first_letters(corridor: Corridor, reason: str | None, count: int) -> list[DeadLetter]:
    """The oldest ones. Raises StoreAway."""
    try:
        return [each async for each in oldest_letters(corridor, reason, count)]
    except StreamDown as error:
        raise _away(error) from None


async def one_letter(corridor: Corridor, id: str) -> DeadLetter:
    """Raises NotThere, StoreAway."""
    if not _ID.fullmatch(id):
        raise NotThere("there is no dead letter with this id")
    try:
        found = await corridor.dead_letters.get(id)
    except StreamDown as error:
        raise _away(error) from None
    if found is None:
        raise NotThere(f"there is no dead letter {id} any more: it was replayed or removed")
    return found


async def replay_letters(
    admin: Admin, corridor: Corridor, actor: Actor, ids: Sequence[str] = (), reason: str | None = None
) -> ReplayedLetters:
    """Appends them to the stream again, to be scored; one that is in the store already is not counted twice.

    ids: of dead letters; reason: those with this reason instead, the oldest MOST_REPLAYED. Raises InvalidBody,
    NotThere, StoreAway.
    """
    actor.require("operator", "replay dead letters")
    if bool(ids) == (reason is not None):
        raise InvalidBody("choose dead letters, or one reason")
    if reason is not None:
        chosen = await first_letters(corridor, reason, MOST_REPLAYED)
    else:
        chosen = [await one_letter(corridor, id) for id in ids[:MOST_REPLAYED]]
    done = 0
    try:
        for each in chosen:
            done += await corridor.dead_letters.replay(each) is not None
    except StreamDown as error:
        raise _away(error) from None
    finally:
        if done:
            after = {"replayed": done, "reason": reason, "ids": [each.id for each in chosen[:20]]}
            subject = reason if reason is not None else chosen[0].id
            row = AuditRow(admin.clock(), actor.name, actor.role, "replay", "dead_letters", subject, None, after)
            await admin.store.run(lambda connection: add_audit(connection, row))
    return ReplayedLetters(done, len(chosen))


def _away(error: StreamDown) -> StoreAway:
    return StoreAway(f"{error}; dead letters are in the stream server", retry_after_s=2)
