"""Ceilings of runs on the hot path: the account of a run's calls, its end, and what its answers say is left.

Dollars, tokens and calls are leased as every limit is. Minutes count from the first call that the stream server knows,
loops from what the request itself shows.
"""

from __future__ import annotations

from gateway.core.call_scopes import OTHERS, CallScopes
from gateway.core.errors import BadRequest
from gateway.core.run_ceilings import NEAR_END
from gateway.proxy.limits.book import Account, LeaseBook, RunAccount
from gateway.proxy.limits.lease import Lease
from gateway.proxy.limits.refusal import RUN_ADVICE, RUN_NAMES, RunEnded
from gateway.proxy.limits.tool_loops import loops_at_the_end
from gateway.proxy.request.call import Call, RunId

REMAINING = b"x-gateway-run-remaining"
MOST_RUNS = 100_000
"""Runs of one key that one worker distinguishes in an hour; further ones share a ceiling."""


def run_account(book: LeaseBook, call: Call, run: RunId, *, tier: bool = False) -> RunAccount | None:
    """The ceilings of a call's run; None if it has none."""
    limits, caller = call.caller.of_call or _NONE, call.caller
    ceiling = limits.run if run.budget is None else limits.run.asked(run.budget)
    parts = limits.parts_of(call.alias, caller.call_tags) if limits.run_parts else ()
    if not ceiling and not parts:
        return None
    key = run.counted or run.key
    label = f"{caller.name}/{run.id}"
    if not book.knows_run(caller.id, key, MOST_RUNS):
        key, label = OTHERS + caller.id, f"{caller.name}/{OTHERS}"
    return RunAccount(key, ceiling, parts, tier, run.budget, label)


_NONE = CallScopes(())


def check_stopped(book: LeaseBook, call: Call) -> None:
    """Raises QuotaExceeded for a call of a run that a person has stopped."""
    if call.run is not None and (call.run.key in book.stopped or call.run.counted in book.stopped):
        raise _ended("stopped", f"a person has stopped this run: {RUN_ADVICE}")


def require_run(call: Call) -> None:
    """Raises BadRequest for a call without a run, of a key whose calls need one."""
    limits = call.caller.of_call
    if limits is not None and limits.run.require and call.run is None:
        raise BadRequest(
            "the limits of this key need every call to name its run: send x-gateway-run with an id for each task",
            code="run_required",
            retry=False,
        )


def check_loops(account: Account, run: RunAccount, call: Call) -> None:
    """Raises QuotaExceeded for a request whose last tool calls are equal, with equal results."""
    most = min((ceiling.loops for ceiling in run.ceilings if ceiling.loops is not None), default=None)
    if most is None:
        return
    times = loops_at_the_end(call)
    if times >= most:
        text = f"this run has made the same tool call with the same result {times} times in a row: {RUN_ADVICE}"
        ended = _ended("loops", text)
        ended.lease, ended.amount = next((lease for lease in account.leases if lease.of_run), None), most
        raise ended


def check_minutes(account: Account, run: RunAccount, now: float) -> None:
    """Raises QuotaExceeded once the minutes of a run are over. A run whose first call is unknown goes on."""
    most, began = _minutes(account, run)
    if most is not None and began is not None and now - began >= 60 * most:
        text = f"this run began {(now - began) / 60:,.0f} minutes ago, and may take {most:g}: {RUN_ADVICE}"
        ended = _ended("minutes", text)
        ended.lease = min(_leases_of(account, run), key=lambda lease: lease.began or now)
        ended.amount, ended.on_end = min((c.minutes, c.minutes_on_end) for c in run.ceilings if c.minutes is not None)
        raise ended


def _minutes(account: Account, run: RunAccount) -> tuple[float | None, float | None]:
    most = min((ceiling.minutes for ceiling in run.ceilings if ceiling.minutes is not None), default=None)
    if most is None:
        return None, None
    return most, min((lease.began for lease in _leases_of(account, run) if lease.began is not None), default=None)


def _leases_of(account: Account, run: RunAccount) -> list[Lease]:
    """The leases of the whole run, whose records have its first call; else those of its parts."""
    of_run = [lease for lease in account.leases if lease.of_run]
    return [lease for lease in of_run if lease.scope.id == run.key] or of_run


def _ended(by: str, text: str) -> RunEnded:
    error = RunEnded(text, retry=False)
    error.details = {"scope": "run", "limit": f"{by}_per_run"}
    error.by = by
    return error


def with_remaining(lines: bytes, account: Account, run: RunAccount, now: float) -> bytes:
    """Header lines, with x-gateway-run-remaining once a ceiling is nearly reached."""
    parts = []
    for lease in account.leases:
        if lease.of_run:
            left = lease.left + lease.free
            if left <= lease.near:
                parts.append(f"{RUN_NAMES[lease.limit.measure]}={max(0, left) / lease.limit.scale:.6g}")
    if account.checks_run:
        most, began = _minutes(account, run)
        if most is not None and began is not None and now - began >= NEAR_END * 60 * most:
            parts.append(f"minutes={max(0.0, most - (now - began) / 60):.1f}")
    if not parts:
        return lines
    line = b"%b: %b" % (REMAINING, ", ".join(parts).encode())
    return lines + b"\r\n" + line if lines else line
