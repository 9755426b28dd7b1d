"""Forms of secrets: their checks, and that no text makes a search slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.secret_patterns import KINDS, luhn, mod97

FOUND = [
    ("key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("key", "sk-" + "Ab3" * 12),
    ("private_key", "-----BEGIN RSA PRIVATE" + " KEY-----"),
    ("card", "4111 1111 1111 1111"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("email", "ada.lovelace+1@example.org"),
    ("phone", "+44 20 7946 0958"),
]
CLEAN = ["4111 1111 1111 1112", "DE88 3704 0044 0532 0130 00", "1700000000", "a@b", "sk-learn", "2026-11-25 10:00"]


def found(text: str) -> set[str]:
    return {
        kind
        for kind, (pattern, word, true) in KINDS.items()
        if (word is None or word in text) and any(true(m[0]) for m in pattern.finditer(text))
    }


@pytest.mark.parametrize(("kind", "secret"), FOUND)
@pytest.mark.parametrize("around", ["{}", "it is {}.", '"{}"', "({})", "a\n{}\nb"])
def test_each_form_is_found_under_its_kind(kind, secret, around):
    assert kind in found(around.format(secret))


@pytest.mark.parametrize("text", CLEAN)
def test_lookalikes_of_secrets_are_not_found(text):
    assert found(text) == set()


@given(st.text("0123456789", min_size=12, max_size=18).filter(lambda s: len(set(s)) > 1))
def test_one_digit_in_ten_ends_a_number_that_passes(digits):
    """Luhn's sum has one check digit for every number, and finds every single wrong digit."""
    assert sum(luhn(digits + d) for d in "0123456789") == 1


def test_an_iban_with_one_letter_or_digit_changed_does_not_pass():
    right = "GB82WEST12345698765432"
    assert mod97(right)
    for at in range(4, len(right)):
        assert not mod97(right[:at] + ("0" if right[at] != "0" else "1") + right[at + 1 :])


@pytest.mark.parametrize("unit", ["4111 ", "AA11 ", "+1 2", "a.", "a@", "eyJaaaaaaaaaaa.", "sk-", "(1)", "1-"])
def test_every_pattern_is_linear_in_the_text(unit):
    text = unit * (100_000 // len(unit))
    began = time.thread_time()
    for pattern, _, _ in KINDS.values():
        for _ in pattern.finditer(text):
            pass
    assert time.thread_time() - began < 2
