"""Targets, runs, and the rules that score them."""

from __future__ import annotations

import pytest

from gateway.config.scorers import ScorerConfig
from gateway.console.errors import InvalidBody, NotThere
from gateway.console.frame import LoginWays, PageServices
from gateway.console.sessions import Sessions
from gateway.features.calls.asking import (
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
    def nobody(*_):
        raise AssertionError

    async with Tasks() as tasks:
        sessions = Sessions(pages.store, pages.admin.config, pages.admin.clock)
        yield PageServices(
            pages.admin, sessions, LoginWays(nobody, nobody, nobody), tasks, evals=lambda: pages.config[-1].evals
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
