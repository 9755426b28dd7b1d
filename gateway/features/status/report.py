"""`gateway status`: what the gateways, the consumer and the store report, on the terminal and as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.config.derive import directory_of
from gateway.config.retirements import day_of
from gateway.core.errors import StreamDown
from gateway.core.keys import Directory
from gateway.core.limits import LimitScope
from gateway.core.sanitize import plain
from gateway.features.consumer_report import SILENT_S, ConsumerReport, FailingScorer, silent_consumers
from gateway.features.guards.hourly.usual_range import drift_of, drift_sentence
from gateway.features.guards.rows import watched
from gateway.features.isolation import StoppedWork
from gateway.features.learned.card import card_lines
from gateway.features.learned.drift import drift_lines, saved_figures
from gateway.features.notices.rows import HeldBack, ReceiverTrouble, held_back, receivers_in_trouble
from gateway.features.notices.sender import GATHER_S
from gateway.features.notices.work import PREFIX
from gateway.features.retirement.notices import RetirementNotice, notices
from gateway.features.retirement.traffic import DailyCalls, daily_calls
from gateway.features.status.near_limits import NearLimit, caller_budgets, near_limits
from gateway.features.status.process_health import health_problems
from gateway.reports.terminal import plain_table, safe_text
from gateway.store.engine import StoreUnavailable
from gateway.store.guided_means import TARGET_LABELS, harmful
from gateway.store.loss_accounting import STATUSES, Delivery, delivery
from gateway.store.predictions import cards
from gateway.store.query import Reading, reading
from gateway.store.reader_config import ReaderConfig
from gateway.stream import Corridor, Lag
from gateway.stream.connect import described

DAY_S = 86_400
OLD_S = 60.0
FORGOTTEN_S = 600.0  # a killed process is not shown, nor a problem, after so long
SETTLED_S = 60.0  # gateways may differ in their config for so long while a change is rolled out
FAILED_SHARE = 0.05  # of the last minute's calls
FEWEST_FAILED = 3


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    incarnation: str
    host: str
    pid: int
    version: str
    age_s: float
    """Seconds since its last heartbeat."""
    up_s: float
    rates: Mapping[str, float]
    """Calls per second by stage (seen, sampled, enqueued, dropped), over the last few seconds."""
    waiting: int
    """Records in its buffer."""
    address: str = ""
    """HOST:PORT at which it answers clients; "" if an older version does not say."""
    ended: int = 0
    """Calls that ended within about the last minute."""
    failed: int = 0
    """Calls among these that failed through the service, as the client saw it; clients' own errors are not counted."""
    config_ok: bool = True
    """False if it refused the newest gateway.yaml and uses the previous one."""
    config_digest: str = ""
    """Differs where the text of the config in force differs."""
    config_age_s: float = 0.0
    """Seconds since that config was put in force."""
    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The state by name: `down` (its health endpoint does not answer), `in_flight`, `queued`, and `key_refused` (the
    answer) where it refuses the gateway's key. Of more than fifty only those that are down, in use or refuse it."""
    breakers_open: tuple[str, ...] = ()
    """Targets, as upstream/model, that it does not ask because they failed too often."""
    breaker_causes: Mapping[str, str] = field(default_factory=dict)
    """The newest failure of each of these targets; without those of an older version."""
    config_refused: str = ""
    """Reason why it refused the newest gateway.yaml; "" if it did not, or an older version does not report it."""
    reasons: tuple[str, ...] = ()
    """Other parts that fail, with the reasons, as in /health."""
    keys_version: int = 0
    """Version of the keys of the console that it has in force; 0: none."""
    keys_age_s: float | None = None
    """Seconds since the stream server confirmed them; None if it has none."""

    @property
    def name(self) -> str:
        return f"{self.host}/{self.pid}" + (f" {self.address}" if self.address else "")

    @property
    def alive(self) -> bool:
        return self.age_s <= SILENT_S


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    name: str
    age_s: float
    """Seconds since its last heartbeat."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Scorers that the consumer does not run at the moment → the reason."""
    paused: str = ""
    """Reason why it reads and scores nothing now; "" if it does."""
    failing: Mapping[str, FailingScorer] = field(default_factory=dict)
    """Scorers that failed often within the last ten minutes."""
    config_digest: str = ""
    """Digest of its config, as a gateway reports it; "" if an older version does not."""
    config_refused: str = ""
    """Reason why the newest gateway.yaml is not in force; "" if it is."""
    started: float = 0.0
    """Unix seconds; 0 if an older version does not report it."""
    stopped: Mapping[str, StoppedWork] = field(default_factory=dict)
    """Work of features that has stopped itself, by name."""
    store: str = ""
    """Reason why the store takes no writes; "" if it does."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The part of today's budget that is spent (UTC)."""

    kind: str  # scorer or shadow
    name: str
    unit: str  # usd or tokens
    spent: float
    limit: float | None
    """The limit; None if there is none."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    lag: Lag
    shards: int
    shards_away: int
    trimmed_unread: int
    letters: Mapping[str, int]
    """The number of dead letters by reason."""
    gateways: tuple[GatewayStatus, ...] = ()
    consumers: tuple[ConsumerStatus, ...] = ()
    spent: tuple[BudgetStatus, ...] = ()
    refuses: str | None = None
    """Reason why the server takes no writes now. None if it takes them."""
    evicts: str | None = None
    """A maxmemory-policy under which the server may delete the stream. None: a safe one, or unknown."""
    newest_s: float | None = None
    """Age of the newest heartbeat of a gateway by this machine's clock, however old; negative where the gateway's clock
    is ahead. None if there is none."""


@dataclass(frozen=True, slots=True)
class PredictorStatus:
    """A learned model that selects what a judge sees."""

    target: str
    card: Mapping[str, Any]
    """The precision on exchanges that it had not seen: see features/learned/card.py."""
    alarms: tuple[str, ...]
    """Drift alarms that are on, one sentence each."""


@dataclass(frozen=True, slots=True)
class Status:
    at: float
    """Unix seconds."""
    server: str
    """The address of the stream server, without credentials."""
    stream: StreamStatus | None
    """The stream; None if the server cannot be reached: problems says why."""
    delivery: Delivery | None
    """The delivery; None if there is no store: problems says why."""
    problems: tuple[str, ...] = ()
    """Problems that need attention, one sentence each."""
    predictors: tuple[PredictorStatus, ...] = ()
    """The predictor of the config, once there is a model."""
    receivers: tuple[ReceiverTrouble, ...] = ()
    """Receivers of `webhooks` and `notify` that do not accept their messages."""
    guards: tuple[str, ...] = ()
    """Drift alarms of guards that are on, one sentence each."""
    retirements: tuple[RetirementNotice, ...] = ()
    """Models that their providers retire, the first day first: no problem yet."""
    near_limits: tuple[NearLimit, ...] = ()
    """Budgets of callers of which at least 80 % are used, the most used first. A budget that does its work is no
    problem."""
    held_back: tuple[HeldBack, ...] = ()
    """Notices that wait for their turn, by receiver: no problem."""
    config_unreadable: str = ""
    """Reason why sections of gateway.yaml that this report needs cannot be read, so that defaults take their place; ""
    if they can."""

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if all is well, 1 if something is wrong, 2 if that is unknown because the stream server does not
        answer, or the config cannot be read.
        """
        return 2 if self.stream is None or self.config_unreadable else 1 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _StoredState:
    """State of the store; empty if it was not read."""

    delivery: Delivery | None = None
    predictors: tuple[PredictorStatus, ...] = ()
    traffic: DailyCalls | None = None
    receivers: tuple[ReceiverTrouble, ...] = ()
    guards: tuple[str, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    budgets: Mapping[LimitScope, str] = field(default_factory=dict)
    """Scopes of callers with a budget, and their names."""


def _read_store(around: ReaderConfig, now: float) -> _StoredState:
    """Raises StoreUnavailable."""
    static = Directory() if around.served is None else directory_of(around.served)
    with reading(around.store) as connection:
        return _StoredState(
            delivery(connection),
            _read_predictors(connection, around.target),
            daily_calls(connection, day_of(now)),
            tuple(receivers_in_trouble(connection, now - DAY_S)),
            tuple(changed_guards(connection, around.guards)),
            tuple(held_back(connection, PREFIX, now - GATHER_S)),
            caller_budgets(connection, static, now),
        )


async def look(
    around: ReaderConfig,
    corridor: Corridor,
    now: float | None = None,
    read_delivery: Callable[[], Awaitable[Delivery]] | None = None,
) -> Status:
    """Reads the state of the whole system. An unreachable server or store is a problem in the result.

    now: Unix time in seconds; None: the current time. read_delivery: for programs that must not wait for the store in
    their event loop; None means that it is read here.
    """
    now = time.time() if now is None else now
    problems = _config_problems(around)
    stream, stored, near = None, _StoredState(), tuple[NearLimit, ...]()
    try:
        stream = await _read_stream(around, corridor, now)
    except StreamDown as error:
        problems += [str(error), *await health_problems(around.processes)]
    problems += _stream_problems(stream) if stream else []
    try:
        stored = _read_store(around, now) if read_delivery is None else _StoredState(await read_delivery())
    except StoreUnavailable as error:
        problems.append(str(error))
    problems += _store_problems(stored)
    try:
        near = await near_limits(corridor, stored.budgets, now) if stream else ()
    except StreamDown as error:
        problems.append(str(error))
    retiring = () if around.served is None else tuple(notices(around.served, stored.traffic, day_of(now)))
    return Status(
        now,
        described(around.url),
        stream,
        stored.delivery,
        tuple(problems),
        stored.predictors,
        stored.receivers,
        stored.guards,
        retiring,
        near,
        stored.held_back,
        around.unreadable,
    )


def _config_problems(around: ReaderConfig) -> list[str]:
    if not around.unreadable:
        return []
    instead = f"this report is of the stream server {described(around.url)} and the usual store"
    return [f"gateway.yaml cannot be read, so {instead}: {around.unreadable}"]


def _store_problems(stored: _StoredState) -> Iterator[str]:
    yield from _delivery_problems(stored.delivery) if stored.delivery else ()
    yield from map(_receiver_problem, stored.receivers)
    yield from stored.guards
    for each in stored.predictors:
        if harmful(each.card):
            yield f"the predictor of {each.target} costs precision, so it is off"
        yield from each.alarms


def changed_guards(connection: Reading, guards: Sequence[str]) -> Iterator[str]:
    for guard in guards:
        drift = drift_of(guard, watched(connection, guard)[0])
        if drift is not None and drift.alarm:
            yield f"guard {guard}: {drift_sentence(drift)}, which is more than chance"


def _receiver_problem(receiver: ReceiverTrouble) -> str:
    given_up = f"{receiver.dead} messages of the last 24 hours were given up" if receiver.dead else ""
    waiting = f"{receiver.failing} are tried again" if receiver.failing else ""
    said = ", ".join(filter(None, (given_up, waiting)))
    return f"the receiver {receiver.webhook} does not accept its messages ({receiver.error}): {said}"


def _read_predictors(connection: Reading, target: str | None) -> tuple[PredictorStatus, ...]:
    card = {} if target is None else cards(connection).get(target, {})
    if target is None or not card:
        return ()
    alarms = drift_lines(saved_figures(connection, target.removeprefix(TARGET_LABELS)), list(card.get("psi", {})))
    return (PredictorStatus(target, card, tuple(alarms)),)


async def _read_stream(around: ReaderConfig, corridor: Corridor, now: float) -> StreamStatus:
    lag = await corridor.lag(now)
    seen = await corridor.reachable()
    beats = await corridor.state.gateways()
    return StreamStatus(
        lag=lag,
        shards=len(corridor.shards),
        shards_away=len(corridor.shards) - seen,
        trimmed_unread=await corridor.trimmed_unread(),
        letters=await corridor.dead_letters.by_reason(),
        gateways=_shown_gateways(beats, now),
        newest_s=min((now - beat["at"] for beat in beats.values()), default=None),
        consumers=await _read_consumers(corridor, now),
        spent=await _read_budgets(around, corridor, now),
        refuses=await corridor.state.refusal(),
        evicts=await _evicts(corridor),
    )


async def _evicts(corridor: Corridor) -> str | None:
    try:
        return await corridor.evicting()
    except StreamDown:  # the command may be forbidden
        return None


def _shown_gateways(beats: Mapping[str, Mapping[str, Any]], now: float) -> tuple[GatewayStatus, ...]:
    found = [_gateway(incarnation, beat, now) for incarnation, beat in beats.items()]
    shown = [g for g in found if g.alive or (g.age_s <= FORGOTTEN_S and not _replaced(g, found))]
    return tuple(sorted(shown, key=lambda g: (not g.alive, g.host, g.address, g.pid)))


def _gateway(incarnation: str, beat: Mapping[str, Any], now: float) -> GatewayStatus:
    calls, config, keys = beat.get("calls", {}), beat.get("config", {}), beat.get("directory", {})
    return GatewayStatus(
        incarnation=incarnation,
        host=str(beat["host"]),
        pid=int(beat["pid"]),
        version=str(beat.get("version", "")),
        age_s=max(0.0, now - beat["at"]),
        up_s=max(0.0, now - beat["started"]),
        rates=dict(beat["rates"]),
        waiting=int(beat["waiting"]),
        address=str(beat.get("address", "")),
        ended=int(calls.get("ended", 0)),
        failed=int(calls.get("failed", 0)),
        config_ok=bool(config.get("ok", True)),
        config_digest=str(config.get("digest", "")),
        config_age_s=max(0.0, now - config.get("loaded", now)),
        upstreams=beat.get("upstreams", {}),
        breakers_open=tuple(beat.get("breakers_open", ())),
        breaker_causes=beat.get("breaker_causes", {}),
        config_refused=str(config.get("refused", "")),
        reasons=tuple(map(str, beat.get("reasons", ()))),
        keys_version=int(keys.get("version", 0)),
        keys_age_s=keys.get("age_s"),
    )


def _replaced(dead: GatewayStatus, found: Sequence[GatewayStatus]) -> bool:
    """Tells whether a process at the same address began after this one's last heartbeat: its parent has replaced
    it."""
    return any(
        g.alive and (g.host, g.address) == (dead.host, dead.address) and g.up_s < dead.age_s for g in found if g.address
    )


async def _read_consumers(corridor: Corridor, now: float) -> tuple[ConsumerStatus, ...]:
    found = []
    beats = await corridor.state.consumers()
    for name, at in sorted(beats.items()):
        if now - at > FORGOTTEN_S:
            continue
        blocked = orjson.loads(await corridor.state.recall(f"blocked:{name}") or "{}")
        says = ConsumerReport.from_json(await corridor.state.recall(f"report:{name}"))
        reported = (says.paused, says.failing, says.config, says.config_refused, says.started, says.stopped)
        found.append(ConsumerStatus(name, max(0.0, now - at), blocked, *reported, store=says.store))
    gone = silent_consumers(beats, {c.name: c.started for c in found}, now)
    return tuple(c for c in found if c.age_s <= SILENT_S or c.name in gone)


async def _read_budgets(around: ReaderConfig, corridor: Corridor, now: float) -> tuple[BudgetStatus, ...]:
    judges = await corridor.state.sums(f"spent:{time.strftime('%Y-%m-%d', time.gmtime(now))}")
    shadows = await corridor.state.sums(f"spent:{int(now // DAY_S)}")
    found = [_budget("scorer", field_, n, _limits(around.scorers.get(_name(field_)))) for field_, n in judges.items()]
    for field_, n in shadows.items():
        budget = around.budgets.get(_name(field_))
        limits = {"usd": budget.usd_per_day, "tokens": budget.tokens_per_day} if budget else {}
        found.append(_budget("shadow", field_, n, limits))
    return tuple(sorted((s for s in found if s.spent or s.limit is not None), key=lambda s: (s.kind, s.name, s.unit)))


def _limits(scorer: Any) -> dict[str, float | None]:
    return {"usd": scorer.budget_usd, "tokens": scorer.budget_tokens} if scorer is not None else {}


def _name(field_: str) -> str:
    return field_.rpartition(":")[0]


def _budget(kind: str, field_: str, n: float, limits: Mapping[str, float | None]) -> BudgetStatus:
    name, _, unit = field_.rpartition(":")
    return BudgetStatus(kind, name, unit, max(0.0, n), limits.get(unit))


def _stream_problems(stream: StreamStatus) -> list[str]:
    lag = stream.lag
    silent = [c.name for c in stream.consumers if c.age_s > SILENT_S]
    gone = [g.name for g in stream.gateways if not g.alive]
    alive = len(stream.consumers) - len(silent)
    slow = alive and lag.oldest_s > OLD_S
    paused = any(c.paused for c in stream.consumers if c.age_s <= SILENT_S)
    advice = "it is read once scoring goes on" if paused else "run more consumers"
    trimmed = stream.trimmed_unread
    found = {
        f"the stream server takes no writes, so nothing is recorded and no heartbeat arrives: {stream.refuses}; calls "
        "are answered": stream.refuses,
        f"no gateway has a heartbeat{_clocks(stream)}": not stream.refuses
        and not any(g.alive for g in stream.gateways),
        f"heartbeats are {_age(-(stream.newest_s or 0.0))} ahead of this machine's clock, which or a gateway's is "
        "wrong; it is unknown which gateways are alive": (stream.newest_s or 0.0) < -SILENT_S,
        f"{stream.shards_away} of {stream.shards} shards of the stream cannot be reached": stream.shards_away,
        f"no consumer is running: {lag.waiting + lag.pending} entries are waiting": not stream.refuses
        and not alive
        and lag.waiting,
        f"consumers without a heartbeat: {', '.join(silent)}; others claim their entries": not stream.refuses
        and silent,
        f"gateways without a heartbeat: {', '.join(gone)}": not stream.refuses and gone,
        f"the oldest entry has been waiting for {lag.oldest_s:.0f} s: {advice}": slow,
        f"{trimmed} entries were trimmed before they were read: raise stream.max_mb": trimmed,
        f"{sum(stream.letters.values())} dead letters: `gateway dead list`": stream.letters,
        f"maxmemory-policy {stream.evicts} may delete the stream: set noeviction": stream.evicts,
    }
    blocked = {scorer: why for c in stream.consumers for scorer, why in c.blocked.items()}
    return [
        *_consumer_problems([c for c in stream.consumers if c.age_s <= SILENT_S], set(blocked)),
        *_serving_problems([g for g in stream.gateways if g.alive]),
        *(text for text, holds in found.items() if holds),
        *(f"scorer {scorer} is blocked: {why}" for scorer, why in blocked.items()),
        *(
            f"{s.kind} {s.name} has spent today's {s.limit:g} {s.unit}"
            for s in stream.spent
            if s.limit is not None and s.spent >= s.limit
        ),
    ]


def _clocks(stream: StreamStatus) -> str:
    """Advice for heartbeats that are old by this machine's clock."""
    newest_s = stream.newest_s
    return "" if newest_s is None else f": the newest is {_age(newest_s)} old, unless this machine's clock is wrong"


def _consumer_problems(alive: Sequence[ConsumerStatus], blocked: Collection[str]) -> list[str]:
    """Problems that heartbeats report."""
    paused: dict[str, list[str]] = {}
    failing: dict[str, list[FailingScorer]] = {}
    for consumer in alive:
        if consumer.paused:
            paused.setdefault(consumer.paused, []).append(consumer.name)
        for scorer, of in consumer.failing.items():
            failing.setdefault(scorer, []).append(of)
    return [
        *(f"scoring is paused at {', '.join(names)}: {why}" for why, names in paused.items()),
        *(f"the store takes no writes at {c.name}: {c.store}" for c in alive if c.store and c.store != c.paused),
        *(_failing(scorer, of) for scorer, of in sorted(failing.items()) if scorer not in blocked),
        *(
            f"{name} is stopped at {c.name}: {of.why}; {of.resume}"
            for c in alive
            for name, of in sorted(c.stopped.items())
        ),
        *(
            f"the newest gateway.yaml is not in force at {c.name}: {c.config_refused}"
            for c in alive
            if c.config_refused
        ),
    ]


def _failing(scorer: str, found: Sequence[FailingScorer]) -> str:
    failed, of = sum(each.failed for each in found), sum(each.of for each in found)
    return (
        f"scorer {scorer} failed on {failed} of {of} answers within ten minutes: {found[-1].reason}; "
        f"`gateway samples --where 'scorer={scorer} score_status=error'` lists them"
    )


def _serving_problems(alive: Sequence[GatewayStatus]) -> list[str]:
    """Problems that clients see, or soon may."""
    ended, failed = sum(g.ended for g in alive), sum(g.failed for g in alive)
    refused = [g.name for g in alive if not g.config_ok]
    digests = sorted({g.config_digest for g in alive if g.config_digest and g.config_ok})
    settled = all(g.config_age_s > SETTLED_S for g in alive)
    oldest_s = max((g.keys_age_s for g in alive if g.keys_age_s is not None), default=0.0)
    old = [g for g in alive if g.keys_age_s is not None and g.keys_age_s > OLD_S]
    failing = failed >= FEWEST_FAILED and failed >= FAILED_SHARE * ended
    why = next((f" ({g.config_refused})" for g in alive if g.config_refused), "")
    found = {
        f"{failed} of {ended} calls of the last minute failed": failing,
        f"the newest gateway.yaml was refused, and the previous one is in force: {', '.join(refused)}{why}; "
        "`gateway check` names the mistakes": refused,
        f"gateways run different configs: {', '.join(digests)}": len(digests) > 1 and settled,
        f"keys are as they were {_age(oldest_s)} ago, because no newer ones can be read: "
        f"{', '.join(g.name for g in old)}": old,
    }
    return [
        *(text for text, holds in found.items() if holds),
        *_failing_parts(alive),
        *(problem for u in upstream_states(alive) for problem in _upstream_problems(u)),
    ]


def _upstream_problems(u: UpstreamSummary) -> Iterator[str]:
    if u.down:
        yield f"upstream {u.name} is down {_of(u.down, u.gateways)}"
    for target, n in u.breakers_open.items():
        cause = f": {u.causes[target]}" if u.causes.get(target) else ""
        yield f"circuit breaker of {target} is open {_of(n, u.gateways)}{cause}"


def _failing_parts(alive: Sequence[GatewayStatus]) -> Iterator[str]:
    """Problems that gateways report about their own parts."""
    names: dict[str, list[str]] = {}
    for gateway in alive:
        for reason in gateway.reasons:
            names.setdefault(reason, []).append(gateway.name)
    for reason, at in names.items():
        yield f"{reason} (at {', '.join(at)})"


def _of(n: int, gateways: int) -> str:
    return f"at {n} of {gateways} gateway processes"


@dataclass(frozen=True, slots=True)
class UpstreamSummary:
    """One upstream, as the gateway processes see it together."""

    name: str
    gateways: int
    """Processes that were asked."""
    down: int
    """Gateways at which its health endpoint does not answer."""
    breakers_open: Mapping[str, int]
    """Targets → processes with an open breaker."""
    in_flight: int
    queued: int
    key_refused: str = ""
    """The answer with which it refused the gateway's key; "" if it accepts it."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """Targets with an open breaker → their newest failure, where it is known."""

    @property
    def state(self) -> str:
        return "key refused" if self.key_refused else "down" if self.down else "failing" if self.breakers_open else "up"

    @property
    def last_cause(self) -> str:
        """The newest failure, while something is wrong; "" if nothing is, or it is unknown."""
        health = "its health path does not answer" if self.down else ""
        return self.key_refused or next(iter(self.causes.values()), "") or health


def upstream_states(alive: Sequence[GatewayStatus]) -> list[UpstreamSummary]:
    found = []
    failing = {target.partition("/")[0] for g in alive for target in g.breakers_open}
    for name in sorted(failing | {name for g in alive for name in g.upstreams}):
        reports = [g.upstreams[name] for g in alive if name in g.upstreams]
        opened = Counter(t for g in alive for t in g.breakers_open if t.partition("/")[0] == name)
        down, in_flight, queued = (sum(int(r.get(key, 0)) for r in reports) for key in ("down", "in_flight", "queued"))
        refused = next((str(r["key_refused"]) for r in reports if r.get("key_refused")), "")
        causes = {t: g.breaker_causes[t] for g in alive for t in sorted(opened) if g.breaker_causes.get(t)}
        counts = (len(alive), down, dict(sorted(opened.items())), in_flight, queued)
        found.append(UpstreamSummary(name, *counts, key_refused=refused, causes=causes))
    return found


def _delivery_problems(delivered: Delivery) -> list[str]:
    lost = ", ".join(f"{reason} {n}" for reason, n in delivered.lost.items())
    missing = delivered.unaccounted
    found = [f"{missing} exchanges are missing, and no known loss explains it"] if missing else []
    return [*found, *([f"exchanges were lost on the way: {lost}"] if lost else [])]


_MAX_ROWS = 12  # of one table, so that all fits on one screen


def to_terminal(status: Status) -> RenderableType:
    stream = _stream(status.stream) if status.stream else ()
    near = _near_limits(status.near_limits)
    held = [_line("notices" if i == 0 else "", waiting.text) for i, waiting in enumerate(status.held_back)]
    stored = (*_delivery(status.delivery), *_predictors(status), *_retirements(status))
    return Group(*_head(status), *held, *stream, *near, *stored)


def _retirements(status: Status) -> Iterator[RenderableType]:
    for i, each in enumerate(status.retirements):
        yield from () if i else (Text(),)
        yield _line("" if i else "retirements", each.text)


def _predictors(status: Status) -> Iterator[RenderableType]:
    for each in status.predictors:
        yield Text()
        for i, line in enumerate(card_lines(each.card, status.at)):
            yield _line(each.target if i == 0 else "", line)


def _head(status: Status) -> Iterator[RenderableType]:
    when = datetime.fromtimestamp(status.at).astimezone().isoformat(" ", "seconds")
    yield safe_text(f"{when}  stream server {status.server}", "dim")
    if not status.problems:
        yield safe_text("no problems", "bold green")
    for problem in status.problems:
        yield safe_text(f"! {problem}", "bold red")


def _stream(stream: StreamStatus) -> Iterator[RenderableType]:
    lag = stream.lag
    yield Text()
    yield _line(
        "stream",
        f"{_n(lag.waiting)} waiting, {_n(lag.pending)} with consumers, oldest {_age(lag.oldest_s)}; "
        f"{_n(lag.length)} entries held" + (f" on {stream.shards} shards" if stream.shards > 1 else ""),
    )
    yield _line("dead letters", _reasons(stream.letters) or "none")
    yield from _gateways(stream)
    yield from _consumers(stream)
    yield from _spent(stream)


def _gateways(stream: StreamStatus) -> Iterator[RenderableType]:
    yield Text()
    drawn = _table(
        "gateway", "calls/s", "failed/min", "sampled/s", "recorded/s", "dropped/s", "buffered", "config", "up", "seen"
    )
    for g in stream.gateways[:_MAX_ROWS]:
        rates = [f"{g.rates.get(name, 0.0):.1f}" for name in ("seen", "sampled", "enqueued", "dropped")]
        config = (g.config_digest[:6] or "?") if g.config_ok else "refused"
        ages = (_age(g.up_s), f"{_age(g.age_s)} ago")
        cells = (g.name, rates[0], _failed(g.failed, g.ended), *rates[1:], _n(g.waiting), config, *ages)
        drawn.add_row(*map(safe_text, cells), style="red" if not g.alive or not g.config_ok else "")
    if len(stream.gateways) > 1:
        alive = [g for g in stream.gateways if g.alive]
        sums = [f"{sum(g.rates.get(n, 0.0) for g in alive):.1f}" for n in ("seen", "sampled", "enqueued", "dropped")]
        failed = _failed(sum(g.failed for g in alive), sum(g.ended for g in alive))
        cells = (f"all {len(alive)}", sums[0], failed, *sums[1:], _n(sum(g.waiting for g in alive)))
        drawn.add_row(*cells, "", "", "", style="bold")
    yield drawn if stream.gateways else _line("gateways", "none is running")
    yield from _keys([g for g in stream.gateways if g.alive])
    yield from _upstreams(stream)


def _keys(alive: Sequence[GatewayStatus]) -> Iterator[RenderableType]:
    """The versions of the keys that gateways have read from the stream server."""
    versions = Counter(g.keys_version for g in alive if g.keys_age_s is not None)
    if versions:
        found = ", ".join(f"version {version} at {n}" for version, n in sorted(versions.items()))
        oldest = max(g.keys_age_s or 0.0 for g in alive)
        yield _line("keys", f"{found} of {len(alive)} gateway processes, confirmed {_age(oldest)} ago at most")


def _upstreams(stream: StreamStatus) -> Iterator[RenderableType]:
    """The upstreams, those with a problem first, so that a long list does not hide them."""
    found = upstream_states([g for g in stream.gateways if g.alive])
    if not found:
        return
    yield Text()
    drawn = _table("upstream", "state", "in flight", "queued", "breakers open", "last cause")
    for u in sorted(found, key=lambda u: (not u.key_refused, not u.down, not u.breakers_open))[:_MAX_ROWS]:
        opened = ", ".join(target.partition("/")[2] for target in u.breakers_open)
        cells = (u.name, u.state, _n(u.in_flight), _n(u.queued), opened or "none", u.last_cause)
        drawn.add_row(*map(safe_text, cells), style="" if u.state == "up" else "red")
    drawn.columns[5].justify = "left"
    yield drawn


def _failed(failed: int, ended: int) -> str:
    return f"{_n(failed)} ({failed / ended:.0%})" if ended else "0"


def _consumers(stream: StreamStatus) -> Iterator[RenderableType]:
    if not stream.consumers:
        yield _line("consumers", "none is running")
        return
    yield Text()
    drawn = _table("consumer", "heartbeat", "trouble")
    for c in stream.consumers[:_MAX_ROWS]:
        cells = (c.name, f"{_age(c.age_s)} ago", consumer_trouble(c))
        drawn.add_row(*map(safe_text, cells), style="red" if c.age_s > SILENT_S or c.paused else "")
    drawn.columns[2].justify = "left"
    yield drawn


def consumer_trouble(c: ConsumerStatus) -> str:
    """The work that is paused, with the reason; "": none."""
    paused = [f"paused: {c.paused}"] if c.paused else []
    blocked = [f"{scorer} blocked: {why}" for scorer, why in c.blocked.items()]
    failing = [f"{scorer} fails: {of.reason}" for scorer, of in c.failing.items() if scorer not in c.blocked]
    stopped = [f"{name} stopped: {of.why}" for name, of in sorted(c.stopped.items())]
    return "; ".join([*paused, *blocked, *failing, *stopped])


def _spent(stream: StreamStatus) -> Iterator[RenderableType]:
    if not stream.spent:
        return
    yield Text()
    drawn = _table("budget of today", "spent", "of", "")
    for s in stream.spent[:_MAX_ROWS]:
        limit = "no limit" if s.limit is None else f"{s.limit:g}"
        share = "" if not s.limit else f"{s.spent / s.limit:.0%}"
        over = s.limit is not None and s.spent >= s.limit
        cells = (f"{s.kind} {s.name}", f"{s.spent:.4g} {s.unit}", limit, share)
        drawn.add_row(*map(safe_text, cells), style="red" if over else "")
    yield drawn


def _near_limits(found: Sequence[NearLimit]) -> Iterator[RenderableType]:
    if not found:
        return
    yield Text()
    drawn = _table("budget of a caller", "limit", "spent", "of", "", "resets")
    for near in found[:_MAX_ROWS]:
        ends = "" if near.resets_at is None else f"{datetime.fromtimestamp(near.resets_at).astimezone():%Y-%m-%d %H:%M}"
        spent, amount, share = f"{near.spent:.6g}", f"{near.amount:g}", f"{near.share:.0%}"
        cells = (f"{near.scope} {near.name}", near.limit, spent, amount, share, ends)
        drawn.add_row(*map(safe_text, cells), style="red" if near.share >= 1 else "")
    yield drawn
    if len(found) > _MAX_ROWS:
        yield safe_text(f"and {len(found) - _MAX_ROWS} more budgets that are used to 80 %; --json has all of them")


def _delivery(delivered: Delivery | None) -> Iterator[RenderableType]:
    if delivered is None:
        return
    yield Text()
    d = delivered
    yield _line("seen", f"{_n(d.seen)} = sampled {_n(d.sampled)}{_plus('unsampled', d.unsampled)}")
    waiting = f" + buffered {_n(d.waiting)}" if d.waiting else ""
    before = {name: n for name, n in d.lost.items() if name == "gateway_lost"}
    after = {name: n for name, n in d.lost.items() if name != "gateway_lost"}
    losses = f"{_plus('dropped', d.dropped)}{_plus('lost', before)}"
    yield _line("sampled", f"{_n(d.sampled)} = enqueued {_n(d.enqueued)}{waiting}{losses}")
    settled = f"stored or dead-lettered {_n(d.settled)} + in flight {_n(d.in_flight)}"
    rest = f"{_plus('lost', after)} + unaccounted {_n(d.unaccounted)}"
    yield _line("enqueued", f"{_n(d.enqueued)} = {settled}{rest}")
    if delivered.scores:
        yield Text()
        drawn = _table("scorer", *(s.replace("_", " ") for s in STATUSES))
        for scorer, n in sorted(delivered.scores.items())[:_MAX_ROWS]:
            drawn.add_row(*map(safe_text, (scorer, *(_n(n.get(status, 0)) for status in STATUSES))))
        yield drawn


def _table(first: str, *others: str) -> Table:
    return plain_table((first, *others), right=others, unbroken=(first,))


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<13}", "bold"), plain(text))


def _plus(name: str, reasons: Mapping[str, int]) -> str:
    total = sum(reasons.values())
    return f" + {name} {_n(total)} ({_reasons(reasons)})" if total else ""


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_n(n)}" for name, n in sorted(reasons.items(), key=lambda each: -each[1]))


def _n(n: int) -> str:
    return f"{n:,}".replace(",", "\u202f")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
