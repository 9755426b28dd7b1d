"""The stage of the hot path at which guards begin to judge a call. See App.answer.

Guards on a request decide after the call is routed and its limits are reserved, and before it is sent; guards that need
not decide before that judge it after it is sent, and hold the answer's first byte. Guards on the answer are between the
relay and the client's connection (client.py). Records and shadows come after all of them (settle.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.privacy import RedactionConfig, RedactionPattern, RuleName
from gateway.core.errors import NotAllowed
from gateway.core.guards import GuardRamp
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.client import GuardedBytes, GuardedClient
from gateway.proxy.guards.coverage import ENDPOINTS, forwards_unjudged, returns_content
from gateway.proxy.guards.guard import ACTING, INSTEAD, Guard, GuardSet
from gateway.proxy.guards.guarded_call import GuardedCall
from gateway.proxy.guards.process import GuardProcess
from gateway.proxy.recording.redaction.redactor import Redactor
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.request.paths import segments
from gateway.proxy.routing.router import Route
from gateway.proxy.types import ClientConnection
from gateway.runtime.tasks import Tasks

_MOST_KNOWN = 10_000  # pairs of a key and a model


class Guards:
    """The guards of one config."""

    def __init__(
        self,
        guards: Sequence[Guard],
        process: GuardProcess | None,
        exempt: frozenset[str],
        cap_bytes: int,
        tasks: Tasks,
        ramps: Mapping[str, GuardRamp],
    ) -> None:
        """process: in which scorers judge; None if no guard has a scorer. exempt: keys of scorers, whose calls no guard
        judges: one that calls a model would judge its own calls. cap_bytes: of a recorded answer. ramps: in force, by
        the guards' names."""
        self.all = guards
        self.process = process
        self._exempt = exempt
        self._cap_bytes = cap_bytes
        self._tasks = tasks
        self._ramps = ramps
        self._known: dict[tuple[str, str | None, str], GuardSet] = {}

    async def enter(
        self, call: Call, route: Route, client: ClientConnection, context: CallContext
    ) -> tuple[Call, ClientConnection]:
        """The call as it may be sent, and the client to which the relay answers. Raises CallEnded if a guard refuses
        the request: then the client has its answer."""
        coverage = ENDPOINTS[call.api]
        if coverage == "not judged":
            return call, client
        key = (call.caller.name, call.caller.team, call.alias)
        guards = self._known.get(key)
        if guards is None:
            guards = self._of(call, key)
        if not guards.every:
            return call, client
        if coverage == "refused":
            guards.refuse_unread(call)
            return call, client
        if call.api == "responses" and call.fields.get("background") not in (None, False):
            guards.refuse_background(call)
        if coverage == "request judged":
            guards = GuardSet([guard for guard in guards.every if guard.config.on == "request"], self._ramps)
            if not guards.every:
                return call, client
        guarded = context.guarded = GuardedCall(call, client, context, guards, self._tasks)
        holds_answer = guards.holds_answer if guarded.quick else guarded.holds_answer
        kept = GuardedBytes(self._cap_bytes) if holds_answer else None
        if kept is not None:
            context.response = kept
        elif not context.response.enabled and coverage == "judged":
            context.response = HeldBytes(True, self._cap_bytes)
        if guarded.of_request:
            call = await guarded.admit(call, route)
        if holds_answer or (guarded.of_request and guarded.holds_request):
            client = GuardedClient(guarded, kept, self._tasks)
        return call, client

    def check_forwarded(self, caller: Caller, path: bytes) -> None:
        """Raises NotAllowed for a path outside the routed endpoints that may generate, or return an answer of a model,
        unjudged, where a guard is enforced for this key. Which model it would reach is not known. The content of a file
        may be the answers of a batch, which concerns guards on answers alone."""
        if caller.name in self._exempt:
            return
        below = segments(path)
        unjudged, content = forwards_unjudged(below), returns_content(below)
        for guard in self.all if unjudged or content else ():
            config, ramp = guard.config, self._ramps.get(guard.name)
            enforced = config.action != "observe" or (ramp is not None and ramp.action in ACTING)
            if enforced and _is_of(guard, caller) and (unjudged or config.on == "answer"):
                raise NotAllowed(
                    f'the guard "{guard.name}" judges the calls of this key, and cannot read those of this path; '
                    f"{INSTEAD}",
                    retry=False,
                )

    def check_read(self, caller: Caller) -> None:
        """Raises NotAllowed for an answer that is read by its id, where a guard on answers acts for this key: it would
        be the answer as the upstream keeps it, also one that was refused or redacted."""
        if caller.name in self._exempt:
            return
        for guard in self.all:
            ramp = self._ramps.get(guard.name)
            acts = guard.config.action in ACTING or (ramp is not None and ramp.action in ACTING)
            if guard.config.on == "answer" and acts and _is_of(guard, caller):
                raise NotAllowed(
                    f'the guard "{guard.name}" judges the answers of this key, and an answer that is read by its id '
                    "would be unjudged; keep the answer that the call returned",
                    retry=False,
                )

    def _of(self, call: Call, key: tuple[str, str | None, str]) -> GuardSet:
        judging = GuardSet(
            [] if call.caller.name in self._exempt else [g for g in self.all if g.judges(call)], self._ramps
        )
        if len(self._known) < _MOST_KNOWN:
            self._known[key] = judging
        return judging

    def failing(self) -> dict[str, str]:
        """Reasons why guards give no decision now, by name."""
        found = {guard.name: guard.trouble for guard in self.all if guard.trouble}
        trouble = "" if self.process is None else self.process.trouble
        return {name: f"{why}; {trouble}" if trouble else why for name, why in found.items()}

    def report(self) -> dict[str, Any]:
        """Reports the guards for the heartbeat. `action` is the config's; `ramp` says what is in force in its place."""
        return {
            guard.name: {
                "on": guard.config.on,
                "action": guard.config.action,
                "ramp": None if (ramp := self._ramps.get(guard.name)) is None else _reported(ramp),
                "failing": guard.trouble,
                "breaker_open": guard.breaker.open,
            }
            for guard in self.all
        }


def _reported(ramp: GuardRamp) -> dict[str, Any]:
    """The action of a share of the units, and that of the others."""
    return {"action": ramp.action, "share": ramp.share, "before": ramp.before}


def _is_of(guard: Guard, caller: Caller) -> bool:
    """Whether the guard judges calls of this key, of some model."""
    config = guard.config
    return (config.keys is None or caller.name in config.keys) and (config.teams is None or caller.team in config.teams)


def build_guards(
    config: Config,
    metrics: ProxyMetrics,
    process: GuardProcess | None,
    ramps: Mapping[str, GuardRamp],
    clock: Callable[[], float],
) -> list[Guard]:
    return [
        Guard(
            name,
            guard,
            metrics,
            None if guard.in_process else process,
            ramps,
            clock,
            guard.config_hash(config.scorers),
        )
        for name, guard in config.guards.items()
    ]


def record_redactor(config: Config) -> Redactor | None:
    """Redacts records of calls in which a guard's rule has matched: with the rules of all guards, and those of
    `redaction`. None if no guard has such a rule."""
    guards = config.guards.values()
    rules, patterns = set[RuleName](), list[RedactionPattern]()
    for guard in guards:
        rules |= set(_rules(guard))
        patterns += guard.patterns
    if not (rules or patterns):
        return None
    own = config.redaction or RedactionConfig(rules=())
    known = {pattern.name: pattern for pattern in (*own.patterns, *patterns)}
    merged = own.model_copy(update={"rules": tuple(sorted({*own.rules, *rules})), "patterns": tuple(known.values())})
    return Redactor("redacted", merged)


def _rules(guard: GuardConfig) -> Iterable[RuleName]:
    if guard.scorer == "secrets":
        return ("key",)
    return guard.kinds if guard.scorer == "personal_data" else ()
