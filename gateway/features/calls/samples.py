"""`gateway samples`: recorded exchanges with their scores, as a list or one at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.core.conversation import turns
from gateway.core.errors import CannotRun
from gateway.core.exchange import IMPORTED, Target
from gateway.reports.terminal import plain_table, safe_text
from gateway.store.engine import StoreUnavailable
from gateway.store.query import ExchangeFilter, Found, full_exchange, list_exchanges, reading, right_answer

_POLL_S = 0.1


def list_of(url: str, filter: ExchangeFilter) -> list[Found]:
    """The newest exchanges. Raises QueryError, StoreUnavailable."""
    with reading(url) as connection:
        return [readable(each) for each in list_exchanges(connection, filter)]


def find(url: str, exchange_id: str, wait_s: float) -> Found:
    """Finds one complete exchange; waits up to wait_s for it to be stored. Raises CannotRun if it is not."""
    ends = time.monotonic() + wait_s
    while True:
        try:
            with reading(url) as connection:
                found = full_exchange(connection, exchange_id)
        except StoreUnavailable:
            if time.monotonic() >= ends:
                raise
            found = None
        if found is not None:
            return readable(found)
        if time.monotonic() >= ends:
            raise CannotRun(
                f"no exchange {exchange_id} in the store; it was not sampled, or it is not scored yet (try --wait 5)"
            )
        time.sleep(_POLL_S)


def readable(found: Found) -> Found:
    """The exchange with its JSON columns parsed."""
    opened: Found = {name: orjson.loads(found[name]) for name in ("attempts", "tool_calls") if name in found}
    scores = [{**s, "detail": orjson.loads(s["detail"]) if s["detail"] else None} for s in found["scores"]]
    return {**found, **opened, "scores": scores}


def compact(found: Found) -> Found:
    """The call, or the run with its calls, without members that are null and scores that do not apply."""
    present: Found = {name: value for name, value in found.items() if value is not None}
    for part in ("scores", "feedback", "calls"):
        if part in present:
            present[part] = [compact(row) for row in present[part] if row.get("status") != "not_applicable"]
    return present


def table(found: list[Found]) -> Table:
    figures = ("tokens", "first", "total")
    titles = ("time", "id", "alias", "target", "outcome", *figures, "scores")
    drawn = plain_table(titles, right=figures, unbroken=("time", "id", *figures))
    for e in found:
        head = (_time(e["received"]), e["id"], e["alias"], _target(e), outcome_text(e))
        times = (_seconds(e["first_token_s"]), _seconds(e["total_s"]))
        drawn.add_row(*map(safe_text, (*head, _tokens(e), *times, _brief(e["scores"]))))
    return drawn


def to_terminal(e: Found) -> RenderableType:
    """Shows one exchange, from the question to the scores."""
    return Group(*_head(e), *_question(e), *_answer(e), *_record(e))


def _head(e: Found) -> Iterator[RenderableType]:
    stream = "stream" if e["stream"] else "plain"
    yield safe_text(f"{e['id']}  {_time(e['received'], date=True)}  {e['api']}, {stream}, by {e['caller']}", "bold")
    role = "" if e["role"] == "served" else ", imported" if e["role"] == IMPORTED else f", {e['role']} of {e['pair']}"
    experiment = f", experiment {e['experiment']} arm {e['arm']}" if e["experiment"] else ""
    yield safe_text(f"{e['alias']} → {_target(e)}: {outcome_text(e)}{role}{experiment}")
    if e["run_id"]:
        yield safe_text(f"run {e['run'] or e['run_id']} (by {e['run_source']}): gateway samples --run {e['run_id']}")
    for shadow in e["shadows"]:
        yield safe_text(f"its shadow: {shadow}")


def _question(e: Found) -> Iterator[RenderableType]:
    for who, text in turns(e["request"]):
        yield safe_text(f"\n{who}", "bold cyan")
        yield safe_text(text)


def _answer(e: Found) -> Iterator[RenderableType]:
    for title in ("reasoning", "refusal", "error"):
        if e[title]:
            yield safe_text(f"\n{title}", "bold yellow")
            yield safe_text(e[title])
    yield safe_text("\nanswer", "bold green")
    yield safe_text(e["text"] or "(no text)")
    for call in e["tool_calls"]:
        yield safe_text(f"calls {call['name']}({call['arguments']})")
    right = right_answer(e)
    if right:
        yield safe_text("\nright answer", "bold magenta")
        yield safe_text(right)


def _record(e: Found) -> Iterator[RenderableType]:
    yield safe_text("\nrecord", "bold")
    times = f"first token {_seconds(e['first_token_s'])}, total {_seconds(e['total_s'])}"
    yield safe_text(f"finish_reason {e['finish_reason']}; tokens {_tokens(e)}; {times}")
    pi = "unknown" if e["pi"] is None else f"= {e['pi']:g}"
    yield safe_text(f"sampled with π {pi} in stratum {e['stratum']}")
    for a in e["attempts"]:
        how = f"HTTP {a['status']}" if a["failure"] is None else a["failure"]
        yield safe_text(f"attempt at {_target(a['target'])}: {how} after {a['seconds']:.3f} s")
    if e["scores"]:
        yield Text()
        yield score_table(e["scores"])
    for f in e["feedback"]:
        yield safe_text(_feedback(f))


def _feedback(f: Found) -> str:
    value = f["label"] if f["value"] is None else f["value"]
    given = [str(value)] if value is not None else []
    given += [f["comment"]] if f["comment"] else []
    given += [f"correction: {f['correction']}"] if f["correction"] else []
    return f"feedback {f['name']}: {' '.join(given)}"


def score_table(scores: Sequence[Found], title: str = "scorer") -> Table:
    """title: heading of the scorers."""
    drawn = plain_table((title, "score", "label", "π", "why"))
    for s in scores:
        value = s["status"].replace("_", " ") if s["value"] is None else f"{s['value']:.4g}"
        cells = (
            s["scorer"],
            value,
            s["label"] or "",
            "–" if s["pi"] is None else f"{s['pi']:g}",
            s["explanation"] or "",
        )
        drawn.add_row(*map(safe_text, cells))
    return drawn


def outcome_text(e: Found) -> str:
    return e["outcome"] if e["status"] == 200 else f"{e['outcome']} {e['status']}"


def _target(of: Found) -> str:
    return str(Target(of["upstream"], of["model"], of.get("variant") or ""))


def _tokens(e: Found) -> str:
    return "–" if e["tokens"] is None else f"{e['input_tokens']}+{e['output_tokens']}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"


def _time(unix: float, *, date: bool = False) -> str:
    when = datetime.fromtimestamp(unix).astimezone()
    return when.isoformat(" ", "seconds") if date else f"{when:%m-%d %H:%M:%S}"


def _brief(scores: list[Found]) -> str:
    scored = [f"{s['scorer']} {s['value']:.3g}" for s in scores if s["value"] is not None]
    failed = [f"{s['scorer']} {s['status']}" for s in scores if s["status"] not in ("scored", "not_applicable")]
    return ", ".join(scored + failed)
