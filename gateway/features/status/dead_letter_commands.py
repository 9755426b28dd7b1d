"""What the console does with dead letters: reads them, and puts them back into the stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.console.access import Actor
from gateway.console.errors import InvalidBody, NotThere, StoreAway
from gateway.core.errors import StreamDown
from gateway.features.keys.directory import Admin
from gateway.store.directory import AuditRow, add_audit, audit_id
from gateway.stream import Corridor, DeadLetter

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}(@[0-9]{1,5})?")
MOST_REPLAYED = 1_000
"""By one command."""


@dataclass(frozen=True, slots=True)
class ReplayedLetters:
    done: int
    chosen: int
    """The others had been removed meanwhile."""


async def first_letters(corridor: Corridor, reason: str | None, count: int) -> list[DeadLetter]:
    """The oldest ones. Raises StoreAway."""
    found: list[DeadLetter] = []
    try:
        async for each in corridor.dead_letters.all():
            if reason in (None, each.reason):
                found.append(each)
                if len(found) == count:
                    break
    except StreamDown as error:
        raise _away(error) from None
    return found


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
            row = AuditRow(
                audit_id(), admin.clock(), actor.name, actor.role, "replay", "dead_letters", subject, None, after
            )
            await admin.store.run(lambda connection: add_audit(connection, row))
    return ReplayedLetters(done, len(chosen))


def _away(error: StreamDown) -> StoreAway:
    return StoreAway(f"{error}; dead letters are in the stream server", retry_after_s=2)
