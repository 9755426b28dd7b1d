"""A judge that is always right, and what the consumer makes of it with the learned predictor, on the real records."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import yaml

from gateway.config.stream import StreamConfig
from gateway.core.exchange import Count, Exchange, Tally
from gateway.core.score import Bounds, Direction, Kind, Score
from gateway.runtime.embedded_socket import stream_url
from gateway.scoring.types import Golden, Subject
from gateway.stream import Corridor

sys.path.insert(0, str(Path(__file__).parent))
from learned_tasks import task

SHARE = 0.2
_TRAINED_S = 180.0  # until there is a model
_FOLLOWED_S = 20.0  # until the consumer uses it
_SHOWN = r"^(gateway_eval_score_mean(?:_low|_high)?)\{[^}]*\} (\S+)$"


@dataclass(frozen=True, slots=True)
class RuleJudge:
    """A scorer for `use: learned_judge:RuleJudge`."""

    name: str
    version: str = "1"
    kind: Kind = "llm"
    direction: Direction = "maximise"
    bounds: Bounds = (0.0, 1.0)
    heavy: bool = False

    async def score(self, subject: Subject) -> Score:
        number = int(subject.request["metadata"]["task"])
        return Score(task(number).rule(subject.completion.text), None, "by its rule")

    def golden(self) -> tuple[Golden, ...]:
        return ()


def config() -> str:
    return yaml.safe_dump(
        {
            "open": True,
            "upstreams": {"local": {"kind": "llamacpp", "base_url": "http://127.0.0.1:9/v1"}},
            "models": {"chat": {"targets": [{"upstream": "local", "model": "smollm2"}]}},
            "scorers": {"truth": {"use": "learned_judge:RuleJudge", "share": SHARE}},
            "predictor": {"target": "truth", "min_rows": 100, "retrain_s": 5},
        }
    )


@contextmanager
def consuming(folder: Path, port: int) -> Iterator[None]:
    """A `gateway evaluate`, whose metrics are on this port."""
    (folder / "gateway.yaml").write_text(config())
    here = Path(__file__).parent
    environ = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"}
    command = [sys.executable, "-m", "gateway", "evaluate", "--metrics-port", str(port)]
    with (folder / "evaluate.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            yield
        finally:
            running.terminate()
            running.wait(60)


async def send(corridor: Corridor, sent: Sequence[Exchange]) -> None:
    """Sends exchanges, and waits until all are scored and stored."""
    for at in range(0, len(sent), 50):
        await corridor.append([each.to_fields() for each in sent[at : at + 50]])
    last = sent[-1]
    cell = (Count(last.stratum, last.alias, str(last.target), "", last.seq),)
    tally = Tally(last.incarnation, time.time(), last.seq, seen=cell, sampled=cell, enqueued=cell)
    await corridor.append([tally.to_fields()])
    while (lag := await corridor.lag()).waiting or lag.pending:
        await asyncio.sleep(0.5)


async def feed(folder: Path, exchanges: Sequence[Exchange]) -> None:
    """The first half; then, once a model of it is in use, the second."""
    corridor = Corridor.of(StreamConfig(), stream_url(None, folder / ".gateway"))
    half = len(exchanges) // 2
    await send(corridor, exchanges[:half])
    until = time.monotonic() + _TRAINED_S
    while not rows(folder, "SELECT count(*) FROM predictor_models")[0][0] and time.monotonic() < until:
        await asyncio.sleep(1.0)
    await asyncio.sleep(_FOLLOWED_S)
    await send(corridor, exchanges[half:])
    await corridor.aclose()


def rows(folder: Path, sql: str) -> list[tuple[float, ...]]:
    with closing(sqlite3.connect(f"file:{folder / '.gateway' / 'gateway.db'}?mode=ro", uri=True, timeout=60)) as store:
        return store.execute(sql).fetchall()


def consumed(exchanges: Sequence[Exchange]) -> str:
    """The mean that the consumer shows, and what was judged for it."""
    with TemporaryDirectory() as made, socket.socket() as probe:
        folder = Path(made)
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        first = time.time() - 2.0 * len(exchanges)
        sent = [
            replace(each, incarnation="g1", seq=at + 1, received=first + 2.0 * at) for at, each in enumerate(exchanges)
        ]
        with consuming(folder, port):
            until = time.monotonic() + 120.0
            while not (folder / ".gateway" / "stream.sock").exists() and time.monotonic() < until:
                time.sleep(0.5)
            asyncio.run(feed(folder, sent))
            time.sleep(5.0)  # figures are shown each second
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                shown = dict(re.findall(_SHOWN, answer.read().decode(), re.MULTILINE))
        drawn = "SELECT count(*), sum(judged), avg(pi) FROM predictions GROUP BY version != '' ORDER BY version != ''"
        mean, low, high = (float(shown[f"gateway_eval_score_mean{end}"]) for end in ("", "_low", "_high"))
        parts = "; ".join(f"{judged:.0f} of {n:.0f} judged, mean π {pi:.3f}" for n, judged, pi in rows(folder, drawn))
        return f"the consumer shows {mean:.3f} ({low:.3f} to {high:.3f}): {parts}"
