"""Dead letters, and what the console does with them."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import yaml
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.console.access import Actor
from gateway.console.admin import Admin
from gateway.console.errors import InvalidBody, NotPermitted, NotThere
from gateway.features.keys.directory import read_audit
from gateway.features.status import dead_letters
from gateway.features.status.dead_letters import first_letters, one_letter, replay_letters
from gateway.stream import Corridor, DeadLetter


@pytest.fixture
def command(room, tmp_path, monkeypatch):
    """Runs `gateway dead …` where gateway.yaml names the room's stream."""
    monkeypatch.chdir(tmp_path)
    stream = {"url": room.stream_url, "name": room.stream_name}
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"stream": stream}))

    async def run(*arguments: str, answer: str | None = None):
        def invoke():
            return CliRunner().invoke(app, ["dead", *arguments], input=answer)

        return await asyncio.to_thread(invoke)

    return run


async def given_up(room, *records: dict[bytes, bytes]) -> list[DeadLetter]:
    """Entries that a consumer has given up because it cannot read them."""
    await room.corridor.append(list(records))
    async with room.consuming():
        await room.until_read()
    return [letter async for letter in room.corridor.dead_letters.all()]


def bad(n: int) -> list[dict[bytes, bytes]]:
    return [{b"kind": b"exchange", b"head": b"{%d" % i} for i in range(n)]


async def test_the_list_counts_by_reason_and_shows_errors(room, command):
    found = await given_up(room, *bad(3), {b"kind": b"\xff"})
    shown = await command("list", "--limit", "2")
    assert shown.exit_code == 0, shown.output
    head, _, *rows = shown.output.splitlines()
    assert head == "4 dead letters: unreadable 4"
    assert [row.split()[0] for row in rows] == [found[0].id, found[1].id]
    assert "exchange that cannot be read" in rows[0]
    assert (await command("list", "--reason", "refused")).output.strip() == head
    listed = conforms("dead list", (await command("list", "--json")).output)
    assert (listed["reasons"], len(listed["letters"])) == ({"unreadable": 4}, 4)
    assert listed["letters"][0]["error"] == found[0].error


async def test_one_dead_letter_is_shown_completely(room, exchange, command):
    one = exchange("1", status=9223372036854775808)
    (letter,) = await given_up(room, one.to_fields())
    shown = await command("show", letter.id)
    for text in (letter.id, "refused", letter.entry, one.id, "chat → local/small", "a number?", '"content":"1"'):
        assert text in shown.output, text
    whole = conforms("dead show", (await command("show", letter.id, "--json")).output)
    assert orjson.loads(whole["fields"]["head"])["id"] == one.id == whole["exchange_id"]


async def test_a_requeued_letter_is_scored_again_and_counted_once(room, exchange, command, tally):
    """A number that no column held is given up; once the cause is fixed (here: by another store), it is stored."""
    one = exchange("1")
    await room.send(one, tally([one]))
    await room.corridor.join()
    (entry, _) = await room.corridor.read("a", 2, 50)
    await room.corridor.dead_letters.add(entry, "too_many_deliveries", "handed out 6 times")
    shown = await command("replay", "--reason", "too_many_deliveries")
    assert (shown.exit_code, shown.stdout) == (0, "1 of 1 replayed\n")
    assert "replaying 1" in shown.stderr
    async with room.consuming("heir"):
        await room.until(lambda: room.sql("SELECT id FROM exchanges") == [(one.id,)])
    assert await room.corridor.dead_letters.by_reason() == {}


async def test_dropping_asks_first_and_keeps_the_others(room, command):
    found = await given_up(room, *bad(3))
    asked = await command("purge", found[0].id, found[1].id, answer="n\n")
    assert asked.exit_code == 1
    assert "delete 2 dead letters for good?" in asked.stderr
    assert await room.corridor.dead_letters.count() == 3
    assert (await command("purge", found[0].id, found[1].id, answer="y\n")).stdout.endswith("2 deleted\n")
    assert (await command("purge", "--all", "--yes")).stdout == "1 deleted\n"
    assert (await command("purge", "--all", "--yes")).stdout == "no dead letter to delete\n"
    assert (await command("list")).stdout == "no dead letters\n"


async def test_a_command_needs_ids_or_all(room, command):
    for wrong in (("replay",), ("purge", "--all", "--reason", "refused"), ("purge", "1-0", "--all")):
        shown = await command(*wrong)
        assert shown.exit_code == 2
        assert "--reason" in shown.output
    for unknown in ("1-0", "nothing"):
        shown = await command("show", unknown)
        assert shown.exit_code == 1
        assert f"no dead letter {unknown}" in str(shown.exception)


async def test_an_unreachable_server_is_reported(command, tmp_path):
    (tmp_path / "gateway.yaml").write_text("stream: {url: 'redis://:geheim@127.0.0.1:1/0'}")
    shown = await command("list")
    assert shown.exit_code == 1
    assert "stream server" in str(shown.exception)
    assert "geheim" not in str(shown.exception) + shown.output


def test_a_letters_content_has_no_effect_on_the_terminal():
    evil = "\x1b[2J\x9b31m[red]x\u202e"
    letter = DeadLetter("1-0", evil, evil, evil, {evil.encode(): evil.encode(), b"kind": evil.encode()})
    from rich.console import Console

    console = Console(record=True, width=100, force_terminal=False)
    console.print(dead_letters.table([letter], {evil: 1}))
    console.print(dead_letters.to_terminal(letter))
    text = console.export_text()
    assert "[red]x" in text
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)


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


async def test_viewers_cannot_replay(admin: Admin, corridor: Corridor, ada: Actor) -> None:
    with pytest.raises(NotPermitted):
        await replay_letters(admin, corridor, Actor("vera", "viewer"), ["1-0"])
    with pytest.raises(InvalidBody):
        await replay_letters(admin, corridor, ada)
    for id in ("1-0", "no id", "../x", "٣-0", "1-0 2-0", ""):
        with pytest.raises(NotThere):
            await one_letter(corridor, id)
