"""Runs with a ceiling that had a call in the last day, as the stream server counts them; a person stops one, or adds to
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.core.errors import CannotRun
from gateway.core.exchange import RUN
from gateway.core.limits import MEASURES, Limit, Measure
from gateway.core.run_ceilings import ENDLESS, NEAR_END
from gateway.stream.corridor import Corridor
from gateway.stream.leases import RUN_RECORDS, LeaseServer, LiveRun

CeilingName = Literal["usd", "tokens", "calls"]
_NAMES: dict[Measure, CeilingName] = {"usd": "usd", "tokens": "tokens", "requests": "calls"}


@dataclass(frozen=True, slots=True)
class RunCeilingUse:
    """One ceiling of a live run."""

    run_id: str
    """Our id of the run; of a ceiling of some of its calls, another id."""
    run: str
    """Key and the client's id: `agents/task-42`; "" if the stream server does not know it."""
    ceiling: CeilingName
    amount: float
    """Ceiling, with the amount that a person has added."""
    spent: float
    reserved: float
    """Amount that calls in flight have reserved, or that workers hold."""
    began: float
    """Unix seconds of the first call."""
    added: float
    ended: str = ""
    """The ceiling that has ended the run: `usd`, `tokens`, `calls`, `minutes` or `loops`; "": none."""
    on_end: str = ""
    """The rule at that end: `stop`, `tier` or `ask`; "": the run has not ended."""
    minutes: float = 0.0
    """Minutes of the ceiling that has ended the run; 0 if it was another ceiling."""
    minutes_added: float = 0.0
    caller: str = ""
    """Our id of the key of a run that has ended."""

    @property
    def share(self) -> float:
        return (self.spent + self.reserved) / self.amount

    @property
    def can_grow(self) -> bool:
        """Whether a person may add the original amount now: it is nearly used up, and nothing was added before."""
        if self.ended == "minutes":
            return not self.minutes_added
        return not self.added and self.ended != "loops" and (self.share >= NEAR_END or self.ended == self.ceiling)

    @property
    def asks(self) -> bool:
        """Whether the run waits for a person to add to the ceiling."""
        return self.on_end == "ask" and self.can_grow

    @property
    def endless(self) -> bool:
        """Whether it counts the calls of a run whose only ceiling is one of minutes."""
        return self.amount >= ENDLESS

    def per_hour(self, now: float) -> float:
        """The amount an hour since the first call, of which a minute is the least."""
        return self.spent / max(60.0, now - self.began) * 3600


async def live_ceilings(corridor: Corridor) -> list[RunCeilingUse]:
    """Raises StreamDown."""
    return [use for record in await _server(corridor).live_runs() if (use := _use(record)) is not None]


def by_burn(uses: Iterable[RunCeilingUse], now: float) -> list[RunCeilingUse]:
    """The dearest an hour first, then those that are nearest to their end."""
    return sorted(uses, key=lambda use: (use.ceiling != "usd", -use.per_hour(now), -use.share))


async def stop_run(corridor: Corridor, run_id: str) -> None:
    """Ends a run on every gateway. Raises StreamDown."""
    await _server(corridor).stop_run(run_id)


async def ended_ceilings(corridor: Corridor) -> list[RunCeilingUse]:
    """The ceilings that have ended a run in the last day. Raises StreamDown."""
    return [use for record in await _server(corridor).ended_runs() if (use := _use(record)) is not None]


async def ceilings_of(corridor: Corridor, run_id: str) -> list[RunCeilingUse]:
    """The ceilings of one run. Raises StreamDown."""
    limits = [_limit(ceiling).name for ceiling in _NAMES.values()]
    found = await _server(corridor).run_ceilings(run_id.removeprefix(RUN), limits)
    return [use for record in found if (use := _use(record)) is not None]


async def extend_run(corridor: Corridor, use: RunCeilingUse) -> bool:
    """Adds the original amount to a ceiling, once. False if that was done before. Raises StreamDown."""
    limit, server = _limit(use.ceiling), _server(corridor)
    begin = f"{RUN_RECORDS}{use.run_id.removeprefix(RUN)}"
    if use.ended != "minutes":
        return await server.extend_run(f"{begin}:{limit.name}", round((use.amount - use.added) * limit.scale))
    done = [await server.extend_minutes(f"{begin}:{_limit(each).name}", use.minutes) for each in _NAMES.values()]
    return any(done)


def grown_text(use: RunCeilingUse) -> str:
    """The ceiling after the original amount was added, as in "4 calls"."""
    if use.ended == "minutes":
        return f"{2 * use.minutes:g} minutes"
    return f"{use.amount + use.amount - use.added:g} {use.ceiling}"


def found_run(uses: Sequence[RunCeilingUse], named: str) -> str:
    """Our id of the run that a person names: by our id, by the client's, or by "key/id". Raises CannotRun."""
    ids = {use.run_id for use in uses if named in (use.run_id, use.run, use.run.partition("/")[2])}
    if len(ids) == 1:
        return ids.pop()
    if named.startswith(RUN):
        return named
    if not ids:
        raise CannotRun(f"no live run with a ceiling is named {named[:60]!r}; `gateway runs --live` lists them")
    raise CannotRun(
        f"{len(ids)} runs are named {named[:60]!r}: give one as KEY/ID, or our id ({', '.join(sorted(ids)[:5])})"
    )


def _server(corridor: Corridor) -> LeaseServer:
    return LeaseServer(corridor.client, corridor.state.prefix, "runs")


def _limit(ceiling: CeilingName) -> Limit:
    measure = next(measure for measure, name in _NAMES.items() if name == ceiling)
    return Limit(measure, 1.0, "run")


def _use(record: LiveRun) -> RunCeilingUse | None:
    measure = record.limit.removesuffix("_per_run")
    if measure not in MEASURES or measure not in _NAMES or record.amount <= 0:
        return None
    scale = _limit(_NAMES[measure]).scale
    amounts = (record.amount + record.added, record.spent, record.reserved)
    amount, spent, reserved = (value / scale for value in amounts)
    use = RunCeilingUse(
        RUN + record.run,
        record.label,
        _NAMES[measure],
        amount,
        spent,
        reserved,
        record.began_ms / 1000,
        record.added / scale,
        minutes_added=record.added_ms / 60_000,
    )
    return use if not record.end else _with_end(use, record.end)


def _with_end(use: RunCeilingUse, end: str) -> RunCeilingUse:
    """end: as LeaseServer.note_end takes it."""
    on_end, ended, amount, caller = end.split(" ", 3)
    minutes = float(amount) if ended == "minutes" else 0.0
    return replace(use, on_end=on_end, ended=ended, minutes=minutes, caller=caller)
