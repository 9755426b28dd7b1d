"""The playground: several answers side by side, while they arrive and afterwards."""

from __future__ import annotations

import asyncio

import orjson

from gateway.fake.answers import HOLD
from gateway.runtime.tasks import Tasks

HOSTILE = "<script>alert(1)</script> \x1b[31m \u202eevil"


async def ask(pages, client, **data):
    given = {"prompt": "say hello", "target": ["chat|", "chat|local/large"], **data}
    answer = await pages.send(client, "/console/playground", "/console/playground", given)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def test_without_streaming_the_page_has_all_answers_with_their_scores(pages):
    pages.gateway.says("one ", "answer")
    client = await pages.login()
    run = await ask(pages, client, system="be kind", temperature="0.5", max_tokens="7")
    page = await pages.get(client, run)
    assert page.count("one answer</pre>") >= 2
    assert "<iframe" not in page
    assert "valid_json" in page or "length" in page, "scored by rules that answer at once"
    bodies = [orjson.loads(call.body) for call in pages.gateway.calls]
    assert [b["messages"] for b in bodies] == [
        [{"role": "system", "content": "be kind"}, {"role": "user", "content": "say hello"}]
    ] * 2
    assert {(b["model"], b["temperature"], b["max_tokens"]) for b in bodies} == {("chat", 0.5, 7)}
    assert {call.header("x-gateway-target") for call in pages.gateway.calls} == {None, "local/large"}
    assert {call.header("x-gateway-sample") for call in pages.gateway.calls} == {"never"}


async def test_an_answer_is_shown_while_it_arrives(pages):
    """The first words reach the browser before the upstream has said the last."""
    pages.gateway.says("first words", HOLD, " and last")
    client = await pages.login()
    run = await ask(pages, client, target=["chat|"], stream="1")
    page = await pages.get(client, run)
    assert f'<iframe src="{run}/answers/0"' in page
    seen = ""
    async with client.stream("GET", f"{run}/answers/0") as answer:
        assert answer.headers["content-type"].startswith("text/html")
        async for piece in answer.aiter_text():
            seen += piece
            if "first words" in seen and "last" not in seen:
                pages.gateway.release()
    assert "first words and last</pre>" in seen
    assert "</main>" in seen


async def test_hostile_answers_are_shown_as_text(pages):
    pages.gateway.says("a ", HOSTILE, " z")
    client = await pages.login()
    run = await ask(pages, client, prompt=HOSTILE)
    for path in (run, f"{run}/answers/0"):
        page = await pages.get(client, path)
        assert "<script>alert" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt; ␛[31m ⟨U+202E⟩evil" in page


async def test_a_target_that_fails_says_why_beside_the_others(pages):
    client = await pages.login()
    port = pages.gateway.port
    await pages.gateway.stop()
    run = await ask(pages, client)
    page = await pages.get(client, run)
    assert page.count("cannot be reached") == 2
    assert "sk-evals" not in page
    await pages.gateway.start(port=port)


async def test_nobody_else_sees_a_run(pages):
    client = await pages.login()
    run = await ask(pages, client)
    other = await pages.client()
    assert (await other.get(run)).status_code == 303
    assert (await client.get("/console/playground/runs/other")).status_code == 404
    assert (await client.get(f"{run}/answers/7")).status_code == 404


async def test_a_run_becomes_a_row_of_a_dataset(pages):
    pages.gateway.says("hello ", "there")
    client = await pages.login()
    run = await ask(pages, client)
    assert (await pages.send(client, run, f"{run}/save", {"dataset": "mine", "right": "1"})).status_code == 303
    assert (
        await pages.send(client, run, f"{run}/save", {"dataset": "mine", "right": "own", "reference": "hi"})
    ).status_code == 303
    rows = [orjson.loads(line) for line in (pages.data / "datasets" / "mine.jsonl").read_bytes().splitlines()]
    assert [row["reference"] for row in rows] == ["hello there", "hi"]
    assert rows[0]["request"] == {"messages": [{"role": "user", "content": "say hello"}]}
    assert (pages.data / "datasets" / "mine.jsonl").stat().st_mode & 0o777 == 0o600
    for name in ("../mine", "a/b", ".x", ""):
        answer = await pages.send(client, run, f"{run}/save", {"dataset": name or " "})
        assert answer.status_code == 400, name


MISTAKES = ({"prompt": " "}, {"target": []}, {"target": "x|y"}, {"temperature": "hot"}, {"max_tokens": "0"})


async def test_a_mistake_in_the_form_asks_nobody(pages):
    client = await pages.login()
    for mistake in MISTAKES:
        given = {"prompt": "p", "target": "chat|", **mistake}
        answer = await pages.send(client, "/console/playground", "/console/playground", given)
        assert answer.status_code == 400, mistake
    assert pages.gateway.calls == []


async def test_answers_arrive_at_the_same_time(pages):
    """Both requests are under way before either is answered."""
    pages.gateway.says("x", HOLD, "y")
    client = await pages.login()
    async with Tasks() as tasks:
        asking = tasks.start(ask(pages, client), "asking")
        await pages.gateway.until(lambda g: len(g.calls) == 2)
        while not asking.done():
            pages.gateway.release()
            await asyncio.sleep(0.005)
        await asking
