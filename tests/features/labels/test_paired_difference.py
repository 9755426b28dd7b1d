"""The difference of two arms as people judge, from pairs of which some answers are labelled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.features.labels.correction import MIN_LABELS, JudgedSample, Labels, corrected
from gateway.features.labels.paired_difference import (
    JudgedAnswer,
    JudgedPairs,
    PeoplesDifference,
    at_every_look,
    peoples_difference,
)

ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """Pairs of answers to requests that are easy or hard, judged by somebody who favours the candidate.

    The judge calls 85 % of the control's good answers good and 20 % of its bad ones; of the candidate's, 95 and 45 %.
    """

    pairs: int
    share: float
    """Share of the answers that people have labelled at the last look; twice the share of those that the judge calls
    bad."""
    effect: float = -0.05
    each: int = 1
    """Pairs of one conversation, which are about as easy as each other."""

    def drawn(self, seed: int) -> Drawn:
        rng = np.random.default_rng(seed)
        ease = np.repeat(rng.random(self.pairs // self.each), self.each)
        chance = np.stack([0.2 + 0.6 * ease, 0.2 + 0.6 * ease + self.effect], axis=1)
        chosen = np.where(rng.random((self.pairs, 2)) < 0.6, rng.random((self.pairs, 1)), rng.random((self.pairs, 2)))
        y = (chosen < chance).astype(float)
        f = (rng.random(y.shape) < np.where(y > 0, [0.85, 0.95], [0.2, 0.45])).astype(float)
        key = rng.random(y.shape) / np.where(f < 0.5, 1.0, 0.5)
        return Drawn(y, f, key, [f"c{i // self.each}" for i in range(self.pairs)])


@dataclass(frozen=True)
class Drawn:
    y: np.ndarray
    f: np.ndarray
    key: np.ndarray
    units: list[str]

    def pi(self, n: int, reached: float) -> np.ndarray:
        """Probabilities of each of the first n pairs' labels, once keys below `reached` are labelled; 0 if it has
        none."""
        rate = np.minimum(1.0, reached * np.where(self.f[:n] < 0.5, 1.0, 0.5))
        return np.where(self.key[:n] < reached, rate, 0.0)

    def look(self, n: int, reached: float) -> PeoplesDifference | None:
        pi = self.pi(n, reached)
        given = np.where(pi > 0, self.y[:n], 0.0)
        exact = np.zeros((n, 2), dtype=bool)
        return peoples_difference(JudgedPairs(self.f[:n], given, pi, exact, self.units[:n]), ALPHA)

    def apart(self, n: int, reached: float) -> float | None:
        """Half of the width of each arm's correction on its own, at every look."""
        pi, squares = self.pi(n, reached), 0.0
        for arm in (0, 1):
            there, f = pi[:, arm] > 0, self.f[:n, arm]
            labels = Labels.of(self.y[:n, arm][there], f[there], np.ones(there.sum()), pi[there, arm])
            found = corrected(labels, JudgedSample(n, n, f.mean(), f.var(), f.mean(), n))
            if found is None:
                return None
            squares += found.se**2
        return at_every_look(math.sqrt(squares), ALPHA)


def played(world: World, runs: int, looks: int = 12) -> tuple[float, float, float]:
    """(how often every look covers the truth, mean half widths of the last: of pairs, and of each arm on its own)."""
    covered, half, apart = 0, [], []
    sizes = np.geomspace(max(60, world.pairs / 8), world.pairs, looks).astype(int)
    reached = np.geomspace(min(0.1, world.share), 2 * world.share, looks)
    for run in range(runs):
        drawn = world.drawn(run)
        found = [drawn.look(int(n), float(at)) for n, at in zip(sizes, reached, strict=True)]
        covered += all(f is None or f.low <= world.effect <= f.high for f in found)
        last, alone = found[-1], drawn.apart(world.pairs, 2 * world.share)
        assert last is not None
        assert alone is not None
        half.append(at_every_look(last.se, ALPHA))
        apart.append(alone)
    return covered / runs, float(np.mean(half)), float(np.mean(apart))


WORLDS = {
    "half labelled": World(300, 0.35),
    "nearly all labelled": World(300, 0.9),
    "few of many labelled": World(1200, 0.05),
    "equal arms": World(300, 0.35, effect=0.0),
}


def check(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Nominal 0.95 over all looks, less three standard errors of these runs."""
    least, lines = 1 - ALPHA - 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs), []
    found = {name: played(world, runs) for name, world in WORLDS.items()}
    for name, (covered, half, apart) in found.items():
        lines.append(f"{name:<22}  covers {covered:.3f}  half width {half:.3f}, each arm on its own {apart:.3f}")
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the table of docs/statistics.md
    for name, (covered, half, apart) in found.items():
        assert covered >= least, name
        assert half < apart, name


def test_every_look_covers_the_truth_with_a_biased_judge(capsys: pytest.CaptureFixture[str]) -> None:
    check(100, capsys)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_runs_cover_the_truth_with_a_biased_judge(capsys: pytest.CaptureFixture[str]) -> None:
    check(1000, capsys)


def test_a_common_part_of_both_answers_narrows_the_interval() -> None:
    """The interval is that of the paired differences if every answer is labelled."""
    drawn = World(400, 1.0).drawn(1)
    pi, exact = np.ones((400, 2)), np.zeros((400, 2), dtype=bool)
    found = peoples_difference(JudgedPairs(drawn.f, drawn.y, pi, exact, drawn.units), ALPHA)
    assert found is not None
    differences = drawn.y[:, 1] - drawn.y[:, 0]
    assert found.value == pytest.approx(differences.mean())
    assert found.se == pytest.approx(differences.std() / 20, rel=0.02)
    alone = math.sqrt(sum(drawn.y[:, arm].var() for arm in (0, 1))) / 20
    assert found.se < 0.85 * alone


def test_conversations_count_once_and_widen_it() -> None:
    """Twenty pairs of a conversation are about as easy as each other; the mean is over conversations."""
    wide, narrow = World(400, 0.5, each=20).drawn(3), World(400, 0.5).drawn(3)
    found = wide.look(400, 1.0)
    as_alone = peoples_difference(
        JudgedPairs(wide.f, np.where(wide.pi(400, 1.0) > 0, wide.y, 0.0), wide.pi(400, 1.0),
                    np.zeros((400, 2), dtype=bool), narrow.units)
    )  # fmt: skip
    assert found is not None
    assert as_alone is not None
    assert found.value == pytest.approx(as_alone.value), "conversations of one size"
    uneven = ["a"] * 200 + [f"b{i}" for i in range(200)]
    y = np.array([[0.0, 1.0]] * 200 + [[1.0, 1.0]] * 200)
    one = peoples_difference(JudgedPairs(y, y, np.ones((400, 2)), np.zeros((400, 2), dtype=bool), uneven))
    assert one is not None
    assert one.value == pytest.approx(1 / 201)


def test_failed_answers_take_no_part_in_the_correction() -> None:
    """The judge calls every answer good, and people call half of them bad; every fifth of the candidate's failed."""
    rows = []
    for i in range(200):
        label = (float(i % 4 < 2), 0.5) if i % 2 else (0.0, 0.0)
        candidate = JudgedAnswer(0.0, exact=True) if i % 5 == 0 else JudgedAnswer(1.0, *label)
        rows.append((JudgedAnswer(1.0, *label), candidate, f"p{i}"))
    pairs = JudgedPairs.of(rows)
    found = peoples_difference(pairs)
    assert found is not None
    assert pairs.labels == (100, 80)
    assert pairs.both == 80
    assert found.value == pytest.approx(0.8 * 0.5 - 0.5)


def test_a_label_represents_as_many_answers_as_its_probability_says() -> None:
    """People call the answers good that the judge finds middling, a third; those it finds bad are labelled twice as
    often. The control failed each time."""
    rows = []
    for i in range(240):
        f = (0.0, 0.5, 1.0)[i % 3]
        drawn = f < 0.5 or i % 2
        candidate = JudgedAnswer(f, float(f == 0.5), 1.0 if f < 0.5 else 0.5) if drawn else JudgedAnswer(f)
        rows.append((JudgedAnswer(0.0, exact=True), candidate, f"p{i}"))
    found = peoples_difference(JudgedPairs.of(rows))
    assert found is not None
    assert found.value == pytest.approx(1 / 3)


def test_equal_labels_are_not_certainty() -> None:
    """The judge was right in each of the ten labels of an arm, and all differences are 0."""
    rows = [(JudgedAnswer(1.0, 1.0, 0.1), JudgedAnswer(1.0, 1.0, 0.1), f"p{i}") for i in range(MIN_LABELS)]
    rows += [(JudgedAnswer(1.0), JudgedAnswer(1.0), f"q{i}") for i in range(90)]
    found = peoples_difference(JudgedPairs.of(rows))
    assert found is not None
    assert found.value == 0
    assert found.low < -0.3
    assert found.high > 0.3


def test_users_that_depend_on_each_other_widen_it() -> None:
    drawn = World(300, 0.5).drawn(5)
    pi = drawn.pi(300, 1.0)
    pairs = JudgedPairs(drawn.f, np.where(pi > 0, drawn.y, 0.0), pi, np.zeros((300, 2), dtype=bool), drawn.units)
    alone, together = peoples_difference(pairs), peoples_difference(pairs, inflation=4.0)
    assert alone is not None
    assert together is not None
    assert together.se == pytest.approx(2 * alone.se)


@pytest.mark.parametrize(("pairs", "labels"), [(19, 19), (100, MIN_LABELS - 1), (0, 0)])
def test_too_few_pairs_or_labels_give_no_estimate(pairs: int, labels: int) -> None:
    rows = [(JudgedAnswer(1.0, 1.0, 0.5 * (i < labels)), JudgedAnswer(1.0, 1.0, 0.5), f"p{i}") for i in range(pairs)]
    assert peoples_difference(JudgedPairs.of(rows)) is None


def test_shapes_and_probabilities_outside_the_domain_are_refused() -> None:
    two = np.zeros((3, 2))
    with pytest.raises(ValueError, match="expected \\(3, 2\\) of each"):
        JudgedPairs(two, two, np.zeros((2, 2)), two.astype(bool), ["a", "b", "c"])
    with pytest.raises(ValueError, match="expected probabilities"):
        JudgedPairs(two, two, two + 1.5, two.astype(bool), ["a", "b", "c"])
