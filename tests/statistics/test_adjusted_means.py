"""Hourly means by strata: a mix that moves does not deviate, and the errors are those of the world."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from gateway.statistics.adjusted_means import DAY_H, SLOTS, SUMS, AdjustedBaseline, HourlySums, SeriesTerms, slot_of

HOURS = 14 * DAY_H
ONE = np.ones(1)
SCORE = SeriesTerms(0 * ONE, 0.1 * ONE, 0.02 * ONE, ONE > 0, ONE < 0)
RATE = SeriesTerms(0.005 * ONE, 0 * ONE, 0 * ONE, ONE > 0, ONE > 0)


def drawn(seed: int, hard: float | np.ndarray = 0.3, hours: int = HOURS, effect: float = 0.0) -> HourlySums:
    """Hours of 40 calls by units of four, right in 0.9 of the easy and 0.5 of the hard ones. hard: share of hard calls.
    effect: standard deviation of a unit's own level."""
    generator = np.random.default_rng(seed)
    harder = generator.random((hours, 10)) < np.broadcast_to(hard, (hours,))[:, None]
    level = np.where(harder, 0.5, 0.9) + effect * generator.standard_normal((hours, 10))
    right = generator.binomial(4, np.clip(level, 0.0, 1.0)).astype(float)
    by_stratum = [np.stack([(x * ~harder).sum(1), (x * harder).sum(1)], 1)[..., None] for x in (4 + 0 * right, right)]
    weights, totals = by_stratum
    strata = np.stack([weights, totals, totals, weights, 4 * weights], axis=3)
    return HourlySums(np.arange(hours) + 7_000, strata)


def mix(sums: HourlySums) -> np.ndarray:
    return np.asarray(sums.strata[..., 0, 0])


def plus(sums: HourlySums, shift: np.ndarray) -> HourlySums:
    """The same with another level in each hour."""
    strata = sums.strata.copy()
    strata[..., 1] += strata[..., 0] * shift[:, None, None]
    return HourlySums(sums.hours, strata)


def test_a_mix_that_moves_is_no_deviation() -> None:
    baseline = AdjustedBaseline.fitted(drawn(1), SCORE, 0.001)
    moved = drawn(2, np.linspace(0.3, 0.9, HOURS))
    found = baseline.deviations(moved, mix(moved))
    assert abs(float((moved.strata[..., 1].sum(1) / 40)[-48:].mean()) - 0.54) < 0.05, "the raw mean falls from 0.78"
    assert abs(float(found.mean.mean())) < 0.01
    assert float(found.z.mean(axis=0).max()) < 0.0


def test_errors_are_those_of_the_hours() -> None:
    """Over hours that the baseline has not seen, with units that differ, deviations have the stated variance."""
    squares = []
    for seed in range(12):
        baseline = AdjustedBaseline.fitted(drawn(seed, effect=0.1), SCORE, 0.001)
        later = drawn(100 + seed, effect=0.1)
        found = baseline.deviations(later, mix(later))
        squares.append(float(((found.mean / found.error) ** 2).mean()))
    assert 0.7 < np.mean(squares) < 1.15


def test_parts_of_an_hour_have_their_own_reach() -> None:
    """Units of four calls, ten or forty an hour, differ by 0.1: by_unit 0.01 of values whose variance is about 0.13, so
    that 0.2 to 0.25 of an hour's variance is theirs."""
    busy = (np.arange(HOURS) % 2)[:, None, None, None]
    sums = drawn(11, effect=0.1)
    more = np.sum([drawn(seed, effect=0.1).strata for seed in (12, 13, 14)], axis=0)
    sums = HourlySums(sums.hours, sums.strata + busy * more)
    found = []
    for values in (SCORE, SeriesTerms(0 * ONE, 0.1 * ONE, 0.02 * ONE, ONE < 0, ONE < 0)):
        baseline = AdjustedBaseline.fitted(sums, values, 0.001)
        deviations = baseline.deviations(sums, mix(sums))
        np.testing.assert_allclose(deviations.shares.sum(axis=2), 1.0)
        sd = deviations.error / np.sqrt(baseline.memory)
        found.append((deviations.reach * sd[..., None, None], deviations.shares, baseline))
    (bounded, shares, _), (open_, _, baseline) = found
    down_and_up = bounded[:2, 0].sum(axis=1)
    np.testing.assert_allclose(down_and_up, [[1 / 40, 1 / 10], [1 / 160, 1 / 40]], rtol=1e-6)
    np.testing.assert_allclose(open_[:2, 0, 1, 1] * [10, 40], 4 * np.sqrt(baseline.by_unit[0]))
    assert 0.1 < shares[:, 0, 1].mean() < 0.4
    assert (open_[..., 1] < 4 * open_[..., 0]).all()


def test_a_wave_of_the_week_is_usual() -> None:
    sums = drawn(3)
    night = (sums.hours % DAY_H < 6).astype(float)
    lower = plus(sums, -0.15 * night)
    wave = AdjustedBaseline.fitted(lower, SCORE, 0.001).wave[:, 0]
    assert len(wave) == SLOTS
    assert wave[0] < -0.05 < 0.02 < wave[4]


def test_a_rate_without_an_event_has_an_error() -> None:
    sums = drawn(4)
    none, some = np.array([1, 0, 0, 1, 1]), np.array([1, 1 / 40, 1 / 40, 1, 1])
    ones = np.repeat(sums.strata[..., :1], SUMS, axis=3)
    baseline = AdjustedBaseline.fitted(HourlySums(sums.hours, ones * none), RATE, 0.001)
    one = HourlySums(sums.hours[:1], ones[:1] * some)
    found = baseline.deviations(one, mix(one))
    assert 0 < float(found.z[0, 0, 1]) < 3, "one failure of 40 after none of 13 440"


def test_memory_widens_the_error() -> None:
    sums = drawn(5)
    day = np.random.default_rng(6).normal(0, 0.05, 15)[sums.hours // DAY_H - sums.hours[0] // DAY_H]
    with_days, plain = (AdjustedBaseline.fitted(each, SCORE, 0.001) for each in (plus(sums, day), sums))
    assert with_days.memory[0] > 2 * plain.memory[0] >= 2


def test_the_state_goes_through_json() -> None:
    baseline, later = AdjustedBaseline.fitted(drawn(7), SCORE, 0.001), drawn(8)
    baseline.add_strata(later.strata[:, :1].sum(axis=0))
    again = AdjustedBaseline.from_state(orjson.loads(orjson.dumps(baseline.state())))
    wide = HourlySums(later.hours, np.concatenate([later.strata, later.strata[:, :1]], axis=1))
    np.testing.assert_allclose(again.deviations(wide, mix(wide)).z, baseline.deviations(wide, mix(wide)).z, rtol=1e-3)
    with pytest.raises(ValueError, match="not the state"):
        AdjustedBaseline.from_state({"strata": []})


def test_parts_of_the_week() -> None:
    thursday = np.array([0, 2, 3, 23, 48, 72 + 71, 96])
    assert slot_of(thursday).tolist() == [0, 0, 1, 7, 8, 7, 0]


def test_a_baseline_moves_with_the_hours_that_are_added() -> None:
    baseline = AdjustedBaseline.fitted(drawn(9), SCORE, 0.001)
    later = plus(drawn(10), np.full(HOURS, -0.2))
    before = float(baseline.deviations(later, mix(later)).mean.mean())
    baseline.renew(later.strata.sum(axis=0), 0.5)
    after = float(baseline.deviations(later, mix(later)).mean.mean())
    assert abs(before + 0.2) < 0.01
    assert abs(after + 0.2 / 3) < 0.01, "two thirds of the baseline are of the new level"
