"""`gateway ab draft --as decision`: which aliases ask for decisions, what that would save, and the experiment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from sqlalchemy import update
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.store.tables import exchanges

SCHEMA = {"type": "object", "properties": {"refund": {"type": "boolean"}}}
FORM = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
DECISION = orjson.dumps({"messages": [{"role": "user", "content": "Twice."}], "response_format": FORM})
PROSE = orjson.dumps({"messages": [{"role": "user", "content": "Write a poem."}]})
PRICES = {"as_of": "2026-12-01", "models": {"small/decider": {"input": 0.1, "output": 0}}}


@pytest.fixture
def run(tmp_path: Path, store: Any, store_url: str, exchange: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a verb next to a gateway.yaml, on a store with 40 decisions and 10 poems of `tickets`, and poems of `chat`.
    The attribute `config` writes other sections into the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA", str(tmp_path / "data"))
    usual: dict[str, Any] = {"received": time.time() - 60.0, "pi": 0.5}
    store.write(*(exchange("1", **usual, alias="tickets", request=DECISION) for _ in range(40)))
    store.write(*(exchange("1", **usual, alias="tickets", request=PROSE) for _ in range(10)))
    store.write(*(exchange("1", **usual, alias="chat", request=PROSE) for _ in range(10)))
    store.run(lambda c: c.execute(update(exchanges).values(cost_usd=0.01, input_tokens=1_000)))

    def write(**changes: Any) -> None:
        targets = {"targets": [{"upstream": "big", "model": "large"}]}
        made = {
            "open": True,
            "upstreams": {
                "big": {"kind": "openai", "api_key": "k"},
                "small": {"kind": "openai", "api_key": "k"},
                "plain": {"kind": "groq", "api_key": "k"},
            },
            "models": {"tickets": targets, "chat": targets},
            "scorers": {"decision_agrees": {}},
            "store": {"url": store_url},
            "prices": PRICES,
        }
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({**made, **changes}))

    def go(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["ab", "draft", "--as", "decision", *words])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    write()
    go.config = write  # type: ignore[attr-defined]
    return go


def test_aliases_are_listed_with_their_price(run: Any) -> None:
    said = run().stderr
    assert "tickets: 40 of 50 recorded calls are decisions; a day of them costs 0.80 USD" in said
    assert "chat" not in said
    assert "--successor UPSTREAM/MODEL" in said


def test_the_draft_names_what_it_saves_and_is_valid(run: Any) -> None:
    printed = run("--successor", "small/decider")
    assert "and 0.79 USD less at small/decider[decision]" in printed.stderr
    section = yaml.safe_load(printed.stdout)["experiments"]["tickets-decision"]
    assert section["candidate"] == {"upstream": "small", "model": "decider", "as": "decision"}
    assert (section["control"], section["primary"]) == ({"upstream": "big", "model": "large"}, "decision_agrees")
    assert section["allow"] == {"apis": ["chat"]}
    run.config(experiments={"tickets-decision": section})
    refused = run("--successor", "small/decider", code=2)
    assert "compares them already" in refused.output


@pytest.mark.parametrize(("words", "code", "words_of"), [
    (("chat",), 1, "no alias has decisions"),
    (("nobody",), 2, "no alias"),
    (("--successor", "plain/m"), 2, "has no API of"),
    (("--successor", "decider"), 2, "is not UPSTREAM/MODEL"),
])  # fmt: skip
def test_another_request_says_why_nothing_is_drafted(
    run: Any, words: tuple[str, ...], code: int, words_of: str
) -> None:
    result = run(*words, code=code)
    assert words_of in " ".join(f"{result.output} {result.exception}".replace("│", " ").split())


def test_a_draft_needs_a_scorer_of_decisions(run: Any) -> None:
    run.config(scorers={"refusal": {}})
    assert "no scorer compares decisions" in " ".join(run("--successor", "small/decider", code=2).output.split())
