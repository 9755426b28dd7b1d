"""Dead letters in the console: shown with their reason, replayed once, and both are in the audit."""

from __future__ import annotations

import pytest

from gateway.console.access import Actor
from gateway.console.errors import InvalidBody, NotPermitted, NotThere
from gateway.features.keys.directory import Admin, read_audit
from gateway.features.status.dead_letter_commands import first_letters, one_letter, replay_letters
from gateway.stream import Corridor


async def buried(corridor: Corridor, *reasons: str) -> None:
    await corridor.join()
    await corridor.append([{b"kind": b"exchange", b"n": str(i).encode()} for i in range(len(reasons))])
    entries = await corridor.read("c1", len(reasons), 1000)
    for entry, reason in zip(entries, reasons, strict=True):
        await corridor.dead_letters.add(entry, reason, f"why {reason}")


async def test_ticked_letters_are_replayed_once(admin: Admin, corridor: Corridor, ada: Actor) -> None:
    await buried(corridor, "unreadable", "refused", "refused")
    letters = await first_letters(corridor, None, 10)
    assert [letter.reason for letter in letters] == ["unreadable", "refused", "refused"]
    found = await replay_letters(admin, corridor, ada, [letters[0].id])
    assert (found.done, found.chosen) == (1, 1)
    with pytest.raises(NotThere):
        await replay_letters(admin, corridor, ada, [letters[0].id])
    assert await corridor.dead_letters.by_reason() == {"refused": 2}
    [row] = await read_audit(admin, None, 10, letters[0].id)
    assert (row.action, row.kind, row.actor) == ("replay", "dead_letters", "ada")


async def test_all_of_one_reason_are_replayed(admin: Admin, corridor: Corridor, ada: Actor) -> None:
    await buried(corridor, "unreadable", "refused", "refused")
    assert (await replay_letters(admin, corridor, ada, reason="refused")).done == 2
    assert [letter.reason for letter in await first_letters(corridor, None, 10)] == ["unreadable"]


async def test_who_may_not_and_what_is_not_there(admin: Admin, corridor: Corridor, ada: Actor) -> None:
    with pytest.raises(NotPermitted):
        await replay_letters(admin, corridor, Actor("vera", "viewer"), ["1-0"])
    with pytest.raises(InvalidBody):
        await replay_letters(admin, corridor, ada)
    for id in ("1-0", "no id", "../x", "٣-0", "1-0 2-0", ""):
        with pytest.raises(NotThere):
            await one_letter(corridor, id)
