"""Certificates in simulated worlds: how often a wrong one is given, and what ends one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.features.decisions.certification import (
    Evidence,
    all_tries,
    drift_margin,
    drift_since,
    examine,
    map_in_force,
    zone_findings,
)
from gateway.features.decisions.labelled import LabelledCalls
from gateway.features.decisions.model import (
    CertificateAttempt,
    CertificateFinding,
    MapInForce,
    Promise,
    StoredTry,
    Zone,
    attempt_from_json,
)
from gateway.statistics.calibration_drift import MARGIN
from gateway.statistics.domains import Floats
from gateway.statistics.recalibration import IDENTITY, PlattMap, expit, logit

PROMISE = Promise("auto", "s", 0.1, 0.9, "threshold")
RUNS = [60, pytest.param(2_000, marks=(pytest.mark.long, pytest.mark.timeout(1200)))]


class World:
    """Labels in order, first over all traffic and then above one half, of a scorer with a known truth."""

    def __init__(self, seed: int, truth: PlattMap = IDENTITY, shape: tuple[float, float] = (0.7, 0.5)) -> None:
        self.random, self.truth, self.shape = np.random.default_rng(seed), truth, shape
        self.traffic = self._probabilities(4_000)

    def _probabilities(self, n: int) -> Floats:
        return self.random.beta(*self.shape, n).clip(0.001, 0.999)

    def calls(self, first: int, later: int) -> LabelledCalls:
        above = self._probabilities(20 * later + 200)
        p = np.concatenate([self._probabilities(first), above[above >= 0.5][:later]])
        y = (self.random.random(p.size) < self.truth(p)).astype(float)
        ids = tuple(map(str, range(p.size)))
        at = np.arange(p.size, dtype=np.float64)
        return LabelledCalls(p, y, np.ones(p.size), at, ids, tuple({"ada": v} for v in y))

    def error_from(self, attempt: CertificateAttempt) -> float:
        """The true error of the certified zone."""
        assert attempt.certified is not None
        p = self._probabilities(20_000)
        return float(1.0 - self.truth(p[attempt.map(p) >= attempt.certified.threshold]).mean())


def looked(
    world: World,
    calls: LabelledCalls,
    promise: Promise = PROMISE,
    tries: Sequence[StoredTry] = (),
    attempt: CertificateAttempt | None = None,
    **more: Any,
) -> CertificateFinding:
    traffic = world.traffic, np.ones(world.traffic.size)
    plain = Evidence(promise, "q", calls, traffic, tries, attempt, now=float(calls.n), gives=True)
    return examine(replace(plain, **more))


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(
    ("truth", "shape"),
    [(PlattMap(-0.3, 0.6), (0.7, 0.5)), (IDENTITY, (0.7, 0.5)), (PlattMap(-0.8, 1.0), (3.0, 1.0))],
    ids=["overconfident", "calibrated", "shifted"],
)
def test_wrong_certificates_are_at_most_delta(truth: PlattMap, shape: tuple[float, float], runs: int) -> None:
    """Looks after 100 labels over all traffic and 100, 200, 300 and 400 above one half."""
    wrong, given = 0, 0
    for seed in range(runs):
        world = World(seed, truth, shape)
        calls, tries, attempt = world.calls(100, 400), (), None
        for n in (100, 200, 300, 400, 500):
            found = looked(world, calls.part(slice(0, n)), tries=tries, attempt=attempt)
            tries, attempt = found.tries, found.attempt
            if found.certified is not None and attempt is not None:
                given += 1
                wrong += world.error_from(attempt) > PROMISE.wrong
                break
    assert wrong / runs <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / runs)
    if truth.is_identity:
        assert given / runs > 0.2


def certified(world: World) -> tuple[LabelledCalls, CertificateFinding]:
    calls = world.calls(100, 900)
    opened = looked(world, calls.part(slice(0, 100)))
    found = looked(world, calls, tries=opened.tries, attempt=opened.attempt)
    assert found.certified is not None
    return calls, found


@pytest.fixture(scope="module")
def kept() -> tuple[World, LabelledCalls, CertificateFinding]:
    """A certificate, with its world and its labels."""
    world = World(3, shape=(5.0, 0.3))
    return world, *certified(world)


Kept = tuple[World, LabelledCalls, CertificateFinding]


def test_a_certificate_stays_while_nothing_changes(kept: Kept) -> None:
    world, calls, found = kept
    again = looked(world, calls, tries=found.tries, attempt=found.attempt)
    assert (again.state, again.attempt) == ("certified", found.attempt)


def test_a_changed_question_ends_it(kept: Kept) -> None:
    world, calls, found = kept
    again = looked(world, calls.part(slice(0, 50)), tries=found.tries, attempt=found.attempt, question="other")
    assert again.attempt is not None
    assert (again.state, again.attempt.reason, again.certified) == ("lapsed", "question", None)


def test_a_changed_promise_ends_it(kept: Kept) -> None:
    world, calls, found = kept
    again = looked(world, calls, replace(PROMISE, wrong=0.02), found.tries, found.attempt)
    assert again.attempt != found.attempt
    assert again.attempt is None or again.attempt.promise.wrong == 0.02 or again.attempt.reason == "promise"


def test_a_new_map_ends_it(kept: Kept) -> None:
    world, calls, found = kept
    newest = found.tries[-1]
    forced = StoredTry(replace(newest.tried, labels=10_000, accepted=True, map=PlattMap(0.01, 1.0)), calls.at[-1])
    again = looked(world, calls.part(slice(0, 90)), tries=(*found.tries, forced), attempt=found.attempt)
    assert again.attempt is not None
    assert again.attempt.reason == "map"


def test_labels_that_come_later_end_it(kept: Kept) -> None:
    """The zone's error has risen to 40 %; the drift alarm may ring first."""
    world, calls, found = kept
    more = world.calls(0, 150)
    y = (np.arange(more.n) % 5 >= 2).astype(float)
    joined = LabelledCalls(
        np.concatenate([calls.p, more.p]),
        np.concatenate([calls.y, y]),
        np.ones(calls.n + more.n),
        np.arange(calls.n + more.n, dtype=np.float64),
        tuple(map(str, range(calls.n + more.n))),
        tuple({"ada": 1.0} for _ in range(calls.n + more.n)),
    )
    again = looked(world, joined, tries=found.tries, attempt=found.attempt)
    assert again.attempt is not None
    assert again.attempt.reason in ("drift", "labels")


def test_an_attempt_is_read_as_it_was_stored(kept: Kept) -> None:
    attempt = kept[2].attempt
    assert attempt is not None
    columns = {"given": attempt.given, "lapsed": attempt.lapsed, "reason": attempt.reason}
    assert attempt_from_json(attempt.to_json(), **columns) == attempt


def test_no_zone_is_promised_where_none_is_predicted() -> None:
    world = World(4, shape=(20.0, 20.0))
    found = looked(world, world.calls(120, 0), replace(PROMISE, wrong=0.01))
    assert (found.attempt, found.zones, found.state) == (None, (), "open")


def test_an_average_promise_is_about_all_traffic() -> None:
    promise = replace(PROMISE, guarantee="average")
    world = World(5)
    found = looked(world, world.calls(300, 0), promise)
    assert found.certified is not None
    calls = world.calls(300, 0)
    unequal = replace(calls, weight=np.where(np.arange(calls.n) % 2, 1.0, 5.0))
    assert "equal probability" in looked(world, unequal, promise).refused


def test_conversations_count_once_however_long_they_are() -> None:
    """One in ten conversations is wrong throughout; the bound is a tenth, so a certificate in more than a tenth of the
    runs breaks the promise. As independent labels, most runs would have one."""
    given = np.zeros(2)
    for seed in range(100):
        random = np.random.default_rng(seed)
        wrong = np.repeat(random.random(60) < 0.1, 10)
        p = np.full(700, 0.97)
        y = np.concatenate([np.ones(100), 1.0 - wrong])
        alone = tuple(map(str, range(700)))
        together = (*alone[:100], *(f"c{at // 10}" for at in range(600)))
        for kind, units in enumerate((together, alone)):
            calls = LabelledCalls(p, y, np.ones(700), np.arange(700) * 1.0, units, ({"ada": 1.0},) * 700)
            attempt = CertificateAttempt(PROMISE, "q", IDENTITY, 0, (Zone(0.9, 1.0, 0.03),), 0.0, 99.0, 100)
            given[kind] += any(found.certified for found in zone_findings(attempt, calls))
    assert given[0] <= 10 + 3 * math.sqrt(100 * 0.1 * 0.9)
    assert given[1] > given[0] + 20


def test_a_map_that_few_labels_fitted_rings_rarely_and_drift_is_found() -> None:
    """Looks at 150, 300, 600, 1 000 and 1 500 labels, in a world that stays and in one that changes at 300. A change
    that a new map takes in rings no alarm; the new map ends certificates then."""
    rung = {0.0: 0, 1.0: 0}
    for shift, seed in ((shift, seed) for shift in rung for seed in range(40)):
        random = np.random.default_rng(seed)
        p = random.beta(0.7, 0.5, 1_500).clip(0.001, 0.999)
        later = np.arange(1_500) >= 300
        y = (random.random(1_500) < expit(-0.6 + 0.6 * logit(p) + shift * later)).astype(float)
        ids = tuple(map(str, range(1_500)))
        calls = LabelledCalls(p, y, np.ones(1_500), np.arange(1_500) * 1.0, ids, ({},) * 1_500)
        tries: tuple[StoredTry, ...] = ()
        alarm = False
        for n in (150, 300, 600, 1_000, 1_500):
            tries = all_tries(calls.part(slice(0, n)), tries)
            in_force = map_in_force(tries)  # before a map is accepted, the alarm rings rightly: the scorer is too sure
            alarm = alarm or (in_force.labels > 0 and drift_since(calls.part(slice(0, n)), in_force).alarm)
        rung[shift] += alarm
    assert rung[0.0] <= 2 + 3 * math.sqrt(40 * 0.05 * 0.95)
    assert rung[1.0] >= 20


def test_the_margin_of_a_map_has_the_error_of_its_fit() -> None:
    calls = World(6).calls(300, 0)
    assert drift_margin(calls, MapInForce(IDENTITY, 0, 0.0)) == MARGIN
    few, many = (drift_margin(calls, MapInForce(IDENTITY, n, 0.0)) for n in (100, 300))
    assert MARGIN < many < few <= 0.1
