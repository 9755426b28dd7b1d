"""`gateway score` as a user runs it: a judge behind a gateway of its own, stopped and run again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from fixtures.program_command import gateway_command

from gateway.config.loading import load
from gateway.config.scorers import ScorerConfig
from gateway.consumer.backfill import BackfillProgress, ScoreRequest, score_stored
from gateway.core.errors import ConfigError
from gateway.fake import FakeUpstream
from gateway.features.gateway_choice import GatewayLocation
from gateway.scoring.budget import ledger_key_at
from gateway.scoring.registry import build
from gateway.store.query import ExchangeFilter, reading
from gateway.store.where import parse
from gateway.stream import Corridor

EVERYTHING = ExchangeFilter(0)
VERDICT = '{"reason": "fine", "score": 5}'


@pytest.fixture
async def judge():
    """A double that gives every question the same verdict."""
    async with FakeUpstream() as upstream:
        upstream.replies(lambda asked: VERDICT)
        yield upstream


@pytest.fixture
def folder(tmp_path, judge, keep, exchange):
    """A store of ten calls, scored by `stated`, and a config that has two scorers more."""
    config = {
        "open": True,
        "upstreams": {"j": {"kind": "fake", "base_url": judge.base_url}},
        "models": {"referee": {"targets": [{"upstream": "j", "model": "m"}]}},
        "prices": {"as_of": "2026-11-01", "models": {"m": {"input": 1, "output": 4}}},
        "store": {"url": keep([exchange(str(i / 10)) for i in range(10)])},
        "scorers": {
            "helpful": {"use": "judge", "model": "referee", "criterion": "It is right."},
            "size": {"use": "length"},
            "apart": {"use": "edit_distance"},
        },
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


async def program(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *gateway_command("score", *arguments), cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


async def ran(folder: Path, *names: str, filter: ExchangeFilter = EVERYTHING) -> BackfillProgress:
    """The same, in this process."""
    config = load(folder / "gateway.yaml")
    place = GatewayLocation(folder / "gateway.yaml", config, folder / "data", config.upstreams["j"].base_url)
    return await score_stored(ScoreRequest(names, filter), place, lambda _: None, lambda _: None)


def sql(folder, query):
    with reading(load(folder / "gateway.yaml").store.url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


async def test_it_scores_what_is_stored_and_continues_after_sigint(folder, judge):
    busy = asyncio.Event()

    def reply(asked):
        busy.set()
        return VERDICT

    judge.replies(reply)
    process = await program(folder, "--scorers", "helpful,size", "--gateway", judge.base_url)
    async with asyncio.timeout(100):
        await busy.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode in (0, 1), err  # 0: everything was in progress already
    assert judge.calls

    assert (await ran(folder, "helpful", "size")).complete
    assert len(judge.calls) == 10  # each call judged once over both runs
    assert sql(folder, "SELECT scorer, status, count(*) FROM scores GROUP BY 1, 2 ORDER BY 1") == [
        ("helpful", "scored", 10), ("size", "scored", 10), ("stated", "scored", 10),
    ]  # fmt: skip
    expected = build({"size": ScorerConfig(use="length")})["size"]
    assert sql(folder, "SELECT DISTINCT version, config_hash FROM scores WHERE scorer='size'") == [
        (expected.scorer.version, expected.config_hash)
    ]


async def test_a_budget_is_the_one_that_all_consumers_share(folder, stream_url, stream_name):
    """The stream server knows what was spent today."""
    config = yaml.safe_load((folder / "gateway.yaml").read_text())
    config["stream"] = {"url": stream_url, "name": stream_name}
    config["scorers"]["helpful"]["budget_usd"] = 5
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    corridor = Corridor.of(load(folder / "gateway.yaml").stream, stream_url)
    await corridor.state.add(ledger_key_at(time.time()), {"helpful:usd": 5.0, "helpful:tokens": 1.0}, 60)
    await corridor.aclose()
    done = await ran(folder, "helpful", "size")
    assert done.set_aside == {"helpful": "budget_usd: 5 of today's 5 USD are spent"}
    assert done.stored == {("size", "scored"): 10}


async def test_a_pair_scorer_is_refused(folder):
    with pytest.raises(ConfigError, match="compares the two answers of a pair, which only an experiment has"):
        await ran(folder, "apart")


async def test_a_scorer_of_runs_is_refused(folder):
    config = yaml.safe_load((folder / "gateway.yaml").read_text())
    config["scorers"]["run_loops"] = {}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="run_loops: scores whole runs, which `gateway evaluate` does once they are"):
        await ran(folder, "run_loops")


async def test_filters_choose_the_calls(folder):
    few = await ran(folder, "size", filter=ExchangeFilter(3, where=parse("scorer=stated value<0.5")))
    assert (few.done, few.total, few.stored) == (3, 3, {("size", "scored"): 3})
    rest = await ran(folder, "size", filter=ExchangeFilter(0, since=time.time() - 86400))
    assert rest.stored == {("size", "scored"): 7}
