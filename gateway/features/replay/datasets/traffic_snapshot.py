"""`--from-log`: recorded traffic as a dataset file that can be replayed."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.core.errors import CannotRun
from gateway.core.request_format import offered_tools, stated_reference
from gateway.features.replay.datasets.datasets import DatasetItem, item_of
from gateway.features.replay.rows import LoggedCall, LogSelection, logged
from gateway.scoring.trajectory import tool_results
from gateway.store.query import reading

_REPLACED = re.compile(rb"sha256=[0-9a-f]{64};bytes=\d")  # the placeholder of an image or a file in the store


@dataclass(frozen=True, slots=True)
class FrozenTraffic:
    rows: int
    """The number of questions in the file."""
    left_out: Counter[str]
    """The number of selected exchanges that are not in the file, by reason."""

    def __str__(self) -> str:
        out = ", ".join(f"{n} {why}" for why, n in sorted(self.left_out.items()))
        return f"{self.rows} recorded questions written" + (f"; left out: {out}" if out else "")


def freeze(store: str, wanted: LogSelection, path: Path, replaced: Sequence[str] = ()) -> FrozenTraffic:
    """Writes the served calls of an alias, oldest first, as JSONL. Only the owner may read the file, since it holds
    users' messages. Raises CannotRun, FileExistsError.

    replaced: the texts that redaction writes in place of what it finds. A turn of a run with such a text in a tool's
    result is left out: a target would have to continue from a result that no tool returned.
    """
    redacted = re.compile("|".join(map(re.escape, replaced))) if wanted.runs and replaced else None
    left_out: Counter[str] = Counter()
    with reading(store) as connection:
        found = [
            row for row in (_row(each, left_out, redacted) for each in logged(connection, wanted)) if row is not None
        ]
    if not found:
        since = "" if wanted.since is None else f" since {time.strftime('%F %T', time.localtime(wanted.since))}"
        what = "run" if wanted.runs else "call"
        raise CannotRun(f'the store has no {what} of "{wanted.alias}"{since} to replay{_why(left_out)}')
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(row + b"\n" for row in found)
    return FrozenTraffic(len(found), left_out)


def _row(each: LoggedCall, left_out: Counter[str], redacted: re.Pattern[str] | None) -> bytes | None:
    if _REPLACED.search(each.request):
        left_out["with images or files, which the store does not hold"] += 1
        return None
    if redacted is not None and any(redacted.search(result) for result in tool_results(each.request)):
        left_out["with a redacted result of a tool"] += 1
        return None
    try:
        return orjson.dumps(
            {**orjson.loads(_item(each, redacted).canonical()), "id": each.id}, option=orjson.OPT_SORT_KEYS
        )
    except ValueError:  # content: metadata, a body cut at its cap, an API that is not replayed
        left_out["whose questions the store does not hold"] += 1
        return None


def _item(each: LoggedCall, redacted: re.Pattern[str] | None) -> DatasetItem:
    """Raises ValueError."""
    request = orjson.loads(each.request)
    row: dict[str, Any] = {"api": each.api, "request": request, "cluster": each.cluster}
    row["expected_calls"] = _recorded_calls(each, request, redacted)
    return item_of({**row, "reference": _right_answer(each, request)}, 1).item


def _recorded_calls(each: LoggedCall, request: Any, redacted: re.Pattern[str] | None) -> str | None:
    """The calls that a turn of a run made; None where no tool was offered, or where redaction has changed them."""
    offered = isinstance(request, dict) and offered_tools(request)
    if each.tool_calls is None or not offered or (redacted is not None and redacted.search(each.tool_calls)):
        return None
    calls = [{"name": call["name"], "arguments": call["arguments"]} for call in orjson.loads(each.tool_calls)]
    return orjson.dumps(calls).decode()


def _right_answer(each: LoggedCall, request: Any) -> str | None:
    """A person's correction; else the reference that came with the call."""
    if each.correction is not None:
        return each.correction
    return each.reference or (stated_reference(request) if isinstance(request, dict) else None)


def _why(left_out: Counter[str]) -> str:
    reasons = ", ".join(f"{n} {why}" for why, n in sorted(left_out.items()))
    return f" ({reasons})" if reasons else ""
