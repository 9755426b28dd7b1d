"""`gateway models probe` as a user runs it, and its rounds on `gateway models`."""

from __future__ import annotations

import asyncio
from typing import Any

import yaml
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.fake import FakeUpstream
from gateway.features.models.report import models_in_use, to_dict
from gateway.store.query import reading
from tests.features.models.probes.conftest import QUESTIONS, Speaker


async def test_the_verb_names_the_price_asks_and_compares(deployed: Any) -> None:
    """Exit code 1 once a model changed."""
    async with FakeUpstream() as east:
        of = await deployed({"east": east})

        def run(*words: str) -> Any:
            return CliRunner().invoke(app, ["models", "probe", *words, "--config", str(of.path)])

        east.replies(Speaker("old"))
        dry = await asyncio.to_thread(run, "--dry-run")
        assert "probes ask 1 target every 24h, 24 calls each: at most" in dry.output, dry.output
        assert east.calls == []
        for _ in range(6):
            done = await asyncio.to_thread(run, "--json")
            assert done.exit_code == 0, done.output
        [output] = conforms("models probe", done.stdout)
        assert (output["result"], output["calls"]) == ("same", 4 * len(QUESTIONS))
        assert "at most" in done.stderr
        east.replies(Speaker("new"))
        assert (await asyncio.to_thread(run)).exit_code == 0
        changed = await asyncio.to_thread(run)
        assert changed.exit_code == 1
        assert "east/m" in changed.stdout
    with reading(of.config.store.url) as connection:
        found = models_in_use(connection, of.config, of.clock[0])
    assert to_dict(found)["models"] == [], "no traffic"


def test_without_probes_the_verb_says_what_to_set(tmp_path: Any) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "open": True,
                "upstreams": {"a": {"kind": "fake"}},
                "models": {"m": {"targets": [{"upstream": "a", "model": "m"}]}},
            }
        )
    )
    done = CliRunner().invoke(app, ["models", "probe", "--config", str(path)])
    assert done.exit_code != 0
    assert "watch: {probes: packaged}" in str(done.exception) + done.output
