"""Runs with a ceiling that had a call in the last day, as the stream server counts them; a person stops one, or adds to
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.core.errors import CannotRun
from gateway.core.exchange import RUN
from gateway.core.limits import MEASURES, Limit, Measure
from gateway.stream.corridor import Corridor
from gateway.stream.leases import RUN_RECORDS, LeaseServer, LiveRun

CeilingName = Literal["usd", "tokens", "calls"]
NEAR_END = 0.8
"""Share of a ceiling from which a person may add to it."""
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

    @property
    def share(self) -> float:
        return (self.spent + self.reserved) / self.amount

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


async def extend_run(corridor: Corridor, use: RunCeilingUse) -> bool:
    """Adds the original amount to a ceiling, once. False if that was done before. Raises StreamDown."""
    limit = _limit(use.ceiling)
    name = f"{RUN_RECORDS}{use.run_id.removeprefix(RUN)}:{limit.name}"
    return await _server(corridor).extend_run(name, round((use.amount - use.added) * limit.scale))


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
    return RunCeilingUse(
        RUN + record.run,
        record.label,
        _NAMES[measure],
        amount,
        spent,
        reserved,
        record.began_ms / 1000,
        record.added / scale,
    )
