"""`gateway models` as a user runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Target, Usage
from gateway.core.usage import UsageCell, UsageSums
from gateway.store import engine
from gateway.store.tables import usage

CONFIG = """
upstreams: {east: {kind: openai, api_key: k}, west: {kind: openai, api_key: k}}
models:
  chat: {targets: [{upstream: east, model: gpt-5, retires: 2027-01-14}, {upstream: west, model: gpt-5}]}
"""


@pytest.fixture
def models(keep: Callable[..., str], exchange: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the verb on a store with 30 sessions, whose calls alternate between two targets without a cached token."""
    now = time.time()
    made = [
        exchange(
            "1",
            received=now - 3600 + 20 * turn + session / 100,
            target=Target("east" if turn % 2 else "west", "gpt-5"),
            cluster=f"session {session}",
            usage=Usage(4000, 10, 0),
        )
        for session in range(30)
        for turn in range(4)
    ]
    url = keep(made)
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    with engine.writer(url).begin() as connection:
        for upstream in ("east", "west"):
            cell = UsageCell(day, "k1", "app", "", "", "", "chat", upstream, "gpt-5", "", "", "")
            sums = UsageSums(60, input_tokens=240_000, cached_input_tokens=60_000, nano_usd=10**9)
            connection.execute(usage.insert().values(incarnation="i", **cell._asdict(), **sums._asdict()))
    (tmp_path / "gateway.yaml").write_text(f"open: true\nstore: {{url: '{url}'}}\n{CONFIG}")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["models", *words, "--config", str(tmp_path / "gateway.yaml")])

    return run


def test_models_are_shown_with_their_cache(models: Callable[..., Any]) -> None:
    done = models()
    assert done.exit_code == 0, done.output
    for shown in ("2 models in use; nothing changed", "east/gpt-5", "2027-01-14", "25.0", "strategy: session"):
        assert shown in done.stdout, done.stdout
    found = conforms("models", models("--json").stdout)
    assert [line["cached_share"] for line in found["models"]] == [0.25, 0.25]
    assert found["models"][0]["saved_usd"] > 0
    [spread] = found["spread"]
    assert (spread["alias"], spread["calls"], spread["moved"], spread["at_most"]) == ("chat", 90, 90, True)
    assert found["keys"] == [{"key": "app", "input_tokens": 480_000, "cached_share": 0.25}]
