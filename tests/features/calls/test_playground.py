"""Runs of several targets, and the playground."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gateway.config.scorers import ScorerConfig
from gateway.console.errors import InvalidBody, NotThere
from gateway.console.frame import LoginWays, PageServices
from gateway.console.sessions import Sessions
from gateway.fake.answers import HOLD
from gateway.features.calls.playground import (
    MOST_BYTES,
    MOST_OF_ONE,
    MOST_RUNS,
    AskTarget,
    ask_targets,
    chosen_targets,
    find_run,
    new_run,
    quick_scorers,
    start_run,
)
from gateway.runtime.tasks import Tasks


@pytest.fixture
async def services(pages):
    """The services of pages, where nobody may sign in."""

    def nobody(*_):
        raise AssertionError

    async with Tasks() as tasks:
        sessions = Sessions(pages.store, pages.admin.config, pages.admin.clock)
        yield PageServices(
            tasks,
            evals=lambda: pages.config[-1].evals,
            admin=pages.admin,
            sessions=sessions,
            login=LoginWays(nobody, nobody, nobody, nobody),
        )


def test_every_model_and_each_of_its_targets_can_be_asked(services):
    found = ask_targets(services.admin.config())
    assert [t.value for t in found] == [
        "chat|", "chat|local/small", "chat|local/large", "other|", "other|local/small",
    ]  # fmt: skip
    assert found[1].headers == {"x-gateway-target": "local/small"}
    assert found[0].headers == {}


def test_only_known_targets_are_asked_and_not_too_many(services):
    config = services.admin.config()
    assert chosen_targets(config, ["chat|", "chat|", "other|"]) == [AskTarget("chat"), AskTarget("other")]
    for values in ([], ["chat|elsewhere/x"], ["nothing|"]):
        with pytest.raises(InvalidBody, match="targets"):
            chosen_targets(config, values)


async def test_the_newest_runs_are_kept(services, pages):
    runs = [new_run("ada", "chat", {"messages": []}, []) for _ in range(MOST_RUNS + 1)]
    for run in runs:
        start_run(services, run)
    assert find_run(services, runs[-1].id, "ada") is runs[-1]
    for id, owner in ((runs[0].id, "ada"), (runs[-1].id, "eve")):
        with pytest.raises(NotThere):
            find_run(services, id, owner)


async def test_one_person_does_not_push_out_the_runs_of_others(services, pages, caplog):
    caplog.set_level("INFO")
    first = new_run("eve", "chat", {"messages": []}, [AskTarget("chat")])
    start_run(services, first)
    runs = [new_run("ada", "chat", {"messages": []}, []) for _ in range(MOST_OF_ONE + 1)]
    for run in runs:
        start_run(services, run)
    assert find_run(services, first.id, "eve") is first
    assert find_run(services, runs[1].id, "ada") is runs[1]
    with pytest.raises(NotThere):
        find_run(services, runs[0].id, "ada")
    assert "admin: eve asks chat, for a page of the console" in caplog.text


async def test_an_answer_is_kept_up_to_a_megabyte(services, pages):
    pages.gateway.says("x" * (MOST_BYTES + 1000))
    run = new_run("ada", "chat", {"messages": [{"role": "user", "content": "hi"}]}, [AskTarget("chat")])
    start_run(services, run)
    await run.wait()
    assert f"more than {MOST_BYTES} bytes" in run.answers[0].error


async def test_an_answer_can_be_read_by_several_and_again(services, pages):
    pages.gateway.says("one ", "two")
    run = new_run("ada", "chat", {"messages": [{"role": "user", "content": "x"}]}, [AskTarget("chat")])
    start_run(services, run)
    read = ["".join([piece async for piece in run.answers[0].pieces()]) for _ in range(2)]
    assert read == ["one two", "one two"]
    await run.wait()
    assert run.answers[0].usage is not None
    assert {s.scorer for s in run.answers[0].scores} == {"valid_json", "length"}


async def test_an_error_of_the_gateway_is_the_answers_error(services, pages):
    pages.gateway.answers(429, b'{"error": {"message": "too many"}}')
    run = new_run("ada", "chat", {"messages": [{"role": "user", "content": "x"}]}, [AskTarget("chat")])
    start_run(services, run)
    await run.wait()
    assert run.answers[0].error == "HTTP 429: too many"


def test_only_rules_that_answer_at_once_score_here(services):
    sections = {
        "ok": ScorerConfig(use="length"), "judge": ScorerConfig(model="chat", criterion="x"),
        "broken": ScorerConfig(use="regex"), "far": ScorerConfig(use="http://127.0.0.1:1/"),
    }  # fmt: skip
    config = services.admin.config().model_copy(update={"scorers": sections})
    assert list(quick_scorers(config, services)) == ["ok"]


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


async def test_a_target_that_fails_says_why_next_to_the_others(pages):
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
