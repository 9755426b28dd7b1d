"""`gateway ab draft`, `check` and `status` of a model that retires, as they are typed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.json_outputs import conforms
from fixtures.retirements import use_week
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.store import engine
from gateway.store.location import default_url

OLD = {"upstream": "a", "model": "m"}


def today() -> date:
    return datetime.now(UTC).date()


def config(stream: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A model of the scripted upstream retires in 41 days."""
    dated = {**OLD, "retires": today() + timedelta(days=41)}
    models = {"chat": {"targets": [dated]}, "code": {"targets": [dated]}, "other": {"targets": [{**OLD, "model": "x"}]}}
    found = {"open": True, "upstreams": {"a": {"kind": "fake"}}, "models": models, "stream": stream}
    return {**found, "scorers": {"refusal": {}}, **changes}


@pytest.fixture
def run(tmp_path: Path, stream_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a verb next to a gateway.yaml with a model that retires, on a store with 5 100 calls of it a day. The
    attribute `config` writes other sections into the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA", str(tmp_path / "data"))
    opened = engine.writer(default_url(tmp_path / "data"))
    with opened.begin() as connection:
        for alias, calls in (("chat", 100), ("code", 5_000)):
            use_week(connection, today(), calls, alias=alias, upstream="a", model="m")
    opened.dispose()

    def write(**changes: Any) -> None:
        made = config({"url": stream_url, "name": stream_name}, **changes)
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(made))

    def go(*words: str, code: int = 0) -> Result:
        found = CliRunner().invoke(app, list(words))
        assert found.exit_code == code, (found.output, found.exception)
        return found

    write()
    go.config = write  # type: ignore[attr-defined]
    return go


def test_check_says_who_must_switch_when_and_how(run: Callable[..., Result]) -> None:
    said = run("check", "gateway.yaml").stderr
    day = today() + timedelta(days=41)
    assert f"caution: a/m retires in 41 days ({day}). 2 aliases (chat, code), 5\u202f100 calls a day." in said
    assert "No successor is listed. No draft: no successor of a/m is listed; name one with --successor" in said


def test_the_draft_is_accepted_by_check_and_starts(run: Any, tmp_path: Path) -> None:
    printed = run("ab", "draft", "m", "--successor", "n")
    section = yaml.safe_load(printed.stdout)["experiments"]["code-to-n"]
    assert (section["control"], section["candidate"]) == (OLD, {**OLD, "model": "n"})
    assert "a/m also serves chat: gateway ab draft ALIAS" in printed.stderr
    assert " days at shadow " in printed.stderr
    run.config(experiments={"code-to-n": section})
    assert "1 experiment (code-to-n: shadow on " in run("check", "gateway.yaml").stdout
    assert "code-to-n is running with plan " in run("ab", "start", "code-to-n").stdout
    assert not (tmp_path / "gateway.experiments.yaml").exists()


def test_it_is_written_next_to_the_config(run: Any, tmp_path: Path) -> None:
    said = run("ab", "draft", "chat", "--successor", "n", "--write").stdout
    assert said == "chat-to-n is in gateway.experiments.yaml; start it: gateway ab start chat-to-n\n"
    made = yaml.safe_load((tmp_path / "gateway.experiments.yaml").read_text())["experiments"]
    assert made["chat-to-n"]["model"] == "chat"
    assert "chat-to-n is running with plan " in run("ab", "start", "chat-to-n").stdout
    again = run("ab", "draft", "chat", "--successor", "n", code=2)
    assert "the experiment chat-to-n compares it" in " ".join(again.stderr.replace("│", " ").split())


def test_the_only_model_with_a_date_needs_no_name(run: Callable[..., Result]) -> None:
    assert "code-to-n:" in run("ab", "draft", "--successor", "n").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing", "--successor", "n"], 'no model and no alias "nothing" in the config'),
        (["chta", "--successor", "n"], 'did you mean "chat"?'),
        (["chat"], "no successor of a/m is listed; name one with --successor"),
        (["chat", "--successor", "a b"], "expected MODEL or UPSTREAM/MODEL"),
    ],
)
def test_a_wrong_name_is_a_usage_error(run: Callable[..., Result], words: list[str], said: str) -> None:
    assert said in " ".join(run("ab", "draft", *words, code=2).stderr.replace("│", " ").split())


def test_several_models_must_be_named(run: Any) -> None:
    run.config(models={"chat": {"targets": [{**OLD, "model": m, "retires": "2030-01-01"} for m in "mn"]}})
    assert "there are: a/m, a/n" in run("ab", "draft", "--successor", "x", code=2).stderr
    assert "there are: a/m, a/n" in run("ab", "draft", "chat", "--successor", "x", code=2).stderr
    run.config(models={"chat": {"targets": [OLD]}})
    assert "none with a date" in run("ab", "draft", "--successor", "x", code=2).stderr


def test_a_value_of_the_environment_is_not_written(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANT", "t-secret")
    run.config(models={"chat": {"targets": [{**OLD, "headers": {"x-tenant": "${TENANT}"}}]}})
    printed = run("ab", "draft", "chat", "--successor", "n")
    assert "x-tenant: ${TENANT}" in printed.stdout
    refused = CliRunner().invoke(app, ["ab", "draft", "chat", "--successor", "n", "--write"])
    assert "has values of the form ${NAME}" in str(refused.exception)
    assert not (tmp_path / "gateway.experiments.yaml").exists()
    assert "t-secret" not in printed.output + refused.output


def test_a_draft_that_comes_too_late_says_so(run: Any) -> None:
    dated = {**OLD, "retires": today() + timedelta(days=1)}
    run.config(models={"chat": {"targets": [dated]}})
    said = run("ab", "draft", "chat", "--successor", "n").stderr
    assert "that is later than a/m retires" in said
    assert "at shadow 1" in said


def test_status_lists_it_and_calls_it_no_problem(run: Callable[..., Result]) -> None:
    found = conforms("status", CliRunner().invoke(app, ["status", "--json"]).stdout)
    [row] = found["retirements"]
    assert (row["upstream"], row["model"], row["days"], row["calls_a_day"]) == ("a", "m", 41, 5100.0)
    assert not [problem for problem in found["problems"] if "retires" in problem]
    assert "a/m retires in 41 days" in CliRunner().invoke(app, ["status"]).stdout
