"""A deployment of the tree before, in which everything runs at once, and how it goes on.

`begin` makes it: a shadow, a split, a ramp at its first step, a guard at half of the units, and a route of which one
leaf is taken back; its last records are not read yet. `running.tar.xz` has what it left. `goes_on` continues it with
gateway processes of the next version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golden.cases import Case, basic, experiment
from golden.guard_cases import GUARD, send_judged, show_guard
from golden.records import Records
from golden.saved_world import restore, save
from golden.shadow_cases import score, send_pairs
from golden.split_cases import send_served, show_ramp
from golden.world import World

from gateway.core.learned_route import LearnedRoute, RouteLeaf, RouteTarget
from gateway.core.request_features import FEATURES

RUNNING = Path(__file__).with_name("running.tar.xz")
NAME, ROUTE = "running", "small-where-safe"
WATCH = f"{ROUTE}-watch"
SEGMENTS = {"by": ["metadata.product"], "margin": 0.15, "values": {"metadata.product": ["search", "chat"]}}
RAMP = {"steps": [0.5, 1.0], "soak_s": 600, "min_units": 10, "mode": "auto", "stale_s": 900, "cooldown_s": 600}
PLANS = ("other", "shared", "swap", WATCH)
"""The experiments; `swap` is the one with a ramp."""


def section() -> dict[str, Any]:
    """gateway.yaml with one of everything that lasts."""
    made = basic(
        {},
        swap=experiment(
            repeat_control=0.3, unit="request", margin=0.4, guardrails={"error_rate": 0.45}, method="anytime",
            min_hours=0, ramp=RAMP,
        ),
        other=experiment(
            model="other", repeat_control=0.5, guardrails={"error_rate": 0.1}, segments=SEGMENTS, min_hours=0,
            after_verdict="continue",
        ),
        shared=experiment(
            model="shared", shadow=None, mode="split", split=0.5, unit="user", guardrails={"error_rate": 0.1},
            min_hours=0,
        ),
    )  # fmt: skip
    chat = made["models"]["chat"]
    made["models"] |= {"other": chat, "shared": chat, "routed": {**chat, "targets": [{"route": ROUTE}]}}
    return {**made, "guards": {"own": GUARD}, "feedback": {"range": {"thumb": [0, 1]}}}


def route() -> LearnedRoute:
    """A tree with two leaves that are moved, and one that stays: requests for code."""
    bytes_, code = FEATURES.index("request_bytes"), FEATURES.index("code")
    short, long = RouteLeaf(True, "no code, short", 400, 0.4, 0.01), RouteLeaf(True, "no code, long", 400, 0.4, 0.01)
    return LearnedRoute(
        ROUTE, "tree", "routed", RouteTarget("local", "small"), RouteTarget("local", "new"),
        trees=((code, 0.5, (bytes_, 2000.0, (-1, 0), (-1, 1)), (-1, 2)),),
        leaves=(short, long, RouteLeaf(False, "code", 200, 0.2, -0.3)), scripts=("latin",),
        evidence={"experiment": "swap", "margin": 0.05, "alpha": 0.05, "primary": "stated", "curve": [],
                  "chosen": None},
    )  # fmt: skip


def send_watched(world: World, records: Records, count: int, losses: tuple[float, float]) -> None:
    """Sends pairs of moved answers and the control's, and lets the consumer store them. losses: of both leaves."""
    plan = world.plan(WATCH)
    for i in range(count):
        at, leaf = world.clock.forward(30.0), i % 2
        moved = min(max(records.random.gauss(0.5, 0.1), 0.0), 1.0)
        fields = {"route": f"{ROUTE}/{leaf}", "target": plan.control}
        world.send(records.pair(plan, at, score(moved), {"candidate": score(moved + losses[leaf])}, **fields))
    world.consume()


def begin(case: Case, path: Path) -> None:
    world, records = case.world(NAME), Records(NAME)
    world.configure(section())
    (world.folder / f"gateway.route.{ROUTE}.json").write_bytes(route().to_json())
    world.begin()
    for name in PLANS:
        world.verb("ab", "start", name)
    world.work()
    send_judged(world, records, 60, share=0.0, before="observe")
    world.verb("guard", "promote", "own", "--reason", "28 of 30 hits were right")
    world.work()
    send_judged(world, records, 160, share=0.0)
    world.work()
    send_watched(world, records, 60, (0.6, 0.1))
    send_pairs(world, records, world.plan("other"), 40, {"candidate": 0.01}, 60.0)
    send_served(world, records, world.plan("shared"), 40)
    send_pairs(world, records, world.plan("swap"), 80, {"candidate": 0.03}, 60.0, odd=0.0)
    world.work()
    send_served(world, records, world.plan("swap"), 60, share=0.5, shift=0.03)
    world.work()
    send_pairs(world, records, world.plan("other"), 20, {"candidate": 0.01}, 60.0, read=False)
    save(world, path)


def goes_on(case: Case) -> None:
    """Continues what the tree before left, from its last records to the ends of ramps."""
    world, records = restore(case, NAME, RUNNING), Records("the next version", incarnation="g2")
    world.configure(section())
    case.keep("before", world.state()["stream"], world.verb("ab", "list", "--json"))
    world.consume()
    case.keep("last records: figures", world.work())
    show_all(case, "last records: ", world)
    send_pairs(world, records, world.plan("other"), 40, {"candidate": 0.01}, 60.0)
    send_served(world, records, world.plan("shared"), 80)
    send_watched(world, records, 60, (0.0, 0.4))
    send_served(world, records, world.plan("swap"), 500, share=0.5, shift=0.03)
    case.keep("more: figures", world.work())
    send_judged(world, records, 400, share=0.5)
    case.keep("more judged: figures", world.work())
    show_all(case, "more: ", world)
    send_served(world, records, world.plan("swap"), 150, share=0.98, fails=0.6)
    case.keep("end: figures", world.work())
    send_judged(world, records, 200, share=1.0, hits=0.6, thumbs=0.9)
    case.keep("end judged: figures", world.work())
    show_all(case, "end: ", world)
    case.keep("history", world.verb("ab", "history", "swap", "--json"), world.verb("guard", "history", "own", "--json"))
    case.keep("state", world.state())


def show_all(case: Case, prefix: str, world: World) -> None:
    for name in PLANS:
        case.reports(f"{prefix}{name}: ", world, name)
    show_ramp(case, prefix, world)
    show_guard(case, f"{prefix}guard: ", world)
