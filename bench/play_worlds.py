"""Plays the product's verdicts in worlds of traffic: how often they err, and how often they answer.

Each row is one world with its own bound; its runs have fixed seeds. A row that FILE already holds with as many runs is
not played again, so a run that was stopped goes on where it was. Exit status 1: a bound is missed.

    python bench/play_worlds.py --results worlds.jsonl                  every row, 2 000 runs
    python bench/play_worlds.py --runs 100 --row "8 users" --rules 3    some rows, fewer runs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from worlds import answers, harm, segments, sequences, served, splits, verdicts
from worlds.rows import Row, Run

ROWS: list[Row] = [
    *verdicts.ROWS, *splits.ROWS, *segments.ROWS, *sequences.ROWS, *served.ROWS, *answers.ROWS, *harm.ROWS,
]  # fmt: skip
BEFORE = 5  # as many times fewer runs by the rules before, which no bound is for
CHUNK = 20  # runs of one task of a process


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of one row with one version of the rules. size: median of what an event took."""

    name: str
    event: str
    rules: int
    runs: int
    events: int
    size: float | None
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.events / self.runs


def main() -> int:
    options = _options()
    rows = [row for row in ROWS if not options.row or any(text in row.name for text in options.row)]
    done = {(r.name, r.event, r.rules): r for r in _stored(options.results)}
    with ProcessPoolExecutor(options.jobs) as pool:
        for at, row in enumerate(rows):
            for rules in row.rules if not options.rules else [r for r in row.rules if r in options.rules]:
                runs, key = _runs(row, rules, options.runs), (row.name, row.event, rules)
                if key in done and done[key].runs >= runs:
                    continue
                _progress(f"{at + 1} of {len(rows)}: {row.name}, {row.event}, rules {rules}")
                done[key] = _played(pool, row, rules, runs)
                _store(options.results, done[key])
    _progress("")
    missed = list(_table([row for row in rows if row.group != answers.GROUP], done))
    _answers(rows, done)
    return 1 if missed else 0


def _runs(row: Row, rules: int, most: int) -> int:
    runs = min(most, row.runs)
    return runs if rules == max(row.rules) else max(1, runs // BEFORE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000, metavar="N", help="of each row, at most (2000)")
    parser.add_argument("--row", action="append", default=[], metavar="TEXT", help="rows whose name has it; repeatable")
    parser.add_argument("--rules", type=int, action="append", default=[], choices=(2, 3), help="repeatable (both)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines: read first, and added to")
    return parser.parse_args()


def _played(pool: ProcessPoolExecutor, row: Row, rules: int, runs: int) -> Result:
    chunks = [range(first, min(first + CHUNK, runs)) for first in range(0, runs, CHUNK)]
    played, cpu_s = list[Run](), 0.0
    for found, took in pool.map(partial(_chunk, ROWS.index(row), rules), chunks):
        played += found
        cpu_s += took
    events = [run.size for run in played if run.event]
    size = statistics.median(events) if events else None
    return Result(row.name, row.event, rules, len(played), len(events), size, round(cpu_s, 1))


def _chunk(index: int, rules: int, seeds: Iterable[int]) -> tuple[list[Run], float]:
    began = time.process_time()
    return [ROWS[index].play(seed, rules) for seed in seeds], time.process_time() - began


def _stored(path: Path | None) -> Iterator[Result]:
    if path is not None and path.exists():
        for line in path.read_text().splitlines():
            yield Result(**json.loads(line))


def _store(path: Path | None, result: Result) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def _table(rows: Iterable[Row], done: dict[tuple[str, str, int], Result]) -> Iterator[Row]:
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


def _answers(rows: Iterable[Row], done: dict[tuple[str, str, int], Result]) -> None:
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
