"""Experiments and ramps whose candidates serve: splits by feedback and by score, shadows and a split, ramps to their
ends."""

from __future__ import annotations

from typing import Any

from golden.cases import Case, basic, experiment
from golden.records import Records
from golden.shadow_cases import begun, score, send_pairs
from golden.world import World

from gateway.core.exchange import cluster_digest
from gateway.core.plan import Plan

SHARED: dict[str, Any] = {"shadow": None}


def send_served(
    world: World, records: Records, plan: Plan, count: int, *, share: float = 0.5, shift: float = 0.0,
    fails: float = 0.0, thumbs: float | None = None, every_s: float = 30.0,
) -> None:  # fmt: skip
    """Sends served calls of both arms and lets the consumer store them. share: of the units that the candidate serves.
    shift, fails, thumbs: the candidate's mean, errors, and good feedback; the control has 70 % of it."""
    rng, made = records.random, list[Any]()
    for i in range(count):
        at = world.clock.forward(every_s)
        unit = f"unit {plan.name} {at if plan.unit == 'request' else at // 90}"
        arm = "candidate" if rng.random() < share else "control"
        base = rng.betavariate(6, 3) + rng.gauss(0, 0.05) + (shift if arm == "candidate" else 0.0)
        text = "failed" if rng.random() < (fails if arm == "candidate" else 0.01) else score(base)
        same = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "arm": arm, "alias": plan.model}
        call = records.call(at, text, **same, unit=unit, cluster=cluster_digest(unit), stratum=f"split:{plan.name}")
        made.append(call)
        if thumbs is not None and rng.random() < 0.6:
            good = rng.random() < (thumbs if arm == "candidate" else 0.7)
            made.append(records.feedback(call, at + 5, "thumb", float(good)))
        if i % 20 == 19:
            world.send(made)
            made = []
    world.send(made)
    world.clock.forward(10.0)
    world.heartbeat()
    world.send([records.tally(world.clock.now)])
    world.consume()


def feedback(case: Case) -> None:
    """A split by user that people's thumbs decide."""
    section = basic(
        {},
        swap=experiment(
            **SHARED, mode="split", split=0.5, unit="user", primary="feedback:thumb", margin=0.2,
            guardrails={"error_rate": 0.1, "latency_p95": 2.0}, feedback_window_s=3600, min_hours=0,
        ),
    )  # fmt: skip
    section["feedback"] = {"range": {"thumb": [0, 1]}}
    world, records, plan = begun(case, "feedback", section)
    for phase, count in enumerate((100, 500), start=1):
        send_served(world, records, plan, count, thumbs=0.75)
        world.clock.forward(7200.0)
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 2)
    case.keep("power", world.verb("ab", "power", "swap", "--json"))
    case.keep("state", world.state())


def both(case: Case) -> None:
    """A split by conversation whose controls are shadowed."""
    section = basic(
        {}, swap=experiment(mode="both", split=0.3, unit="conversation", guardrails={"error_rate": 0.1}, min_hours=0)
    )
    world, records, plan = begun(case, "both", section)
    send_pairs(world, records, plan, 60, {"candidate": 0.02}, 120.0)
    send_served(world, records, plan, 150, share=0.3, shift=0.02)
    case.keep("figures", world.work())
    case.reports("", world, "swap", html=True)
    case.keep("state", world.state())


def ramped(**changes: Any) -> dict[str, Any]:
    ramp = {"steps": [0.25, 1.0], "soak_s": 600, "min_units": 10, "mode": "auto", "stale_s": 900, "cooldown_s": 600}
    ramp |= changes.pop("ramp", {})
    own: dict[str, Any] = {"unit": "request", "margin": 0.15, "guardrails": {"error_rate": 0.1}, **changes}
    return basic(
        {},
        swap=experiment(repeat_control=0.3, min_hours=0, method="anytime", ramp=ramp, **own),
    )


def show_ramp(case: Case, prefix: str, world: World) -> None:
    """The ramp as its commands show it."""
    case.keep(f"{prefix}gate", world.verb("ab", "gate", "swap", "--json"), world.verb("ab", "gate", "swap"))
    case.keep(f"{prefix}history", world.verb("ab", "history", "swap"))
    case.keep(f"{prefix}stream", world.state()["stream"])


def promoted(case: Case) -> None:
    """A ramp to the end by itself, with a pause, its holdout, and the end of it."""
    world, records, plan = begun(
        case, "promoted", ramped(margin=0.4, guardrails={"error_rate": 0.45}, ramp={"steps": [0.5, 1.0]})
    )
    show_ramp(case, "begun: ", world)
    send_pairs(world, records, plan, 150, {"candidate": 0.03}, 60.0, odd=0.0)
    case.keep("shadows: figures", world.work())
    show_ramp(case, "first step: ", world)
    send_served(world, records, plan, 200, share=0.5, shift=0.03)
    case.keep("pause", world.verb("ab", "pause", "swap", "--reason", "the upstream is moved"))
    case.keep("paused: figures", world.work())
    case.keep("refused", world.verb("ab", "promote", "swap", "--reason", "now"))
    case.keep("resume", world.verb("ab", "resume", "swap", "--reason", "moved"))
    send_served(world, records, plan, 360, share=0.5, shift=0.03)
    world.work()
    show_ramp(case, "last step: ", world)
    send_served(world, records, plan, 200, share=0.98, shift=0.03)
    case.keep("figures", world.work())
    show_ramp(case, "promoted: ", world)
    send_served(world, records, plan, 150, share=0.98, shift=0.03)
    world.work()
    case.reports("holdout: ", world, "swap", html=True)
    case.keep("full", world.verb("ab", "promote", "swap", "--full", "--reason", "agreed"))
    world.work()
    case.keep("history as JSON", world.verb("ab", "history", "swap", "--json"))
    case.keep("state", world.state())


def rolled_back(case: Case) -> None:
    """A candidate that breaks on served calls, begins again, and is forced to all traffic by a person."""
    world, records, plan = begun(case, "rolled-back", ramped())
    send_pairs(world, records, plan, 150, {"candidate": 0.03}, 60.0, odd=0.0)
    world.work()
    send_served(world, records, plan, 300, share=0.25, fails=0.5)
    case.keep("figures", world.work())
    show_ramp(case, "rolled back: ", world)
    case.reports("", world, "swap", html=True)
    case.keep("cooling", world.verb("ab", "resume", "swap", "--reason", "fixed"))
    world.clock.forward(900.0)
    case.keep("resume", world.verb("ab", "resume", "swap", "--reason", "fixed"))
    case.keep("override", world.verb("ab", "override", "swap", "--full", "--reason", "the old engine is off tonight"))
    world.work()
    show_ramp(case, "overridden: ", world)
    case.keep("rollback", world.verb("ab", "rollback", "swap", "--reason", "customers complain"))
    world.work()
    case.keep("history as JSON", world.verb("ab", "history", "swap", "--json"))
    case.keep("state", world.state())


def advised(case: Case) -> None:
    """A ramp whose steps wait for a person, and one whose shadows are worse."""
    world, records, plan = begun(case, "advised", ramped(ramp={"mode": "advise", "holdout": 0}))
    send_pairs(world, records, plan, 150, {"candidate": 0.03}, 60.0, odd=0.0)
    case.keep("figures", world.work())
    show_ramp(case, "waits: ", world)
    case.keep("promote", world.verb("ab", "promote", "swap", "--reason", "agreed"))
    world.work()
    show_ramp(case, "promoted: ", world)
    send_served(world, records, plan, 300, share=0.25, shift=-0.5)
    world.work()
    show_ramp(case, "worse: ", world)
    case.keep("stop", world.verb("ab", "stop", "swap"))
    world.work()
    case.keep("state", world.state())
