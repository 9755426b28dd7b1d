"""Networks, and the addresses within them."""

from __future__ import annotations

import pytest

from gateway.core.networks import networks, within


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),  # as a listener on [::] sees an IPv4 client
        ("11.1.2.3", False),
        ("::ffff:11.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("10.1.2.3, 10.1.2.3", False),
    ],
)
def test_an_address_is_the_same_in_both_spellings(address: str, inside: bool) -> None:
    assert within(address, networks(["10.0.0.0/8", "2001:db8::/32"])) is inside
