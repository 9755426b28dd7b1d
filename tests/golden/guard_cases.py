"""Guards: a promotion by steps, one that is taken back, and a guard as the candidate of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

from golden.cases import Case, basic, experiment
from golden.records import Records
from golden.shadow_cases import begun, score
from golden.world import World

from gateway.config.loading import load_for_consumer
from gateway.core.exchange import Exchange
from gateway.core.guards import GuardAction, GuardDecision, GuardResult, to_json
from gateway.core.plan import Plan

GUARD = {
    "on": "request", "scorer": "patterns", "patterns": [{"name": "invoice", "regex": "invoice [0-9]{1,9}"}],
    "ramp": {
        "steps": [0.5, 1.0], "soak_s": 600, "min_units": 20, "max_block_rate": 0.15, "thumbs_down": 0.25,
        "retries": 0.25, "retry_s": 60, "stale_s": 900, "cooldown_s": 600,
    },
}  # fmt: skip


def with_guard(**experiments: Any) -> dict[str, Any]:
    section = basic({}, **experiments)
    return {**section, "guards": {"own": GUARD}, "feedback": {"range": {"thumb": [0, 1]}}}


def judged_hash(world: World) -> str:
    config = load_for_consumer(world.folder / "gateway.yaml")
    return config.guards["own"].config_hash(config.scorers)


def decision(action: GuardAction, result: GuardResult, judged: str, unit: str = "") -> GuardDecision:
    acted, found = action == "block" and result == "hit", ("invoice",) if result == "hit" else ()
    value = {"hit": 1.0, "near": 0.4}.get(result, 0.0)
    return GuardDecision("own", "request", action, result, acted, value, None, found, len(found), 0.001, judged, unit)


def judged_calls(
    world: World, records: Records, count: int, *, share: float, before: GuardAction = "flag", hits: float = 0.02,
    thumbs: float = 0.0,
) -> Iterator[Any]:  # fmt: skip
    """Calls that the guard judged, and feedback on them. share: of the units that it blocks. hits: share of calls.
    thumbs: share of refused calls with bad feedback."""
    rng, judged = records.random, judged_hash(world)
    for _ in range(count):
        at = world.clock.forward(15.0)
        unit = sha256(f"{int(at) // 30}".encode()).hexdigest()[:16]
        action: GuardAction = "block" if int(unit[:4], 16) < share * 65_536 else before
        result: GuardResult = "hit" if rng.random() < hits else "near" if rng.random() < 0.05 else "pass"
        made = decision(action, result, judged, unit)
        text = "failed" if made.acted else score(rng.random())
        call = records.call(at, text, guards=to_json([made]), stratum="guard:own", cluster=unit)
        yield replace(call, outcome="blocked", status=403) if made.acted else call
        if rng.random() < (thumbs if made.acted else 0.02):
            yield records.feedback(call, at + 1, "thumb", 0.0)


def send_judged(world: World, records: Records, count: int, **truth: Any) -> None:
    """Sends judged calls and lets the consumer store them; see judged_calls."""
    waiting = list[Any]()
    for record in judged_calls(world, records, count, **truth):
        waiting.append(record)
        if len(waiting) == 20:
            world.send(waiting)
            waiting = []
    world.send(waiting)
    world.clock.forward(10.0)
    world.heartbeat(guards={})
    world.send([records.tally(world.clock.now)])
    world.consume()


def show_guard(case: Case, prefix: str, world: World) -> None:
    case.keep(f"{prefix}status", world.verb("guard", "status", "--json"), world.verb("guard", "status", "own"))
    case.keep(f"{prefix}history", world.verb("guard", "history", "own"))
    case.keep(f"{prefix}stream", world.state()["stream"])


def promoted(case: Case) -> None:
    """A guard that is promoted to every unit, with a pause."""
    world, records = case.world("guard"), Records(case.name)
    world.configure(with_guard())
    world.begin()
    send_judged(world, records, 150, share=0.0, before="observe")
    case.keep("observed: figures", world.work())
    case.keep("observed", world.verb("guards", "--json"), world.verb("guards", "own"))
    case.keep("promote", world.verb("guard", "promote", "own", "--reason", "28 of 30 hits were right"))
    world.work()
    show_guard(case, "begun: ", world)
    send_judged(world, records, 400, share=0.0)
    case.keep("flagged: figures", world.work())
    show_guard(case, "first step: ", world)
    case.keep("pause", world.verb("guard", "pause", "own", "--reason", "a new client"))
    case.keep("resume", world.verb("guard", "resume", "own", "--reason", "it is there"))
    send_judged(world, records, 500, share=0.5)
    case.keep("half: figures", world.work())
    show_guard(case, "last step: ", world)
    send_judged(world, records, 200, share=1.0)
    case.keep("figures", world.work())
    show_guard(case, "promoted: ", world)
    case.keep("guards", world.verb("guards", "--json"), world.verb("guards", "own"))
    case.keep("history as JSON", world.verb("guard", "history", "own", "--json"))
    case.keep("state", world.state())


def taken_back(case: Case) -> None:
    """A guard that refuses too much, and begins again with other steps."""
    world, records = case.world("guard-back"), Records(case.name)
    world.configure(with_guard())
    world.begin()
    send_judged(world, records, 60, share=0.0, before="observe")
    world.work()
    case.keep("promote", world.verb("guard", "promote", "own", "--reason", "as agreed", "--steps", "0.5,1"))
    world.work()
    send_judged(world, records, 250, share=0.0, hits=0.02)
    world.work()
    send_judged(world, records, 200, share=0.5, hits=0.6, thumbs=0.9)
    case.keep("figures", world.work())
    show_guard(case, "taken back: ", world)
    case.keep("cooling", world.verb("guard", "promote", "own", "--reason", "again"))
    world.clock.forward(700.0)
    case.keep("again", world.verb("guard", "promote", "own", "--reason", "again", "--to", "flag"))
    case.keep("rollback", world.verb("guard", "rollback", "own", "--reason", "it refuses invoices"))
    world.work()
    case.keep("history as JSON", world.verb("guard", "history", "own", "--json"))
    case.keep("state", world.state())


def send_copies(world: World, records: Records, plan: Plan, count: int, hits: float) -> None:
    """Pairs of served answers and of those that the guard would have given."""
    rng, judged, made = records.random, judged_hash(world), list[Exchange]()
    for i in range(count):
        at, result = world.clock.forward(300.0), "hit" if rng.random() < hits else "pass"
        guards = to_json([decision("observe", result, judged)])  # type: ignore[arg-type]
        text = score(rng.betavariate(6, 3))
        refusal = "0.9 of it" if rng.random() < 0.5 else "0.1 of it"
        served, copy = records.pair(
            plan, at, text, {"candidate": text if result == "pass" else refusal}, guards=guards, cluster=f"c{i // 2}"
        )
        made += [served, replace(copy, tied=True if result == "pass" else None, usage=served.usage)]
    world.send(made)
    world.clock.forward(120.0)
    world.send([records.tally(world.clock.now)])
    world.consume()


def candidate(case: Case) -> None:
    """A guard that observes is the candidate."""
    section = with_guard(
        swap=experiment(candidate={"guard": "own"}, shadow=None, repeat_control=None, min_hours=4, primary="stated")
    )
    world, records, plan = begun(case, "guard-candidate", section)
    for phase, count in enumerate((60, 240), start=1):
        send_copies(world, records, plan, count, 0.08)
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 2)
    case.keep("power", world.verb("ab", "power", "swap", "--json"))
    case.keep("state", world.state())
