"""One deployment of a recording: gateway.yaml, a stream, a store, and the consumer's work on them.

What is driven: the verbs of the command line, and `gateway.consumer.serve.opened`, which `gateway evaluate` runs. What
is read: the output of verbs, tables of the store, keys of the stream server, the consumer's metrics.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
import yaml
from golden.stopped_time import Clock, StoppedSleeps
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.loading import load_for_consumer
from gateway.consumer.consumer import ConsumerTiming
from gateway.consumer.serve import opened
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange, Feedback, Tally
from gateway.core.plan import Plan
from gateway.store import engine
from gateway.stream import Corridor

MOST = 100_000
TIMING = ConsumerTiming(block_ms=20, first_count=MOST, count=MOST, most_count=MOST)
"""Everything that waits is one batch, so that sums are made in one order."""
LEASES = (
    *(
        "experiments",
        "guard-ramps",
        "guard hours",
        "routes",
        "notices",
        "webhooks",
        "runs",
        "hour history",
        "events",
        "model hours",
    ),
    *("output tokens", "keeping"),
)
TASKS = ("guards", "guard ramps", "routes", "notices", "webhooks")
"""Work of features, by the names of their tasks."""
TABLES = (
    *("plans", "pairs", "pair_scores", "sequences", "increments", "trails", "withheld", "ramp_events", "guard_hours"),
    *("drift_states", "webhook_deliveries", "score_cells", "feedback", "replays", "labels"),
)
LONG = {"pairs": ("state",), "pair_scores": ("arm", "scorer")}
LONG |= dict.fromkeys(("increments", "trails"), ("candidate", "metric", "identity"))
"""Tables with a row for each pair, of which sums are kept, by these columns."""
HASHES = ("plans", "ramps", "ramp-evidence", "shadows")
FIGURES = re.compile(r"^(gateway_(?:experiment|ramp|guard|route|feedback)\w*(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
EVENTS = re.compile(r"(?<!\d)\d{13}-\d+(?!\d)")
VERSIONS = re.compile(r"""(\bgateway\b"?:?\s*"?)\d+\.\d+\.\d+\w*""")
VOLATILE = {"seconds", "due", "error", "attempts", "ended"}
"""Columns that hold a duration of this run, or how a receiver was reached that does not exist."""
DRAWS = "ab" * 32
"""The secret of draws."""


class World:
    """A deployment in a folder of its own. section: gateway.yaml without its stream and store."""

    def __init__(self, name: str, folder: Path, stream_url: str, clock: Clock, sleeps: StoppedSleeps) -> None:
        self.name, self.folder, self.clock = name, folder / name, clock
        self._sleeps, self._stream_url = sleeps, stream_url
        self._waiting: list[tuple[str, Any]] = []
        self._entry, self._sent = (0, 0), set[str]()
        self.store_url = f"sqlite:///{self.folder}/gateway.db"
        self.folder.mkdir(parents=True)
        template = folder.parent / "template.db"
        if not template.exists():
            engine.writer(f"sqlite:///{template}").dispose()
        shutil.copy(template, self.folder / "gateway.db")

    def configure(self, section: dict[str, Any]) -> None:
        own = {"stream": {"url": self._stream_url, "name": self.name}, "store": {"url": self.store_url}}
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump({**section, **own}, sort_keys=False))

    def begin(self) -> None:
        """Puts a known secret of draws on the stream server."""

        async def put(corridor: Corridor) -> None:
            await corridor.state.set_draw_secret(bytes.fromhex(DRAWS))

        self.on_stream(put)

    def plan(self, experiment: str) -> Plan:
        """The plan in force."""

        async def read(corridor: Corridor) -> Plan:
            return (await corridor.state.plans())[experiment].plan

        found: Plan = self.on_stream(read)
        return found

    def send(self, records: Iterable[Exchange | Tally | Feedback]) -> None:
        """Records that arrive at the present time of the clock; `append` puts them into the stream."""
        self._waiting += [(self._next_entry(), record.to_fields()) for record in records]

    def append(self) -> None:
        entries, self._waiting = self._waiting, []

        async def append(corridor: Corridor) -> None:
            pipe = corridor.client.pipeline(transaction=False)
            for entry, fields in entries:
                pipe.xadd(corridor.key, fields, id=entry)
            await pipe.execute()

        self.on_stream(append)

    def _next_entry(self) -> str:
        ms = int(self.clock.now * 1000)
        self._entry = (ms, self._entry[1] + 1 if ms == self._entry[0] else 0)
        self._sent.add(entry := f"{ms}-{self._entry[1]}")
        return entry

    def heartbeat(self, **report: Any) -> None:
        """The gateway process reports now."""

        async def beat(corridor: Corridor) -> None:
            beats = {"host": "h", "pid": 1, "at": self.clock.now, "started": 0, "version": "1", **report}
            await corridor.state.set_gateway_heartbeat("g1", beats)

        self.on_stream(beat)

    def consume(self) -> None:
        """Scores and stores all records that were sent, and does no work of a feature."""
        self.append()
        asyncio.run(self._consume())

    async def _consume(self) -> None:
        self._hold(LEASES)
        config = load_for_consumer(self.folder / "gateway.yaml")
        corridor = Corridor(self._stream_url, self.name)
        async with (
            opened(config, self.store_url, self._stream_url, CollectorRegistry(), self.folder, TIMING) as consumer,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(consumer.run())
            while await _is_behind(corridor):
                await asyncio.sleep(0.01)
            consumer.stop()
        await corridor.aclose()

    def work(self) -> dict[str, float]:
        """One step of all work of features. Returns the consumer's figures."""
        return asyncio.run(self._work())

    async def _work(self) -> dict[str, float]:
        self._hold(LEASES)
        config, registry = load_for_consumer(self.folder / "gateway.yaml"), CollectorRegistry()
        async with opened(config, self.store_url, self._stream_url, registry, self.folder, TIMING) as consumer:
            await self._sleeps.settled(TASKS)
            self._free("experiments")
            consumer.stop()
            await consumer.run()
            figures = FIGURES.findall(generate_latest(registry).decode())
            self._free("guard hours", "guard-ramps", "routes")
            await self._sleeps.step(TASKS)
            self.clock.forward(20)
            self._free("notices", "webhooks")
            await self._sleeps.step(TASKS)
        return {name: float(value) for name, value in figures if "_created" not in name}

    def _hold(self, leases: Sequence[str]) -> None:
        """Gives leases to somebody else, for as long as a recording lasts."""
        rows = ", ".join(f"('{lease}', 'nobody', 9e9)" for lease in leases)
        self.sql("DELETE FROM leases", f"INSERT INTO leases (name, holder, expires) VALUES {rows}")  # noqa: S608

    def _free(self, *leases: str) -> None:
        self.sql(*(f"DELETE FROM leases WHERE name = '{lease}'" for lease in leases))  # noqa: S608

    def sql(self, *statements: str) -> list[dict[str, Any]]:
        """The rows of the last statement."""
        with closing(sqlite3.connect(self.folder / "gateway.db", timeout=60)) as store, store:
            for statement in statements:
                found = store.execute(statement)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found]

    def verb(self, *words: str) -> dict[str, Any]:
        """Runs a verb in the folder: its exit code, its output (JSON where that was asked for), its notes."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, words)
        finally:
            os.chdir(before)
        found: dict[str, Any] = {"exit": done.exit_code, "out": self._read(done.stdout, words)}
        if notes := self.plain(done.stderr).splitlines():
            found["notes"] = notes
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            found["error"] = self.plain(f"{type(done.exception).__name__}: {done.exception}").splitlines()
        return found

    def _read(self, output: str, words: Sequence[str]) -> Any:
        output = self.plain(output)
        as_object = "--json" in words and output[:1] in ("{", "[")
        return shortened(orjson.loads(output)) if as_object else output.splitlines()

    def plain(self, output: str) -> str:
        """The text without what differs between two runs: paths, ids of ramps' events, the version of the package."""
        output = output.replace(str(self.folder), "FOLDER").replace(self._stream_url, "STREAM")
        output = EVENTS.sub(lambda found: found[0] if found[0] in self._sent else "EVENT", output)
        return VERSIONS.sub(r"\1VERSION", output)

    def page(self, *words: str) -> list[str]:
        """The HTML file that a verb writes, without its styles and scripts."""
        self.verb(*words, "--html", "page.html")
        return html_lines(self.plain((self.folder / "page.html").read_text("utf-8")))

    def state(self) -> dict[str, Any]:
        """Rows of the store and the shared state of the stream server."""
        tables = {name: self._rows(name) for name in TABLES}
        return {"store": {name: rows for name, rows in tables.items() if rows}, "stream": self.on_stream(shared)}

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.sql(f"SELECT * FROM {table}")  # noqa: S608
        kept = ({name: self._plain(value) for name, value in row.items() if name not in VOLATILE} for row in rows)
        rows = [{name: value for name, value in row.items() if value is not None} for row in kept]
        rows.sort(key=lambda row: orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
        return rows if table not in LONG else list(condensed(rows, LONG[table]))

    def _plain(self, value: Any) -> Any:
        return as_json(self.plain(value) if isinstance(value, str) else value)

    def on_stream(self, work: Any) -> Any:
        async def run() -> Any:
            corridor = Corridor(self._stream_url, self.name)
            try:
                return await work(corridor)
            finally:
                await corridor.aclose()

        return asyncio.run(run())


async def shared(corridor: Corridor) -> dict[str, Any]:
    """The hashes of the stream server, and the routes' leaves that were taken back."""
    found: dict[str, Any] = {}
    for name in HASHES:
        hashed = await corridor.client.hgetall(f"{corridor.state.prefix}:{name}")
        if hashed:
            found[name] = {key.decode(): as_json(value.decode()) for key, value in sorted(hashed.items())}
    returned = await corridor.state.recall("route-leaves")
    return found if returned is None else {**found, "route-leaves": as_json(returned)}


def as_json(value: Any) -> Any:
    """The value, read and shortened where it is a JSON object or array."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return shortened(orjson.loads(value))
        except orjson.JSONDecodeError:
            return value
    return value


def condensed(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each group: its number of rows, two sums of each column of numbers, a digest of the other columns,
    and its last row."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in by), []).append(row)
    for members in groups.values():
        sums: dict[str, list[float]] = {}
        others = sha256()
        for n, row in enumerate(members, start=1):
            numbers = {name: value for name, value in row.items() if isinstance(value, float)}
            others.update(orjson.dumps({name: row[name] for name in row if name not in numbers}))
            for name, value in numbers.items():
                first, second = sums.get(name, (0.0, 0.0))
                sums[name] = [first + value, second + n * value]
        yield {"rows": len(members), "sums": sums, "others": others.hexdigest()[:16], "last": members[-1]}


def shortened(value: Any) -> Any:
    """The value, with two sums in place of each long list of numbers or of points."""
    if isinstance(value, dict):
        return {name: shortened(member) for name, member in value.items()}
    if not isinstance(value, list):
        return value
    rows = [row if isinstance(row, list) else [row] for row in value]
    if len(value) < 16 or not all(isinstance(x, int | float) or x is None for row in rows for x in row):
        return [shortened(member) for member in value]
    columns = [[x or 0.0 for x in column] for column in zip_longest(*rows)]
    return {
        "points": len(value),
        "sums": [[sum(c), sum(n * x for n, x in enumerate(c))] for c in columns],
        "last": value[-1],
    }


def html_lines(page: str) -> list[str]:
    """The page in lines, without styles and scripts; of a drawing, its texts and a digest."""
    page = re.sub(r"<(style|script)\b[^>]*>.*?</\1>", r"<\1/>", page, flags=re.DOTALL)
    page = re.sub(r"<svg\b.*?</svg>", lambda found: _drawing(found.group()), page, flags=re.DOTALL)
    return [line.strip() for line in page.replace("><", ">\n<").splitlines() if line.strip()]


def _drawing(svg: str) -> str:
    texts = re.sub(r"\s*<[^>]*>\s*", " | ", svg)
    return f"<svg {sha256(svg.encode()).hexdigest()[:16]}>\n{re.sub(r'( [|])+', ' |', texts)}\n</svg>"


def quiet() -> None:
    """Silences the log of the package, which is not recorded."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)


async def _is_behind(corridor: Corridor) -> bool:
    """Whether records wait; True where the stream server is too late to say."""
    try:
        lag = await corridor.lag()
    except StreamDown:
        return True
    return bool(lag.waiting or lag.pending)
