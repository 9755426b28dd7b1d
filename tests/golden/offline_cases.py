"""Verdicts that no experiment carries: routes learned from pairs, and scores compared from files."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
from golden.cases import Case, basic, experiment
from golden.records import Records
from golden.shadow_cases import begun, score
from golden.world import World

from gateway.core.plan import Plan

QUESTIONS = (
    "What should I cook tonight?", "Write a Python function that merges two sorted lists.",
    "Translate to German: good morning", "Tell me something nice about Lisbon.", "Summarize this article in two lines.",
)  # fmt: skip


def send_by_question(world: World, records: Records, plan: Plan, count: int) -> None:
    """Sends pairs whose candidate loses where code is asked for, and lets the consumer store them."""
    for i in range(count):
        question, base = QUESTIONS[i % len(QUESTIONS)], records.random.uniform(0.8, 0.9)
        body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": question}]})
        text = score(base - (0.6 if "Python" in question else 0.0) + records.random.gauss(0, 0.02))
        fields = {"request": body, "client_bytes": len(body)}
        world.send(records.pair(plan, world.clock.forward(60.0), score(base), {"candidate": text}, **fields))
    world.send([records.tally(world.clock.now)])
    world.consume()


def route(case: Case) -> None:
    """A route that is learned, shown, and verified on newer pairs."""
    section = basic({}, swap=experiment(aa="proof", method="anytime", min_hours=0, after_verdict="continue"))
    world, records, plan = begun(case, "route", section)
    send_by_question(world, records, plan, 340)
    world.work()
    case.keep("learn", world.verb("route", "learn", "swap", "--json"), world.verb("route", "learn", "swap"))
    case.keep("write", world.verb("route", "learn", "swap", "--name", "small", "--write"))
    case.keep("show", world.verb("route", "show", "small", "--json"), world.verb("route", "show", "small"))
    case.keep("no newer pair", world.verb("route", "verify", "small"))
    send_by_question(world, records, plan, 60)
    world.work()
    case.keep("verify", world.verb("route", "verify", "small", "--json"), world.verb("route", "verify", "small"))


def write_scores(folder: Path, count: int = 60) -> None:
    """a.csv, and files of a better, a worse and a similar model, with clusters."""
    rng = random.Random("scores")
    control = [rng.gauss(0.5, 0.1) for _ in range(count)]
    for name, shift in {"a": 0.0, "better": 0.1, "worse": -0.2, "similar": 0.0}.items():
        rows = (
            f"{i},{i // 3},{value + (rng.gauss(shift, 0.1) if name != 'a' else 0)}" for i, value in enumerate(control)
        )
        (folder / f"{name}.csv").write_text("\n".join(("id,document,score", *rows)) + "\n")


def compare(case: Case) -> None:
    """Two files, four files, scores in clusters."""
    world = case.world("compare")
    write_scores(world.folder)
    for name, words in {
        "ships": ("a.csv", "better.csv"), "rejects": ("a.csv", "worse.csv", "--range", "-2,3"),
        "holds": ("a.csv", "similar.csv", "--margin", "0.01"),
        "several": ("a.csv", "better.csv", "worse.csv", "similar.csv"),
        "clusters": ("a.csv", "better.csv", "--cluster", "document", "--lower-is-better"),
    }.items():  # fmt: skip
        case.keep(f"{name} as JSON", world.verb("compare", *words, "--json"))
        case.keep(name, world.verb("compare", *words), world.verb("compare", *words, "--markdown"))
    case.keep("several as HTML", world.page("compare", "a.csv", "better.csv", "worse.csv", "similar.csv"))
