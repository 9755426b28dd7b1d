"""The same unit falls in the same place everywhere, and its places in different domains know nothing of each other."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import new_id
from gateway.core.randomization import draw, keyed_draw

GOLDEN_KEYED = 0.4997168589095689

UNITS = [new_id(i * 1_000_000, i.to_bytes(10)) for i in range(20_000)]


@given(st.text().filter(lambda s: "\0" not in s), st.text(), st.integers(0, 99))
def test_a_draw_is_in_the_unit_interval_and_reproducible(domain, unit, version):
    assert 0.0 <= draw(domain, unit, version) < 1.0
    assert draw(domain, unit, version) == draw(domain, unit, version)


def test_a_draw_is_the_first_56_bits_of_the_hash():
    """Written out once more, so that no change deals every unit again unnoticed."""
    digest = sha256(b"sample\x001\x00unit").hexdigest()
    assert draw("sample", "unit") == int(digest[:14], 16) / 2**56


def test_draws_are_uniform():
    """Chi-squared over 100 bins; 149.4 is exceeded once in a thousand."""
    bins = [0] * 100
    for unit in UNITS:
        bins[int(draw("sample", unit) * 100)] += 1
    expected = len(UNITS) / 100
    assert sum((n - expected) ** 2 / expected for n in bins) < 149.4


@pytest.mark.parametrize("other", ["score:refusal", "shadow:p1", "arm:p1"])
def test_domains_are_independent(other):
    """Another domain takes the same share of what is sampled as of everything."""
    sampled = [unit for unit in UNITS if draw("sample", unit) < 0.1]
    share = sum(draw(other, unit) < 0.5 for unit in sampled) / len(sampled)
    assert abs(share - 0.5) < 4 * (0.25 / len(sampled)) ** 0.5


def test_another_version_deals_again():
    moved = sum((draw("sample", u) < 0.5) != (draw("sample", u, 2) < 0.5) for u in UNITS)
    assert abs(moved / len(UNITS) - 0.5) < 0.02


def test_a_keyed_draw_is_fixed_by_its_secret_domain_and_unit() -> None:
    assert keyed_draw(bytes(range(32)), "arm:p", "u") == GOLDEN_KEYED
    others = (bytes(32), "arm:p", "u"), (bytes(range(32)), "arm:q", "u"), (bytes(range(32)), "arm:p", "v")
    assert len({keyed_draw(*each) for each in others} | {GOLDEN_KEYED}) == 4


def test_keyed_draws_are_uniform_and_independent_of_plain_ones() -> None:
    units = [str(i) for i in range(20_000)]
    keyed, plain = [keyed_draw(b"k" * 32, "d", u) for u in units], [draw("d", u) for u in units]
    for share in (0.1, 0.5):
        below = [u < share for u in keyed]
        assert abs(sum(below) / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5  # false alarm: 6e-7
        both = sum(b and v < share for b, v in zip(below, plain, strict=True)) / 20_000
        assert abs(both - share**2) < 5 * (share**2 * (1 - share**2) / 20_000) ** 0.5
