"""`gateway samples --run`: one run as a timeline of its calls, for terminals and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.errors import CannotRun
from gateway.core.exchange import Target
from gateway.features.calls.samples import outcome_text, score_table
from gateway.features.runs.live import RunCeilingUse
from gateway.features.runs.rows import RunFilter, full_run, list_runs, runs_named
from gateway.reports.number_format import counted
from gateway.reports.terminal import plain_table, safe_text
from gateway.store.query import Found, reading

_CEILING_TITLES = ("run", "ceiling", "used", "of", "", "an hour", "since")
_SHOWN = 60  # characters of the arguments of a tool call


def newest_runs(url: str) -> list[Found]:
    """The newest recorded runs, with sums over their calls."""
    with reading(url) as connection:
        return [*list_runs(connection, RunFilter()).runs]


def runs_table(found: Sequence[Found]) -> RenderableType:
    drawn = plain_table(("run", "key", "calls", "failed", "USD"), right=("calls", "failed", "USD"))
    for run in found:
        usd = "–" if run.get("cost_usd") is None else f"{run['cost_usd']:.4f}"
        drawn.add_row(
            safe_text(run["run"] or run["run_id"]), run["caller"], str(run["calls_n"]), str(run["failed"]), usd
        )
    return drawn if found else Text("no run is recorded")


def ceilings_table(uses: Sequence[RunCeilingUse], now: float) -> RenderableType:
    """The ceilings of live runs, with a bar each."""
    if not uses:
        return Text("no run with a ceiling had a call in the last day")
    drawn = plain_table(_CEILING_TITLES, right=("used", "of", "an hour"))
    for use in uses:
        filled = round(10 * min(1.0, use.share))
        amounts = (f"{use.spent + use.reserved:.6g}", f"{use.amount:.6g}")
        bar = "█" * filled + "░" * (10 - filled)
        since = datetime.fromtimestamp(use.began, UTC).strftime("%H:%M")
        name = safe_text(use.run or use.run_id)
        drawn.add_row(name, use.ceiling, *amounts, bar, f"{use.per_hour(now):.4g}", since)
    return drawn


def ceilings_as_json(uses: Sequence[RunCeilingUse], now: float) -> list[dict[str, Any]]:
    return [{**asdict(use), "per_hour": use.per_hour(now)} for use in uses]


def find_runs(url: str, name: str) -> list[Found]:
    """The runs with this id, ours or the client's, with their calls. Raises CannotRun where there is none."""
    with reading(url) as connection:
        found = [full_run(connection, run_id) for run_id in runs_named(connection, name)]
    runs = [readable_run(run) for run in found if run is not None]
    if not runs:
        raise CannotRun(
            f"no run {name} in the store: no call named it (x-gateway-run, metadata.run_id, a coding agent's session, "
            "a conversation), or none of its calls was sampled or is stored yet"
        )
    return runs


def readable_run(run: Found) -> Found:
    """The run, whose tool calls have the `time` for which they are made."""
    return {**run, "calls": [_repeats(call, seen) for call, seen in _tool_calls_before(run["calls"])]}


def _tool_calls_before(calls: Sequence[Found]) -> Iterator[tuple[Found, Counter[tuple[str, str]]]]:
    """Yields each call, with the number of tool calls that the run had made before it."""
    seen: Counter[tuple[str, str]] = Counter()
    for call in calls:
        yield call, seen
        seen.update(tool_key(each) for each in call["tool_calls"])


def tool_key(call: Mapping[str, Any]) -> tuple[str, str]:
    """A tool with its arguments, in one form."""
    try:
        arguments = orjson.dumps(orjson.loads(call["arguments"]), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call["arguments"]
    return call["name"], arguments


def _repeats(call: Found, seen: Mapping[tuple[str, str], int]) -> Found:
    """The call, in which each tool call has its `time`: 1 where the run makes it for the first time."""
    tools = [{**each, "time": seen.get(tool_key(each), 0) + 1} for each in call["tool_calls"]]
    return {**call, "tool_calls": tools}


def first_failure(run: Found) -> Found | None:
    """The first call that failed; None if none did."""
    return next((call for call in run["calls"] if call["failed"]), None)


def to_terminal(run: Found) -> RenderableType:
    scores = [score_table(run["scores"], "scorer of the run")] if run["scores"] else []
    return Group(*_head(run), _timeline(run["calls"]), *scores)


def _head(run: Found) -> Iterator[RenderableType]:
    named = f"{run['run'] or run['run_id']} (by {run['run_source']})"
    arm = f", arm {run['arm']}" if run["arm"] else ""
    yield safe_text(f"run {named}, {run['run_id']}, by {run['caller']}{arm}", "bold")
    cost = "" if run["cost_usd"] is None else f", ${run['cost_usd']:.4g}"
    seconds = run["ended"] - run["began"]
    calls = counted(run["calls_n"], "call")
    yield safe_text(f"{calls} in {seconds:.3g} s, {run['tokens'] or 0} tokens{cost}, {run['failed']} failed")
    failed = first_failure(run)
    if failed is not None:
        why = f": {failed['error']}" if failed["error"] else ""
        yield safe_text(f"first failure: {failed['id']}, {outcome_text(failed)}{why}", "red")


def _timeline(calls: Sequence[Found]) -> Table:
    figures = ("tokens", "cost", "total")
    drawn = plain_table(("time", "id", "target", "outcome", *figures, "tools called", "scores"), right=figures)
    for call in calls:
        cells = (
            f"{datetime.fromtimestamp(call['received']).astimezone():%m-%d %H:%M:%S}",
            call["id"],
            str(Target(call["upstream"], call["model"], call["variant"] or "")),
            outcome_text(call),
            "–" if call["tokens"] is None else f"{call['input_tokens']}+{call['output_tokens']}",
            "–" if call["cost_usd"] is None else f"${call['cost_usd']:.3g}",
            f"{call['total_s']:.3f} s",
            ", ".join(map(_tool, call["tool_calls"])),
            ", ".join(f"{s['scorer']} {s['value']:.3g}" for s in call["scores"] if s["value"] is not None),
        )
        drawn.add_row(*map(safe_text, cells))
    return drawn


def _tool(call: Mapping[str, Any]) -> str:
    arguments = call["arguments"]
    shown = arguments if len(arguments) <= _SHOWN else f"{arguments[: _SHOWN - 1]}…"
    again = f" (time {call['time']})" if call["time"] > 1 else ""
    return f"{call['name']}({shown}){again}"
