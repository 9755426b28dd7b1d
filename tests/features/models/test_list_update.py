"""`gateway models update`: lists of a file or a URL, what they change, and mistakes, which write nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import prices_of
from gateway.config.loading import load
from gateway.config.model_lists import list_path
from gateway.config.retirements import retiring_targets
from gateway.core.errors import ConfigError
from gateway.core.exchange import Target
from gateway.fake import FakeAnswer, FakeUpstream

CONFIG = """
open: true
upstreams: {openai: {kind: openai, api_key: k}}
models: {chat: {targets: [{upstream: openai, model: gpt-5}]}}
"""
OWN = {
    "date": "2026-12-02",
    "source": "our contract",
    "prices": {"openai": {"gpt-5": [0.5, 4, None], "gpt-9": [1, 2, 0.1]}},
    "sources": {"openai": "https://example.org"},
    "retirements": {"openai": {"gpt-5": ["2027-02-01", "gpt-9"]}},
}
LITELLM = {
    "sample_spec": {"litellm_provider": "one of …", "input_cost_per_token": 0},
    "gpt-5": {
        "litellm_provider": "openai", "input_cost_per_token": 5e-07, "output_cost_per_token": 4e-06,
        "cache_read_input_token_cost": 5e-08, "deprecation_date": "2027-02-01",
    },
    "xai/grok-9": {"litellm_provider": "xai", "input_cost_per_token": 2e-06, "output_cost_per_token": 6e-06},
}  # fmt: skip


@pytest.fixture
def update(tmp_path: Path) -> Any:
    """Runs the verb on a source, which is JSON or the text of a file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)

    def run(source: Any, *words: str) -> Any:
        (tmp_path / "new.json").write_text(source if isinstance(source, str) else json.dumps(source))
        return CliRunner().invoke(app, ["models", "update", str(tmp_path / "new.json"), "--config", str(path), *words])

    run.path = path  # type: ignore[attr-defined]
    return run


def test_a_dry_run_prints_the_differences_and_writes_nothing(update: Any) -> None:
    done = update(OWN, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "* openai/gpt-5: 1.25 in, 10 out, cached 0.125 → 0.5 in, 4 out" in done.stdout
    assert "  openai/gpt-9: not listed → 1 in, 2 out, cached 0.1" in done.stdout
    assert "→ retires 2027-02-01, then gpt-9" in done.stdout
    assert not list_path(update.path, "prices").exists()


@pytest.mark.parametrize("source", [OWN, LITELLM], ids=["own", "litellm"])
def test_the_lists_hold_for_prices_and_retirements(update: Any, source: Any) -> None:
    """Kinds that the list does not have keep the prices that ship, and a second update finds nothing to change."""
    before = load(update.path)
    assert update(source).exit_code == 0
    config = load(update.path)
    price = prices_of(config).of(Target("openai", "gpt-5"))
    assert price is not None
    assert (price.input, price.output) == (0.5, 4.0)
    [retiring] = retiring_targets(config)
    assert retiring.retirement.day.isoformat() == "2027-02-01"
    assert config.lists.prices_of("anthropic") == before.lists.prices_of("anthropic") != {}
    assert config.digest != before.digest, "a running gateway sees another config"
    assert list_path(update.path, "prices") in config.secret_files
    assert " 0 of " in update(source).stdout


def test_the_prices_of_the_config_win(update: Any) -> None:
    update.path.write_text(CONFIG + "prices: {as_of: 2026-11-01, models: {openai/gpt-5: {input: 9, output: 9}}}\n")
    assert update(OWN).exit_code == 0
    price = prices_of(load(update.path)).of(Target("openai", "gpt-5"))
    assert price is not None
    assert price.input == 9


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("<html>", "not a JSON object; expected the form of docs/operations.md"),
        ({"models": []}, "neither `prices` nor `retirements`"),
        ({**OWN, "date": "yesterday"}, "date: expected the day of the list"),
        ({"prices": OWN["prices"]}, "date: expected the day of the list, such as 2026-11-26; got None"),
        ({**OWN, "prices": {"openai": {"gpt-5": [1]}}}, "prices.openai.gpt-5: expected [input, output, cached"),
        ({**OWN, "prices": {"openai": {"gpt-5": [-1, 1, None]}}}, "prices.openai.gpt-5: expected"),
        ({**OWN, "prices": {"openai": {"gpt-5": [1e9, 1, None]}}}, "USD per million tokens; got [1000000000.0"),
        ({**OWN, "prices": {"openai": {"gpt-5": [True, 1, None]}}}, "prices.openai.gpt-5: expected"),
        ({**OWN, "prices": []}, "prices: expected an object of kinds of upstreams"),
        ({**OWN, "prices": {"openai": 3}}, "prices.openai: expected an object of models"),
        ({**OWN, "retirements": {"openai": {"gpt-5": ["soon", None]}}}, 'such as ["2027-01-14", null]; got'),
        ({**OWN, "retirements": {"openai": {"gpt-5": "2027"}}}, "retirements.openai.gpt-5: expected [day, successor"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(update: Any, source: Any, says: str) -> None:
    done = update(source)
    assert done.exit_code != 0
    assert says in str(done.exception) + done.output
    assert not list_path(update.path, "prices").exists()
    assert not list_path(update.path, "retirements").exists()


def test_an_older_list_is_named_as_such(update: Any) -> None:
    assert "the new one of 2020-01-01, which is older" in update({**OWN, "date": "2020-01-01"}, "--dry-run").stdout


def test_a_file_that_was_broken_by_hand_is_a_mistake_of_the_config(update: Any) -> None:
    assert update(OWN).exit_code == 0
    list_path(update.path, "prices").write_text("{}")
    with pytest.raises(ConfigError, match=r"gateway.prices.json: prices: expected .* repair it"):
        load(update.path)


async def test_a_list_of_a_url_is_fetched_once(update: Any) -> None:
    """Another status than 200, and a server that is away, are errors."""
    async with FakeUpstream() as server:
        server.replies(lambda received: FakeAnswer(json.dumps(OWN).encode()))
        url = f"{server.origin}/prices.json"
        words = ["models", "update", url, "--config", str(update.path)]
        assert (await asyncio.to_thread(CliRunner().invoke, app, words)).exit_code == 0
        assert [call.path for call in server.calls] == ["/prices.json"]
        server.replies(lambda received: FakeAnswer(b"gone", status=404))
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert "HTTP 404" in str(done.exception) + done.output
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert "cannot be reached" in str(done.exception) + done.output
