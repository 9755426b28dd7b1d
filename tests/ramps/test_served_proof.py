"""A proof on served answers: within blocks of time, at one planned look, and at any time by the sequence."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.ramps.blocks import ServedBlock
from gateway.ramps.served_proof import ProofTerms, ServedProof, planned_look, prove
from gateway.ramps.step_values import ServedSums
from gateway.statistics.asymptotic import Tuning

TERMS = ProofTerms(1.0, 0.05, 0.04, True)


def block(rng: np.random.Generator, a: int, b: int, mean: float, shift: float = 0.0, step: int = 0) -> ServedBlock:
    one, other = (np.clip(rng.normal(mean + s, 0.2, n), 0.0, 1.0) for s, n in ((0.0, a), (shift, b)))
    return ServedBlock(step, ServedSums.of(one), ServedSums.of(other))


def proved(shift: float, blocks: int, seed: int = 1) -> ServedProof:
    rng = np.random.default_rng(seed)
    return prove([block(rng, 50, 50, 0.5, shift) for _ in range(blocks)], TERMS)


def test_an_equal_candidate_is_proved_and_a_worse_one_found_inferior() -> None:
    assert prove([], TERMS).found == "unclear"
    few = proved(0.0, 2)
    assert few.found == "unclear"
    assert few.needed == pytest.approx(300, rel=0.3)
    assert few.units == (100, 100)
    assert proved(0.0, 40).found == "non_inferior"
    assert proved(-0.2, 40).found == "inferior"
    assert proved(-0.05, 40).found == "unclear"


def test_pooling_is_within_blocks() -> None:
    """The candidate serves most where answers are good, and is worse by 0.04 everywhere; pooled, it is better."""
    rng = np.random.default_rng(2)
    blocks = [block(rng, 900, 100, 0.3, -0.04), block(rng, 100, 900, 0.7, -0.04, 1)]
    found = prove(blocks, TERMS)
    assert found.difference.value == pytest.approx(-0.04, abs=0.03)


def test_the_planned_look_is_the_same_whenever_it_is_read() -> None:
    rng = np.random.default_rng(3)
    blocks = [block(rng, 50, 50, 0.5) for _ in range(30)]
    first = next(i for i in range(1, 30) if planned_look(blocks[:i], TERMS))
    assert planned_look(blocks, TERMS) == planned_look(blocks[:first], TERMS)
    open_ = [*blocks[: first - 1], ServedBlock(0, blocks[first].a, blocks[first].b, complete=False)]
    assert planned_look(open_, TERMS) is None, "a block that still grows is not looked at"


@pytest.mark.parametrize(("rate", "margin"), [(0.01, 0.005), (0.06, 0.03)])
def test_a_candidate_at_its_margin_is_rarely_proved(rate: float, margin: float) -> None:
    """Nominal 0.02 over all looks: of 200 runs at most 0.02 and three standard errors."""
    rng, terms, wrong = np.random.default_rng(4), ProofTerms(-1.0, margin, 0.04, True), 0
    for _ in range(200):
        blocks: list[ServedBlock] = []
        for i in range(24):
            a, b = (float(rng.binomial(750, p)) for p in (rate, rate + margin))
            blocks.append(ServedBlock(0, ServedSums(750, a, a), ServedSums(750, b, b)))
            if i % 3 == 2 and prove(blocks, terms).found == "non_inferior":
                wrong += 1
                break
    assert wrong <= 200 * 0.02 + 3 * (200 * 0.02 * 0.98) ** 0.5


def test_units_that_come_back_widen_the_interval() -> None:
    rng = np.random.default_rng(5)
    blocks = [block(rng, 50, 50, 0.5) for _ in range(10)]
    wide = prove(blocks, ProofTerms(1.0, 0.05, 0.04, True, inflation=4.0))
    narrow = prove(blocks, TERMS)
    assert wide.difference.low is not None
    assert narrow.difference.low is not None
    assert wide.difference.low < narrow.difference.low


def test_sums_in_parts_are_those_of_all_values() -> None:
    values = np.random.default_rng(1).random(50)
    whole, parts = ServedSums.of(values), ServedSums.of(values[:20]).plus(ServedSums.of(values[20:]))
    assert (parts.n, parts.total, parts.squares) == (50, pytest.approx(whole.total), pytest.approx(whole.squares))
    assert whole.mean == pytest.approx(values.mean())
    assert whole.arm_mean(False, Tuning()).variance == pytest.approx(values.var())
    assert ServedSums().mean == 0.0


def test_the_bound_of_a_planned_look_has_that_looks_point() -> None:
    """After the look, the difference fell below its bound: the proof holds, and is shown with what it rests on."""
    rng = np.random.default_rng(6)
    good = [block(rng, 50, 50, 0.5, 0.1) for _ in range(12)]
    look = planned_look(good, TERMS)
    assert look is not None
    later = prove([*good, *(block(rng, 50, 50, 0.5, -0.25) for _ in range(30))], TERMS)
    fallen = prove([*good[:1], *(block(rng, 50, 50, 0.5, -0.25) for _ in range(30))], TERMS).difference.value
    assert fallen is not None
    assert fallen < -0.1
    assert later.difference.value == look.value
    assert later.difference.low is not None
    assert later.difference.low < look.value
