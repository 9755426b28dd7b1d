"""`gateway route` on the pairs of a store: from an experiment to a frozen route, and why there may be none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fixtures.json_outputs import conforms

from gateway.config.derive import plans_of
from gateway.config.loading import load
from gateway.config.routes import read_route
from gateway.core.learned_route import RouteLeaf
from gateway.features.route.report import leaf_lines

Run = Callable[..., str]


async def in_thread(run: Run, *words: str, **options: Any) -> str:
    return await asyncio.to_thread(run, *words, **options)


async def test_the_road_from_pairs_to_a_candidate(experiment: Any, run: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 340)
    learned = await in_thread(run, "learn", "swap", "--name", "small-where-safe", "--write")
    assert "small-where-safe: moves 7" in learned or "small-where-safe: moves 8" in learned
    assert "control" in next(line for line in learned.splitlines() if line.endswith("  code"))
    assert "candidate: {route: small-where-safe}" in learned
    shown = await in_thread(run, "show", "small-where-safe")
    route = read_route(experiment.path, "small-where-safe")
    assert f"digest {route.digest}" in shown
    assert "learned from swap" in shown
    assert conforms("route show", await in_thread(run, "show", "small-where-safe", "--json"))["digest"] == route.digest
    assert "no pair that it was not learned from" in await in_thread(run, "verify", "small-where-safe")
    await experiment.send(plan, 60)
    verified = conforms("route verify", await in_thread(run, "verify", "small-where-safe", "--json"))
    assert (verified["pairs"], verified["state"] in ("holds", "undecided")) == (60, True)
    config = yaml.safe_load(experiment.path.read_text())
    config["experiments"]["proof"] = {
        **config["experiments"]["swap"], "candidate": {"route": "small-where-safe"}
    }  # fmt: skip
    experiment.path.write_text(yaml.safe_dump(config))
    assert plans_of(load(experiment.path))["proof"].candidates == (("candidate", route.target),)
    assert "exists, and a frozen route stays as it is" in str(
        await in_thread(lambda: refusal(run, "learn", "swap", "--name", "small-where-safe", "--write"))
    )


def refusal(run: Run, *words: str) -> str:
    with pytest.raises(AssertionError) as found:
        run(*words)
    return str(found.value)


async def test_a_route_that_loses_too_much_on_new_pairs_fails(experiment: Any, run: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 320, lost=0.0)
    await in_thread(run, "learn", "swap", "--write")
    shown = await in_thread(run, "show", "swap-route")
    assert [line.split("  ")[0] for line in shown.splitlines() if line.startswith("leaf")] == ["leaf"]
    await experiment.send(plan, 200, lost=0.5, always=True)
    said = await in_thread(run, "verify", "swap-route", code=1)
    assert "swap-route: loses too much: on 200 pairs it moves 100%" in said
    assert re.search(r"→ moved +200  \+0\.5", said), "a loss is positive, as what `learn` and `show` print"


def test_learn_prints_the_sign_that_verify_prints() -> None:
    heading, kept, lost = leaf_lines(
        [RouteLeaf(True, "chat", 800, 0.8, 0.01), RouteLeaf(False, "code", 200, 0.2, -0.3)]
    )
    assert heading.split() == ["leaf", "goes", "to", "share", "pairs", "loss", "requests"]
    assert kept.split() == ["0", "→", "moved", "80%", "800", "−0.010", "chat"]
    assert lost.split() == ["1", "control", "20%", "200", "+0.300", "code"]


async def test_a_margin_that_nothing_meets_moves_nothing(experiment: Any, run: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 320)
    said = await in_thread(run, "learn", "swap", "--margin", "0.0001", code=1)
    assert "no share can be moved: none is shown to lose at most 0.0001 of valid_json" in said
    refused = await in_thread(run, "learn", "swap", "--margin", "0.0001", "--json", code=1)
    assert conforms("route learn", refused)["learned"] is False


async def test_few_pairs_are_refused(experiment: Any, refused: Run) -> None:
    plan = experiment.configure()
    assert "has not been started" in await in_thread(refused, "learn", "swap")
    await experiment.room.begin(plan)
    await experiment.send(plan, 20)
    assert "swap has 20 pairs with a value of valid_json" in await in_thread(refused, "learn", "swap")


async def test_requests_that_are_not_recorded_teach_nothing(experiment: Any, refused: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 20, request=b"{}")
    assert "has 0 pairs with a value of valid_json; 20 more have no readable request" in await in_thread(
        refused, "learn", "swap"
    )


async def test_red_gates_are_refused(experiment: Any, refused: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 30)
    experiment._paired = other_requests(experiment._paired)
    await experiment.send(plan, 10)
    said = await in_thread(refused, "learn", "swap")
    assert "the gates of swap are red, so its pairs show nothing" in said


def other_requests(paired: Any) -> Any:
    """The arms of each pair were asked something else."""

    def make(*given: Any, **more: Any) -> Any:
        served, *arms = paired(*given, **more)
        for at, each in enumerate([served, *arms]):
            each.request_digest = f"openai:{at}"
        return [served, *arms]

    return make


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "split", "shadow": None, "repeat_control": None, "aa": None}, "answers of one arm only"),
        ({"primary": None, "margin": None}, "needs a primary metric in [0, 1] with a margin; it has none"),
        ({"candidate": None, "candidates": {arm: {"upstream": "u1", "model": arm} for arm in "ab"}},
         "choose one with --arm: a, b"),
    ],
)  # fmt: skip
async def test_experiments_without_fitting_pairs_are_refused(
    experiment: Any, refused: Run, changes: dict[str, Any], reason: str
) -> None:
    plan = experiment.configure(**changes)
    await experiment.room.begin(plan)
    async with experiment.room.consuming():
        await experiment.room.until(lambda: experiment.room.sql("SELECT count(*) FROM plans")[0][0])
    assert reason in await in_thread(refused, "learn", "swap")


async def test_words_that_mean_nothing_are_refused(experiment: Any, refused: Run) -> None:
    experiment.configure()
    for words, reason in (
        (("learn", "swop"), 'no experiment "swop" in the config; there are: swap'),
        (("learn", "swap", "--kind", "forest"), 'no kind "forest"'),
        (("learn", "swap", "--name", "../x"), "expected letters"),
        (("show", "none"), 'no route "none"'),
        (("verify", "none"), 'no route "none"'),
    ):
        assert reason in await in_thread(refused, *words), words
