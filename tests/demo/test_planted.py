"""The planted models and their traffic: the candidate loses in one kind of request alone."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest
import yaml

from gateway.config.loading import parse
from gateway.demo.planted import CANDIDATE, CONTROL, KINDS, PRICES, USERS, WORST, answer, config, requests


def valid(model: str, prompt: str) -> bool:
    try:
        return isinstance(json.loads(answer(model, prompt)), dict)
    except ValueError:
        return False


def test_the_candidate_is_as_good_except_about_code() -> None:
    asked = list(islice(requests(), 4_000))
    for kind in KINDS:
        prompts = [request.prompt for request in asked if request.kind == kind]
        shares = [sum(valid(model, prompt) for prompt in prompts) / len(prompts) for model in (CONTROL, CANDIDATE)]
        assert shares == pytest.approx([0.97, 0.45 if kind == WORST else 0.97], abs=0.06)


def test_requests_are_different_and_of_many_users() -> None:
    asked = list(islice(requests(), 4_000))
    assert len({request.prompt for request in asked}) == 4_000
    users = Counter(request.user for request in asked)
    assert len(users) == USERS
    assert max(users.values()) < 3 * 4_000 / USERS
    kinds = Counter(request.kind for request in asked)
    assert {kind: kinds[kind] / 4_000 for kind in KINDS} == pytest.approx(KINDS, abs=0.03)


def test_the_config_has_no_mistake_and_leaves_out_the_hours_alone() -> None:
    read = parse(yaml.safe_dump(config("http://127.0.0.1:9000/v1")), environ={})
    experiment = read.experiments["cheaper"]
    assert (experiment.min_hours, experiment.alpha, experiment.unit) == (0, 0.05, "user")
    assert experiment.segments is not None
    assert experiment.segments.weak_spots == 0.02
    assert {name: PRICES[CANDIDATE][name] / price for name, price in PRICES[CONTROL].items()} == {
        "input": 0.1, "output": 0.1,
    }  # fmt: skip
