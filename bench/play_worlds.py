"""Plays the product's verdicts in worlds of traffic: how often they err, and how often they answer.

Each row is one world with its own bound. The seed of a run depends on its row and its number alone. Runs that FILE
already holds are not played again, so a program that was stopped goes on where it was. Exit status 1: one misses its
bound.

    python bench/play_worlds.py --results worlds.jsonl                  every row, 2 000 runs
    python bench/play_worlds.py --runs 100 --row "8 users" --rules 3    some rows, fewer runs
    python bench/play_worlds.py --runs 0 --results worlds.jsonl         the table of the runs in FILE
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from worlds import answers, best, harm, segments, sequences, served, splits, verdicts
from worlds.rows import Row

ROWS: list[Row] = [
    *verdicts.ROWS, *splits.ROWS, *segments.ROWS, *sequences.ROWS, *served.ROWS, *best.ROWS, *answers.ROWS,
    *harm.ROWS,
]  # fmt: skip
BEFORE = 5  # as many times fewer runs by the rules before, which no bound is for
CHUNK = 20  # runs of one task of a process, stored together
Key = tuple[str, str, int]
"""(name, event, rules) of the runs of one row."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive runs of one row with one version of the rules. sizes: of the runs with an event."""

    name: str
    event: str
    rules: int
    first: int
    runs: int
    sizes: list[float]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of one row with one version of the rules. size: median of what an event took."""

    runs: int
    events: int
    size: float | None

    @property
    def rate(self) -> float:
        return self.events / self.runs


def main() -> int:
    options = _options()
    rows = [row for row in ROWS if not options.row or any(text in row.name for text in options.row)]
    chunks = list(_stored(options.results))
    with ProcessPoolExecutor(options.jobs) as pool:
        for at, row in enumerate(rows):
            for rules in row.rules if not options.rules else [r for r in row.rules if r in options.rules]:
                _progress(f"{at + 1} of {len(rows)}: {row.name}, {row.event}, rules {rules}")
                chunks += _played(pool, row, rules, _missing(row, rules, options.runs, chunks), options.results)
    _progress("")
    done = _results(chunks)
    missed = list(_table([row for row in rows if row.group != answers.GROUP], done))
    _answers(rows, done)
    return 1 if missed else 0


def _missing(row: Row, rules: int, most: int, chunks: Iterable[Chunk]) -> list[range]:
    """The chunks of a row that are yet to be played."""
    runs = min(most, row.runs)
    runs = runs if rules == max(row.rules) else runs // BEFORE
    key = (row.name, row.event, rules)
    done = {chunk.first for chunk in chunks if (chunk.name, chunk.event, chunk.rules) == key}
    return [range(first, first + CHUNK) for first in range(0, runs, CHUNK) if first not in done]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000, metavar="N", help="of each row, at most (2000)")
    parser.add_argument("--row", action="append", default=[], metavar="TEXT", help="rows whose name has it; repeatable")
    parser.add_argument("--rules", type=int, action="append", default=[], choices=(2, 3), help="repeatable (both)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines: read first, and added to")
    return parser.parse_args()


def _played(
    pool: ProcessPoolExecutor, row: Row, rules: int, missing: Iterable[range], path: Path | None
) -> Iterator[Chunk]:
    for chunk in pool.map(partial(_chunk, ROWS.index(row), rules), missing):
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(asdict(chunk)) + "\n")
        yield chunk


def _chunk(index: int, rules: int, numbers: range) -> Chunk:
    row, began = ROWS[index], time.process_time()
    sizes = [run.size for run in (row.run(number, rules) for number in numbers) if run.event]
    took = round(time.process_time() - began, 2)
    return Chunk(row.name, row.event, rules, numbers.start, len(numbers), sizes, took)


def _stored(path: Path | None) -> Iterator[Chunk]:
    if path is not None and path.exists():
        for line in path.read_text().splitlines():
            yield Chunk(**json.loads(line))


def _results(chunks: Iterable[Chunk]) -> dict[Key, Result]:
    played = defaultdict[Key, list[Chunk]](list)
    for chunk in chunks:
        played[chunk.name, chunk.event, chunk.rules].append(chunk)
    return {key: _result(of_row) for key, of_row in played.items()}


def _result(chunks: Iterable[Chunk]) -> Result:
    runs, sizes = 0, list[float]()
    for chunk in chunks:
        runs += chunk.runs
        sizes += chunk.sizes
    return Result(runs, len(sizes), statistics.median(sizes) if sizes else None)


def _table(rows: Iterable[Row], done: Mapping[Key, Result]) -> Iterator[Row]:
    """Prints the table. Returns the rows whose bound is missed with the newest rules."""
    _say("| world | counted | rules 2 | rules 3 | bound | median pairs | runs | |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        before, now = (done.get((row.name, row.event, rules)) for rules in (2, 3))
        ok = now is None or row.allows(now.rate, now.runs)
        bound = "" if row.side == "measured" else f"{row.side} {row.bound:g}"
        size = "" if now is None or now.size is None else f"{now.size:.0f}"
        runs = f"{now.runs}" if now else ""
        _say(f"| {row.name} | {row.event} | {_rate(before)} | {_rate(now)} | {bound} | {size} | {runs} | "
             f"{'' if ok else 'missed'} |")  # fmt: skip
        if not ok:
            yield row


def _answers(rows: Iterable[Row], done: Mapping[Key, Result]) -> None:
    found = {row.name: done.get((row.name, row.event, 3)) for row in rows if row.group == answers.GROUP}
    known = {name: (result.rate, result.size) for name, result in found.items() if result is not None}
    if known:
        _say("\n" + "\n".join(answers.answer_table(known)))


def _rate(result: Result | None) -> str:
    return "" if result is None else f"{result.rate:.3f}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
