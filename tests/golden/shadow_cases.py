"""Experiments that ask shadows: a hybrid plan with segments, several candidates, the best of k, a judge with labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from golden.cases import Case, basic, experiment
from golden.records import Records
from golden.world import World

from gateway.core.plan import Plan
from gateway.core.segments import CallSegments

PREFERENCE = {"preferred": {"use": "golden.stated_scores:StatedPreference"}, "edit_distance": {}}


def prices(**usd: float) -> dict[str, Any]:
    """Prices by the name of a model of `local`."""
    models = {f"local/{name}": {"input": price, "output": 2 * price} for name, price in usd.items()}
    return {"as_of": "2026-09-01", "models": models}


def score(value: float) -> str:
    return f"{min(max(value, 0.0), 1.0):.3f} of it"


def send_pairs(
    world: World, records: Records, plan: Plan, count: int, shifts: Mapping[str, float], every_s: float = 600.0,
    *, odd: float = 0.09, read: bool = True,
) -> None:  # fmt: skip
    """Sends pairs and lets the consumer store them. shifts: of each candidate's mean, by arm. odd: share of pairs with
    an answer that failed, was lost or has no score. read: whether the consumer stores them now."""
    rng, found = records.random, []
    for i in range(count):
        at = world.clock.forward(every_s)
        base = rng.betavariate(6, 3)
        arms = {arm: score(base + shift + rng.gauss(0, 0.05)) for arm, shift in shifts.items()}
        again = {"repeat": score(base + rng.gauss(0, 0.05))} if rng.random() < plan.repeat_control else {}
        answers: dict[str, str | None] = {**arms, **again}
        served = score(base)
        if rng.random() < odd:
            kind = i % 4
            served = "failed" if kind == 0 else served
            answers[next(iter(shifts))] = (answers[next(iter(shifts))], "failed", None, "n/a")[kind]
        found += records.pair(plan, at, served, answers, **fields_of(plan, i, rng.random()))
        if i % 20 == 19:
            world.send(found)
            found = []
    world.send(found)
    world.clock.forward(120.0)
    world.send([records.tally(world.clock.now)])
    if read:
        world.consume()
    else:
        world.append()


def fields_of(plan: Plan, i: int, drawn: float) -> dict[str, Any]:
    """Inclusion probability, conversation and segments of a pair."""
    sampled: dict[str, Any] = {"pi": 0.5 if drawn < 0.3 else 1.0}
    sampled |= {} if plan.ramp and plan.unit == "request" else {"cluster": f"conversation-{i // 2}"}
    if plan.segments is None:
        return sampled
    named = plan.segments.of({"metadata.product": "search" if drawn < 0.4 else "chat"})
    return {**sampled, "segments": CallSegments(named).to_json()}


def begun(case: Case, name: str, section: dict[str, Any]) -> tuple[World, Records, Plan]:
    """A world whose experiment `swap` has just begun."""
    world = case.world(name)
    world.configure(section)
    world.begin()
    case.keep("start", world.verb("ab", "start", "swap"))
    case.keep("figures at the start", world.work())
    return world, Records(f"{case.name} {name}"), world.plan("swap")


def shadow(case: Case) -> None:
    """Sampled shadows with an A/A control, guardrails, strata, segments, and a search for weak spots; then `ship`."""
    segments = {"by": ["metadata.product", "tools"], "margin": 0.15, "values": {"metadata.product": ["search", "chat"]}}
    section = basic(
        PREFERENCE,
        swap=experiment(
            repeat_control=0.5, guardrails={"error_rate": 0.1, "total_s": 0.5, "cost_per_1k": 1.0},
            strata=["caller", "stream"], segments=segments, min_hours=4, after_verdict="continue",
        ),
        prices=prices(small=2, new=1),
    )  # fmt: skip
    world, records, plan = begun(case, "shadow", section)
    for phase, count in enumerate((30, 70, 80), start=1):
        send_pairs(world, records, plan, count, {"candidate": 0.01})
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 3)
    case.keep("power", world.verb("ab", "power", "swap", "--json"), world.verb("ab", "power", "swap", "--chart"))
    case.keep("stop", world.verb("ab", "stop", "swap"), world.verb("ab", "list", "--json"))
    case.keep("state", world.state())


def rejected(case: Case) -> None:
    """A guaranteed plan without repeats that ends with `reject`, and stops itself."""
    section = basic(PREFERENCE, swap=experiment(method="guaranteed", guardrails={"error_rate": 0.1}, min_hours=0))
    world, records, plan = begun(case, "rejected", section)
    send_pairs(world, records, plan, 150, {"candidate": -0.4})
    case.keep("figures", world.work())
    case.reports("", world, "swap", html=True)
    case.keep("state", world.state())


def several(case: Case) -> None:
    """Two candidates that share alpha by Holm, compared with the repeat."""
    section = basic(
        PREFERENCE,
        swap=experiment(
            candidate=None, candidates={arm: {"upstream": "local", "model": arm} for arm in ("good", "bad")},
            compare="repeat", method="anytime", aa="proof", min_hours=0,
        ),
    )  # fmt: skip
    world, records, plan = begun(case, "several", section)
    for phase, count in enumerate((30, 100), start=1):
        send_pairs(world, records, plan, count, {"good": 0.05, "bad": -0.3})
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 2)
    case.keep("report of good", world.verb("report", "swap", "--candidate", "good", "--json"))
    case.keep("state", world.state())


def best(case: Case) -> None:
    """The best of three candidates: one is dropped, and the experiment ends."""
    arms = ("one", "two", "three")
    section = basic(
        PREFERENCE,
        swap=experiment(
            candidate=None, candidates={arm: {"upstream": "local", "model": arm} for arm in arms}, family="best",
            repeat_control=0.25, min_hours=0,
        ),
        prices=prices(small=1, one=2, two=3, three=4),
    )  # fmt: skip
    world, records, plan = begun(case, "best", section)
    for phase, count in enumerate((30, 100), start=1):
        send_pairs(world, records, plan, count, {"one": 0.1, "two": 0.08, "three": -0.3})
        case.keep(f"{phase}: figures", world.work())
        case.reports(f"{phase}: ", world, "swap", html=phase == 2)
    case.keep("power", world.verb("ab", "power", "swap", "--json"), world.verb("ab", "power", "swap"))
    case.keep("state", world.state())


def judged(case: Case) -> None:
    """A judge decides; people have labelled some of its verdicts."""
    section = basic(
        {"judged": {"use": "golden.stated_scores:StatedJudge"}, "preferred": PREFERENCE["preferred"]},
        swap=experiment(primary="judged", guardrails={"preferred": 0.2}, min_hours=0, after_verdict="continue"),
    )
    world, records, plan = begun(case, "judged", section)
    send_pairs(world, records, plan, 120, {"candidate": 0.0})
    case.keep("figures", world.work())
    case.reports("unlabelled: ", world, "swap")
    label(world, "judged", 80)
    case.keep(
        "calibrate", world.verb("judge", "calibrate", "judged"), world.verb("judge", "calibrate", "judged", "--json")
    )
    case.reports("labelled: ", world, "swap", html=True)
    case.keep("power", world.verb("ab", "power", "swap", "--json"))
    case.keep("state", world.state())


def label(world: World, scorer: str, count: int) -> None:
    """Fills in a blind sheet: one person agrees with three of four answers above one half."""
    world.verb("label", "export", "sheet.csv", "--scorer", scorer, "--next", str(count), "--as", "ada")
    path = world.folder / "sheet.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        good = row["answer"] > "0.5" if "answer" in row else True
        row["verdict"] = "good" if good != (i % 4 == 0) else "bad"
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(rows)
    world.verb("label", "import", "sheet.csv", "--scorer", scorer, "--as", "ada")
