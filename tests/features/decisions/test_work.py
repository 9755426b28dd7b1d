"""Certificates over a store: labels by the desk, a map, a zone, a certificate, and what ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gateway.config.loading import parse
from gateway.core.errors import CannotRun
from gateway.features.decisions.model import CertificateFinding, Promise
from gateway.features.decisions.rows import newest_attempts, stored_tries
from gateway.features.decisions.work import certify, findings, follow, look, promise_named, promises_of
from gateway.features.labels.blind import LabelVerdict
from gateway.features.labels.desk import Desk, LabelRequest, save_labels
from gateway.features.labels.rows import version_of
from gateway.statistics.recalibration import PlattMap
from gateway.store.query import reading, writing

CONFIG = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
scorers: {stated: {use: valid_json}, absent: {use: valid_json}}
decisions: {wrong: 0.1, certificates: {auto: {scorer: stated}, other: {scorer: absent, wrong: 0.02}}}
"""
PROMISE = Promise("auto", "stated", 0.05, 0.9, "threshold")
TRUTH = PlattMap(-2.0, 1.5)
"""Too sure in the middle; right at the top."""
WORSE = PlattMap(-7.0, 1.5)


@dataclass
class People:
    """Labellers who know the truth of each answer, which its own text has: "0.93 1"."""

    url: str
    seconds: itertools.count[int] = field(default_factory=lambda: itertools.count(10_000))

    def label(
        self, n: int, favour: float = 1.0, name: str = "ada", err: Callable[[int], bool] = lambda _: False
    ) -> None:
        """Labels the next answers in the order of the draw. err: whether the n-th verdict is wrong."""
        given = []
        with reading(self.url) as connection:
            again = name != "ada"
            request = LabelRequest("stated", name, favour=favour, again=again)
            desk = Desk(connection, request, lambda: float(next(self.seconds)))
            for at in range(n):
                drawn = desk.next(connection)
                assert drawn is not None, "no answer is left"
                truth = float(drawn.blind.answers[0].split()[1])
                given.append(desk.label(drawn, LabelVerdict(1.0 - truth if err(at) else truth)))
        save_labels(self.url, given)

    def certify(self, promise: Promise = PROMISE) -> CertificateFinding:
        with writing(self.url) as connection:
            return certify(connection, promise, float(next(self.seconds)))


@pytest.fixture
def judged(keep: Callable[..., str], exchange: Callable[..., Any]) -> Callable[..., People]:
    """Stores answers whose probabilities are too sure, and the people who label them."""

    def write(n: int = 3_000, truth: PlattMap = TRUTH, seed: int = 51, **fields: Any) -> People:
        random = np.random.default_rng(seed)
        easy = random.random(n) < 0.35
        p = np.where(easy, random.uniform(0.992, 0.999, n), random.beta(2.0, 2.0, n)).clip(0.001, 0.999).round(6)
        good = random.random(n) < truth(p)
        answers = [f"{x:.6f} {int(y)}" for x, y in zip(p, good, strict=True)]
        return People(keep([exchange(text, id=f"{seed}-{at}") for at, text in enumerate(answers)], **fields))

    return write


def test_the_story_from_labels_to_a_lapse(judged: Callable[..., People]) -> None:
    people = judged()
    people.label(99)
    found = people.certify()
    assert (found.state, found.labels, found.attempt) == ("open", 99, None)
    people.label(1)
    found = people.certify()
    assert found.in_force.labels == 100, "overconfidence is found by the first hundred"
    assert found.in_force.map.intercept < -0.5
    assert found.attempt is not None
    thresholds = [zone.threshold for zone in found.attempt.zones]
    for _ in range(20):
        people.label(25, favour=0.01)
        found = people.certify()
        if found.certified is not None:
            break
    assert found.certified is not None
    assert found.certified.threshold in thresholds, "they were fixed before the labels that tested them"
    assert found.certified.share > 0.03
    assert found.attempt is not None
    assert 75 <= found.attempt.zone_labels <= 300
    judged(1_500, WORSE, seed=52, now=5_000.0)
    people.label(200, favour=0.01)
    found = people.certify()
    assert (found.state, found.certified) == ("lapsed", None)
    assert found.attempt is not None
    assert found.attempt.reason in ("drift", "labels")
    with reading(people.url) as connection:
        assert newest_attempts(connection)["auto"] == found.attempt
        assert look(connection, PROMISE, 1.0).state == "lapsed", "until somebody asks for it again"


def test_nothing_is_stored_by_a_look(judged: Callable[..., People]) -> None:
    people = judged(400)
    people.label(100)
    with reading(people.url) as connection:
        look(connection, PROMISE, 1.0)
        assert newest_attempts(connection) == {}
        version = version_of(connection, "stated")
        assert version is not None
        assert stored_tries(connection, version) == []


def test_a_consumer_stores_a_lapse_and_gives_nothing(judged: Callable[..., People]) -> None:
    people = judged(600)
    people.label(100)
    with writing(people.url) as connection:
        follow(connection, PROMISE, 1.0)
        assert newest_attempts(connection) == {}
    people.certify()
    with writing(people.url) as connection:
        follow(connection, Promise("auto", "stated", 0.1, 0.9, "threshold"), 2.0)
        assert newest_attempts(connection)["auto"].reason == "promise"


def test_a_try_that_is_stored_is_not_repeated(judged: Callable[..., People]) -> None:
    people = judged(1_000)
    people.label(100)
    first = people.certify()
    people.label(30)
    again = people.certify()
    assert again.tries == first.tries
    assert again.attempt == first.attempt


def test_a_changed_promise_ends_the_certificate(judged: Callable[..., People]) -> None:
    people = judged(600)
    people.label(100)
    before = people.certify().attempt
    other = Promise("auto", "stated", 0.1, 0.9, "threshold")
    ended = people.certify(other)
    assert ended.attempt is not None
    assert (ended.state, ended.attempt.reason) == ("lapsed", "promise")
    stricter = people.certify(other)
    assert before is not None
    assert before.promise.wrong == 0.05
    assert stricter.attempt is not None
    assert (stricter.attempt.promise.wrong, stricter.state) == (0.1, "open")


def test_people_who_disagree_are_refused(judged: Callable[..., People]) -> None:
    people = judged(600)
    people.label(100)
    assert people.certify().people is None, "unknown until answers are labelled twice"
    people.label(60, name="bob", err=lambda n: n % 4 == 0)
    found = people.certify()
    assert found.people is not None
    assert (found.people.twice, found.people.differ) == (60, 15)
    assert found.people.low >= 0.025
    assert "people disagree about 15 of 60" in found.refused


def test_one_hot_scores_are_refused(keep: Callable[..., str], exchange: Callable[..., Any]) -> None:
    people = People(keep([exchange(f"{n % 2} {n % 2}", id=str(n)) for n in range(300)]))
    people.label(120)
    found = people.certify()
    assert "only 0 and 1" in found.refused
    assert found.certified is None


def test_certificates_are_those_of_the_config(judged: Callable[..., People]) -> None:
    config = parse(CONFIG)
    promises = promises_of(config)
    assert [(p.name, p.wrong, p.confidence) for p in promises] == [("auto", 0.1, 0.9), ("other", 0.02, 0.9)]
    assert promise_named(config, "auto").labelled_as == "stated"
    with pytest.raises(CannotRun, match='did you mean "auto"'):
        promise_named(config, "autos")
    people = judged(200)
    with reading(people.url) as connection:
        assert [found.promise.name for found in findings(connection, promises, 1.0)] == ["auto"]


def test_the_reading_of_a_promise_is_that_of_its_model() -> None:
    reads = "decisions: {reading: structured, probed: 2026-12-03}"
    text = CONFIG.replace(
        "targets: [{upstream: local, model: small}]", f"targets: [{{upstream: local, model: small}}], {reads}"
    )
    text = text.replace("stated: {use: valid_json}", "stated: {use: judge, model: chat}")
    auto, other = promises_of(parse(text))
    assert (auto.alias, auto.reading) == ("chat", "structured")
    assert (other.alias, other.reading) == ("", "")
