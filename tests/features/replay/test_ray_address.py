"""`--on`: this process or a cluster, and what is wrong with anything else."""

from __future__ import annotations

import pytest

from gateway.features.replay.ray_address import RayAddress, address_of


@pytest.mark.parametrize(
    ("on", "address"),
    [
        ("local", None),
        ("ray://head", RayAddress("head", 10001)),
        ("ray://head:20001", RayAddress("head", 20001)),
        ("ray://10.0.0.7/", RayAddress("10.0.0.7", 10001)),
        ("ray://[::1]:9", RayAddress("::1", 9)),
    ],
)
def test_an_address_is_read_and_shown(on: str, address: RayAddress | None) -> None:
    assert address_of(on) == address
    if address is not None:
        assert address_of(str(address)) == address


@pytest.mark.parametrize("on", ["", "head", "http://head", "ray://", "ray://head:x", "ray://u@head", "ray://head/a"])
def test_anything_else_is_refused_with_what_was_expected(on: str) -> None:
    with pytest.raises(ValueError, match=r"expected local, or ray://HOST"):
        address_of(on)
