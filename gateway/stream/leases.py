"""Leases of limits on the stream server: the part of each limit that every gateway worker may spend without another
request.

One hash holds one limit of one scope in one window; its name ends in the window, so nothing is ever set to zero:

    {NAME:limits}:team:search:usd_per_month:2026-11

    s        the sum of what all workers have reported as spent
    o        the sum of what they hold beyond that: leased, and spent or reserved or unused
    h        the sum of the shares that are promised to them for an outage
    f        what was spent beyond s, by the usage ledger: after a loss of data, by workers that report no more
    t        until when (ms) no share is promised, because a call needs what is left
    w:ID     "spent total share" of worker ID; total is spent + held

Records of end users, `…:limits}:u:DIGEST:…`, are kept short: fields that are 0 are missing, ID is its last twelve
characters, and its value is "spent held share", "spent share" where nothing is held, or "spent" alone. They are many,
so a worker does not report one that holds nothing but a share; where a call needs that share, `…:limits}:called_back`
names the limit, and every worker gives its share up. For the same reason nothing lists the records of a worker that
dies: `…:limits}:dead` names the worker, and its share of a limit ends with the next report of that limit by another.

Records of runs, `…:limits}:r:DIGEST:…`, are kept in the same way until a day after their last report. Their `b` is when
(ms) the first call came, their `a` the ceiling, their `x` an amount that a person has added, their `m` a time (ms) by
which a person has moved `b`, their `n` a name, their `e` how a ceiling has ended the run. `…:limits}:run_ends` lists
those with an end, by time.

What is left is amount - carried - s - f - o, where a report says what is carried. A worker reports absolute numbers,
never differences: a repeated report changes nothing, and a lost one is repaired by the next. A sequence number keeps a
report that was delayed from overwriting a newer one. A worker stops using an amount before it reports it as returned,
and uses a grant once it has the reply. Therefore `total` and `share` on the server are never below what the worker
uses, whatever gets lost.

All keys share one hash tag, so one script call covers all scopes of a call on a cluster, too, and takes effect as a
whole. One slot suffices: workers exchange a few times a second, however many requests they answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.stream.connect import Client, ask
from gateway.stream.scripts import run_script
from gateway.stream.types import text

DEAD_S = 15.0
"""Seconds without an exchange after which a worker is dead: its concurrent calls and its shares are released."""
DEMAND_S = 3.0
"""Seconds for which counts what a worker wants of a limit."""
RUN_RECORDS = "r:"
"""Begins the names of records of runs."""
RUN_MS = 86_400_000
MOST_ENDS = 10_000
"""Ended runs that are listed at most."""
AT_ONCE = 200
"""Limits in one exchange, which holds up the server."""


class LeaseReport(NamedTuple):
    """One worker's report of one limit in one window. Amounts are whole numbers: calls, tokens, or 1e-9 USD."""

    name: str
    """`team:search:usd_per_month:2026-11`; without a window, `key:web:concurrency`."""
    spent: int
    """The amount used by the calls that have ended, since this worker began."""
    total: int
    """Spent, reserved by calls in flight, and unused."""
    share: int
    """The share that it may still use in an outage; -1 means that none is kept for this limit."""
    want: int
    """The amount that it would like in addition."""
    need: int
    """The amount that calls wait for: granted if that much is left."""
    amount: int
    starts_ms: int
    ends_ms: int
    """Unix ms, on the server's clock; 0 if there is no window."""
    keep_ms: int
    """Seconds by which the record outlives its window."""
    leaving: bool = False
    """The worker stops, and this is its last report."""
    carried: int = 0
    """The part of `amount` that was used elsewhere: it counts as spent."""
    resumes: int = 0
    """Number of a lease whose predecessor the worker has forgotten: the predecessor's spending counts in addition, once
    for each number, and the grant has it. 0 if there is none."""
    label: str = ""
    """Name of a run for people, in its first report; else ""."""


class LeaseGrant(NamedTuple):
    """The server's reply to one report."""

    granted: int
    left: int
    """The amount that no worker holds; below 0 if more was spent than reserved."""
    share: int
    """The amount that this worker may use in an outage."""
    spent: int
    """The amount used by all workers, as far as they have reported, and the carried amount."""
    crossed: int
    """80 or 100, if this report took `spent` over that percentage of the limit; else 0."""
    before: int = 0
    """Amount that this worker had reported as spent before, if it asked for it (`resumes`)."""
    began_ms: int = 0
    """Unix ms, on the server's clock, of the first call of a run; 0 of other limits."""
    added: int = 0
    """Amount that a person has added to the ceiling of a run."""


_GRANT_VALUES = len(LeaseGrant._fields)


class LeftLease(NamedTuple):
    """One limit of a run, as a dead worker has left it. Amounts are whole numbers, as in LeaseReport."""

    name: str
    used: int
    """Spent, and reserved by the calls that ended with it."""
    resumes: int
    """The number in LeaseReport if the server had not answered yet; else 0."""
    amount: int
    noted_ms: int
    """The server's last answer to it, Unix ms on the server's clock."""


class LiveRun(NamedTuple):
    """One ceiling of a run that had a call in the last day. Amounts are whole numbers: calls, tokens, or 1e-9 USD."""

    run: str
    """Digits of exchange.run_key, or of a part of the run."""
    limit: str
    """`usd_per_run`."""
    label: str
    """Key and the client's id of the run; "" if the server does not know it."""
    spent: int
    reserved: int
    began_ms: int
    added: int
    """The amount that a person has added."""
    amount: int
    """The ceiling, before that."""
    end: str = ""
    """End of the run, as `LeaseServer.note_end` took it; "" if there is none."""
    added_ms: int = 0
    """Time that a person has added."""


@dataclass(frozen=True, slots=True)
class Demands:
    """The demands of all workers on one limit."""

    worker: str
    """Name of this worker."""
    now_s: float
    """The server's clock, Unix seconds."""
    wanted: Mapping[str, str]
    """Demands by worker."""


@dataclass(frozen=True, slots=True)
class ExchangeReply:
    now_s: float
    """The server's clock, Unix seconds."""
    workers: int
    """Alive now, this one included."""
    known: bool
    """Whether the server knew this worker and its last report. False means that it must report everything again."""
    grants: tuple[LeaseGrant, ...]
    called_back: tuple[str, ...] = ()
    """Names of limits of end users whose shares are needed elsewhere."""
    stopped: tuple[str, ...] = ()
    """Runs that a person has stopped since this worker's last exchange; with the first one, in the last day."""


class LeaseServer:
    """One worker's view of the leases on a stream server. Every method raises StreamDown.

    worker: unique to this process. shift_s: added to the server's clock, for tests of windows. dead_s: seconds without
    an exchange after which a worker is dead.
    """

    def __init__(self, client: Client, name: str, worker: str, shift_s: float = 0.0, dead_s: float = DEAD_S) -> None:
        self._client = client
        self._tag = f"{{{name}:limits}}"
        self._worker = worker
        self._shift_ms, self._dead_ms = round(shift_s * 1000), round(dead_s * 1000)
        self._sequence = self._answered = 0
        self._answered_ms = 0

    async def exchange(self, reports: Sequence[LeaseReport]) -> ExchangeReply | None:
        """Reports what was used and asks for more, all at once. None if the server had a newer report already.

        reports: at most AT_ONCE; none: the worker is alive, and measures the server's clock.
        """
        self._sequence += 1
        sequence = self._sequence
        keys = [
            self._workers,
            self._key("sequence", self._worker),
            self._records(self._worker),
            self._key("called_back"),
            self._dead,
            self._stopped,
        ]
        arguments: list[Any] = [self._worker, sequence, *self._clock_arguments, self._answered_ms]
        for r in reports:
            keys.append(self._key(r.name))
            arguments += (r.spent, r.total, r.share, r.want, r.need, r.amount, r.starts_ms, r.ends_ms)
            arguments += (r.keep_ms, int(r.leaving), r.carried, r.resumes, r.label)
        reply: Any = await ask(run_script(self._client, "exchange_leases", keys, *arguments))
        if len(reply) == 1:
            return None
        now_ms, workers, new, before, called_back, stopped, *rest = reply
        amounts = [*map(int, rest)]
        grants = tuple(LeaseGrant(*amounts[at : at + _GRANT_VALUES]) for at in range(0, len(amounts), _GRANT_VALUES))
        known = not new and before >= self._answered  # less: a copy of the server that had not seen the last report
        self._answered, self._answered_ms = sequence, now_ms
        names, runs = tuple(map(text, called_back)), tuple(map(text, stopped))
        return ExchangeReply(now_ms / 1000, workers, known, grants, names, runs)

    async def share_demand(self, name: str, wanted: str) -> Demands:
        """Says what this worker wants of a limit ("": nothing), and returns what all want, as they have said it in the
        last DEMAND_S."""
        key, keep_ms = self._key("demand", name), round(DEMAND_S * 1000)
        found: Any = await ask(run_script(self._client, "share_demand", [key], self._worker, wanted, keep_ms))
        now_ms, *rest = map(text, found)
        return Demands(self._worker, int(now_ms) / 1000, dict(zip(rest[::2], rest[1::2], strict=True)))

    async def spent(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(spent, held beyond that) of each of these limits in its window, as LeaseReport names and counts them; a
        limit that nobody has used is (0, 0). Read by programs that hold no lease."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hmget(self._key(name), ["s", "f", "o"])
        replies: Any = await ask(pipe.execute()) if names else []
        found = {}
        for name, reply in zip(names, replies, strict=True):
            spent, floor, held = (int(float(value or 0)) for value in reply)
            found[name] = (spent + floor, held)
        return found

    async def leave(self) -> None:
        """The worker stops and holds nothing any more."""
        await ask(self._client.delete(self._records(self._worker)))
        await ask(self._client.zrem(self._workers, self._worker))

    async def sweep(self) -> int:
        """Releases what dead workers hold, as far as it cannot have been spent; returns how many there were. Shares of
        limits of end users are released when another worker reports such a limit.

        Only a worker that has reached the server without a break for DEAD_S may ask for it: earlier, the server itself
        may have been unreachable, and all workers seem dead.
        """
        dead: Any = await ask(run_script(self._client, "dead_workers", [self._workers], *self._clock_arguments))
        return sum([await self._sweep_one(text(worker)) for worker in dead])

    async def _sweep_one(self, worker: str) -> int:
        records = [text(each) for each in await ask(self._client.smembers(self._records(worker)))]
        keys = [self._workers, self._records(worker), self._dead, *records]
        return int(await ask(run_script(self._client, "sweep_worker", keys, worker, *self._clock_arguments)))

    async def settle_dead(self, worker: str, left: Sequence[LeftLease]) -> None:
        """Counts what a dead worker has used of runs, and releases what else it held. May be repeated.

        left: at most AT_ONCE. The worker must be known to be dead: reports that it sent before and that arrive later
        are ignored.
        """
        keys = [self._key("sequence", worker), *(self._key(lease.name) for lease in left)]
        numbers = [n for lease in left for n in lease[1:]]
        await ask(run_script(self._client, "settle_dead", keys, worker, RUN_MS, *numbers))

    async def raise_spent(self, name: str, amount: int, expires_ms: int) -> None:
        """Makes `amount` the least that counts as spent: from the ledger, after the server has lost its data.

        As max(ledger, counted), in any order with the reports of workers that live on: the first report of a worker
        that the server does not know is taken as a part of it. name: as in LeaseReport.
        """
        await ask(run_script(self._client, "raise_spent", [self._key(name)], amount, expires_ms))

    async def stop_run(self, run: str) -> None:
        """Ends a run on every worker. run: exchange.run_key."""
        now: Any = await ask(self._client.time())
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000 + self._shift_ms
        await ask(self._client.zadd(self._stopped, {run: now_ms}))
        await ask(self._client.zremrangebyscore(self._stopped, "-inf", now_ms - RUN_MS))
        await ask(self._client.pexpire(self._stopped, RUN_MS))

    async def extend_run(self, name: str, amount: int) -> bool:
        """Adds to the ceiling of a run, once. False if that was done before, or if the run is not known any more.

        name: of the record, as LeaseReport names it. amount: in whole numbers; of minutes, see `extend_minutes`.
        """
        key = self._key(name)
        known = await ask(self._client.exists(key))
        return bool(known and await ask(self._client.hsetnx(key, "x", amount))) and await self._goes_on(key)

    async def extend_minutes(self, name: str, minutes: float) -> bool:
        """Moves the first call of a run to a later time, once. Returns and takes the same as `extend_run`."""
        key, more_ms = self._key(name), round(minutes * 60_000)
        known = await ask(self._client.exists(key))
        if not known or not await ask(self._client.hsetnx(key, "m", more_ms)):
            return False
        await ask(self._client.hincrby(key, "b", more_ms))
        return await self._goes_on(key)

    async def _goes_on(self, key: str) -> bool:
        await ask(self._client.hdel(key, "e"))
        return True

    async def note_end(self, name: str, end: str) -> bool:
        """Notes that a run has ended, for `ended_runs`. False if that was noted before, or the run is not known.

        name: of the record, as LeaseReport names it. end: "HOW CEILING AMOUNT CALLER", see features/runs/live.py.
        """
        key = self._key(name)
        if not await ask(self._client.exists(key)) or await self._ended(key) == end:
            return False
        await ask(self._client.hset(key, "e", end))
        now: Any = await ask(self._client.time())
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        await ask(self._client.zadd(self._ends, {name: now_ms}))
        await ask(self._client.zremrangebyscore(self._ends, "-inf", now_ms - RUN_MS))
        await ask(self._client.zremrangebyrank(self._ends, 0, -MOST_ENDS - 1))
        await ask(self._client.pexpire(self._ends, RUN_MS))
        return True

    async def _ended(self, key: str) -> str:
        found = await ask(self._client.hget(key, "e"))
        return "" if found is None else text(found)

    async def ended_runs(self) -> list[LiveRun]:
        """The runs of the last day that a ceiling has ended, the newest first."""
        names: Any = await ask(self._client.zrange(self._ends, 0, -1, desc=True))
        return [run for name in names if (run := await self._run(self._key(text(name)))) is not None and run.end]

    async def live_runs(self, most: int = 10_000) -> list[LiveRun]:
        """The runs with a ceiling that had a call in the last day. Reads all keys of the server, a few at a time."""
        begin, runs = self._key(RUN_RECORDS), list[LiveRun]()
        async for key in self._client.scan_iter(match=f"{begin}*", count=1000):
            run = await self._run(text(key))
            if run is not None:
                runs.append(run)
            if len(runs) >= most:
                break
        return runs

    async def run_ceilings(self, run: str, limits: Iterable[str]) -> list[LiveRun]:
        """The ceilings of one run, of those with these names. run: digits of exchange.run_key."""
        found = [await self._run(self._key(f"{RUN_RECORDS}{run}:{limit}")) for limit in limits]
        return [ceiling for ceiling in found if ceiling is not None]

    async def _run(self, key: str) -> LiveRun | None:
        values: Any = await ask(self._client.hgetall(key))
        if not values:
            return None
        fields = {text(name): text(value) for name, value in values.items()}
        run, _, limit = key.removeprefix(self._key(RUN_RECORDS)).rpartition(":")
        spent, reserved, floor, began, added, ceiling, later = (int(float(fields.get(n, 0))) for n in "sofbxam")
        return LiveRun(
            run, limit, fields.get("n", ""), spent + floor, reserved, began - later, added, ceiling,
            fields.get("e", ""), later,
        )  # fmt: skip

    @property
    def _ends(self) -> str:
        return self._key("run_ends")

    @property
    def _stopped(self) -> str:
        return self._key("stopped_runs")

    @property
    def _clock_arguments(self) -> tuple[int, int]:
        return self._dead_ms, self._shift_ms

    @property
    def _workers(self) -> str:
        return self._key("workers")

    @property
    def _dead(self) -> str:
        return self._key("dead")

    def _records(self, worker: str) -> str:
        return self._key("records", worker)

    def _key(self, *parts: str) -> str:
        return ":".join((self._tag, *parts))
