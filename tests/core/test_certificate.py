"""A certificate as it is shared: exact, and in force for a time."""

from __future__ import annotations

import math

import pytest

from gateway.core.certificate import CONFIRMED_S, CertificateInForce, certificate_from_json


@pytest.mark.parametrize(
    "text", ["", "[]", '{"from_p": "0.9", "at": 1.0}', '{"from_p": 0.9}', '{"from_p": 1, "at": 1}']
)
def test_another_text_is_not_in_force(text: str) -> None:
    assert certificate_from_json(text) is None


def test_a_certificate_is_shared_as_it_is() -> None:
    held = CertificateInForce(math.nextafter(0.9, 1.0), 1_790_000_000.25)
    assert certificate_from_json(held.to_json()) == held
    assert held.holds(held.at + CONFIRMED_S - 1)
    assert not held.holds(held.at + CONFIRMED_S)
    assert not CertificateInForce(2.0, held.at).holds(held.at), "it has lapsed"
