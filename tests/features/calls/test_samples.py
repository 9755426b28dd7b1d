"""A person sees what was asked, answered and thought of it; a program gets it all; a terminal is not played with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Attempt, Feedback, Target
from gateway.features.calls import samples
from gateway.store.query import LISTED, SHOWN


@pytest.fixture
def command(room, tmp_path, monkeypatch):
    """Runs `gateway samples …` in a directory without a gateway.yaml."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return CliRunner().invoke(app, ["samples", "--data", str(tmp_path / "data"), *arguments])

    return run


async def stored(room, *records) -> None:
    async with room.consuming():
        await room.send(*records)
        await room.until_read()


async def test_the_list_has_the_newest_first_with_scores(room, exchange, command):
    old, new = exchange("0.5", received=1e9), exchange("error", alias="fast", first_token_s=0.25, outcome="timeout",
                                                       status=504)  # fmt: skip
    await stored(room, old, new)
    shown = command()
    assert shown.exit_code == 0, shown.output
    head, first, second = shown.output.splitlines()
    assert [word in head for word in ("time", "alias", "target", "outcome", "tokens", "scores")] == [True] * 6
    for text in (new.id, "fast", "local/small", "timeout 504", "3+5", "0.250 s", "stated error"):
        assert text in first
    assert "stated 0.5" in second
    assert command("--alias", "chat").output.count("local/small") == 1
    assert command("--since", "1h").output.count("local/small") == 1
    assert command("--limit", "1").output.count("local/small") == 1


async def test_the_right_answer_and_a_correction_are_shown(room, exchange, command):
    one = exchange("0.5", reference="the right one")
    await stored(room, one, Feedback(one.id, "f", "web", 1.0, "fix", correction="a better one", comment="wrong"))
    lines = command("--id", one.id).output.splitlines()
    assert lines[lines.index("right answer") + 1] == "the right one"
    assert "feedback fix: wrong correction: a better one" in lines


async def test_one_exchange_is_shown_completely(room, exchange, command):
    attempts = (Attempt(Target("big", "m"), 503, "HTTP 503", 0.1), Attempt(Target("local", "small"), 200, None, 0.4))
    answer = {
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "content": "0.5", "tool_calls": [{"id": "t", "function": {"name": "look", "arguments": '{"at": 1}'}}]}}]
    }  # fmt: skip
    one = exchange(response=orjson.dumps(answer), attempts=attempts, pi=0.25, stratum="slow", experiment="swap",
                   plan="p", arm="control")  # fmt: skip
    shadow = exchange(pair=one.id, role="shadow")
    await stored(room, one, shadow, Feedback(one.id, "f", "web", 1.0, "thumb", 1.0, comment="good"))
    shown = command("--id", one.id)
    assert shown.exit_code == 0
    for text in (
        "a number?", "0.5", 'calls look({"at": 1})', "π = 0.25 in stratum slow", "big/m: HTTP 503 after 0.100 s",
        "local/small: HTTP 200", "it says 0.5", "experiment swap arm control", f"its shadow: {shadow.id}",
        "feedback thumb: 1.0 good", "finish_reason tool_calls",
    ):  # fmt: skip
        assert text in shown.output, text


async def test_jsonl_is_a_line_for_each_call(room, exchange, command):
    async with room.consuming():
        await room.send(exchange("1"), exchange("0.5"))
        await room.until_read()
    lines = [orjson.loads(line) for line in command("--jsonl").output.splitlines()]
    assert lines == conforms("samples", command("--json").output)
    assert len(lines) == 2


async def test_json_has_every_field(room, exchange, command):
    one = exchange("0.5")
    await stored(room, one)
    (listed,) = conforms("samples", command("--json", "--all").output)
    assert set(listed) == {str(column.name) for column in LISTED} | {"scores"}
    assert (listed["id"], listed["scores"][0]["value"]) == (one.id, 0.5)
    whole = conforms("samples", command("--id", one.id, "--json", "--all").output)
    assert set(whole) == {str(column.name) for column in SHOWN} | {"scores", "feedback", "shadows"}
    assert orjson.loads(whole["response"]) == orjson.loads(one.response)
    assert whole["scores"][0]["explanation"] == "it says 0.5"


async def test_json_leaves_out_null_and_inapplicable(room, exchange, command):
    one = exchange("0.5")
    await stored(room, one, Feedback(one.id, "f", "web", 1.0, "thumb", 1.0))
    for options in ((), ("--id", one.id)):
        short, full = (command(*options, "--json", *more).output for more in ((), ("--all",)))
        assert b"null" not in short.encode()
        kept, found = conforms("samples", short), conforms("samples", full)
        assert samples.compact(found[0] if not options else found) == (kept[0] if not options else kept)
    inapplicable = {"scorer": "len", "status": "not_applicable", "detail": None}
    scored = {"scorer": "len", "status": "scored", "detail": {"words": None}}
    assert samples.compact({"id": "1", "error": None, "scores": [inapplicable, scored]}) == {
        "id": "1",
        "scores": [scored],
    }


async def test_an_answer_has_no_effect_on_the_terminal(room, exchange, command):
    evil = "\x1b[2J\x1b]8;;http://x\x07[red]click\x9b31m\u202e"
    body = orjson.dumps({"messages": [{"role": "user\x1b[1m", "content": evil}]})
    answer = orjson.dumps({"choices": [{"index": 0, "message": {"content": evil}}]})
    one = exchange(response=answer, request=body, alias="chat\x1b[1m")
    await stored(room, one)
    for shown in (command(), command("--id", one.id), command("--id", one.id, "--json")):
        assert shown.exit_code == 0
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown.output)
    assert "[red]click" in command("--id", one.id).output  # and is not rich markup


def test_a_missing_store_is_reported(room, command):
    Path(room.store_url.removeprefix("sqlite:///")).unlink()
    shown = command()
    assert shown.exit_code == 1
    assert "gateway up" in str(shown.exception)


async def test_an_unknown_id_is_reported(room, exchange, command):
    await stored(room, exchange())
    shown = command("--id", "nothing")
    assert shown.exit_code == 1
    assert "no exchange nothing in the store" in str(shown.exception)


async def test_an_id_that_is_stored_later_is_waited_for(room, exchange):
    one = exchange("1")
    waiting = asyncio.to_thread(samples.find, room.store_url, one.id, 20.0)
    _, found = await asyncio.gather(stored(room, one), waiting)
    assert found["text"] == "1"


def test_an_invalid_duration_is_a_usage_error(command):
    shown = command("--since", "yesterday")
    assert shown.exit_code == 2
    assert "1d" in shown.output


async def test_a_query_filters_the_list(room, exchange, command):
    await stored(room, exchange("0.5"), exchange("1", alias="fast"))
    shown = command("--where", "scorer=stated value<1", "--since", "1d", "--json")
    assert [e["alias"] for e in orjson.loads(shown.output)] == ["chat"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("scorr=stated", 'did you mean "scorer"?'),
        ("scorer=statd", 'did you mean "stated"?'),
        ("(", "expected a comparison"),
    ],
)
async def test_an_invalid_query_is_a_usage_error(room, exchange, command, where, words):
    await stored(room, exchange())
    shown = command("--where", where)
    assert shown.exit_code == 2
    assert words in " ".join(shown.output.replace("│", " ").split())
