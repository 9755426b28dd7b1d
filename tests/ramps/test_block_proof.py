"""A proof by blocks of time: what opens it again, whatever the ramp promotes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ramps.block_proof import BlockProofTerms, block_proof
from gateway.ramps.blocks import MissingScores, ServedBlock, ServedBlocks
from gateway.ramps.step_values import ServedSums

pytestmark = pytest.mark.quick
FEW, MANY = 0.01, 0.3


def failing(rate: float, control: float = FEW) -> ServedBlocks:
    """Eight blocks of 500 units an arm; the candidate fails at this rate."""
    arms = [ServedSums(500, 500 * share, 500 * share) for share in (control, rate)]
    return ServedBlocks("error_rate", -1.0, True, tuple(ServedBlock(0, *arms) for _ in range(8)))


FINE, WORSE = failing(FEW), failing(MANY)
TERMS = BlockProofTerms(0.05, lambda of: 0.05)


def test_a_proof_stands_on_its_blocks() -> None:
    assert [block_proof(of, TERMS).found for of in (FINE, WORSE)] == ["non_inferior", "inferior"]
    nothing = block_proof(replace(FINE, blocks=()), TERMS)
    assert (nothing.found, nothing.difference.value, nothing.units) == ("unclear", None, (0, 0))


@pytest.mark.parametrize(
    ("of", "opens"),
    [
        (replace(FINE, friend="ada", without=WORSE), True),
        (replace(FINE, friend="ada", without=FINE), False),
        (replace(FINE, majority="ada", others=WORSE), True),
        (replace(FINE, majority="ada", others=FINE), False),
        (replace(WORSE, foe="ada", without_foe=FINE), True),
        (replace(WORSE, foe="ada", without_foe=WORSE), False),
    ],
)
def test_a_proof_that_one_caller_carries_is_open(of: ServedBlocks, opens: bool) -> None:
    found = block_proof(of, TERMS)
    assert (found.found == "unclear", found.rests_on) == (opens, "ada" if opens else "")


def test_a_caller_cannot_widen_the_margin_of_the_others() -> None:
    """A caller who fails with the control raises its rate, and with it the margin; without them the margin is less."""
    others = failing(FEW + 0.03)
    terms = BlockProofTerms(0.05, lambda of: 0.2 if of.friend else 0.02)
    assert block_proof(others, BlockProofTerms(0.05, lambda of: 0.2)).found == "non_inferior"
    assert block_proof(replace(others, friend="ada", without=others), terms).found == "unclear"


@pytest.mark.parametrize(
    ("share", "worst", "found"),
    [(0.1, WORSE, "unclear"), (0.1, FINE, "non_inferior"), (0.0, WORSE, "non_inferior")],
)
def test_answers_without_a_score_open_a_proof(share: float, worst: ServedBlocks, found: str) -> None:
    made = block_proof(replace(FINE, missing=MissingScores((1, 7), (0, 2), share, worst)), TERMS)
    assert made.found == found
    assert (made.cut, made.unscored) == (((1, 7), (0, 2)) if found == "unclear" else ((0, 0), (0, 0)))
