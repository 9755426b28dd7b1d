"""The experiment that a route is learned from, as the store and the config have it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.features.route.boosting import DEPTH, TREES
from gateway.features.route.experiment import pairs_of, terms_of, with_choices
from gateway.features.route.learning import NotLearnable
from gateway.features.route.report import yaml_lines
from gateway.features.route.rows import stored_pairs
from gateway.store.query import reading


async def test_the_pairs_have_the_known_facts_of_each_request(experiment: Any) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 12)
    config = load(experiment.path)

    def read() -> None:
        with reading(experiment.room.store_url) as connection:
            terms = terms_of(connection, config, "swap")
            assert (str(terms.control.target), str(terms.moved.target)) == ("u0/model-u0", "u1/small")
            assert (terms.name, terms.margin, terms.plan_hash) == ("swap-route", 0.1, plan.hash)
            pairs = pairs_of(connection, terms)
            assert (len(pairs), pairs.place.tolist()) == (12, list(range(1, 13)))
            assert pairs_of(connection, terms, after=8).place.tolist() == [9, 10, 11, 12]
            [first, *_] = stored_pairs(connection, name := sequence(terms))
            assert (first.caller, first.api, first.client_bytes, first.pi) == ("web", "chat", len(first.request), 1.0)
            assert name.candidate == "candidate"

    await asyncio.to_thread(read)


def sequence(terms: Any) -> Any:
    from gateway.core.sequence import SequenceName

    return SequenceName(terms.plan_hash, terms.candidate, terms.plan.primary, "1 c1")


async def test_a_config_that_compares_something_else_now_is_refused(experiment: Any) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 5)
    experiment.configure(candidate={"upstream": "u1", "model": "smaller"})

    def read() -> None:
        with reading(experiment.room.store_url) as connection:
            terms_of(connection, load(experiment.path), "swap")

    with pytest.raises(NotLearnable, match="its plan compares u1/small, and the config has u1/smaller now"):
        await asyncio.to_thread(read)


def test_choices_outside_their_range_are_refused() -> None:
    from fixtures.route_worlds import terms

    assert with_choices(terms(), "x", 0.2, 0.1).margin == 0.2
    for margin, alpha in ((0.0, 0.05), (1.0, 0.05), (0.1, 0.0), (0.1, 0.9)):
        with pytest.raises(CannotRun, match="is outside"):
            with_choices(terms(), None, margin, alpha)


def test_the_experiment_of_a_route_reads_as_yaml() -> None:
    import yaml
    from fixtures.learned_routes import a_route

    written = yaml.safe_load(yaml_lines(a_route(), "judge", 0.05))["small-where-safe"]
    assert written["candidate"] == {"route": "small-where-safe"}
    assert written["control"] == {"upstream": "u0", "model": "model-u0"}


def test_boosted_trees_are_within_what_a_file_may_hold() -> None:
    assert (TREES, DEPTH) == (100, 6)
